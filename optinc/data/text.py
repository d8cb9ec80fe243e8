"""Text as sequences of tokens: Python's own documentation, or local text files."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from torch import Tensor
from torch.utils.data import Dataset

from optinc.atomic_file import write_atomically
from optinc.data.base import BatchKey, OptINCDataModule
from optinc.errors import ConfigurationError, DatasetNotFoundError

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
        cache_dir: Folder in which trained tokenisers are kept.
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
        self.cache_dir = Path(cache_dir)

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
            data = np.concatenate([np.asarray(line.ids, dtype=np.int64) for line in lines])
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
        path = self.cache_dir / f"bpe-{digest[:32]}.json"
        if not path.is_file():
            bpe = ByteLevelBPETokenizer()
            bpe.train_from_iterator(
                text.splitlines(keepends=True), vocab_size=self.vocab_size, show_progress=False
            )
            write_atomically(path, bpe.to_str().encode())
        return Tokenizer.from_file(str(path))

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


class PydocsDataModule(TextDataModule):
    """Python's language reference, part of every installation; nothing to download."""

    def read(self) -> Texts:
        """See :meth:`TextDataModule.read`."""
        return self._hold_out("\n".join(topics[name] for name in sorted(topics)))


class TextFilesDataModule(TextDataModule):
    """Local UTF-8 text files.

    Files named ``valid*`` or ``val*`` are for validation and ``test*`` is left out; without a
    validation file the last ``val_fraction`` of the text is held out.

    Args:
        root: Folder that holds ``*.txt`` files.
        **settings: See :class:`TextDataModule`.
    """

    def __init__(self, *, root: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.root = Path(root)

    def prepare_data(self) -> None:
        """Check that the folder holds training text.

        Raises:
            DatasetNotFoundError: If it holds none.
        """
        if not self._files()[0]:
            raise DatasetNotFoundError(
                f"no training text (*.txt, other than val* and test*) in {self.root.resolve()}; "
                "set data.root to a folder of UTF-8 text files, such as WikiText-2's train.txt "
                "and valid.txt"
            )

    def _files(self) -> tuple[list[Path], list[Path]]:
        """Return the files for training and for validation."""
        files = sorted(self.root.glob("*.txt"))
        val = [path for path in files if path.stem.lower().startswith("val")]
        test = [path for path in files if path.stem.lower().startswith("test")]
        return [path for path in files if path not in val + test], val

    def read(self) -> Texts:
        """See :meth:`TextDataModule.read`."""
        train, val = (
            "".join(path.read_text(encoding="utf-8") for path in paths) for paths in self._files()
        )
        return Texts(train=train, val=val) if val else self._hold_out(train)
