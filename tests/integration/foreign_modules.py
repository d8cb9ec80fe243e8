"""Trains modules that were not written for OptINC, by two processes or by two virtual servers.

    torchrun --nproc-per-node 2 -m tests.integration.foreign_modules FOLDER

Every process writes what each module ended with, or the error that refused it, to FOLDER.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import safetensors.torch
import torch
from pytorch_lightning.callbacks import BackboneFinetuning
from pytorch_lightning.demos.lstm import LightningLSTM
from pytorch_lightning.demos.transformer import LightningTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, TensorDataset
from torchvision.models import ShuffleNetV2, VisionTransformer
from transformers import GPT2Config, GPT2LMHeadModel

from optinc.errors import ConfigurationError
from optinc.reducers.optinc import OptINCReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import make_scenario
from optinc.strategies.ddp import OptINCDDPStrategy
from optinc.strategies.virtual_servers import VirtualServersStrategy
from optinc.switches.single import IdealSwitch
from tests.integration.servers import one_server

SERVERS, ROWS, STEPS, EPOCHS = 2, 4, 3, 2


class Classifier(pl.LightningModule):
    """torchvision's vision transformer, as in Lightning's guides."""

    def __init__(self) -> None:
        super().__init__()
        self.network: nn.Module = VisionTransformer(
            image_size=16,
            patch_size=8,
            num_layers=2,
            num_heads=2,
            hidden_dim=16,
            mlp_dim=32,
            num_classes=4,
            dropout=0.1,
        )

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = nn.functional.cross_entropy(self.network(images), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class LanguageModel(pl.LightningModule):
    """transformers' GPT-2, whose output layer is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.network = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=50,
                n_positions=16,
                n_embd=16,
                n_layer=2,
                n_head=2,
                bos_token_id=0,
                eos_token_id=0,
            )
        )

    def training_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        (tokens,) = batch
        return {"loss": self.network(input_ids=tokens, labels=tokens).loss}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=STEPS)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class GAN(pl.LightningModule):
    """The adversarial training of Lightning's guide to manual optimisation, with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(
            nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 12)
        )
        self.discriminator = nn.Sequential(nn.Linear(12, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        (real,) = batch
        generating, judging = self.optimizers()
        noise = torch.randn(len(real), 8)
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)

        self.toggle_optimizer(generating)
        loss = self._loss(self.discriminator(self.generator(noise)), ones)
        self.manual_backward(loss)
        generating.step()
        generating.zero_grad()
        self.untoggle_optimizer(generating)

        self.toggle_optimizer(judging)
        fake = self.generator(noise).detach()
        loss = self._loss(self.discriminator(real), ones) + self._loss(
            self.discriminator(fake), zeros
        )
        self.manual_backward(loss)
        judging.step()
        judging.zero_grad()
        self.untoggle_optimizer(judging)

    def configure_optimizers(self) -> Any:
        return (
            torch.optim.Adam(self.generator.parameters(), lr=1e-2, betas=(0.5, 0.999)),
            torch.optim.Adam(self.discriminator.parameters(), lr=1e-2, betas=(0.5, 0.999)),
        )

    @staticmethod
    def _loss(judged: Tensor, target: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(judged, target)


class Finetuned(pl.LightningModule):
    """A convolutional backbone that Lightning's callback freezes for the first epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ShuffleNetV2([1, 1, 1], [8, 8, 16, 16, 16], num_classes=8)
        self.head = nn.Linear(8, 4)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self.head(self.backbone(images)), labels)

    def configure_optimizers(self) -> Any:
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.SGD(trainable, lr=0.1, momentum=0.9)


class Contrastive(pl.LightningModule):
    """SimCLR: every server's images are told apart from those of all servers."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(768, 16), nn.ReLU(), nn.Linear(16, 8))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images, _ = batch
        views = [self.network(images), self.network(images.flip(-1))]
        first, second = (
            nn.functional.normalize(self.all_gather(view, sync_grads=True).view(-1, 8), dim=1)
            for view in views
        )
        return nn.functional.cross_entropy(first @ second.T / 0.1, torch.arange(len(first)))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def images() -> Dataset[Any]:
    generator = torch.Generator().manual_seed(3)
    rows = ROWS * SERVERS * STEPS
    return TensorDataset(
        torch.randn(rows, 3, 16, 16, generator=generator),
        torch.randint(4, (rows,), generator=generator),
    )


def tokens(copies: int = 1) -> Dataset[Any]:
    generator = torch.Generator().manual_seed(4)
    drawn = torch.randint(50, (ROWS * SERVERS * STEPS, 12), generator=generator)
    return TensorDataset(*[drawn] * copies)


def points() -> Dataset[Any]:
    generator = torch.Generator().manual_seed(5)
    return TensorDataset(torch.randn(ROWS * SERVERS * STEPS, 12, generator=generator))


class Case(NamedTuple):
    """A module, its data, its callbacks, and whether a loss leaves parameters out."""

    module: Callable[[], pl.LightningModule]
    data: Callable[[], Dataset[Any]]
    callbacks: Callable[[], list[pl.Callback]] = list
    unused: bool = False


CASES: dict[str, Case] = {
    "vision_transformer": Case(Classifier, images),
    "gpt2": Case(LanguageModel, tokens),
    "gan": Case(GAN, points, unused=True),
    "finetuned": Case(
        Finetuned,
        images,
        lambda: [
            BackboneFinetuning(
                unfreeze_backbone_at_epoch=1,
                backbone_initial_lr=0.05,
                should_align=False,
                train_bn=False,
            )
        ],
    ),
    "contrastive": Case(Contrastive, images),
    # As Lightning ships them.
    "lightning_transformer": Case(
        lambda: LightningTransformer(vocab_size=50), lambda: tokens(copies=2)
    ),
    "lightning_lstm": Case(lambda: LightningLSTM(vocab_size=50), lambda: tokens(copies=2)),
}


def reducer(servers: int) -> OptINCReducer:
    scenario = make_scenario(bits=8, servers=2, onn_inputs="auto", rounding="half_even")
    return OptINCReducer(
        quantizer=BlockQuantizer(bits=8), switch=IdealSwitch(scenario), servers=servers
    )


def train(case: Case, mode: str) -> dict[str, Tensor]:
    """Train one module for two epochs; return its final weights and buffers."""
    pl.seed_everything(7, verbose=False)
    real = mode == "ddp"
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=SERVERS if real else 1,
        strategy=OptINCDDPStrategy(
            reducer(1), timeout_seconds=60, find_unused_parameters=case.unused
        )
        if real
        else VirtualServersStrategy(reducer(SERVERS)),
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=case.callbacks(),
    )
    data = case.data()
    if real:
        sampler = DistributedSampler(
            data, num_replicas=SERVERS, rank=trainer.global_rank, shuffle=False
        )
        loader = DataLoader(data, batch_size=ROWS, sampler=sampler)
    else:
        loader = DataLoader(data, batch_size=ROWS * SERVERS)
    module = case.module()
    # The shipped demos would download their data here.
    module.prepare_data = lambda: None  # type: ignore[method-assign]
    trainer.fit(module, loader)
    return {name: value.clone() for name, value in module.state_dict().items()}


def results(mode: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Train all modules; return weights by case and name, and refusals by case."""
    weights: dict[str, Tensor] = {}
    refusals: dict[str, str] = {}
    for name, case in CASES.items():
        try:
            trained = train(case, mode)
        except ConfigurationError as error:
            refusals[name] = str(error)
            continue
        weights.update({f"{name}.{key}": value for key, value in trained.items()})
    return weights, refusals


def main() -> None:
    with one_server():
        folder, rank = Path(sys.argv[1]), os.environ["RANK"]
        weights, refusals = results("ddp")
        safetensors.torch.save_file(weights, folder / f"{rank}.safetensors")
        (folder / f"{rank}.json").write_text(json.dumps(refusals), encoding="utf-8")


if __name__ == "__main__":
    main()
