"""Text as sequences of tokens: Python's own documentation, or local text files."""

from __future__ import annotations

import hashlib
import logging
import time
from abc import abstractmethod
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from torch import Tensor
from torch.utils.data import Dataset

from optinc.atomic_file import reason, write_atomically
from optinc.data.base import BatchKey, OptINCDataModule
from optinc.errors import ConfigurationError, DatasetNotFoundError
from optinc.folders import cache_folder, expanded, warn_of_cache

logger = logging.getLogger(__name__)

BYTES = 256


class Texts(NamedTuple):
    """Training and validation text."""

    train: str
    val: str


class SequenceDataset(Dataset[dict[str, Tensor]]):
    """Consecutive sequences of a token stream, a batch at a time.

    Args:
        tokens: int64 tensor [size * sequence_length].
        sequence_length: Tokens of a sequence.
    """

    def __init__(self, tokens: Tensor, *, sequence_length: int) -> None:
        whole = len(tokens) // sequence_length * sequence_length
        self.sequences = tokens[:whole].view(-1, sequence_length)

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, key: BatchKey) -> dict[str, Tensor]:
        return {"input_ids": self.sequences[key.positions]}


class TextDataModule(OptINCDataModule):
    """Base class: reads text, tokenises it and cuts it into sequences.

    Args:
        tokenizer: ``bytes`` (UTF-8, vocabulary 256) or ``bpe`` (byte-level byte-pair encoding,
            trained on the training text and cached).
        vocab_size: Vocabulary of the ``bpe``.
        sequence_length: Tokens of a sequence, at least 2.
        batch_size: Sequences per batch, of all servers together.
        val_fraction: Share of the text held out where no validation file exists.
        cache_dir: Folder in which trained tokenisers are kept; where it cannot be used, they are
            trained every time, after a warning.
        seed: Seed of the order.

    Raises:
        ConfigurationError: If a value is illegal; names the setting and the legal values.
    """

    modality = "text"

    def __init__(
        self,
        *,
        tokenizer: Literal["bytes", "bpe"],
        vocab_size: int,
        sequence_length: int,
        batch_size: int,
        val_fraction: float,
        cache_dir: str,
        seed: int,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        if tokenizer not in ("bytes", "bpe"):
            raise ConfigurationError(f"data.tokenizer must be bytes | bpe, got {tokenizer!r}")
        if tokenizer == "bpe" and vocab_size < BYTES:
            raise ConfigurationError(f"data.vocab_size must be at least {BYTES}, got {vocab_size}")
        if sequence_length < 2:
            raise ConfigurationError(
                f"data.sequence_length must be at least 2, got {sequence_length}"
            )
        if not 0 < val_fraction < 1:
            raise ConfigurationError(
                f"data.val_fraction must be between 0 and 1, got {val_fraction}"
            )
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size if tokenizer == "bpe" else BYTES
        self.sequence_length = sequence_length
        self.val_fraction = val_fraction
        self.cache_dir = cache_dir

    @abstractmethod
    def read(self) -> Texts:
        """Read the text.

        Raises:
            DatasetNotFoundError: If it is missing.
        """

    @property
    def model_arguments(self) -> dict[str, Any]:
        """Vocabulary and sequence length."""
        return {"vocab_size": self.vocab_size, "sequence_length": self.sequence_length}

    def setup(self, stage: str) -> None:
        """Read and tokenise the text."""
        texts = self.read()
        bpe = self._trained_bpe(texts.train) if self.tokenizer == "bpe" else None
        self._train = self._sequences(texts.train, bpe, name="training")
        self._val = self._sequences(texts.val, bpe, name="validation")

    def _sequences(self, text: str, bpe: Tokenizer | None, *, name: str) -> SequenceDataset:
        if bpe is None:
            data = np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64)
        else:
            # By lines, which the tokeniser encodes in parallel, unlike one long string.
            lines = bpe.encode_batch(text.splitlines(keepends=True))
            ids = [np.asarray(line.ids, dtype=np.int64) for line in lines]
            data = np.concatenate([np.empty(0, dtype=np.int64), *ids])
        dataset = SequenceDataset(torch.from_numpy(data), sequence_length=self.sequence_length)
        if not len(dataset):
            raise ConfigurationError(
                f"the {name} text has {len(data)} tokens, fewer than "
                f"data.sequence_length={self.sequence_length}"
            )
        return dataset

    def _trained_bpe(self, text: str) -> Tokenizer:
        """Train a byte-level BPE on a text, or read the cached result of an earlier training."""
        digest = hashlib.sha256(f"{self.vocab_size}\n{text}".encode()).hexdigest()
        folder = cache_folder(self.cache_dir)
        path = folder / f"bpe-{digest[:32]}.json" if folder is not None else None
        kept = _read_bpe(path, vocab_size=self.vocab_size) if path is not None else None
        if kept is not None:
            return kept
        start = time.monotonic()
        bpe = ByteLevelBPETokenizer()
        bpe.train_from_iterator(
            text.splitlines(keepends=True), vocab_size=self.vocab_size, show_progress=False
        )
        serialised = bpe.to_str()
        logger.info("trained the tokeniser in %.0f s", time.monotonic() - start)
        if path is not None:
            try:
                write_atomically(path, serialised.encode())
            except OSError as error:
                warn_of_cache(str(path.parent), reason(error))
        return Tokenizer.from_str(serialised)

    def train_dataset(self) -> SequenceDataset:
        """See :meth:`OptINCDataModule.train_dataset`."""
        return self._train

    def val_dataset(self) -> SequenceDataset:
        """See :meth:`OptINCDataModule.val_dataset`."""
        return self._val

    def _hold_out(self, text: str) -> Texts:
        """Hold out the last ``val_fraction`` of the text."""
        cut = int(len(text) * (1 - self.val_fraction))
        return Texts(train=text[:cut], val=text[cut:])


def _read_bpe(path: Path, *, vocab_size: int) -> Tokenizer | None:
    """Read a stored tokeniser; None if it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises Exception itself
        logger.warning("the tokeniser in %s is damaged (%s); training it again", path, error)
        return None
    if not BYTES <= tokenizer.get_vocab_size() <= vocab_size:
        logger.warning("the tokeniser in %s has another vocabulary; training it again", path)
        return None
    return tokenizer


class PydocsDataModule(TextDataModule):
    """Python's language reference, part of every installation; nothing to download."""

    def read(self) -> Texts:
        """See :meth:`TextDataModule.read`."""
        return self._hold_out("\n".join(topics[name] for name in sorted(topics)))


class TextFilesDataModule(TextDataModule):
    """Local UTF-8 text files.

    Files named ``valid*`` or ``val*`` are for validation and ``test*`` is left out, as are hidden
    files; without a validation file the last ``val_fraction`` of the text is held out.

    Args:
        root: Folder that holds ``*.txt`` files.
        **settings: See :class:`TextDataModule`.
    """

    def __init__(self, *, root: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.root = expanded(root)

    def prepare_data(self) -> None:
        """Check that the folder holds training text.

        Raises:
            DatasetNotFoundError: If it holds none.
        """
        self._files()

    def read(self) -> Texts:
        """Read the text of all files.

        Raises:
            DatasetNotFoundError: If there is none for training; or a file is not UTF-8, empty, a
                link to nothing or not to be read. Names the file, and the first byte not UTF-8.
        """
        train, val = ("".join(_read_text(path) for path in paths) for paths in self._files())
        return Texts(train, val) if val else self._hold_out(train)

    def _files(self) -> tuple[list[Path], list[Path]]:
        """Return the files for training and for validation.

        Raises:
            DatasetNotFoundError: If there are none for training.
        """
        # A leading dot hides files, such as those that some systems leave beside copied ones.
        files = sorted(path for path in self.root.glob("*.txt") if not path.name.startswith("."))
        val = [path for path in files if path.stem.lower().startswith("val")]
        test = [path for path in files if path.stem.lower().startswith("test")]
        train = [path for path in files if path not in val + test]
        if not train:
            raise DatasetNotFoundError(
                f"no training text (*.txt, other than val* and test*) in {self.root.resolve()}; "
                "set data.root to a folder of UTF-8 text files, such as WikiText-2's train.txt "
                "and valid.txt"
            )
        return train, val


def _read_text(path: Path) -> str:
    """Read a file of UTF-8 text that is not empty.

    Raises:
        DatasetNotFoundError: Names the file, and what is wrong with it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DatasetNotFoundError(
            f"{path.absolute()} is not UTF-8: byte {error.start} is "
            f"0x{error.object[error.start]:02x}; convert it, such as with iconv -f latin1 -t utf-8,"
            " or take it out of data.root"
        ) from error
    except OSError as error:
        what = "a link to nothing" if path.is_symlink() and not path.exists() else reason(error)
        raise DatasetNotFoundError(
            f"{path.absolute()} cannot be read: {what}; take it out of data.root"
        ) from error
    if not text:
        raise DatasetNotFoundError(f"{path.absolute()} is empty; take it out of data.root")
    return text
