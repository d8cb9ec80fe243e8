"""What ``import optinc`` offers, and what it costs.

Covers: optinc
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

import optinc


@pytest.mark.parametrize("name", optinc.__all__)
def test_every_public_name_is_there_and_described(name: str) -> None:
    assert getattr(optinc, name) is not None
    assert name in dir(optinc)
    assert name == "__version__" or name in str(optinc.__doc__)


def test_names_are_the_objects_of_their_modules() -> None:
    from optinc.reducers.optinc import OptINCReducer  # noqa: PLC0415  (after the lazy one)

    assert optinc.OptINCReducer is OptINCReducer
    assert "b8_n4_half_even_all_layers" in optinc.zoo.names()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'OptIncReducer'"):
        optinc.OptIncReducer  # noqa: B018


def test_importing_the_package_imports_no_other() -> None:
    code = "import sys, optinc; print([n for n in sys.modules if n.split('.')[0] in {names}])"
    heavy = {"torch", "numpy", "pytorch_lightning", "hydra", "omegaconf"}
    done = subprocess.run(
        [sys.executable, "-c", code.replace("{names}", repr(heavy))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_the_version_is_that_of_the_installed_package() -> None:
    assert importlib.metadata.version("optinc") == optinc.__version__
