"""ONNs and errors that no part of the chosen switch reads.

Covers: optinc.tasks.config
"""

from __future__ import annotations

from pathlib import Path

import pytest

from optinc.errors import ConfigurationError
from optinc.tasks.config import validate_training
from tests.hydra_jobs import composed

ROBUST = "onn=b8_n4_half_even_robust"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optinc/errors=one_bit"], "optinc/errors=one_bit is drawn by .*error_injection alone"),
        (["optinc/fidelity=ideal", ROBUST], f"{ROBUST} is not read by optinc/fidelity=ideal"),
        (["optinc/fidelity=direct", ROBUST], f"{ROBUST} is not read by optinc/fidelity=direct"),
        (
            ["optinc/fidelity=error_injection", "optinc/errors=one_bit", ROBUST],
            "is not read by optinc/fidelity=error_injection",
        ),
        (["optinc.chip.noise=0.01"], "is played by optinc/fidelity=chip and direct, not by"),
        (["optinc.chip.phase_error=0.01"], "is played by optinc/fidelity=chip alone, not by"),
    ],
)
def test_what_the_switch_does_not_read_is_refused(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    """A sweep over it would find that it costs nothing."""
    with pytest.raises(ConfigurationError, match=message):
        validate_training(composed(tmp_path, *overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["reducer=ring", ROBUST],
        [ROBUST],
        ["optinc/fidelity=chip", ROBUST],
        ["optinc/fidelity=onn", ROBUST],
        ["optinc/fidelity=error_injection", "optinc/errors=one_bit"],
        ["optinc/fidelity=error_injection", ROBUST],
        ["arm=table2_4_5_6_7"],
        ["optinc/topology=cascade", "optinc.servers=16"],
        ["reducer=mixed_bits", "optinc.bits=4", "onn=b4_n4_decimal_dense"],
    ],
)
def test_what_it_reads_is_not(overrides: list[str], tmp_path: Path) -> None:
    validate_training(composed(tmp_path, *overrides))
