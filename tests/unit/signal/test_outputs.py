from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optinc.signal import outputs, pam4
from optinc.signal.scenario import Scenario

TOP = Scenario(bits=8, servers=4, onn_inputs=4, rounding="half_even", level=2)
BELOW = Scenario(bits=8, servers=4, onn_inputs=4, rounding="floor", level=1, keeps_decimal=True)


def test_the_decimal_part_is_merged_into_the_last_symbol() -> None:
    # 4 * 0b11_10_01_00 + 3: the average is 228.75.
    emitted = outputs.outputs_of_total(torch.tensor([4 * 228 + 3]), BELOW)
    assert emitted.tolist() == [[3, 2, 1, 0 * 4 + 3]]
    assert (emitted / torch.tensor(BELOW.output_steps)).tolist() == [[3.0, 2.0, 1.0, 0.75]]


def test_the_decimal_part_goes_back_as_a_symbol_of_its_own() -> None:
    scenario = Scenario(bits=8, servers=4, onn_inputs=4, rounding="floor", downlink="decimal")
    # The codes 228, 229, 229 and 229: average 228.75.
    codes = torch.tensor([[228], [229], [229], [229]], dtype=torch.int32)
    assert outputs.ideal_average(codes, scenario).tolist() == [4 * 228 + 3]
    emitted = outputs.outputs_of_total(torch.tensor([4 * 228 + 3]), scenario)
    assert emitted.tolist() == [[3, 2, 1, 0, 3]]
    assert scenario.output_steps == (1,) * 5


@settings(deadline=None)
@given(
    bits=st.sampled_from([2, 4, 8, 16]),
    servers=st.integers(1, 17),
    level=st.integers(1, 2),
    seed=st.integers(0, 100),
)
def test_whole_sums_come_back_through_noisy_light(
    bits: int, servers: int, level: int, seed: int
) -> None:
    scenario = Scenario(bits, servers, 1, "floor", level=level, downlink="decimal")
    generator = torch.Generator().manual_seed(seed)
    # The data set of a cascade's top holds more than codes of servers add up to.
    largest = servers * (2**bits * scenario.refinement - 1)
    total = torch.randint(largest + 1, (200,), generator=generator)
    total[0] = largest
    emitted = outputs.outputs_of_total(total, scenario)
    assert emitted.shape == (200, scenario.received_symbols)
    light = emitted + 0.98 * (torch.rand(emitted.shape, generator=generator) - 0.5)
    received = outputs.receive(light, scenario)
    assert torch.equal(outputs.value_of_outputs(received.long(), scenario), total)
    assert int(total.max()) < 2**scenario.received_bits


def test_averages_beyond_the_largest_code_saturate() -> None:
    # 16 * 255.75 can come only from a level below that is wrong.
    assert outputs.outputs_of_total(torch.tensor([4092]), TOP).tolist() == [[3, 3, 3, 3]]


@settings(deadline=None)
@given(
    bits=st.sampled_from([2, 4, 8, 16]),
    servers=st.integers(2, 9),
    level=st.integers(1, 3),
    keeps_decimal=st.booleans(),
    seed=st.integers(0, 100),
)
def test_receivers_undo_light_up_to_half_a_step(
    bits: int, servers: int, level: int, keeps_decimal: bool, seed: int
) -> None:
    scenario = Scenario(
        bits=bits,
        servers=servers,
        onn_inputs=1,
        rounding="floor",
        level=level,
        keeps_decimal=keeps_decimal,
    )
    generator = torch.Generator().manual_seed(seed)
    total = torch.randint(scenario.divisor * (2**bits - 1) + 1, (200,), generator=generator)
    emitted = outputs.outputs_of_total(total, scenario)
    value = outputs.value_of_outputs(emitted, scenario)
    expected = total if keeps_decimal else total // scenario.divisor
    assert torch.equal(value, expected)
    steps = torch.tensor(scenario.output_steps)
    amplitudes = emitted / steps
    for shift in (-0.49, 0.49):
        light = amplitudes + shift / steps
        assert torch.equal(outputs.receive(light, scenario).long(), emitted)
        margin = outputs.threshold_margin(light, emitted, scenario)
        assert (margin > 0).all()
        assert (margin * steps >= 0.01 - 1e-3).all()
    wrong = outputs.threshold_margin(amplitudes + 0.6 / steps, emitted, scenario)
    assert torch.equal(wrong < 0, emitted < 4 * steps - 1)


def test_without_decimal_part_outputs_are_pam4_symbols() -> None:
    total = torch.arange(16 * 255)
    emitted = outputs.outputs_of_total(total, TOP)
    amplitudes = emitted + 0.3
    assert torch.equal(outputs.receive(amplitudes, TOP), pam4.receive(amplitudes))
    assert torch.equal(
        outputs.threshold_margin(amplitudes, emitted, TOP),
        pam4.threshold_margin(amplitudes, emitted),
    )
