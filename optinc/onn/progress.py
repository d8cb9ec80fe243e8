"""Progress bars of long computations, on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def with_bar(
    items: Iterable[T], title: str | None, *, total: float | None = None, hidden: bool = False
) -> Iterator[T]:
    """Yield items beside a bar that disappears in the end.

    It is drawn on stderr, and only on a terminal: what a program prints stays its own.

    Args:
        items: What is yielded.
        title: Title of the bar; None for no bar.
        total: Number of the items, where they do not tell it.
        hidden: Draw no bar, because there is little to do.
    """
    console = Console(stderr=True)
    disable = title is None or hidden or not console.is_terminal
    yield from track(
        items, title or "", total=total, console=console, transient=True, disable=disable
    )
