"""``task=evaluate``: validate the model of a checkpoint on the data of its run."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from optinc.callbacks.progress import progress_bar
from optinc.callbacks.validation_history import ValidationHistory
from optinc.runs.resume import check_written_by_its_run, load_checkpoint
from optinc.runs.stored_configuration import configuration_of_checkpoint, overridden
from optinc.runs.summary import chosen_options, weights_sha256, write_summary
from optinc.tasks.instantiate import instantiate
from optinc.tasks.loggers import open_loggers
from optinc.tasks.model_and_data import check_weights, model_and_data
from optinc.tasks.schema import Config
from optinc.tasks.unknown_settings import check_settings


def evaluate(cfg: DictConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Validate in one process, print the results and write ``summary.json``.

    Args:
        cfg: The composed configuration; settings that its command line does not name are taken
            from the run which wrote ``ckpt_path``.

    Returns:
        The content of ``summary.json``; and trainer, model and datamodule.

    Raises:
        ConfigurationError: If there is no checkpoint, its run's configuration cannot be found or
            is another one's, or its weights do not fit the model configured.
        DatasetNotFoundError: If the data are no longer where the run found them.
    """
    run = configuration_of_checkpoint(cfg)
    check_settings(run, Config, only=overridden())
    checkpoint = load_checkpoint(cfg.ckpt_path)
    check_written_by_its_run(cfg.ckpt_path, checkpoint)
    model, datamodule = model_and_data(run)
    check_weights(model, checkpoint["state_dict"], run)
    model.load_state_dict(checkpoint["state_dict"])
    history = ValidationHistory()
    trainer = _trainer(run, history)
    with open_loggers(run) as loggers:
        start = time.perf_counter()
        trainer.validate(model, datamodule=datamodule, verbose=False)
        seconds = time.perf_counter() - start
        for logger in loggers:
            logger.log_metrics(history.final, step=checkpoint["global_step"])
        summary = {
            "task": "evaluate",
            "checkpoint": str(cfg.ckpt_path),
            **chosen_options(run),
            "seed": run.seed,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "steps": checkpoint["global_step"],
            **history.final,
            "seconds": seconds,
            "weights_sha256": weights_sha256(model),
        }
        write_summary(cfg.paths.output_dir, summary)
    _show(summary, history.final)
    return summary, {"trainer": trainer, "model": model, "datamodule": datamodule}


def _trainer(run: DictConfig, history: ValidationHistory) -> pl.Trainer:
    """Build a trainer of one process, which reduces no gradients and needs no switch."""
    trainer: pl.Trainer = instantiate(
        run.trainer,
        strategy="auto",
        devices=1,
        num_nodes=1,
        sync_batchnorm=False,
        enable_model_summary=False,
        logger=False,
        callbacks=[*progress_bar(enabled=run.trainer.enable_progress_bar), history],
        enable_checkpointing=False,
    )
    return trainer


def _show(summary: dict[str, Any], metrics: dict[str, float]) -> None:
    """Print the metrics as a table."""
    table = Table(title=f"{summary['model']} on {summary['data']}")
    table.add_column("")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.6g}")
    table.add_row("parameters", f"{summary['parameters']:,}")
    table.add_row("step", f"{summary['steps']:,}")
    console = Console()
    console.print(summary["checkpoint"], soft_wrap=True)
    console.print(table)
