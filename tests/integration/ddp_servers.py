"""Trains a small model by real servers or by virtual ones, for comparison.

    torchrun --nproc-per-node N -m tests.integration.ddp_servers FOLDER [CASE ...]

Virtual servers train by :func:`run` in the process of the test. Writes weights and accounting of
every case to FOLDER.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import safetensors.torch
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor

from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact
from optinc.photonics.chip_settings import ChipSettings
from optinc.reducers.base import Reducer
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.ring import RingReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.strategies.ddp import OptINCDDPStrategy
from optinc.strategies.virtual_servers import VirtualServersStrategy
from optinc.switches.base import OpticalSwitch
from optinc.switches.chip import Play, chip_switch
from optinc.switches.direct import direct_switch
from optinc.switches.error_injection import ErrorDistribution, ErrorInjectionSwitch
from optinc.switches.single import IdealSwitch, ONNSwitch, TableSwitch
from tests.cascades import tree_of
from tests.integration.servers import one_server, train
from tests.scenarios import save_untabulable


def optinc(switch: OpticalSwitch, **settings: Any) -> OptINCReducer:
    quantizer = BlockQuantizer(bits=switch.scenario.bits, block_size=100, **settings)
    return OptINCReducer(quantizer=quantizer, switch=switch)


def ideal(bits: int = 8, servers: int = 4, **settings: Any) -> OptINCReducer:
    scenario = make_scenario(bits=bits, servers=servers, onn_inputs="auto", rounding="half_even")
    return optinc(IdealSwitch(scenario), **settings)


def trained() -> ONNArtifact:
    return ONNArtifact.load(zoo.ZOO / "b8_n4_half_even_all_layers")


def untabulable() -> OptINCReducer:
    """An ONN with more inputs than a table can have."""
    with TemporaryDirectory() as folder:
        onn = save_untabulable(Path(folder))
    return optinc(ONNSwitch(onn))


def injected() -> OptINCReducer:
    """Errors drawn for every value."""
    scenario = make_scenario(bits=16, servers=4, onn_inputs="auto", rounding="half_even")
    errors = ErrorDistribution(rate=0.01, values={1: 0.5, -1024: 0.5})
    return optinc(ErrorInjectionSwitch(scenario, errors=errors, seed=3))


def chip(*, play: Play = "table", **effects: Any) -> OptINCReducer:
    """A drawn chip; by a table, its noise takes the fused kernels."""
    settings = ChipSettings(**effects)
    return optinc(chip_switch(trained(), chip=settings, play=play, standard_error=0.3, seed=3))


def direct(*, cascade: bool = False, play: Play = "table", **effects: Any) -> OptINCReducer:
    """Averages received without an ONN, by one switch or by two levels of them."""
    single = make_scenario(bits=8, servers=4, onn_inputs="auto", rounding="half_even")
    scenario = tree_of(servers=4, fan_in=2) if cascade else single
    chip = ChipSettings(**effects)
    return optinc(direct_switch(scenario, chip=chip, play=play, standard_error=0.3, seed=3))


def imperfect_table() -> OptINCReducer:
    """A table with every seventh entry wrong by one."""
    switch = TableSwitch(trained())
    switch.codes[::7] ^= 1
    switch.wrong_inputs, switch.exact = len(switch.codes[::7]), False
    return optinc(switch)


def eager(reducer: OptINCReducer) -> OptINCReducer:
    """The same reducer without fused kernels."""
    reducer.backend = "eager"
    return reducer


CASES: dict[str, dict[str, Any]] = {
    "ring": {"reducer": lambda: RingReducer(servers=1)},
    "table": {"reducer": lambda: optinc(TableSwitch(trained()))},
    "eager": {
        "reducer": lambda: OptINCReducer(
            quantizer=BlockQuantizer(bits=8, block_size=100),
            switch=TableSwitch(trained()),
            backend="eager",
        )
    },
    "imperfect": {"reducer": imperfect_table},
    "ideal_16_bits": {"reducer": lambda: ideal(bits=16)},
    "onn": {"reducer": lambda: optinc(ONNSwitch(trained()))},
    "noise": {"reducer": lambda: optinc(ONNSwitch(trained(), noise=0.01, seed=3))},
    "injected": {"reducer": injected},
    "ideal_chip": {"reducer": chip},
    "chip": {"reducer": lambda: chip(phase_error=0.002, noise=0.01)},
    "chip_eager": {"reducer": lambda: eager(chip(phase_error=0.002, noise=0.01))},
    "chip_per_value": {
        "reducer": lambda: chip(play="per_value", server_imbalance=0.01, noise=0.01)
    },
    "ideal_direct": {"reducer": direct},
    "direct": {"reducer": lambda: direct(noise=0.02)},
    "direct_eager": {"reducer": lambda: eager(direct(noise=0.02))},
    "direct_per_value": {
        "reducer": lambda: direct(play="per_value", server_imbalance=0.02, noise=0.02)
    },
    "ideal_direct_cascade": {"reducer": lambda: direct(cascade=True)},
    "direct_cascade": {"reducer": lambda: direct(cascade=True, noise=0.02)},
    "ideal_no_table": {"reducer": lambda: ideal(bits=16, servers=16)},
    "onn_no_table": {"reducer": untabulable},
    "clip": {"reducer": ideal, "trainer": {"gradient_clip_val": 0.3}},
    "accumulate": {"reducer": ideal, "trainer": {"accumulate_grad_batches": 3}},
    "bf16": {"reducer": ideal, "trainer": {"precision": "bf16-mixed"}},
    "buckets": {"reducer": ideal, "ddp": {"bucket_cap_mb": 0.01}},
    "views": {"reducer": ideal, "ddp": {"gradient_as_bucket_view": True}},
    "unused": {"reducer": ideal, "unused": True, "ddp": {"find_unused_parameters": True}},
    "fp16": {"reducer": lambda: ideal(nonfinite="propagate"), "fp16": True, "only": "ddp"},
    "fp16_ring": {"reducer": lambda: RingReducer(servers=1), "fp16": True, "only": "ddp"},
}
"""What is trained: a reducer, and settings of trainer, strategy and model."""


def train_case(mode: str, servers: int, case: dict[str, Any]) -> tuple[dict[str, Tensor], Reducer]:
    """Train one case; return its final weights and buffers, and the reducer."""
    reducer: Reducer = case["reducer"]()
    settings = dict(case.get("trainer", {}))
    if case.get("fp16"):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        settings["plugins"] = [MixedPrecision("16-mixed", device="cpu", scaler=scaler)]
    if mode == "ddp":
        strategy: Any = OptINCDDPStrategy(
            reducer, timeout_seconds=60, error_every=1, **case.get("ddp", {})
        )
    else:
        reducer.connect(servers)
        strategy = VirtualServersStrategy(reducer)
    state = train(
        strategy,
        servers=servers,
        real=mode == "ddp",
        model={"unused": case.get("unused", False)},
        trainer=settings,
    )
    return state, reducer


def run(mode: str, servers: int, folder: Path, names: Collection[str]) -> None:
    """Run the cases and write what came out."""
    weights, notes = {}, {}
    for name in names:
        case = CASES[name]
        if case.get("only", mode) == mode:
            state, reducer = train_case(mode, servers, case)
            weights.update({f"{name}.{key}": value for key, value in state.items()})
            notes[name] = reducer.accounting.state_dict()
    rank = torch.distributed.get_rank() if mode == "ddp" else 0
    safetensors.torch.save_file(weights, folder / f"{mode}-{rank}.safetensors")
    (folder / f"{mode}-{rank}.json").write_text(json.dumps(notes))


def main() -> None:
    with one_server():
        folder, *names = sys.argv[1:]
        run("ddp", int(os.environ["WORLD_SIZE"]), Path(folder), names or CASES)


if __name__ == "__main__":
    main()
