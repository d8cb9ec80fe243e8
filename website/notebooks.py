"""Notebooks: scripts with cells, which the site shows with what they print and draw."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from nbformat import NotebookNode
from traitlets.config import Config

from website.links import DOCS, ROOT

FOLDER = ROOT / DOCS / "notebooks"

SECONDS = 240
"""Time that one cell may take."""


def sources() -> list[Path]:
    """Return the scripts of all notebooks."""
    return sorted(FOLDER.glob("*.py"))


def executed(path: Path) -> NotebookNode:
    """Run a notebook in a process of its own, in the root of the repository.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails; shows the cell and the traceback.
    """
    notebook = jupytext.read(path)
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        # Not by a port, to which others on this machine could connect.
        config=Config({"KernelManager": {"transport": "ipc"}}),
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT)}},
    )
    # Its layers are too small for threads, which wait for each other where cores are busy.
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    # Progress bars would ask for widgets; tests run the scripts with their warnings.
    client.execute(env={**os.environ, **environment, "PYTHONWARNINGS": "ignore"})
    return notebook


def pages(path: Path, *, execute: bool) -> Iterator[tuple[str, str | bytes]]:
    """Yield the files that the site shows of a notebook, by their place on the site.

    Args:
        path: The script.
        execute: Whether to run it; otherwise nothing is printed or drawn.
    """
    notebook = executed(path) if execute else jupytext.read(path)
    name = path.stem
    body, resources = MarkdownExporter().from_notebook_node(
        notebook, resources={"unique_key": name, "output_files_dir": name}
    )
    download = f"[Download this page as a notebook]({name}.ipynb), or [as a script]({name}.py).\n"
    yield f"notebooks/{name}.md", f"{body.strip()}\n\n{download}"
    yield f"notebooks/{name}.ipynb", jupytext.writes(notebook, fmt="ipynb")
    for file, content in resources["outputs"].items():
        yield f"notebooks/{file}", content
