"""``resume=auto`` repeats the settings of the run that it continues."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from optinc.runs.output_folder import expanded
from optinc.runs.processes import process_rank
from optinc.runs.stored_configuration import stored_overrides

NOT_REPEATED = ("resume", "resume_changed")
"""Settings of one start only: each change of a training has to be asked for anew."""

CHECKPOINTS = "checkpoints/*.ckpt"


def with_stored_settings(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command line behind the overrides that it continues with.

    Where ``resume=auto`` and ``hydra.run.dir=FOLDER`` name the folder of an earlier run, its
    overrides come first. One is left out where the command line names the same setting, or a group
    above it. What is repeated is said on stdout.

    Args:
        arguments: Arguments of the command, without its name.

    Raises:
        ConfigurationError: If the overrides of the run cannot be read.
    """
    typed = _by_name(arguments)
    folder = typed.get("hydra.run.dir")
    if typed.get("resume") != "auto" or not folder or "${" in folder:
        return list(arguments)
    run = expanded(folder)
    own_checkpoint = any(run.glob(CHECKPOINTS))
    repeated = [
        text
        for name, text in _named(stored_overrides(run))
        if name not in NOT_REPEATED
        and not any(f"{name}.".startswith(f"{each}.") for each in typed)
        # What the training began from is not looked for once it has a checkpoint of its own.
        and not (name == "ckpt_path" and own_checkpoint)
    ]
    if repeated and process_rank() == 0:
        print(f"resume=auto repeats the settings of {folder}: {' '.join(repeated)}", flush=True)
    # Behind options such as -m and --config-dir, which may have a word of their own.
    first = next(i for i, each in enumerate(arguments) if re.match(r"~|[^-][^=]*=", each))
    return [*arguments[:first], *repeated, *arguments[first:]]


def _by_name(arguments: Sequence[str]) -> dict[str, str]:
    """Return the values on a command line by the dotted names of their settings."""
    found = {}
    for name, text in _named([each for each in arguments if "=" in each or each.startswith("~")]):
        value = OverridesParser.create().parse_override(text).value() if "=" in text else None
        found[name] = str(value)
    return found


def _named(overrides: Sequence[str]) -> list[tuple[str, str]]:
    """Return overrides with the dotted names of what they set, without those Hydra will refuse."""
    parser, found = OverridesParser.create(), []
    for text in overrides:
        try:
            name = parser.parse_override(text).key_or_group
        except HydraException:
            continue
        found.append((name.replace("/", "."), text))
    return found
