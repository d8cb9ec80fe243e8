from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("jupytext", reason="jupytext is not installed (the extra docs)")
pytest.importorskip("nbclient", reason="nbclient is not installed (the extra docs)")
pytest.importorskip("ipykernel", reason="ipykernel is not installed (the extra docs)")

from nbclient.exceptions import CellExecutionError

from website import notebooks

# Sockets to a kernel that has ended are closed when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SCRIPT = """# %% [markdown]
# # A title
#
# See [it](../index.md).

# %%
import matplotlib.pyplot as plt

print("printed", 6 * 7)
plt.plot([1, 2])
"""


def test_what_a_notebook_prints_and_draws_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(SCRIPT)
    files = dict(notebooks.pages(path, execute=True))
    page = files["notebooks/mine.md"]
    assert isinstance(page, str)
    assert page.startswith("# A title\n\nSee [it](../index.md).")
    assert "    printed 42" in page
    pictures = [name for name in files if name.endswith(".png")]
    assert len(pictures) == 1
    assert f"]({pictures[0].removeprefix('notebooks/')})" in page
    assert files[pictures[0]][:4] == b"\x89PNG"
    assert "printed 42" in str(files["notebooks/mine.ipynb"])
    assert "](mine.py)" in page


def test_an_error_in_a_notebook_ends_the_build(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("# %%\nraise ValueError('no light')\n")
    with pytest.raises(CellExecutionError, match="no light"):
        list(notebooks.pages(path, execute=True))


def test_a_notebook_is_shown_unexecuted_in_no_time(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(SCRIPT)
    files = dict(notebooks.pages(path, execute=False))
    assert set(files) == {"notebooks/mine.md", "notebooks/mine.ipynb"}
    assert "print(" in str(files["notebooks/mine.md"])
