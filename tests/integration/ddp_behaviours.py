"""Trains tiny models by two real servers, one case after another, for tests that look at several.

    torchrun --nproc-per-node 2 -m tests.integration.ddp_behaviours FOLDER [PREFIX ...]

Runs the cases whose names begin with a prefix. Writes what every case returned, or the error that
ended it, to FOLDER/RANK.json, and the weights it ended with to FOLDER/RANK.safetensors.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import safetensors.torch
import torch
from pytorch_lightning.callbacks import BaseFinetuning
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from optinc.errors import ConfigurationError
from optinc.reducers.ring import RingReducer
from optinc.strategies.ddp import OptINCDDPStrategy
from optinc.strategies.virtual_servers import VirtualServersStrategy
from tests.forks import forked
from tests.integration.hook_cases import HOOK_CASES
from tests.integration.servers import one_server

STEPS = 4
ROWS = 4
"""Of every server's batch."""


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


class Tiny(pl.LightningModule):
    """Two layers, and one that comes last in DDP's buckets.

    Args:
        skip: Steps that leave the first layer unused, on the given ranks.
        ranks: See ``skip``.
    """

    def __init__(self, *, skip: tuple[int, ...] = (), ranks: tuple[int, ...] = (0, 1)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, 3)
        self.body = nn.Linear(3, 20)
        self.head = nn.Linear(20, 1)
        self.skip, self.ranks = skip, ranks

    def forward(self, x: Tensor) -> Tensor:
        if not (self.global_step in self.skip and rank() in self.ranks):
            x = self.first(x)
        return self.head(self.body(x).tanh())

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self(batch[0]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)


def rows(count: int) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(3))


def fit(
    module: pl.LightningModule,
    strategy: Strategy | str | None = None,
    *,
    validation: int = 0,
    **settings: Any,
) -> pl.Trainer:
    """Train on 4 rows a server and step; small buckets, so that a model has several."""
    if strategy is None:
        strategy = OptINCDDPStrategy(RingReducer(servers=1), timeout_seconds=20, bucket_cap_mb=1e-5)
    alone = strategy == "auto" or isinstance(strategy, VirtualServersStrategy)
    callbacks = settings.pop("callbacks", [])
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1 if alone else 2,
        strategy=strategy,
        max_epochs=settings.pop("max_epochs", 1),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=settings.pop("num_sanity_val_steps", 0),
        callbacks=callbacks,
        **settings,
    )
    dataset = TensorDataset(rows(2 * ROWS * STEPS))
    if alone:
        data = DataLoader(dataset, batch_size=2 * ROWS)
    else:
        sampler = DistributedSampler(dataset, num_replicas=2, rank=rank(), shuffle=False)
        data = DataLoader(dataset, batch_size=ROWS, sampler=sampler)
    held_out = DataLoader(TensorDataset(rows(validation)), batch_size=ROWS)
    trainer.fit(module, data, held_out if validation else None)
    return trainer


class Outcome(NamedTuple):
    """What a case leaves: plain values, and the module trained."""

    values: dict[str, Any]
    module: nn.Module | None = None


def unused(step: int, *, ranks: tuple[int, ...] = (0, 1), **ddp: Any) -> Outcome:
    module = Tiny(skip=(step,), ranks=ranks)
    reducer = RingReducer(servers=1)
    strategy = OptINCDDPStrategy(reducer, timeout_seconds=20, bucket_cap_mb=1e-5, **ddp)
    error = None
    try:
        fit(module, strategy)
    except ConfigurationError as raised:
        error = f"{type(raised).__name__}: {raised}"
    return Outcome({"error": error, "steps": reducer.accounting.reductions}, module)


class Unfreeze(BaseFinetuning):
    """The first layer is trained from the second epoch on, and frozen again in the third."""

    def __init__(self, *, ranks: tuple[int, ...] = (0, 1)) -> None:
        super().__init__()
        self.ranks = ranks

    def freeze_before_training(self, pl_module: pl.LightningModule) -> None:
        self.freeze(pl_module.first)

    def finetune_function(self, pl_module: pl.LightningModule, epoch: int, optimizer: Any) -> None:
        if epoch == 1 and rank() in self.ranks:
            self.unfreeze_and_add_param_group(pl_module.first, optimizer, 0.1, 1.0)
        if epoch == 2:
            self.freeze(pl_module.first)


def unfreeze(*, ranks: tuple[int, ...] = (0, 1), epochs: int = 3, **settings: Any) -> Outcome:
    module = Tiny()
    before = module.first.weight.detach().clone()
    trainer = fit(module, callbacks=[Unfreeze(ranks=ranks)], max_epochs=epochs, **settings)
    moved = not torch.equal(before, module.first.weight)
    return Outcome({"moved": moved, "steps": trainer.global_step}, module)


class LoRA(Tiny):
    """Gets new parameters before the second epoch, and has the old ones frozen."""

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            self.requires_grad_(requires_grad=False)
            self.adapter = nn.Linear(3, 3, bias=False)
            nn.init.zeros_(self.adapter.weight)
            self.trainer.optimizers[0].add_param_group({"params": [self.adapter.weight]})

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + self.adapter(x) if hasattr(self, "adapter") else x)


def lora() -> Outcome:
    module = LoRA()
    fit(module, max_epochs=2)
    return Outcome({"adapter": module.adapter.weight.abs().sum().item()}, module)


class Released(Tiny):
    """Releases a frozen layer in the middle of a step."""

    def __init__(self) -> None:
        super().__init__()
        self.first.requires_grad_(requires_grad=False)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.first.requires_grad_()
        return super().training_step(batch, batch_idx)


def released() -> Outcome:
    module = Released()
    fit(module)
    return Outcome({}, module)


class GAN(pl.LightningModule):
    """Two optimisers stepped by hand, BatchNorm, and toggled parameters.

    Args:
        accumulate: Batches whose gradients the discriminator adds up before a step.
    """

    def __init__(self, *, toggle: bool = True, accumulate: int = 1) -> None:
        super().__init__()
        self.automatic_optimization = False
        torch.manual_seed(0)
        self.generator = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
        )
        self.discriminator = nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
        self.toggle, self.accumulate = toggle, accumulate

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        real, noise = batch[0], batch[0].roll(1, 0).sin()
        for_generator, for_discriminator = self.optimizers()
        soft = nn.functional.softplus

        fake = self.generator(noise).detach()
        stepping = (batch_idx + 1) % self.accumulate == 0
        with self.only(for_discriminator, sync=stepping):
            loss = (soft(-self.discriminator(real)) + soft(self.discriminator(fake))).mean()
            self.manual_backward(loss / self.accumulate)
        if stepping:
            for_discriminator.step()
            for_discriminator.zero_grad()
        with self.only(for_generator, sync=True):
            self.manual_backward(soft(-self.discriminator(self.generator(noise))).mean())
        for_generator.step()
        for_generator.zero_grad()

    def only(self, optimizer: Any, *, sync: bool) -> AbstractContextManager[None]:
        return optimizer.toggle_model(sync_grad=sync) if self.toggle else nullcontext()

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.Adam(part.parameters(), lr=1e-2)
            for part in (self.generator, self.discriminator)
        ], []


def exact(module: pl.LightningModule) -> Outcome:
    """Train by Lightning's own DDP."""
    fit(module, DDPStrategy(find_unused_parameters=True, process_group_backend="gloo"))
    return Outcome({}, module)


def gan(*, find: bool = True, **settings: Any) -> Outcome:
    reducer = RingReducer(servers=1)
    module = GAN(**settings)
    strategy = OptINCDDPStrategy(
        reducer, timeout_seconds=20, bucket_cap_mb=1e-5, find_unused_parameters=find
    )
    fit(module, strategy)
    return Outcome({"reductions": reducer.accounting.reductions}, module)


class Manual(Tiny):
    """One optimiser, stepped by hand every second batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:  # type: ignore[override]
        optimizer: Any = self.optimizers()
        stepping = batch_idx % 2 == 1
        with optimizer.toggle_model(sync_grad=stepping):
            self.manual_backward(self(batch[0]).square().mean() / 2)
        if stepping:
            optimizer.step()
            optimizer.zero_grad()


def manual() -> Outcome:
    reducer, module = RingReducer(servers=1), Manual()
    fit(module, OptINCDDPStrategy(reducer, timeout_seconds=20))
    return Outcome({"reductions": reducer.accounting.reductions}, module)


class Validated(Tiny):
    """Logs the same value in the ways that Lightning documents."""

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        error = self(batch[0]).square().mean()
        self.log("val_loss", error)
        self.log("val_synchronised", error, on_epoch=True, sync_dist=True)
        self.log("val_given", error, batch_size=len(batch[0]), sync_dist=True)
        self.log("val_forked", error, on_step=True, on_epoch=True, sync_dist=True)
        self.log("val_sum", error * len(batch[0]), reduce_fx="sum")
        self.log("val_max", error, reduce_fx="max")
        self.log("val_rank", torch.tensor(float(rank())), rank_zero_only=True)

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("test_loss", self(batch[0]).square().mean())


def validation(samples: int, **settings: Any) -> Outcome:
    module = Validated()
    trainer = fit(module, validation=samples, **settings)
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return Outcome(values, module)


def validation_alone(samples: int) -> Outcome:
    """Validate and test without training, by Lightning's own sampler."""
    module = Validated()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=OptINCDDPStrategy(RingReducer(servers=1), timeout_seconds=20),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(TensorDataset(rows(samples)), batch_size=ROWS)
    (values,) = trainer.validate(module, loader, verbose=False)
    (tested,) = trainer.test(module, loader, verbose=False)
    return Outcome({**values, **tested}, module)


CASES: dict[str, Callable[[], Outcome]] = {
    "unused_first": lambda: unused(0),
    "unused_middle": lambda: unused(1),
    "unused_last": lambda: unused(STEPS - 1),
    "unused_on_0": lambda: unused(STEPS - 1, ranks=(0,)),
    "unused_on_1": lambda: unused(1, ranks=(1,)),
    "unused_found": lambda: unused(1, ranks=(1,), find_unused_parameters=True),
    "unfreeze": unfreeze,
    "unfreeze_accumulating": lambda: unfreeze(accumulate_grad_batches=3),
    "unfreeze_views": lambda: unfreeze(
        accumulate_grad_batches=3,
        strategy=OptINCDDPStrategy(
            RingReducer(servers=1),
            timeout_seconds=20,
            bucket_cap_mb=1e-5,
            gradient_as_bucket_view=True,
        ),
    ),
    "unfreeze_on_1": lambda: unfreeze(ranks=(1,)),
    "lora": lora,
    "released": released,
    "gan": gan,
    "gan_not_toggled": lambda: gan(toggle=False),
    "gan_accumulating": lambda: gan(accumulate=2),
    "gan_exact": lambda: exact(GAN()),
    "gan_accumulating_exact": lambda: exact(GAN(accumulate=2)),
    "manual_exact": lambda: exact(Manual()),
    "gan_not_found": lambda: gan(find=False),
    "manual": manual,
    "validation_11": lambda: validation(11),
    "validation_121": lambda: validation(121),
    "validation_sanity": lambda: validation(13, num_sanity_val_steps=2),
    "validation_alone": lambda: validation_alone(13),
    "validation_too_small": lambda: validation(1),
}


def _hook(case: Callable[[], dict[str, Any]]) -> Outcome:
    return Outcome(case())


class Behaviours:
    """What two servers left of some cases.

    Args:
        folder: For their files.
        *prefixes: See the module.

    Attributes:
        notes: Values or errors of the cases by name, for each rank.
        weights: Weights and buffers that the cases ended with, for each rank.
    """

    def __init__(self, folder: Path, *prefixes: str) -> None:
        forked(2, "tests.integration.ddp_behaviours", str(folder), *prefixes)
        self.notes = [json.loads((folder / f"{r}.json").read_text()) for r in (0, 1)]
        self.weights = [safetensors.torch.load_file(folder / f"{r}.safetensors") for r in (0, 1)]

    def state(self, case: str, server: int = 0) -> dict[str, Tensor]:
        """Weights and buffers of one case."""
        return {
            key.removeprefix(f"{case}/"): value
            for key, value in self.weights[server].items()
            if key.startswith(f"{case}/")
        }

    def assert_equal_on_all(self, *cases: str) -> None:
        """Every parameter is equal on both servers, and there are some."""
        for case in cases:
            first, second = self.state(case, 0), self.state(case, 1)
            assert first.keys() == second.keys()
            parameters = [key for key in first if "running" not in key]
            assert parameters, case
            for key in parameters:
                assert torch.equal(first[key], second[key]), (case, key)


def main() -> None:
    folder, prefixes = Path(sys.argv[1]), tuple(sys.argv[2:])
    cases = CASES | {f"hook_{name}": partial(_hook, case) for name, case in HOOK_CASES.items()}
    notes: dict[str, Any] = {}
    weights: dict[str, Tensor] = {}
    with one_server():
        for name, case in cases.items():
            if not name.startswith(prefixes or ""):
                continue
            try:
                outcome = case()
            except Exception as error:
                notes[name] = {"error": f"{type(error).__name__}: {error}"}
                continue
            notes[name] = outcome.values
            state = {} if outcome.module is None else outcome.module.state_dict()
            weights.update({f"{name}/{key}": value.clone() for key, value in state.items()})
        (folder / f"{rank()}.json").write_text(json.dumps(notes))
        safetensors.torch.save_file(weights, folder / f"{rank()}.safetensors")


if __name__ == "__main__":
    main()
