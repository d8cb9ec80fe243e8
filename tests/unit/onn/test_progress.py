from __future__ import annotations

import pytest
from rich.console import Console

from optinc.onn import progress
from optinc.onn.progress import with_bar


def test_nothing_is_printed_where_there_is_no_terminal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert list(with_bar(range(3), "counting")) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("title", "hidden"), [("counting", False), ("counting", True), (None, False)]
)
def test_a_terminal_gets_a_bar_on_stderr_where_there_is_much_to_do(
    title: str | None,
    *,
    hidden: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        progress, "Console", lambda **options: Console(force_terminal=True, **options)
    )
    assert list(with_bar(iter("ab"), title, total=2, hidden=hidden)) == ["a", "b"]
    out, err = capsys.readouterr()
    assert out == ""
    assert ("counting" in err) == (title is not None and not hidden)
