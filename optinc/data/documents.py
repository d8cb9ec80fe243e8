"""Documents streamed from the Hugging Face hub, or from local files of the same format."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from optinc.errors import ConfigurationError, DatasetNotFoundError

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
        path = Path(name)
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
        """Return a ``datasets.IterableDataset`` of the field :data:`FIELD`.

        Args:
            scratch: Folder for lock files of the library.

        Raises:
            DatasetNotFoundError: If the hub cannot be reached or has no such data set.
            ConfigurationError: If the documents have no field of that name.
        """
        import datasets  # noqa: PLC0415  (it takes a second, and only a preparation needs it)

        arguments: dict[str, Any] = (
            {
                "path": FORMATS[self.files[0].suffix],
                "data_files": [str(file.absolute()) for file in self.files],
            }
            if self.files
            else {"path": self.name, "name": self.subset, "revision": self.revision}
        )
        dataset = self._call(
            lambda: datasets.load_dataset(
                **arguments, split="train", streaming=True, cache_dir=str(scratch)
            ),
            documents=0,
        )
        if dataset.features is None:  # files without a document
            return dataset
        if FIELD not in dataset.features:
            raise ConfigurationError(
                f"the documents of data.source={self.name} need a field {FIELD!r}; they have "
                f"{', '.join(sorted(dataset.features))}"
            )
        return dataset.select_columns([FIELD])

    def _call(self, function: Callable[[], Any], *, documents: int) -> Any:
        """Call the library, and turn any error of it or of the libraries below into ours."""
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

        self._version = datasets.__version__
        self._source = source
        self._dataset = source.open(scratch)
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
        while batch := self._source._call(
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
