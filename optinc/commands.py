"""Commands of this program, quoted for the shell and Hydra, for messages and cards.

Functions of plain values, so that every layer can name a command.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

PACKAGE = Path(__file__).parent


def program() -> str:
    """Return what starts this program again: ``optinc``, ``python -m optinc`` or ``python run.py``.

    Where none of them has started this process, such as in a notebook, it is ``python run.py`` in a
    checkout, which has that file, and ``optinc`` elsewhere.
    """
    started = Path(sys.argv[0])
    if started.stem == "optinc":
        return "optinc"
    if started.parts[-2:] == (PACKAGE.name, "__main__.py"):
        return "python -m optinc"
    in_checkout = (PACKAGE.parent / "run.py").is_file()
    return "python run.py" if in_checkout or started.name == "run.py" else "optinc"


def run_command(overrides: Iterable[str]) -> str:
    """Compose the shell command that starts this program with overrides, see :func:`program`.

    A folder of the user's own configuration, with which this process was started, is named again.
    """
    return " ".join([program(), *map(shlex.quote, [*_configuration_folder(), *overrides])])


def _configuration_folder() -> list[str]:
    """Return the words of the command line that name Hydra's ``--config-dir``."""
    words = sys.argv[1:]
    for index, word in enumerate(words):
        if word.startswith("--config-dir="):
            return [word]
        if word in ("--config-dir", "-cd"):
            return words[index : index + 2]
    return []


def train_onn_overrides(
    settings: Iterable[str],
    *,
    hidden: Sequence[int],
    approximated_layers: Sequence[int],
    recipe: str | None = None,
) -> list[str]:
    """Return the overrides that train an ONN, as words of a command line.

    Args:
        settings: Overrides of the scenario, see :func:`scenario_overrides`.
        hidden: Hidden widths.
        approximated_layers: 1-based layers in Sigma U form.
        recipe: Option of ``onn_training``; None takes the default one.
    """
    recipes = [] if recipe is None else [f"onn_training={recipe}"]
    return [
        "task=train_onn",
        *recipes,
        *settings,
        f"optinc.mesh.hidden={_integers(hidden)}",
        f"optinc.approximation.layers={_integers(approximated_layers)}",
    ]


def construct_onn_command(settings: Iterable[str], *, folder: str) -> str:
    """Compose the command that constructs an ONN.

    Args:
        settings: Overrides of the scenario, see :func:`scenario_overrides`.
        folder: Folder of the artifact.
    """
    return run_command(
        ["task=construct_onn", *settings, path_override("onn_training.folder", folder)]
    )


def scenario_overrides(
    *,
    bits: int,
    servers: int,
    onn_inputs: int,
    rounding: str,
    level: int,
    keeps_decimal: bool,
    downlink: str = "quantised",
) -> list[str]:
    """Return the overrides that choose the scenario of a switch.

    Args:
        bits: Bits B of a code.
        servers: Inputs N of the switch.
        onn_inputs: ONN inputs K.
        rounding: Rounding Q of the switch.
        level: 1-based level in a cascade, 1 for a switch that stands alone.
        keeps_decimal: Whether the switch stands below the top of a cascade (eq. 10), which rounds.
        downlink: What the switch sends back to servers; only ``quantised`` rounds.
    """
    rounds = [] if keeps_decimal else [f"optinc.rounding={rounding}"]
    if downlink != "quantised":
        rounds = [f"optinc.downlink={downlink}"]
    inputs = f"optinc.preprocessing.inputs={onn_inputs}"
    if level == 1 and not keeps_decimal:
        return [f"optinc.bits={bits}", f"optinc.servers={servers}", *rounds, inputs]
    depth = level + 1 if keeps_decimal else level
    return [
        f"optinc.bits={bits}",
        f"optinc.servers={servers**depth}",
        *rounds,
        inputs,
        "optinc/topology=cascade",
        f"optinc.topology.fan_in={servers}",
        f"optinc.topology.depth={depth}",
        f"optinc.topology.level={level}",
    ]


def path_override(setting: str, path: object) -> str:
    """Return the override that sets a path, quoted where Hydra would read anything but a path.

    Without a slash a name such as ``null`` or ``1e3`` is a value of another type.
    """
    text = str(path)
    if "/" in text and re.fullmatch(r"[\w./-]+", text, re.ASCII):
        return f"{setting}={text}"
    # Backslashes escape an interpolation (OmegaConf) and a quote (Hydra), and are plain elsewhere.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    text = re.sub(r'(\\*)"', r'\1\1\\"', text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f'{setting}="{text}"'


def _integers(values: Sequence[int]) -> str:
    return f"[{','.join(str(value) for value in values)}]"
