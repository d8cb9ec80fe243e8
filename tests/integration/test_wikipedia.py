from __future__ import annotations

from pathlib import Path

from tests.corpora import make_articles, write_articles
from tests.hydra_jobs import TINY, job


def test_a_language_model_learns_from_local_articles(tmp_path: Path) -> None:
    source = write_articles(tmp_path / "articles", make_articles(400), suffix=".parquet")
    settings = [
        *TINY,
        "data=wikipedia",
        f"data.source={source}",
        f"data.root={tmp_path / 'root'}",
        "data.token_budget=12000",
        "data.validation_share=0.1",
        "data.vocab_size=300",
        "data.shard_tokens=5000",
        "model.optimizer.lr=0.03",
        "reducer=ring",
        "trainer.max_steps=40",
        "trainer.val_check_interval=20",
    ]
    summary, objects = job(tmp_path / "run", *settings)
    assert summary["data"] == "wikipedia"
    assert summary["val_loss"] < 4.5  # log(300) is 5.7
    assert len(objects["datamodule"].train_dataset()) == 10800 // 16
    again, _ = job(tmp_path / "again", *settings)
    assert again["weights_sha256"] == summary["weights_sha256"]


def test_two_batches_through_the_optical_network(tmp_path: Path) -> None:
    source = write_articles(tmp_path / "articles", make_articles(400), suffix=".jsonl")
    summary, _ = job(
        tmp_path / "run",
        *TINY,
        "data=wikipedia",
        f"data.source={source}",
        f"data.root={tmp_path / 'root'}",
        "data.token_budget=12000",
        "data.validation_share=0.1",
        "data.vocab_size=300",
        "debug=two_batches",
    )
    assert summary["steps"] == 2
    assert summary["reducer"] == "optinc"
