"""The examples in the docstrings of what a user meets run, and show what they return."""

from __future__ import annotations

import doctest
import importlib

import pytest

import optinc

MODULES = [
    "optinc.attachments.attach",
    "optinc.onn.importing",
    "optinc.onn.zoo",
    "optinc.reducers.optinc",
    "optinc.signal.block_quantizer",
    "optinc.signal.scenario",
    "optinc.strategies.ddp",
    "optinc.strategies.virtual_servers",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    """As ``python -m pytest --doctest-modules`` does with the file of the module."""
    # A progress bar that is not shown leaves an empty line.
    flags = doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert failed == 0
    assert tried > 0


def test_every_public_name_has_an_example() -> None:
    missing = []
    for name in set(optinc.__all__) - {"__version__", "zoo"}:
        value = getattr(optinc, name)
        documented = [value, getattr(value, "from_zoo", None)]
        if not any(">>>" in (each.__doc__ or "") for each in documented):
            missing.append(name)
    assert missing == []
