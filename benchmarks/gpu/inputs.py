"""Inputs for a bare machine: wheels, and a data set that arrives in parts.

Uses the standard library only: without the wheels nothing else can be imported.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ARCHIVE = "cifar-100-python.tar.xz"
ARCHIVE_BYTES = 137_740_400
ARCHIVE_SHA256 = "937e66ed890fd6951967fcad9890140ef6b37d531ecf68f92191a4c734da21dc"
MEMBERS = {
    "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
    "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "cifar-100-python/meta": "7973b15100ade9c7d40fb424638fde48",
}
"""Members of the archive, and the MD5 sums that torchvision checks too."""

PACKAGES = ("hydra-core", "omegaconf", "antlr4-python3-runtime")
"""Distributions that the machine lacks; antlr4 is published as source only."""


class InputError(Exception):
    """Something given to the machine is missing or damaged; the message says what."""


def install(wheels: Path, site: Path) -> None:
    """Install :data:`PACKAGES` from a folder of wheels, without a network.

    Args:
        wheels: Folder of wheels.
        site: Folder to install into; nothing is done if they are there already.

    Raises:
        InputError: If a wheel is missing or pip refuses one.
    """
    if (site / "hydra").is_dir() and (site / "omegaconf").is_dir():
        return
    # Moved into place when complete: a call may end in the middle.
    partial = site.with_name(f"{site.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(site, ignore_errors=True)
    options = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options]
    done = subprocess.run(
        [*command, "--find-links", str(wheels), "--target", str(partial), *PACKAGES],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InputError(f"--wheels {wheels}: pip refuses: {done.stderr.strip()[-500:]}")
    partial.rename(site)


def collect(given: Path | None, store: Path) -> str | None:
    """Keep the parts of the data set that are given, and unpack it once all have arrived.

    Parts are joined in the order of the numbers in their names, ``ARCHIVE.part0`` and on; any
    number of parts is legal. They are kept in ``store``, so that each may come with a call of its
    own.

    Args:
        given: Folder that holds some of the parts; None for none.
        store: Folder in which parts are kept, and into which the data set is unpacked.

    Returns:
        None once the data set is in ``store``; before, what is still missing.

    Raises:
        InputError: If the parts do not add up to the archive.
    """
    if all((store / name).is_file() for name in MEMBERS):
        return None
    store.mkdir(parents=True, exist_ok=True)
    if given is not None:
        for part in _parts(given):
            _copy(part, store / part.name)
    parts = _parts(store)
    size = sum(part.stat().st_size for part in parts)
    names = ", ".join(part.name.removeprefix(ARCHIVE) for part in parts) or "no part"
    if size < ARCHIVE_BYTES:
        return f"{ARCHIVE}: {size:,} of {ARCHIVE_BYTES:,} bytes have arrived ({names})"
    _join(parts, store / ARCHIVE)
    _unpack(store / ARCHIVE, store)
    for path in [*parts, store / ARCHIVE]:
        path.unlink()
    return None


def _parts(folder: Path) -> list[Path]:
    """Return the parts in a folder, in the order of their numbers."""
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        number = re.fullmatch(re.escape(ARCHIVE) + r"\.part(\d+)", path.name)
        if number:
            found[int(number[1])] = path
    return [found[number] for number in sorted(found)]


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


def _join(parts: list[Path], archive: Path) -> None:
    """Join the parts into the archive.

    Raises:
        InputError: If it is not the archive expected. The parts are removed: one is damaged.
    """
    digest = hashlib.sha256()
    temporary = archive.with_name(f".{archive.name}.tmp")
    with temporary.open("wb") as file:
        for part in parts:
            data = part.read_bytes()
            digest.update(data)
            file.write(data)
    if digest.hexdigest() == ARCHIVE_SHA256:
        temporary.replace(archive)
        return
    sizes = ", ".join(f"{part.name} ({part.stat().st_size:,} bytes)" for part in parts)
    for path in [*parts, temporary]:
        path.unlink()
    raise InputError(f"the parts are not {ARCHIVE}, by SHA-256: {sizes}; send them again")


def _unpack(archive: Path, store: Path) -> None:
    """Unpack the members, each of which appears only when it is complete.

    Raises:
        InputError: If a member is missing or damaged.
    """
    with tarfile.open(archive, mode="r:xz") as opened:
        for name, md5 in MEMBERS.items():
            member = opened.extractfile(name)
            data = b"" if member is None else member.read()
            if hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
                raise InputError(f"{name} in {archive.name} is missing or damaged")
            path = store / name
            path.parent.mkdir(exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            temporary.write_bytes(data)
            temporary.replace(path)
