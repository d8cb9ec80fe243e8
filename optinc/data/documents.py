"""Documents streamed from the Hugging Face hub, or from local files of the same format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from optinc.errors import ConfigurationError, DatasetNotFoundError
from optinc.folders import expanded

FIELD = "text"
FORMATS = {".jsonl": "json", ".parquet": "parquet"}
"""Suffix of a local file, and the name of its reader in the ``datasets`` library."""

DOCUMENTS_PER_BATCH = 256


@dataclass(frozen=True)
class DocumentSource:
    """Source of documents: a data set of the Hugging Face hub, or local files.

    Attributes:
        name: A data set of the hub, or a local file or folder (``data.source``).
        subset: Configuration of the hub's data set; unused for local files.
        revision: Commit, tag or branch of the hub's data set; unused for local files.
        files: Local files in the order in which they are read; empty for the hub.
    """

    name: str
    subset: str
    revision: str
    files: tuple[Path, ...]

    @classmethod
    def find(cls, name: str, *, subset: str, revision: str) -> DocumentSource:
        """Find local files, or take a name such as ``wikimedia/wikipedia`` for the hub's.

        Raises:
            DatasetNotFoundError: If the name is neither a path nor a name of the hub.
        """
        path = expanded(name)
        if path.exists():
            return cls(name=name, subset=subset, revision=revision, files=_files(path))
        if Path(name).suffix in FORMATS or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            raise DatasetNotFoundError(
                f"data.source={name} is neither a local file or folder ({path.absolute()} does not "
                "exist) nor the name of a data set of the hub, such as wikimedia/wikipedia"
            )
        return cls(name=name, subset=subset, revision=revision, files=())

    def identity(self) -> dict[str, Any]:
        """Return the values a cache depends on; of local files their names, sizes and times."""
        if not self.files:
            return {"name": self.name, "subset": self.subset, "revision": self.revision}
        stats = [(file.name, file.stat()) for file in self.files]
        return {"files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]}

    def open(self, scratch: Path) -> Any:
        """Return a ``datasets.IterableDataset`` of the field :data:`FIELD`, or :class:`JSONLines`.

        Args:
            scratch: Folder for lock files of the library.

        Raises:
            DatasetNotFoundError: If the hub cannot be reached or has no such data set.
            ConfigurationError: If the documents have no field of that name.
        """
        import datasets  # noqa: PLC0415  (it takes a second, and only a preparation needs it)

        if self.files and self.files[0].suffix == ".jsonl":
            lines = JSONLines(self.files)
            self._check_fields(self.guarded(lines.fields, documents=0))
            return lines
        arguments: dict[str, Any] = (
            {
                "path": FORMATS[self.files[0].suffix],
                "data_files": [str(file.absolute()) for file in self.files],
            }
            if self.files
            else {"path": self.name, "name": self.subset, "revision": self.revision}
        )
        dataset = self.guarded(
            lambda: datasets.load_dataset(
                **arguments, split="train", streaming=True, cache_dir=str(scratch)
            ),
            documents=0,
        )
        if dataset.features is None:  # files without a document
            return dataset
        self._check_fields(dataset.features)
        return dataset.select_columns([FIELD])

    def _check_fields(self, fields: Collection[str] | None) -> None:
        if fields is not None and FIELD not in fields:
            raise ConfigurationError(
                f"the documents of data.source={self.name} need a field {FIELD!r}; they have "
                f"{', '.join(sorted(fields))}"
            )

    def guarded(self, function: Callable[[], Any], *, documents: int) -> Any:
        """Call a reader, and turn any error of it or of the libraries below into ours.

        Args:
            function: What to call.
            documents: Number of documents read before, for the message.

        Raises:
            DatasetNotFoundError: If anything fails; names source, error and remedy.
        """
        try:
            return function()
        except Exception as error:
            advice = (
                "it must hold JSON lines (*.jsonl) or Parquet (*.parquet) with a field 'text'"
                if self.files
                else "connect this machine to the hub, or set data.source to local files of the "
                "same format: JSON lines (*.jsonl) or Parquet (*.parquet) with a field 'text'"
            )
            if documents:
                advice += ". What was prepared is kept, and the same command goes on from there"
            raise DatasetNotFoundError(
                f"data.source={self.name} cannot be read after {documents} documents "
                f"({type(error).__name__}: {error}); {advice}"
            ) from error


class JSONLines:
    """Documents of local JSON lines, of which the field :data:`FIELD` is all that is read.

    The other fields may differ from line to line, as no common schema of theirs is needed. It has
    the methods of a ``datasets.IterableDataset`` that :class:`DocumentStream` calls.

    Args:
        files: The files in the order in which they are read.
    """

    version = "lines 1"
    """Version of :meth:`state_dict`."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self._file = 0
        self._byte = 0

    def fields(self) -> list[str] | None:
        """Return the fields of the first document; None without a document."""
        first = next(JSONLines(self.files)._documents(), None)
        return None if first is None else list(first)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for document in self._documents():
            yield {FIELD: document.get(FIELD)}

    def _documents(self) -> Iterator[dict[str, Any]]:
        while self._file < len(self.files):
            path = self.files[self._file]
            with path.open("rb") as file:
                file.seek(self._byte)
                while line := file.readline():
                    start, self._byte = self._byte, file.tell()
                    if line.strip():
                        yield _document(line, where=f"{path}, byte {start}")
            self._file, self._byte = self._file + 1, 0

    def skip(self, documents: int) -> JSONLines:
        """Return this, after its next ``documents`` documents."""
        for _ in islice(self, documents):
            pass
        return self

    def state_dict(self) -> dict[str, int]:
        """Return the position of the next document."""
        return {"file": self._file, "byte": self._byte}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on at a position."""
        self._file, self._byte = state["file"], state["byte"]


def _document(line: bytes, *, where: str) -> dict[str, Any]:
    """Parse a line.

    Raises:
        ValueError: If it is no JSON object; names its place.
    """
    try:
        document = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: no JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{where}: no JSON object")  # noqa: TRY004
    return document


def _files(path: Path) -> tuple[Path, ...]:
    """Return a file, or the files of a folder in the order of their names."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in FORMATS)
    suffixes = {file.suffix for file in files}
    if len(suffixes) != 1 or not suffixes <= set(FORMATS):
        raise DatasetNotFoundError(
            f"data.source={path} must be a file or folder of JSON lines (*.jsonl) or of Parquet "
            f"(*.parquet), of one kind; it has {', '.join(sorted(suffixes)) or 'neither'}"
        )
    return tuple(files)


class DocumentStream:
    """Reads documents in stored order, and can continue where another stream stopped.

    Args:
        source: Source of the documents.
        scratch: Folder for lock files of the library.
        position: Result of :meth:`position` to continue from; None starts at the beginning.

    Raises:
        DatasetNotFoundError, ConfigurationError: See :meth:`DocumentSource.open`.
    """

    def __init__(
        self, source: DocumentSource, *, scratch: Path, position: dict[str, Any] | None = None
    ) -> None:
        import datasets  # noqa: PLC0415

        self._source = source
        self._dataset = source.open(scratch)
        lines = isinstance(self._dataset, JSONLines)
        self._version = JSONLines.version if lines else datasets.__version__
        self._documents = 0
        if position is not None:
            self._documents = position["documents"]
            if position["version"] == self._version:
                # Leaves out whole files that were read before.
                self._dataset.load_state_dict(position["state"])
            else:
                # Other versions of the library may store another state; only counting is safe.
                self._dataset = self._dataset.skip(self._documents)

    def position(self) -> dict[str, Any]:
        """Return the position of the next batch, as values that JSON can store."""
        return {
            "documents": self._documents,
            "version": self._version,
            "state": self._dataset.state_dict(),
        }

    def batches(self) -> Iterator[list[str]]:
        """Yield batches of :data:`DOCUMENTS_PER_BATCH` texts; the last one may be smaller.

        Raises:
            DatasetNotFoundError: If reading fails.
            ConfigurationError: If a document's field is not a text.
        """
        rows = iter(self._dataset)
        while batch := self._source.guarded(
            lambda: list(islice(rows, DOCUMENTS_PER_BATCH)), documents=self._documents
        ):
            texts = [row[FIELD] for row in batch]
            for number, text in enumerate(texts, start=self._documents):
                if not isinstance(text, str):
                    raise ConfigurationError(
                        f"document {number} of data.source={self._source.name} must have a text in "
                        f"its field {FIELD!r}, got {text!r:.40}"
                    )
            self._documents += len(texts)
            yield texts
