"""Time of the rectangular decomposition, of a plain elimination and of Clements' own program.

    python -m benchmarks.decomposition [--quick]

Needs the extra ``test`` (package interferometer). All decompose equal matrices in one process.
"""

from __future__ import annotations

import interferometer
import numpy as np
import torch

from benchmarks.measure import seconds
from experiments.common.options import command_parser
from experiments.common.tables import Column, show
from optinc.photonics.decomposition import decompose, rebuild

Row = dict[str, float | None]

CASES = ((64, 1), (64, 32), (128, 1), (256, 1), (512, 1))
"""Sizes and batches; ``--quick`` takes the first three."""

THEIR_LARGEST = 128
"""Largest size for Clements' program, which multiplies whole matrices."""


def plain_elimination(matrix: np.ndarray) -> list[tuple[int, float, float]]:
    """Null the lower triangle of one matrix by rotating whole rows and columns, O(n^3)."""
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


COLUMNS = [
    Column("n", "size", ".0f"),
    Column("batch", "batch", ".0f"),
    Column("ours", "ours", ".4f"),
    Column("plain", "plain", ".3f"),
    Column("interferometer", "theirs", ".2f"),
    Column("plain / ours", "plain_ratio", ".1f"),
    Column("interf. / ours", "their_ratio", ".0f"),
    Column("error", "error", ".0e"),
]


def measure(size: int, batch: int) -> Row:
    """Decompose random unitary matrices [batch, size, size] by every program."""
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(batch, size, size, dtype=torch.complex128, generator=generator)
    unitary = torch.linalg.qr(random)[0]
    decompose(torch.eye(size).unsqueeze(0))  # works out the order of eliminations once
    ours = seconds(lambda: decompose(unitary)) / batch
    matrix = unitary[0].numpy()
    plain = seconds(lambda: plain_elimination(matrix))
    theirs = (
        seconds(lambda: interferometer.square_decomposition(matrix))
        if size <= THEIR_LARGEST
        else None
    )
    return {
        "size": size,
        "batch": batch,
        "ours": ours,
        "plain": plain,
        "theirs": theirs,
        "plain_ratio": plain / ours,
        "their_ratio": None if theirs is None else theirs / ours,
        "error": float((rebuild(decompose(unitary)) - unitary).abs().max()),
    }


def main() -> None:
    """Print seconds per matrix and ratios."""
    parser = command_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="sizes up to 128 only")
    cases = CASES[:3] if parser.parse_args().quick else CASES
    show("Seconds per matrix (complex128)", COLUMNS, [measure(*case) for case in cases])


if __name__ == "__main__":
    main()
