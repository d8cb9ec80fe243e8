"""Trainings by virtual servers that would end well with other results than DDP's.

DDP is played by hand here: every server's gradient by itself, then their mean. The same trainings
by real processes are in ``test_virtual_servers_equal_ddp.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BackboneFinetuning
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence
from torch.utils.data import DataLoader, Dataset, TensorDataset

from optinc.errors import ConfigurationError
from optinc.reducers.base import Reducer
from optinc.reducers.peers.powersgd import PowerSGDReducer
from optinc.reducers.ring import RingReducer
from optinc.strategies.virtual_servers import VirtualServersStrategy

VIRTUAL_SERVERS = 4


def virtual_rows(rows: int = 24) -> Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(1))


def virtual_fit(
    module: pl.LightningModule,
    reducer: Reducer | None = None,
    *,
    rows: int = 24,
    batch_size: int = 8,
    **settings: Any,
) -> pl.Trainer:
    """Train a module with 4 virtual servers on batches ``[x]`` of 3 features."""
    trainer = pl.Trainer(
        **{
            "accelerator": "cpu",
            "strategy": VirtualServersStrategy(reducer or RingReducer(servers=VIRTUAL_SERVERS)),
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            **settings,
        }
    )
    trainer.fit(module, DataLoader(TensorDataset(virtual_rows(rows)), batch_size=batch_size))
    return trainer


def virtual_by_hand(module: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> None:
    """Give parameters the mean of the servers' gradients."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    servers = [
        torch.autograd.grad(loss(x[k::VIRTUAL_SERVERS]), trained) for k in range(VIRTUAL_SERVERS)
    ]
    for parameter, gradients in zip(trained, zip(*servers, strict=True), strict=True):
        parameter.grad = torch.stack(gradients).sum(0) / VIRTUAL_SERVERS


class VirtualBackbone(pl.LightningModule):
    """A backbone and a head, one above the other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Linear(3, 3)
        self.head = nn.Linear(3, 1)

    def loss(self, x: Tensor) -> Tensor:
        return (self.head(self.backbone(x)) - x.sum(1, keepdim=True)).square().mean()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.loss(batch[0])

    def configure_optimizers(self) -> Any:
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return torch.optim.SGD(trained, lr=0.1)


def test_virtual_parameters_that_lightning_unfreezes_get_the_mean_of_their_gradients() -> None:
    virtual, expected = VirtualBackbone(), VirtualBackbone()
    unfreeze = BackboneFinetuning(
        unfreeze_backbone_at_epoch=1, backbone_initial_lr=0.05, should_align=False
    )
    virtual_fit(virtual, rows=8, max_epochs=2, callbacks=[unfreeze])

    expected.backbone.requires_grad_(False)
    optimizer = expected.configure_optimizers()
    virtual_by_hand(expected, virtual_rows(8), expected.loss)
    optimizer.step()
    expected.backbone.requires_grad_(True)
    optimizer.add_param_group({"params": expected.backbone.parameters(), "lr": 0.05})
    virtual_by_hand(expected, virtual_rows(8), expected.loss)
    optimizer.step()

    for name, parameter in expected.named_parameters():
        assert torch.equal(virtual.get_parameter(name), parameter), name


@pytest.mark.parametrize("hook", ["on_train_batch_start", "training_step", "on_before_zero_grad"])
def test_virtual_parameters_that_a_hook_freezes_and_unfreezes_follow(hook: str) -> None:
    class Alternating(VirtualBackbone):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def alternate(self: Alternating, *args: Any) -> Any:
        even = self.global_step % 2 == 0
        if hook != "on_before_zero_grad":  # then the graph knows already what is frozen
            self.backbone.requires_grad_(even)
        self.head.bias.requires_grad_(not even)
        return VirtualBackbone.training_step(self, *args) if hook == "training_step" else None

    setattr(Alternating, hook, alternate)
    virtual, expected = Alternating(), Alternating()
    virtual_fit(virtual)
    optimizer = expected.configure_optimizers()
    for step, x in enumerate(virtual_rows().split(8)):
        if hook != "on_before_zero_grad":
            expected.backbone.requires_grad_(step % 2 == 0)
        expected.head.bias.requires_grad_(step % 2 == 1)
        optimizer.zero_grad()
        virtual_by_hand(expected, x, expected.loss)
        if hook == "on_before_zero_grad" and step == 1:
            # Frozen in the forward pass, so that no gradient reaches it in this step.
            expected.head.bias.grad = None
        optimizer.step()
    for name, parameter in expected.named_parameters():
        assert torch.equal(virtual.get_parameter(name), parameter), name


def test_virtual_unfreezing_while_gradients_accumulate_is_refused_by_name() -> None:
    class Early(VirtualBackbone):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            self.backbone.requires_grad_(batch_idx > 0)

    with pytest.raises(ConfigurationError, match=r"parameter 'backbone.bias' changed while"):
        virtual_fit(Early(), accumulate_grad_batches=2)


def test_virtual_error_feedback_never_reaches_other_parameters() -> None:
    """Two layers of one shape take turns: PowerSGD's errors belong to one of them."""

    class Turns(VirtualBackbone):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 3)

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            self.backbone.requires_grad_(batch_idx < 4)
            self.head.requires_grad_(batch_idx >= 4)

    reducer = PowerSGDReducer(
        servers=VIRTUAL_SERVERS, rank=1, start_iteration=2, min_compression_rate=1.0
    )
    errors: list[Tensor] = []
    losses: list[tuple[Tensor, Tensor]] = []

    class Watch(pl.Callback):
        def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any) -> None:
            module, step = trainer.lightning_module, trainer.global_step
            gradients = [p.grad for p in module.parameters() if p.requires_grad]
            sent = torch.cat([gradient.flatten() for gradient in gradients])
            if step >= 2:  # compression has begun
                errors.append(reducer.server_state()["error"].mean(0))
            if step == 4:
                virtual_by_hand(module, virtual_rows(40)[32:], module.loss)
                exact = torch.cat([p.grad.flatten() for p in module.head.parameters()])
                losses.append((exact, sent))

    virtual_fit(Turns(), reducer, rows=40, callbacks=[Watch()])
    assert errors[1].abs().max() > 1e-3
    # What is lost in the first step of the other layer is all that was lost there.
    exact, sent = losses[0]
    torch.testing.assert_close(sent + errors[2], exact)


def test_virtual_a_skipped_gradient_does_not_leak_into_the_next_step() -> None:
    class Skipping(VirtualBackbone):
        def optimizer_step(
            self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any
        ) -> None:
            if batch_idx == 1:
                optimizer_closure()  # as Lightning documents for a step that is left out
            else:
                optimizer.step(closure=optimizer_closure)

    virtual, expected = Skipping(), Skipping()
    reducer = RingReducer(servers=VIRTUAL_SERVERS)
    virtual_fit(virtual, reducer)
    optimizer = expected.configure_optimizers()
    for step, x in enumerate(virtual_rows().split(8)):
        if step != 1:
            virtual_by_hand(expected, x, expected.loss)
            optimizer.step()
    assert torch.equal(virtual.head.weight, expected.head.weight)
    assert reducer.accounting.reductions == 3  # as DDP, which reduces in the backward pass


def test_virtual_gradients_that_are_never_zeroed_add_up() -> None:
    class Keeping(VirtualBackbone):
        def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
            pass

    virtual, expected = Keeping(), Keeping()
    virtual_fit(virtual)
    optimizer = expected.configure_optimizers()
    kept: list[Tensor] = []
    for x in virtual_rows().split(8):
        virtual_by_hand(expected, x, expected.loss)
        new = [p.grad.clone() for p in expected.parameters()]
        kept = [a + b for a, b in zip(kept, new, strict=True)] if kept else new
        for parameter, gradient in zip(expected.parameters(), kept, strict=True):
            parameter.grad = gradient
        optimizer.step()
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(virtual.get_parameter(name), parameter)


class VirtualNamed(Dataset[tuple[Tensor, str, int]]):
    """Samples of which torch's ``default_collate`` makes a tensor, a tuple of names and labels."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[Tensor, str, int]:
        return torch.full((3,), float(index)), f"name{index}", index


class VirtualSeeing(pl.LightningModule):
    """Notes the shards of all servers, outside of what belongs to one server."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        SEEN.append(batch)
        return self.loss(batch)

    def loss(self, batch: Any) -> Tensor:
        return self.layer(batch[0]).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


SEEN: list[Any] = []


def virtual_shards(
    module: pl.LightningModule, loader: DataLoader[Any], datamodule: Any = None, servers: int = 4
) -> list[Any]:
    """Train for an epoch; return the shards of all servers, those of server 0 last."""
    SEEN.clear()
    trainer = pl.Trainer(
        accelerator="cpu",
        strategy=VirtualServersStrategy(RingReducer(servers=servers)),
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    if datamodule is not None:
        trainer.fit(module, datamodule=datamodule)
    else:
        trainer.fit(module, loader)
    return list(SEEN)


def test_virtual_servers_get_the_names_and_labels_of_their_rows() -> None:
    loader = DataLoader(VirtualNamed(), batch_size=6, drop_last=False)
    shards = virtual_shards(VirtualSeeing(), loader)
    assert len(shards) == 8
    for x, names, labels in shards:
        assert names == tuple(f"name{i}" for i in labels.tolist())
        assert x[:, 0].tolist() == labels.tolist()


def test_virtual_servers_get_whole_images_and_their_boxes() -> None:
    class Detection(VirtualNamed):
        def __getitem__(self, index: int) -> Any:
            image = torch.full((3, 4 + index, 5), float(index))
            return image, {"boxes": torch.full((index, 4), float(index)), "label": index}

    class Detector(VirtualSeeing):
        def loss(self, batch: Any) -> Tensor:
            return torch.stack([self.layer(image.mean((1, 2))) for image in batch[0]]).mean()

    loader = DataLoader(
        Detection(), batch_size=5, collate_fn=lambda samples: tuple(zip(*samples, strict=True))
    )
    shards = virtual_shards(Detector(), loader, servers=3)
    assert [len(images) for images, _ in shards] == [1, 2, 2] * 2
    for images, targets in shards:
        for image, target in zip(images, targets, strict=True):
            assert image.shape == (3, 4 + target["label"], 5)
            assert image.unique().tolist() == [target["label"]]
            assert target["boxes"].shape == (target["label"], 4)


class VirtualSequences(VirtualSeeing):
    """Learns from sequences of different lengths, packed, with positions [1, T] for all rows."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(3, 3, batch_first=True)

    def split_batch(self, batch: Any, servers: int) -> list[Any]:
        packed, positions, tokens, lengths = batch
        rows, sizes = pad_packed_sequence(packed, batch_first=True)
        ragged = tokens.split(lengths.tolist())
        return [
            (
                pack_padded_sequence(
                    rows[k::servers], sizes[k::servers], batch_first=True, enforce_sorted=False
                ),
                positions,
                torch.cat(ragged[k::servers]),
                lengths[k::servers],
            )
            for k in range(servers)
        ]

    def loss(self, batch: Any) -> Tensor:
        packed, positions, tokens, lengths = batch
        padded, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        weighted = (self.layer(padded)[..., 0] * positions[:, : padded.shape[1]]).mean()
        assert len(tokens) == lengths.sum() == len(packed.data)
        return weighted


def virtual_ragged(samples: list[Any]) -> Any:
    lengths = torch.tensor([index % 4 + 1 for _, _, index in samples])
    packed = pack_sequence(
        [x.expand(int(n), 3) for (x, _, _), n in zip(samples, lengths, strict=True)],
        enforce_sorted=False,
    )
    tokens = torch.repeat_interleave(torch.arange(len(samples)), lengths)
    return packed, torch.arange(4.0)[None], tokens, lengths


@pytest.mark.parametrize("owner", ["module", "datamodule"])
def test_virtual_batches_of_packed_sequences_are_split_by_the_user(owner: str) -> None:
    class Data(pl.LightningDataModule):
        def train_dataloader(self) -> Any:
            return DataLoader(VirtualNamed(), batch_size=5, collate_fn=virtual_ragged)

        def split_batch(self, batch: Any, servers: int) -> list[Any]:
            return VirtualSequences.split_batch(None, batch, servers)  # type: ignore[arg-type]

    class Plain(VirtualSequences):
        split_batch = None  # type: ignore[assignment]

    module = VirtualSequences() if owner == "module" else Plain()
    # Positions come to all servers, packed rows and ragged tokens to the server of their sample.
    shards = virtual_shards(module, Data().train_dataloader(), Data(), servers=2)
    assert [shard[3].tolist() for shard in shards[:2]] == [[2, 4], [1, 3, 1]]
    assert [shard[2].tolist() for shard in shards[:2]] == [[1, 1, 3, 3, 3, 3], [0, 2, 2, 2, 4]]
    assert all(shard[1].shape == (1, 4) for shard in shards)


def test_virtual_batches_that_nobody_can_split_are_refused_by_their_place() -> None:
    class Plain(VirtualSequences):
        split_batch = None  # type: ignore[assignment]

    loader = DataLoader(VirtualNamed(), batch_size=5, collate_fn=virtual_ragged)
    with pytest.raises(ConfigurationError, match=r"batch\[0\] is a PackedSequence.*split_batch"):
        virtual_shards(Plain(), loader)
