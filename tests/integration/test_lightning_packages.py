"""Both packages of Lightning, each in a process of its own.

Covers: optinc.strategies.lightning_package
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import ROOT, python

TRAIN = """
import sys
import {package} as L
import torch
from torch.utils.data import DataLoader, TensorDataset
import optinc.strategies.ddp
from optinc.callbacks.preemption import Preemption
from optinc.reducers.ring import RingReducer
from optinc.strategies.virtual_servers import VirtualServersStrategy

class Line(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

def fit(strategy, devices):
    module = Line()
    data = DataLoader(TensorDataset(torch.randn(16, 3)), batch_size=4)
    before = module.layer.weight.clone()
    trainer = L.Trainer(
        accelerator="cpu", strategy=strategy, devices=devices, max_steps=2, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[Preemption()],
    )
    trainer.fit(module, data)
    assert not torch.equal(before, module.layer.weight)
    return trainer

fit(VirtualServersStrategy(RingReducer(servers=2)), devices=1)
trainer = fit("optinc_ddp", devices={devices})
if trainer.global_rank == 0:
    print("reductions", trainer.strategy.reducer.accounting.reductions)
    print("loaded", [name for name in ("pytorch_lightning", "lightning") if name in sys.modules])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "devices"),
    # Two servers of the first are those of test_ddp.py.
    [("pytorch_lightning", 1), ("lightning.pytorch", 2)],
)
def test_both_strategies_train_under_either_package(
    package: str, devices: int, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAIN.format(package=package, devices=devices))
    done = python(str(script), seconds=120, PYTHONPATH=str(ROOT))
    assert "reductions 2" in done.stdout
    assert f"loaded ['{package.split('.', maxsplit=1)[0]}']" in done.stdout, (
        "the other is not needed"
    )


BOTH = """
import lightning.pytorch as L
import pytorch_lightning as pl
import optinc.strategies.ddp
from optinc.errors import ConfigurationError

assert isinstance(pl.Trainer(strategy="optinc_ddp", accelerator="cpu", devices=1,
    logger=False).strategy, optinc.strategies.ddp.OptINCDDPStrategy)
try:
    L.Trainer(strategy="optinc_ddp", accelerator="cpu", devices=1, logger=False)
except ConfigurationError as error:
    print(error)
"""


def test_the_package_that_was_not_chosen_says_so(tmp_path: Path) -> None:
    script = tmp_path / "both.py"
    script.write_text(BOTH)
    done = python(str(script), seconds=120, PYTHONPATH=str(ROOT))
    assert "optinc is built on pytorch_lightning: take its Trainer" in done.stdout
