from __future__ import annotations

from typing import Any

from experiments.common.tables import markdown
from experiments.demo import COLUMNS, comparison, sentence

RING: dict[str, Any] = {
    "model": "resnet50",
    "fidelity": None,
    "val_acc": 0.96,
    "val_loss": 0.1234,
    "seconds": 50.4,
    "reducer_seconds": 1.6,
    "quantization_error": 0.0,
    "onn_error_rate": None,
}
OPTINC = RING | {
    "fidelity": "table",
    "val_acc": 0.95,
    "quantization_error": 0.0123,
    "onn_error_rate": 0.0,
    "bytes_ring_same_bits": 3,
    "bytes_optinc": 2,
}


def test_the_ring_has_no_optical_errors() -> None:
    rows = comparison({"ring": RING, "optinc": OPTINC})
    assert markdown(COLUMNS, rows)[2:] == [
        "| ring (exact mean) | 96.00% | 0.123 | 50 | 2 | - | - |",
        "| OptINC (trained ONN) | 95.00% | 0.123 | 50 | 2 | 1.23% | 0.00% |",
    ]


def test_the_sentence_compares_accuracy_and_traffic() -> None:
    text = sentence({"ring": RING, "optinc": OPTINC})
    assert "ResNet50 learned" in text
    assert "95.0% of unseen digits right, -1.0 points" in text
    assert "a ring sends it 1.50 times" in text
    small = {"ring": RING, "optinc": OPTINC | {"model": "resnet18"}}
    assert "ResNet18 learned" in sentence(small)
    failed = OPTINC | {"val_acc": 0.5}
    assert "did not learn well" in sentence({"ring": RING, "optinc": failed})
