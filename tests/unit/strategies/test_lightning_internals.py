"""Private names of Lightning; ``.ci/run`` runs these tests with the oldest one allowed, too."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from lightning_fabric.plugins.environments import LightningEnvironment
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loops.fit_loop import _FitLoop
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor
from torch.futures import Future
from torch.utils.data import DataLoader, IterableDataset

import optinc
from optinc.callbacks.preemption import Preemption
from optinc.errors import OptINCError
from optinc.strategies import lightning_evaluations, lightning_internals
from optinc.strategies.launcher import ServerLauncher
from optinc.strategies.lightning_internals import (
    HookedDDPStrategy,
    ProcessLauncher,
    ValidationCheckpoint,
    begin_next_epoch,
    epoch_is_over,
    is_accumulating,
    ready_for_next_batch,
    replace_sigterm_handler,
    require_names,
    restart_validation,
    set_stopping,
)

BATCHES = 4
"""Training batches of an epoch."""


class Line(pl.LightningModule):
    """Notes the epoch and number of each batch it sees; those of validations are negative."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.seen: list[tuple[int, int]] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.seen.append((self.current_epoch, batch_idx))
        return self.layer(batch).square().mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        if not self.trainer.sanity_checking:
            self.seen.append((self.current_epoch, -1 - batch_idx))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Calling(pl.Callback):
    """Calls a function in one hook of the trainer."""

    def __init__(self, hook: str, function: Callable[[pl.Trainer], None]) -> None:
        setattr(self, hook, lambda trainer, *args, **kwargs: function(trainer))


def make_trainer(*callbacks: pl.Callback, **settings: Any) -> pl.Trainer:
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
    }
    return pl.Trainer(**(defaults | settings), callbacks=list(callbacks))


class Resumable(DataLoader[Any]):
    """Has no place to remember, since all batches are equal."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def fit(trainer: pl.Trainer, *, ckpt_path: Path | None = None, rows: Any = None) -> Line:
    model = Line()
    data = torch.ones(BATCHES, 2, 3)
    loader: Any = Resumable(data if rows is None else rows, batch_size=None)
    validation: Any = DataLoader(torch.ones(3, 2, 3), batch_size=None)
    trainer.fit(model, loader, validation, ckpt_path=ckpt_path, weights_only=True)
    return model


def terminate(trainer: pl.Trainer) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(autouse=True)
def _default_handler() -> Iterator[None]:
    """Lightning must find the default handler, and leave it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    assert signal.signal(signal.SIGTERM, before) == signal.SIG_DFL


@pytest.fixture
def _alone() -> Iterator[None]:
    """A process group of this process only."""
    before = dict(os.environ)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)


def test_our_handler_is_called_in_place_of_lightning_s() -> None:
    calls: list[int] = []
    replace = Calling(
        "setup",
        lambda trainer: replace_sigterm_handler(trainer, lambda number, _: calls.append(number)),
    )
    trainer = make_trainer(replace, Calling("on_train_batch_end", terminate))
    fit(trainer)
    assert calls == [signal.SIGTERM] * BATCHES
    assert trainer.global_step == BATCHES


def test_a_training_stops_after_the_batch_in_which_it_is_asked_to() -> None:
    def stop(trainer: pl.Trainer) -> None:
        if trainer.global_step == 2:
            set_stopping(trainer, stopping=True)

    trainer = make_trainer(Calling("on_train_batch_end", stop))
    with pytest.raises(SIGTERMException):
        fit(trainer)
    assert trainer.global_step == 2


def test_a_training_goes_on_where_sigterm_is_withdrawn() -> None:
    seen = []

    def withdraw(trainer: pl.Trainer) -> None:
        terminate(trainer)
        seen.append(trainer.received_sigterm)
        set_stopping(trainer, stopping=False)

    trainer = make_trainer(Calling("on_train_batch_end", withdraw))
    fit(trainer)
    assert seen == [True] * BATCHES
    assert trainer.global_step == BATCHES


def test_a_lightning_that_reads_another_flag_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.Trainer, "received_sigterm", property(lambda self: False))
    with pytest.raises(OptINCError, match=r"does not read .*\.received_sigterm, which optinc"):
        set_stopping(make_trainer(), stopping=True)


def test_batches_are_accumulated_until_the_optimiser_steps_or_the_epoch_is_over() -> None:
    noted: list[tuple[bool, int]] = []
    note = Calling(
        "on_train_batch_end", lambda t: noted.append((is_accumulating(t), t.global_step))
    )
    fit(make_trainer(note, accumulate_grad_batches=3))
    assert noted == [(True, 0), (True, 0), (False, 1), (False, 2)]


class Stream(IterableDataset[Tensor]):
    """As many batches, whose number is not known in advance."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.ones(BATCHES, 2, 3))


@pytest.mark.parametrize("rows", [None, Stream()])
def test_the_last_batch_of_an_epoch_is_told_with_and_without_a_length(rows: Any) -> None:
    noted: list[bool] = []
    note = Calling("on_train_batch_end", lambda trainer: noted.append(epoch_is_over(trainer)))
    fit(make_trainer(note, max_epochs=2), rows=rows)
    assert noted == [False, False, False, True] * 2


def stopped(
    folder: Path, hook: str, step: int, prepare: Callable[[pl.Trainer], None], **settings: Any
) -> Path:
    """Send SIGTERM in a hook after a step; return the checkpoint written when it ends the fit."""
    path = folder / "stopped.ckpt"

    def save(trainer: pl.Trainer) -> None:
        prepare(trainer)
        trainer.save_checkpoint(path)

    def terminate_at(trainer: pl.Trainer) -> None:
        if trainer.global_step == step:
            terminate(trainer)

    trainer = make_trainer(Calling(hook, terminate_at), Calling("on_exception", save), **settings)
    with pytest.raises(SIGTERMException):
        fit(trainer)
    return path


def test_an_interrupted_validation_is_repeated_from_its_first_batch(tmp_path: Path) -> None:
    settings = {
        "max_steps": 8,
        "max_epochs": -1,
        "val_check_interval": 2,
        "limit_val_batches": 3,
    }
    path = stopped(tmp_path, "on_validation_batch_end", 2, restart_validation, **settings)
    resumed = fit(make_trainer(**settings), ckpt_path=path)
    whole = fit(make_trainer(**settings))
    assert whole.seen[:5] == [(0, 0), (0, 1), (0, -1), (0, -2), (0, -3)]
    assert resumed.seen == whole.seen[2:]


def test_a_training_stopped_between_two_epochs_resumes_with_the_next(tmp_path: Path) -> None:
    settings = {"max_steps": 8, "max_epochs": -1}
    path = stopped(tmp_path, "on_train_epoch_end", BATCHES, begin_next_epoch, **settings)
    resumed = fit(make_trainer(**settings), ckpt_path=path)
    assert resumed.seen == [(1, batch) for batch in range(BATCHES)]


def test_a_training_stopped_within_an_epoch_resumes_with_the_next_batch(tmp_path: Path) -> None:
    settings = {"max_steps": 8, "max_epochs": -1}
    path = stopped(tmp_path, "on_train_batch_end", 2, begin_next_epoch, **settings)
    resumed = fit(make_trainer(**settings), ckpt_path=path)
    assert resumed.seen == [(0, 2), (0, 3), *((1, batch) for batch in range(BATCHES))]


@pytest.mark.parametrize("steps", [3, BATCHES, 6])
def test_a_longer_training_continues_with_the_batch_after_the_last(
    steps: int, tmp_path: Path
) -> None:
    path = tmp_path / "last.ckpt"
    counts: list[Any] = []

    def note(trainer: pl.Trainer) -> None:
        fit_loop = trainer.fit_loop
        counts.append(
            (fit_loop.epoch_progress.state_dict(), fit_loop.epoch_loop.batch_progress.state_dict())
        )

    def save(trainer: pl.Trainer) -> None:
        note(trainer)
        with ready_for_next_batch(trainer):
            trainer.save_checkpoint(path)
        note(trainer)

    fit(make_trainer(Calling("on_train_end", save), max_steps=steps, max_epochs=-1))
    assert counts[0] == counts[1]
    longer = {"max_steps": 10, "max_epochs": -1}
    whole = fit(make_trainer(**longer))
    resumed = fit(make_trainer(**longer), ckpt_path=path)
    assert resumed.seen == whole.seen[steps:]


def test_checkpoints_follow_validations_where_there_are_any(tmp_path: Path) -> None:
    noted = []
    for batches in (3, 0):
        callback = ValidationCheckpoint(dirpath=tmp_path / str(batches))
        note = Calling(
            "on_train_end",
            lambda trainer, callback=callback: noted.append(callback.saves_at_validation(trainer)),
        )
        fit(make_trainer(callback, note, limit_val_batches=batches))
    assert noted == [True, False]


@pytest.mark.parametrize("chosen", [True, False])
def test_a_chosen_time_of_checkpoints_is_kept(*, chosen: bool, tmp_path: Path) -> None:
    callback = ValidationCheckpoint(dirpath=tmp_path, save_on_train_epoch_end=chosen)
    trainer = make_trainer(callback, limit_val_batches=3)
    fit(trainer)
    assert callback.saves_at_validation(trainer) is not chosen


@pytest.mark.parametrize(("save_last", "names"), [(True, ["last.ckpt"]), ("link", [])])
def test_the_last_checkpoint_is_saved_when_asked_for_and_once_a_step(
    save_last: Any, names: list[str], tmp_path: Path
) -> None:
    callback = ValidationCheckpoint(dirpath=tmp_path, save_last=save_last, every_n_epochs=9)
    saved: list[int] = []
    found: list[str] = []
    trainer = make_trainer(
        callback,
        Calling("on_train_batch_end", callback.save_last_now),
        Calling("on_validation_start", callback.save_last_now),
        Calling("on_save_checkpoint", lambda trainer: saved.append(trainer.global_step)),
        # Before Lightning links to the last regular checkpoint, at the end of the training.
        Calling("on_train_epoch_end", lambda _: found.extend(p.name for p in tmp_path.iterdir())),
        limit_val_batches=3,
    )
    fit(trainer)
    assert found == names
    # The regular checkpoint of the last step is Lightning's own.
    assert saved == ([1, 2, 3, 4] if names else [4])


class Noting(ProcessLauncher):
    """Notes how many processes it is given to observe."""

    observed = 0

    def observe(self) -> None:
        self.observed = len(self.procs)


class Counting(lightning_internals.EpochProgressBar):
    asked = 0

    def describe_epoch(self, current_epoch: int) -> str:
        self.asked += 1
        return f"pass {current_epoch}"


def test_the_progress_bar_asks_for_our_text_of_an_epoch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bar = Counting()
    fit(make_trainer(bar, max_epochs=2, enable_progress_bar=True))
    assert bar.asked >= 2
    assert "pass 1" in capsys.readouterr().out


def test_a_progress_bar_that_lightning_would_not_ask_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(lightning_internals.RichProgressBar, "_get_train_description")
    with pytest.raises(OptINCError, match=r"has no RichProgressBar\._get_train_description"):
        Counting().setup(None, None, "fit")  # type: ignore[arg-type]


@pytest.mark.usefixtures("_alone")
def test_a_launcher_starts_the_other_processes_and_has_them_observed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import os, pathlib, sys\npathlib.Path(sys.argv[1], os.environ['LOCAL_RANK']).touch()"
    )
    # As if this process had been started by ``python train.py``.
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path)])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    launcher = Noting(LightningEnvironment(), 3, 1)
    assert launcher.launch(lambda word: f"{word} {launcher.observed}", "observes") == "observes 2"
    assert [process.wait(60) for process in launcher.procs] == [0, 0]
    assert {path.name for path in tmp_path.iterdir()} == {"train.py", "1", "2"}


@pytest.mark.usefixtures("_alone")
def test_a_launcher_starts_nothing_where_another_program_has_started_the_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    launcher = Noting(LightningEnvironment(), 3, 1)
    assert launcher.launch(lambda: "trained") == "trained"
    assert (launcher.procs, launcher.observed) == ([], 0)


class Hooked(HookedDDPStrategy):
    """Leaves every gradient bucket as it is, and counts them."""

    buckets = 0

    def make_launcher(self) -> ServerLauncher:
        return ServerLauncher(self.cluster_environment, self.num_processes, self.num_nodes)

    def communication_hook(self) -> Any:
        def hook(_state: object, bucket: torch.distributed.GradBucket) -> Future[Tensor]:
            self.buckets += 1
            future: Future[Tensor] = Future()
            future.set_result(bucket.buffer())
            return future

        hook.__annotations__ = {}
        return hook


@pytest.mark.usefixtures("_alone")
def test_ddp_gives_every_bucket_to_the_hook_and_has_our_launcher() -> None:
    strategy = Hooked()
    fit(make_trainer(strategy=strategy))
    assert strategy.buckets == BATCHES
    assert isinstance(strategy.launcher, ServerLauncher)


def test_only_scripts_get_our_launcher() -> None:
    strategy = Hooked(start_method="spawn")
    make_trainer(strategy=strategy)
    assert strategy.launcher is not None
    assert not isinstance(strategy.launcher, ServerLauncher)


@pytest.mark.usefixtures("_alone")
def test_a_lightning_that_takes_another_launcher_is_an_error() -> None:
    strategy = Hooked()
    trainer = make_trainer(strategy=strategy)
    strategy._launcher = None
    with pytest.raises(OptINCError, match=r"does not call Strategy\._configure_launcher"):
        fit(trainer)
    assert strategy.buckets == 0


@pytest.mark.parametrize("asked", [True, False])
def test_synchronised_batchnorm_is_told(*, asked: bool) -> None:
    strategy = Hooked()
    make_trainer(strategy=strategy, sync_batchnorm=asked)
    assert strategy.synchronises_batchnorm is asked


def test_missing_names_are_told_with_owner_version_and_remedy() -> None:
    owner = SimpleNamespace(present=SimpleNamespace(here=1))
    require_names(owner, ("present", "present.here"))
    with pytest.raises(OptINCError) as caught:
        require_names(owner, ("present", "present.there", "absent"))
    for part in (
        f"pytorch-lightning {pl.__version__} has no SimpleNamespace.present.there",
        "pip install 'pytorch-lightning>=",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("user", [Preemption(), ValidationCheckpoint(), Hooked()])
@pytest.mark.usefixtures("_alone")
def test_a_training_does_not_start_where_the_loop_lacks_a_name(
    user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(_FitLoop, "_should_accumulate")
    callbacks = [user] if isinstance(user, pl.Callback) else []
    settings = {} if callbacks else {"strategy": user}
    trainer = make_trainer(*callbacks, **settings)
    with pytest.raises(OptINCError, match=r"has no Trainer\.fit_loop\._should_accumulate"):
        fit(trainer)
    assert trainer.global_step == 0


@pytest.mark.parametrize(
    ("owner", "name", "user"),
    [
        (ModelCheckpoint, "_should_save_on_train_epoch_end", ValidationCheckpoint()),
        (DDPStrategy, "_register_ddp_hooks", Hooked()),
    ],
)
@pytest.mark.usefixtures("_alone")
def test_a_training_does_not_start_where_an_override_has_nothing_to_override(
    owner: type, name: str, user: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(owner, name)
    callbacks = [user] if isinstance(user, pl.Callback) else []
    settings = {} if callbacks else {"strategy": user}
    trainer = make_trainer(*callbacks, **settings)
    with pytest.raises(OptINCError, match=rf"has no {owner.__name__}\.{name}, which optinc needs"):
        fit(trainer)


ROOT = Path(optinc.__file__).parent
USERS = ("callbacks", "data", "models", "onn.training", "strategies", "tasks")
"""Packages that may use Lightning."""

OTHERS = {
    *("_autograd", "_buffers", "_modules", "_parameters", "_version"),
    *("_set_pg_timeout", "_unsafe_set_version_counter"),
    *("_fields", "_get_full_key", "_getframe", "_replace", "_target_"),
}
"""Underscore names of torch, Python, Hydra and OmegaConf."""

BY_STRING = {"getattr", "setattr", "hasattr", "delattr"}


def modules() -> Iterator[Any]:
    for package in USERS:
        root = importlib.import_module(f"optinc.{package}")
        for info in pkgutil.walk_packages(root.__path__, f"optinc.{package}."):
            module = importlib.import_module(info.name)
            if module not in (lightning_internals, lightning_evaluations):
                yield module


def of_lightning(name: str) -> bool:
    packages = ("pytorch_lightning", "lightning_fabric", "lightning_utilities", "lightning")
    return name.split(".", maxsplit=1)[0] in packages


def private_names(cls: type) -> set[str]:
    """Underscore names of Lightning's bases of a class, methods and attributes."""
    bases = [base for base in cls.__mro__ if of_lightning(base.__module__)]
    names = {name for base in bases for name in vars(base)}
    for base in bases:
        names |= set(re.findall(r"\bself\.(\w+)", inspect.getsource(base)))
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def test_no_other_module_uses_a_private_name_of_lightning() -> None:
    found = []
    classes = 0
    for module in modules():
        tree = ast.parse(inspect.getsource(module))
        ours = OTHERS | {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and of_lightning(node.module):
                path = [*node.module.split("."), *(alias.name for alias in node.names)]
                found += [(module.__name__, name) for name in path if name.startswith("_")]
            elif isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr):
                own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
                if not own and node.attr not in ours and ast.unparse(node.value) != "super()":
                    found.append((module.__name__, ast.unparse(node)))
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in BY_STRING:
                name = ast.unparse(node.args[1]).strip("'")
                if re.match("_[a-z]", name) and name not in ours:
                    found.append((module.__name__, ast.unparse(node)))
            elif isinstance(node, ast.ClassDef):
                cls = getattr(module, node.name)
                names = private_names(cls)
                classes += bool(names)
                used = {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
                used |= {n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef)}
                found += [(module.__name__, name) for name in sorted(used & names)]
    assert found == []
    assert classes > 5
