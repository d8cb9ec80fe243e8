from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torchvision.models import resnet50 as torchvision_resnet50

from experiments import fig6
from experiments.common.workloads import llama, resnet50
from optinc.errors import ConfigurationError
from optinc.signal.scenario import make_scenario
from optinc.step_time import (
    METHODS,
    Assumptions,
    Step,
    batch_for_saving,
    bytes_received,
    bytes_sent,
    cascade_levels,
    communication_seconds,
    compute_seconds,
    count_flops,
    latency_seconds,
    paper_saving,
    saving,
    scale_share,
    step_seconds,
)

ROOT = Path(__file__).parent.parent.parent
STEP = Step(values=1_000_000, forward_flops=1e9, backward_flops=2e9)

steps = st.builds(
    Step,
    values=st.integers(1, 10**9),
    forward_flops=st.floats(1e6, 1e13),
    backward_flops=st.floats(1e6, 1e13),
)
assumptions = st.builds(
    Assumptions,
    servers=st.integers(2, 1024),
    transceivers=st.integers(1, 16),
    link_gbps=st.floats(1, 10_000),
    utilisation=st.floats(0.01, 1),
    ring_bits=st.sampled_from([8, 16, 32]),
    optinc_bits=st.sampled_from([8, 16]),
    scale_bits=st.sampled_from([0, 16, 32]),
    overlap=st.floats(0, 1),
    message_us=st.floats(0, 10),
    optical_us=st.floats(0, 1),
    optical_inputs=st.integers(2, 16),
)


def replace(a: Assumptions, **changes: Any) -> Assumptions:
    return dataclasses.replace(a, **changes)


@pytest.mark.parametrize(("servers", "ring"), [(4, 1.5), (8, 1.75), (16, 1.875)])
def test_traffic_is_that_of_fig_6(servers: int, ring: float) -> None:
    a = Assumptions(servers=servers, ring_bits=8, optinc_bits=8)
    assert bytes_sent("ring", values=1000, assumptions=a) == pytest.approx(1000 * ring)
    assert bytes_sent("optinc", values=1000, assumptions=a) == 1000


def test_scales_as_wide_as_a_value_are_below_the_papers_share() -> None:
    for bits in (8, 16, 32):
        assert scale_share(bits=bits, block_size=256, scale_bits=bits) == 1 / 256 < 0.004
    assert scale_share(bits=16, block_size=256, scale_bits=32) > 0.004
    a = Assumptions(scale_bits=16)
    assert bytes_sent("optinc", values=256 * 10 + 1, assumptions=a) == 2 * (2561 + 11)


@given(
    step=steps,
    servers=st.integers(2, 1024),
    bits=st.sampled_from([8, 16, 32]),
    gbps=st.floats(1, 1e4),
)
def test_the_defaults_are_the_papers_formula(
    step: Step, servers: int, bits: int, gbps: float
) -> None:
    a = Assumptions(servers=servers, ring_bits=bits, optinc_bits=bits, link_gbps=gbps)
    expected = paper_saving(
        compute=compute_seconds(step.forward_flops + step.backward_flops, a),
        ring=communication_seconds("ring", values=step.values, assumptions=a),
        servers=servers,
    )
    assert saving(step=step, assumptions=a) == pytest.approx(expected, abs=1e-9)


def test_the_papers_hardware_by_hand() -> None:
    a = Assumptions()
    # 800 GB/s: 2 MB take 2.5 us, in a ring of four 3.75 us. 36 TFLOP/s: 3 GFLOP take 83.3 us.
    assert communication_seconds("optinc", values=10**6, assumptions=a) == pytest.approx(2.5e-6)
    assert communication_seconds("ring", values=10**6, assumptions=a) == pytest.approx(3.75e-6)
    assert step_seconds("ring", step=STEP, assumptions=a) == pytest.approx(250e-6 / 3 + 3.75e-6)


def test_decimal_parts_come_back_in_more_bits_which_set_the_pace() -> None:
    a = Assumptions(downlink="decimal")
    # 2^16 * 4 - 1 has 18 bits: 2.25 MB take 2.8125 us on the way back, 2 MB 2.5 us on the way out.
    assert bytes_sent("optinc", values=10**6, assumptions=a) == 2e6
    assert bytes_received("optinc", values=10**6, assumptions=a) == 2.25e6
    assert communication_seconds("optinc", values=10**6, assumptions=a) == pytest.approx(2.8125e-6)
    for method in METHODS[:-1]:
        times = [
            communication_seconds(method, values=10**6, assumptions=b)
            for b in (a, replace(a, downlink="quantised"))
        ]
        assert times[0] == times[1]
    # Of the scenario too; 3 bits more are 4, as PAM4 symbols have 2. Cascades sum over all inputs.
    for bits, servers, inputs in ((16, 4, 4), (8, 8, 8), (2, 2, 4), (8, 16, 4)):
        a = Assumptions(
            optinc_bits=bits, servers=servers, optical_inputs=inputs, downlink="decimal"
        )
        fan_in = max(servers, inputs)
        scenario = make_scenario(
            bits=bits, servers=fan_in, onn_inputs="auto", rounding="floor", downlink="decimal"
        )
        assert a.optinc_received_bits == scenario.received_bits
    assert [a.optinc_received_bits, replace(a, optical_inputs=8).optinc_received_bits] == [12, 14]
    with pytest.raises(ConfigurationError, match=r"downlink must be quantised \| decimal, got 'x'"):
        Assumptions(downlink="x")  # type: ignore[arg-type]


@given(step=steps, a=assumptions, factor=st.floats(1, 100))
def test_time_falls_with_the_link_and_grows_with_the_batch(
    step: Step, a: Assumptions, factor: float
) -> None:
    for method in METHODS:
        time = step_seconds(method, step=step, assumptions=a)
        faster = replace(a, link_gbps=a.link_gbps * factor)
        assert step_seconds(method, step=step, assumptions=faster) <= time * (1 + 1e-12)
        assert step_seconds(method, step=step.scaled(factor), assumptions=a) >= time * (1 - 1e-12)
        hidden = replace(a, overlap=1.0)
        assert step_seconds(method, step=step, assumptions=hidden) <= time


@given(step=steps, a=assumptions, more=st.integers(1, 100))
def test_rings_grow_with_the_servers_and_switches_only_by_levels(
    step: Step, a: Assumptions, more: int
) -> None:
    larger = replace(a, servers=a.servers + more)
    for method in METHODS:
        sent = bytes_sent(method, values=step.values, assumptions=a)
        grown = bytes_sent(method, values=step.values, assumptions=larger)
        assert grown > sent if method == "ring" else grown == sent
        assert latency_seconds(method, larger) >= latency_seconds(method, a)


@given(step=steps, a=assumptions, factor=st.floats(1.01, 100))
def test_optinc_saves_less_of_larger_batches(step: Step, a: Assumptions, factor: float) -> None:
    now = saving(step=step, assumptions=a)
    if now > 0:
        assert saving(step=step.scaled(factor), assumptions=a) <= now + 1e-9


@given(step=steps, a=assumptions, target=st.floats(0.01, 0.9))
def test_the_batch_of_a_saving_has_that_saving(step: Step, a: Assumptions, target: float) -> None:
    batch = batch_for_saving(target, sample=step, assumptions=a)
    most = saving(step=step.scaled(0), assumptions=a)
    if batch is None:
        assert most <= target
    else:
        assert most > target
        assert saving(step=step.scaled(batch), assumptions=a) == pytest.approx(target, abs=1e-3)


def test_batches_follow_from_the_papers_formula() -> None:
    a = Assumptions()
    batch = batch_for_saving(0.25, sample=STEP, assumptions=a)
    # A quarter is three quarters of the third that is saved of the ring: c = r / 3.
    assert batch == pytest.approx(3.75e-6 / 3 / 83.333e-6, rel=1e-4)
    assert batch_for_saving(0.4, sample=STEP, assumptions=a) is None
    with pytest.raises(ConfigurationError, match="above 0"):
        batch_for_saving(0, sample=STEP, assumptions=a)


def test_an_electrical_switch_at_line_rate_is_as_fast_but_for_its_latency() -> None:
    a = Assumptions(servers=16)
    assert saving(step=STEP, assumptions=a, over="electrical") == 0
    slow = replace(a, electrical_us=1.0)
    gained = step_seconds("electrical", step=STEP, assumptions=slow)
    assert gained - step_seconds("optinc", step=STEP, assumptions=slow) == pytest.approx(1e-6)
    halved = replace(a, electrical_rate=0.5)
    assert saving(step=STEP, assumptions=halved, over="electrical") > 0


def test_communication_that_the_backward_pass_hides_cannot_be_saved() -> None:
    a = Assumptions(overlap=1.0)
    assert saving(step=STEP, assumptions=a) == 0
    assert saving(step=STEP.scaled(1e-3), assumptions=a) > 0


def test_latency_counts_messages_and_levels() -> None:
    a = Assumptions(servers=64, message_us=1.0, optical_us=0.1, electrical_us=0.3, optical_inputs=4)
    assert latency_seconds("ring", a) == pytest.approx(126e-6)
    assert latency_seconds("tree", a) == pytest.approx(12e-6)
    assert latency_seconds("electrical", a) == pytest.approx(1.3e-6)
    assert latency_seconds("optinc", a) == pytest.approx(1.5e-6)
    assert latency_seconds("optinc", replace(a, scale_bits=16)) == pytest.approx(3e-6)


@given(servers=st.integers(2, 1024), fan_in=st.integers(2, 16))
def test_cascades_have_the_fewest_levels(servers: int, fan_in: int) -> None:
    levels = cascade_levels(servers=servers, fan_in=fan_in)
    assert fan_in**levels >= servers
    assert levels == 1 or fan_in ** (levels - 1) < servers


@pytest.mark.parametrize(
    ("name", "value", "legal"),
    [
        ("servers", 1, "at least 2"),
        ("utilisation", 1.5, "0.001 to 1"),
        ("overlap", -0.1, "0 to 1"),
        ("link_gbps", float("nan"), "at least 0.001"),
        ("optical_inputs", 17, "2 to 16"),
    ],
)
def test_illegal_assumptions_are_named(name: str, value: float, legal: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be {legal}, got"):
        Assumptions(**{name: value})  # type: ignore[arg-type]


def test_flops_of_resnet50_are_the_known_4_1_billion_multiply_adds() -> None:
    def loss() -> torch.Tensor:
        return torchvision_resnet50()(torch.zeros(2, 3, 224, 224)).sum()

    forward, backward = count_flops(loss)
    assert forward / 2 / 2 / 1e9 == pytest.approx(4.09, abs=0.01)
    # Each product has two gradients, but that of the first convolution only one.
    stem = 2 * 2 * (112 * 112 * 64 * 3 * 7 * 7)
    assert backward == 2 * forward - stem


def test_flops_of_the_decoder_are_counted_by_hand() -> None:
    length, words, width, wide, layers = 64, 1000, 384, 1024, 8
    sample = llama(vocabulary=words, sequence_length=length).sample
    weights = layers * (4 * width * width + 3 * width * wide) + words * width
    attention = layers * 2 * length * width
    # Rotary angles are the rest.
    assert sample.forward_flops == pytest.approx(2 * length * (weights + attention), rel=1e-3)
    assert sample.values == weights + words * width + (2 * layers + 1) * width


def test_the_stem_does_not_change_the_gradient_but_the_work() -> None:
    imagenet, cifar = resnet50(stem="imagenet").sample, resnet50(stem="cifar").sample
    assert abs(imagenet.values - cifar.values) < 10_000
    assert cifar.forward_flops > 10 * imagenet.forward_flops


def test_fig_6_counts_peers_with_the_settings_of_the_reducers() -> None:
    folder = ROOT / "conf" / "reducer"
    qsgd = OmegaConf.load(folder / "qsgd.yaml")
    power = OmegaConf.load(folder / "powersgd.yaml")
    assert (qsgd.levels, qsgd.bucket_size) == (fig6.QSGD_LEVELS, fig6.QSGD_BUCKET)
    assert (power.rank, power.min_compression_rate) == (fig6.POWERSGD_RANK, fig6.POWERSGD_RATE)


def test_fig_6_shows_the_papers_bars() -> None:
    workload = resnet50(stem="imagenet")
    rows = fig6.traffic(workload, servers=8, bits=16, block_size=256)
    published = [row for row in rows if row["paper"] is not None]
    assert [row["method"] for row in published] == ["ring", "OptINC"]
    for row in published:
        assert row["over_gradient"] == pytest.approx(row["paper"], abs=1e-6)
    assert "0.39%" in fig6.scale_note(bits=16, block_size=256)
