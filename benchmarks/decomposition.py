"""Time of the rectangular decomposition against a plain elimination and Clements' own program.

    python -m benchmarks.decomposition [--quick]

Needs the extra ``test`` (package interferometer). All run on the same matrices in one process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import interferometer
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from optinc.photonics.decomposition import decompose, rebuild

THEIR_LARGEST = 128
"""Clements' program multiplies whole matrices and is left out above this size."""


def plain_elimination(matrix: np.ndarray) -> list[tuple[int, float, float]]:
    """Null the lower triangle of one matrix by rotations of whole rows and columns, O(n^3)."""
    work = matrix.copy()
    size = len(work)
    angles = []
    for i in range(size - 1):
        for j in range(i + 1):
            left = i % 2 == 1
            row, column = (size + j - i - 1, j) if left else (size - 1 - j, i - j)
            mode = row - 1 if left else column
            kept, nulled = (
                (work[row - 1, column], work[row, column])
                if left
                else (work[row, column + 1], work[row, column])
            )
            theta = np.arctan2(abs(nulled), abs(kept))
            phi = np.angle(nulled) - np.angle(kept) + (np.pi if left else 0.0)
            cosine, sine, phase = np.cos(theta), np.sin(theta), np.exp(1j * phi)
            rotation = np.array([[phase * cosine, -sine], [phase * sine, cosine]])
            if left:
                work[mode : mode + 2] = rotation @ work[mode : mode + 2]
            else:
                work[:, mode : mode + 2] = work[:, mode : mode + 2] @ rotation.conj().T
            angles.append((mode, float(theta), float(phi)))
    return angles


def seconds(function: Callable[[], object]) -> float:
    """Return the time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Print seconds per matrix and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="sizes up to 128 only")
    cases = [(64, 1), (64, 32), (128, 1), (256, 1), (512, 1)]
    cases = cases[:3] if parser.parse_args().quick else cases
    table = Table(title="Seconds per matrix (complex128)")
    for heading in (
        "n",
        "batch",
        "ours",
        "plain",
        "interferometer",
        "plain / ours",
        "interf. / ours",
        "error",
    ):
        table.add_column(heading, justify="right")
    for size, batch in cases:
        generator = torch.Generator().manual_seed(0)
        random = torch.randn(batch, size, size, dtype=torch.complex128, generator=generator)
        unitary = torch.linalg.qr(random)[0]
        decompose(torch.eye(size).unsqueeze(0))  # works out the order of eliminations once
        ours = seconds(lambda u=unitary: decompose(u)) / batch
        matrix = unitary[0].numpy()
        plain = seconds(lambda m=matrix: plain_elimination(m))
        theirs = (
            seconds(lambda m=matrix: interferometer.square_decomposition(m))
            if size <= THEIR_LARGEST
            else float("nan")
        )
        error = float((rebuild(decompose(unitary)) - unitary).abs().max())
        table.add_row(
            str(size),
            str(batch),
            f"{ours:.4f}",
            f"{plain:.3f}",
            f"{theirs:.2f}" if size <= THEIR_LARGEST else "-",
            f"{plain / ours:.1f}",
            f"{theirs / ours:.0f}" if size <= THEIR_LARGEST else "-",
            f"{error:.0e}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
