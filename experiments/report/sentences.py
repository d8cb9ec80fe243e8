"""Words for the sentences that open the sections."""

from __future__ import annotations

from collections.abc import Sequence


def listed(items: Sequence[str]) -> str:
    """Join items as a sentence does.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun.

    >>> counted(1, "row"), counted(2, "row"), counted(0, "switch", "switches")
    ('1 row', '2 rows', '0 switches')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def signed(value: float, form: str = ".3g") -> str:
    """Return a difference with its sign, and without one where it is shown as zero.

    >>> signed(0.25), signed(-1e-9, ".2f")
    ('+0.25', '0.00')
    """
    text = format(value, f"+{form}")
    return text if float(text) else text[1:]
