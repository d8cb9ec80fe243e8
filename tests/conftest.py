"""Shared fixtures: small scenarios, a small trained ONN, and a folder for caches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from optinc.onn.artifact import ONNArtifact, save_artifact
from optinc.onn.design import ONNDesign
from optinc.onn.evaluation import evaluate_exhaustively
from optinc.onn.training.losses import MarginLoss
from optinc.onn.training.one_switch import ONNTraining
from optinc.signal.scenario import make_scenario
from tests.scenarios import save_untabulable

DATA = "OPTINC_TEST_DATA"

# The first example may compile a kernel, and machines that run tests are often busy.
settings.register_profile("optinc", deadline=None)
settings.load_profile("optinc")


LONGEST = (
    "test_documents",
    "test_demo",
    "test_unchanged_trainings",
    "test_faults",
    "test_signals",
    "test_ddp",
    "test_gpu_benchmark",
    "test_train_onn",
    "test_sweeps",
)
"""Files that take a minute or more."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what runs on request only; begin with the longest files where processes share them.

    So none of the processes idles at the end.
    """
    if "on_request" not in (config.option.markexpr or ""):
        left_out = [item for item in items if item.get_closest_marker("on_request")]
        items[:] = [item for item in items if not item.get_closest_marker("on_request")]
        config.hook.pytest_deselected(items=left_out)
    if hasattr(config, "workerinput"):
        rank = {name: number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep caches out of the user's home."""
    monkeypatch.setenv("OPTINC_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets."""
    if not os.environ.get(DATA):
        pytest.skip(f"${DATA} is not set: it names the folder with CIFAR-100 and WikiText-2")
    return Path(os.environ[DATA])


@pytest.fixture(scope="session")
def small_design() -> ONNDesign:
    """4 bits, 2 servers: 49 possible inputs."""
    scenario = make_scenario(bits=4, servers=2, onn_inputs="auto", rounding="half_even")
    return ONNDesign.from_settings(scenario=scenario, hidden=[32, 32], layers=[2])


@pytest.fixture(scope="session")
def small_onn(small_design: ONNDesign, tmp_path_factory: pytest.TempPathFactory) -> ONNArtifact:
    """An imperfect ONN for ``small_design``: weights as initialised, accuracy as measured."""
    torch.manual_seed(0)
    module = ONNTraining(
        design=small_design,
        loss=MarginLoss(tolerance=0.3),
        optimizer="muon",
        learning_rate=1e-2,
        batch_size=49,
        max_epochs=1,
        max_steps=None,
        epoch_steps=1,
        projection_interval=1,
        min_margin=0.0,
        noise=0.0,
        epoch_inputs=None,
        hard_share=0.0,
        hard_margin=0.1,
        seed=0,
    )
    return save_artifact(
        tmp_path_factory.mktemp("onn"),
        network=module.network,
        design=small_design,
        evaluation=evaluate_exhaustively(module.network, small_design.scenario),
        seed=0,
        epochs=0,
        seconds=0.0,
        device=torch.device("cpu"),
        command="untrained",
    )


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute as one of several servers does: sums over threads are taken in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_wandb_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without an account of Weights & Biases."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    # Lightning's offline mode sets it for good, and W&B reads it once.
    monkeypatch.setenv("WANDB_MODE", "online")
    import wandb  # noqa: PLC0415  (slow, and for some tests)

    wandb.teardown()


@pytest.fixture(scope="session")
def untabulable_onn(tmp_path_factory: pytest.TempPathFactory) -> ONNArtifact:
    """A constructed ONN with more inputs than a table can have: 16 bits, 16 servers."""
    return save_untabulable(tmp_path_factory.mktemp("untabulable"))
