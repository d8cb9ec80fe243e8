"""The end of an ONN's training or construction, with an error where inputs are received wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from optinc.errors import WrongInputsError
from optinc.onn.artifact import ONNCard
from optinc.onn.evaluation import Evaluation, share_wrong

logger = logging.getLogger(__name__)


def end_of_training(
    results: Mapping[str, ONNCard | Evaluation], *, stored: Path | str, advice: str
) -> None:
    """Raise an error where inputs are received wrong; only to be called once all is written.

    In a sweep the error is logged: it must not end the jobs that follow.

    Args:
        results: Cards or evaluations, by what the message is to call them.
        stored: Folder of the ONNs.
        advice: What a user can do about it.

    Raises:
        WrongInputsError: If an input is received wrong; names share, folder and advice.
    """
    wrong = [
        f"{name} receives {share_wrong(result.wrong_inputs, result.evaluated_inputs)} wrong"
        for name, result in results.items()
        if result.wrong_inputs
    ]
    if not wrong:
        return
    error = WrongInputsError(f"{'; '.join(wrong)}. It is stored in {stored} all the same; {advice}")
    # Not initialised where a configuration was composed without Hydra's main function.
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        logger.error("%s", error)
        return
    raise error
