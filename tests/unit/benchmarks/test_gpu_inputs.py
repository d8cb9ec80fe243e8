"""Wheels and the parts of a data set, as a bare machine is given them."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks.gpu import inputs
from benchmarks.gpu.inputs import InputError, collect, install

CONTENT = {name: name.encode() * 100 for name in inputs.MEMBERS}


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three folders, each with one part of a small archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, data in CONTENT.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    data = buffer.getvalue()
    monkeypatch.setattr(inputs, "ARCHIVE_BYTES", len(data))
    monkeypatch.setattr(inputs, "ARCHIVE_SHA256", hashlib.sha256(data).hexdigest())
    sums = {name: hashlib.md5(each).hexdigest() for name, each in CONTENT.items()}  # noqa: S324
    monkeypatch.setattr(inputs, "MEMBERS", sums)
    third, folders = len(data) // 3, []
    for number, cut in enumerate((data[:third], data[third : 2 * third], data[2 * third :])):
        folder = tmp_path / f"given{number}"
        folder.mkdir()
        (folder / f"{inputs.ARCHIVE}.part{number}").write_bytes(cut)
        folders.append(folder)
    return folders


def test_parts_that_arrive_one_by_one_are_joined(parts: list[Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert "(.part2)" in str(collect(parts[2], store))
    assert "(.part0, .part2)" in str(collect(parts[0], store))
    # A call without a part loses nothing.
    assert "(.part0, .part2)" in str(collect(None, store))
    assert collect(parts[1], store) is None
    for name, data in CONTENT.items():
        assert (store / name).read_bytes() == data
    assert sorted(path.name for path in store.iterdir()) == ["cifar-100-python"]
    assert collect(None, store) is None


def test_a_damaged_part_is_refused_and_can_be_sent_again(parts: list[Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    whole = next(parts[1].iterdir())
    data = whole.read_bytes()
    whole.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    collect(parts[0], store)
    collect(parts[1], store)
    with pytest.raises(InputError, match=r"by SHA-256: .*part1 .* send them again"):
        collect(parts[2], store)
    whole.write_bytes(data)
    for folder in parts:
        missing = collect(folder, store)
    assert missing is None


def test_the_archive_may_be_cut_into_more_parts_than_ten(parts: list[Path], tmp_path: Path) -> None:
    data = b"".join(next(folder.iterdir()).read_bytes() for folder in parts)
    given, step = tmp_path / "many", -(-len(data) // 12)
    given.mkdir()
    for number in range(12):
        cut = data[number * step : (number + 1) * step]
        (given / f"{inputs.ARCHIVE}.part{number}").write_bytes(cut)
    assert collect(given, tmp_path / "store") is None


def wheel(folder: Path, distribution: str, package: str) -> None:
    """Write a wheel of one empty package."""
    name = distribution.replace("-", "_")
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{package}/__init__.py", "VALUE = 7\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        file.writestr(f"{info}/WHEEL", tags)
        file.writestr(f"{info}/RECORD", "")


def test_wheels_are_installed_without_a_network(tmp_path: Path) -> None:
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    wheels.mkdir()
    wheel(wheels, "hydra-core", "hydra")
    wheel(wheels, "omegaconf", "omegaconf")
    with pytest.raises(InputError, match="antlr4"):
        install(wheels, site)
    assert not site.exists()
    wheel(wheels, "antlr4-python3-runtime", "antlr4")
    install(wheels, site)
    code = "import hydra, omegaconf, antlr4; print(hydra.VALUE, hydra.__file__)"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.split() == ["7", str(site / "hydra" / "__init__.py")]
    wheel_file = wheels / "hydra_core-1.0-py3-none-any.whl"
    wheel_file.unlink()
    install(wheels, site)  # there already
