from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from optinc.errors import OutputError
from optinc.runs import locks
from tests.processes import Run


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    locks.release_all()


def test_a_folder_is_held_once(tmp_path: Path) -> None:
    assert locks.hold(tmp_path)
    assert locks.hold(tmp_path)
    with pytest.raises(TimeoutError):
        FileLock(tmp_path / locks.LOCK_FILE).acquire(timeout=0)
    locks.release(tmp_path)
    with FileLock(tmp_path / locks.LOCK_FILE).acquire(timeout=0):
        assert not locks.hold(tmp_path)
        with pytest.raises(OutputError, match="in use by another run"), locks.in_use(tmp_path):
            pytest.fail("it was not in use")


def test_a_block_leaves_no_file_and_no_lock(tmp_path: Path) -> None:
    with locks.in_use(tmp_path), locks.in_use(str(tmp_path)):
        assert (tmp_path / locks.LOCK_FILE).exists()
    assert not list(tmp_path.iterdir())
    assert locks.hold(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process")
def test_a_killed_process_leaves_its_folder_free(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from optinc.runs import locks; "
        "assert locks.hold(Path(sys.argv[1])); Path(sys.argv[1], 'held').touch(); time.sleep(60)"
    )
    other = Run("-c", code, str(tmp_path))
    other.wait_for(tmp_path / "held")
    assert not locks.hold(tmp_path)
    other.kill()
    other.process.communicate()
    assert locks.hold(tmp_path)
