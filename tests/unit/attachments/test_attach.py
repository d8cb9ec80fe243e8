"""What ``optinc.attach`` accepts, and what it imports.

Covers: optinc.attachments.attach, optinc.attachments.hf_trainer
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import optinc
from optinc.errors import ConfigurationError
from tests.unit.attachments.groups import alone, ideal


class FullyShardedDataParallel(nn.Module):
    """As named in torch."""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(2, 1), r"got Linear.*accepted: DistributedDataParallel, a model after fully_sh"),
        (FullyShardedDataParallel(), "FSDP1, which has no place for a reducer: use fully_shard"),
        (torch.compile(nn.Linear(2, 1)), "attach before torch.compile"),
        ("model", "got str"),
    ],
)
def test_other_models_are_refused_with_the_remedy(model: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        optinc.attach(model)


def test_replicas_belong_to_sharded_models(tmp_path: Path) -> None:
    mesh: Any = object()
    with alone(tmp_path):
        model = DistributedDataParallel(nn.Linear(2, 1))
        with pytest.raises(ConfigurationError, match=r"attach\(replicas=...\) is for fully_shard"):
            optinc.attach(model, ideal(), replicas=mesh)


def test_a_trainer_takes_one_reducer_and_several_processes(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    from transformers import Trainer, TrainingArguments  # noqa: PLC0415  (takes seconds)

    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", max_steps=1)
    trainer = Trainer(nn.Linear(2, 1), arguments, train_dataset=[{"input": torch.ones(2)}])
    reducer = ideal()
    assert optinc.attach(trainer, reducer) is reducer
    with pytest.raises(ConfigurationError, match="attached to this Trainer"):
        optinc.attach(trainer)
    with pytest.raises(ConfigurationError, match="trains a Linear, not a DistributedDataParallel"):
        trainer.train()


def test_attaching_imports_no_other_framework() -> None:
    code = (
        "import sys, optinc; optinc.attach; "
        "names = {'pytorch_lightning', 'lightning', 'transformers', 'accelerate', 'hydra'}; "
        "print(sorted(names & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
