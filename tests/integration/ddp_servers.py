"""Trains a small model by real servers or by virtual ones, for comparison.

    torchrun --nproc-per-node N ddp_servers.py ddp FOLDER
    python ddp_servers.py virtual FOLDER --servers N

Writes weights, accounting and notes of every case to FOLDER.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
import safetensors.torch
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from optinc.onn import zoo
from optinc.onn.artifact import ONNArtifact, save_artifact
from optinc.onn.construction.smallest import Smallest
from optinc.onn.evaluation import evaluate_sampled
from optinc.reducers.base import Reducer
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.ring import RingReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.strategies.ddp import OptINCDDPStrategy
from optinc.strategies.virtual_servers import VirtualServersStrategy
from optinc.switches.base import OpticalSwitch
from optinc.switches.error_injection import ErrorDistribution, ErrorInjectionSwitch
from optinc.switches.single import IdealSwitch, ONNSwitch, TableSwitch

BATCH = 4
"""Rows of every server's batch."""

STEPS = 12
"""Batches of an epoch."""


class Images(Dataset[dict[str, Any]]):
    """Random images with labels that can be learnt."""

    def __init__(self, rows: int) -> None:
        generator = torch.Generator().manual_seed(5)
        self.images = torch.randn(rows, 3, 8, 8, generator=generator)
        self.labels = (self.images.mean((1, 2, 3)) > 0).long()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "label": self.labels[index]}


class Model(pl.LightningModule):
    """Convolution, BatchNorm, dropout, parameters of size 0 and 1, and some never used.

    Args:
        case: See :data:`CASES`.
        server: Rank of this server.
    """

    def __init__(self, case: dict[str, Any], server: int) -> None:
        super().__init__()
        self.case = case
        self.server = server
        self.network = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(288, 50),
            nn.Linear(50, 2),
        )
        self.scale = nn.Parameter(torch.ones(()))
        self.nothing = nn.Parameter(torch.ones(0))
        if case.get("unused"):
            self.unused = nn.Linear(20, 20)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        logits = self.network(batch["image"]) * self.scale + self.nothing.sum()
        return nn.functional.cross_entropy(logits, batch["label"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=0.1)


def optinc(switch: OpticalSwitch, **settings: Any) -> OptINCReducer:
    quantizer = BlockQuantizer(bits=switch.scenario.bits, block_size=100, **settings)
    return OptINCReducer(quantizer=quantizer, switch=switch)


def ideal(bits: int = 8, inputs: int = 4, **settings: Any) -> OptINCReducer:
    scenario = make_scenario(bits=bits, servers=inputs, onn_inputs="auto", rounding="half_even")
    return optinc(IdealSwitch(scenario), **settings)


def trained() -> ONNArtifact:
    return ONNArtifact.load(zoo.ZOO / "b8_n4_half_even_all_layers")


def untabulable() -> OptINCReducer:
    """An ONN with more inputs than a table can have."""
    scenario = make_scenario(bits=16, servers=16, onn_inputs="auto", rounding="half_even")
    network, design = Smallest().build(scenario)
    with TemporaryDirectory() as folder:
        onn = save_artifact(
            Path(folder),
            network=network,
            design=design,
            evaluation=evaluate_sampled(network, scenario, samples=1000),
            seed=0,
            epochs=0,
            seconds=0.0,
            device=torch.device("cpu"),
            command="",
        )
    switch = ONNSwitch(onn)
    assert switch.sum_code is None
    return optinc(switch)


def injected() -> OptINCReducer:
    """Errors drawn for every value."""
    scenario = make_scenario(bits=16, servers=4, onn_inputs="auto", rounding="half_even")
    errors = ErrorDistribution(rate=0.01, values={1: 0.5, -1024: 0.5})
    return optinc(ErrorInjectionSwitch(scenario, errors=errors, seed=3))


def imperfect_table() -> OptINCReducer:
    """A table with every seventh entry wrong by one."""
    switch = TableSwitch(trained())
    switch.codes[::7] ^= 1
    switch.wrong_inputs, switch.exact = len(switch.codes[::7]), False
    return optinc(switch)


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
    "ideal_no_table": {"reducer": lambda: ideal(bits=16, onn_inputs=16)},
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


def train(mode: str, servers: int, case: dict[str, Any]) -> tuple[dict[str, Tensor], Reducer]:
    """Train one case; return its final weights and buffers, and the reducer."""
    reducer: Reducer = case["reducer"]()
    # Not earlier: making an ONN draws random numbers.
    pl.seed_everything(7, verbose=False)
    dataset = Images(BATCH * STEPS * servers)
    settings = dict(case.get("trainer", {}))
    if case.get("fp16"):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        settings["plugins"] = [MixedPrecision("16-mixed", device="cpu", scaler=scaler)]
    if mode == "ddp":
        strategy: Any = OptINCDDPStrategy(reducer, timeout_seconds=60, **case.get("ddp", {}))
    else:
        reducer.connect(servers)
        strategy = VirtualServersStrategy(reducer)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=servers if mode == "ddp" else 1,
        strategy=strategy,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **settings,
    )
    rank = trainer.global_rank
    if mode == "ddp":
        sampler = DistributedSampler(dataset, num_replicas=servers, rank=rank, shuffle=False)
        loader = DataLoader(dataset, batch_size=BATCH, sampler=sampler)
    else:
        loader = DataLoader(dataset, batch_size=BATCH * servers)
    model = Model(case, rank)
    trainer.fit(model, loader)
    return model.state_dict(), reducer


def run(mode: str, servers: int, folder: Path) -> None:
    """Run every case and write what came out."""
    weights, notes = {}, {}
    rank = 0
    for name, case in CASES.items():
        if case.get("only", mode) != mode:
            continue
        state, reducer = train(mode, servers, case)
        weights.update({f"{name}.{key}": value.clone() for key, value in state.items()})
        notes[name] = reducer.accounting.state_dict()
        rank = torch.distributed.get_rank() if mode == "ddp" else 0
    safetensors.torch.save_file(weights, folder / f"{mode}-{rank}.safetensors")
    (folder / f"{mode}-{rank}.json").write_text(json.dumps(notes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["ddp", "virtual"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--servers", type=int, required=True)
    arguments = parser.parse_args()
    # One thread each: sums over threads would be taken in another order.
    torch.set_num_threads(1)
    run(arguments.mode, arguments.servers, arguments.folder)


if __name__ == "__main__":
    main()
