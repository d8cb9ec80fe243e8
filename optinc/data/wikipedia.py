"""The public Wikipedia dump, streamed, tokenised once and kept on disk (Sec. IV: Wikipedia-1B)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from tokenizers import ByteLevelBPETokenizer, Tokenizer

from optinc.data.base import OptINCDataModule
from optinc.data.documents import DOCUMENTS_PER_BATCH, DocumentSource, DocumentStream
from optinc.data.token_cache import SPLITS, PackedSequences, Split, TokenCache, Tokens
from optinc.errors import ConfigurationError
from optinc.folders import expanded

logger = logging.getLogger(__name__)

END_OF_TEXT = "<|endoftext|>"
"""Token 0, after every document."""

SMALLEST_VOCABULARY = 257
"""Tokens for all bytes and for the end of a text."""

FORMAT = 1
"""Version of the tokens; changes whenever equal settings would give other tokens."""


def train_tokenizer(texts: Iterator[str], *, vocab_size: int) -> Tokenizer:
    """Train a byte-level byte-pair encoding, which can encode every text.

    Args:
        texts: Documents.
        vocab_size: Largest vocabulary, at least :data:`SMALLEST_VOCABULARY`.

    Returns:
        A tokeniser whose token 0 is :data:`END_OF_TEXT`.
    """
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        texts, vocab_size=vocab_size, special_tokens=[END_OF_TEXT], show_progress=False
    )
    return Tokenizer.from_str(tokenizer.to_str())


class Packer:
    """Tokenises documents, and assigns each as a whole to training or validation.

    A document goes to validation whenever validation has at most its share of the tokens so far.
    Thus both splits come from the whole corpus, no document is in both, and the split of a document
    depends on the documents before it only.

    Args:
        tokenizer: See :func:`train_tokenizer`.
        cache: Cache that stores the tokens.
        validation_share: Share of the tokens that go to validation.
        shard_tokens: Tokens of a commit, both splits together.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        cache: TokenCache,
        *,
        validation_share: float,
        shard_tokens: int,
    ) -> None:
        # A document that spells out the special token must not end there.
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self.cache = cache
        self.validation_share = validation_share
        self.shard_tokens = shard_tokens
        self._counts = {split: cache.tokens(split) for split in SPLITS}
        self._pending: dict[Split, list[Tokens]] = {split: [] for split in SPLITS}

    def fill(self, stream: DocumentStream, goal: dict[Split, int] | None) -> None:
        """Add documents until both splits have reached the goal, or the documents end.

        Args:
            stream: Documents after the last commit.
            goal: Tokens of each split; None takes all documents.

        Raises:
            DatasetNotFoundError: If documents cannot be read; earlier commits stay intact.
            ConfigurationError: If a document has no text; earlier commits stay intact.
            OutputError: If tokens cannot be written; earlier commits stay intact.
        """
        for texts in stream.batches():
            for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False):
                self._add(np.asarray([*encoding.ids, 0], dtype=self.cache.dtype))
            done = reached(self._counts, goal)
            if done or self._pending_tokens() >= self.shard_tokens:
                self._commit(stream, ended=False)
                have, asked = sum(self._counts.values()), sum((goal or {}).values()) or "all"
                logger.info("%s: %d of %s tokens", self.cache.folder, have, asked)
            if done:
                return
        self._commit(stream, ended=True)

    def _add(self, tokens: Tokens) -> None:
        share = self.validation_share * sum(self._counts.values())
        split: Split = "validation" if self._counts["validation"] <= share else "train"
        self._pending[split].append(tokens)
        self._counts[split] += len(tokens)

    def _pending_tokens(self) -> int:
        return sum(len(tokens) for parts in self._pending.values() for tokens in parts)

    def _commit(self, stream: DocumentStream, *, ended: bool) -> None:
        empty = np.empty(0, dtype=self.cache.dtype)
        tokens = {split: np.concatenate([empty, *self._pending[split]]) for split in SPLITS}
        self._pending = {split: [] for split in SPLITS}
        self.cache.commit(tokens, position=stream.position(), ended=ended)


def reached(counts: dict[Split, int], goal: dict[Split, int] | None) -> bool:
    """Return whether each split has its goal of tokens; the goal None is never reached."""
    return goal is not None and all(counts[split] >= goal[split] for split in SPLITS)


def _require_at_least(least: int, **settings: int) -> None:
    for name, value in settings.items():
        if value < least:
            raise ConfigurationError(f"data.{name} must be at least {least}, got {value}")


class WikipediaDataModule(OptINCDataModule):
    """Wikipedia's articles as sequences of tokens, packed without gaps.

    Articles are streamed up to the token budget, tokenised with a byte-level byte-pair encoding
    trained on the first articles, and kept in a :class:`TokenCache`. An interrupted preparation is
    continued, and a larger budget adds to the tokens of a smaller one.

    Args:
        root: Folder of the caches.
        source: Data set of the Hugging Face hub; or a local file, or a folder of files, of JSON
            lines (``*.jsonl``) or Parquet (``*.parquet``) with a field ``text``. A path that
            exists is local.
        subset: Configuration of the hub's data set.
        revision: Commit, tag or branch of the hub's data set.
        token_budget: Tokens of training and validation together; None takes the whole corpus.
        validation_share: Share of the budget that is held out.
        vocab_size: Vocabulary of the tokeniser.
        tokenizer_documents: Number of documents, the first ones, to train the tokeniser on.
        shard_tokens: Tokens that are prepared, and held in memory, between two commits.
        sequence_length: Tokens of a sequence, at least 2.
        batch_size: Sequences per batch, of all servers together.
        seed: Seed of the order.

    Raises:
        ConfigurationError: If a value is illegal; names the setting and the legal values.
    """

    modality = "text"

    def __init__(
        self,
        *,
        root: str,
        source: str,
        subset: str,
        revision: str,
        token_budget: int | None,
        validation_share: float,
        vocab_size: int,
        tokenizer_documents: int,
        shard_tokens: int,
        sequence_length: int,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__(batch_size=batch_size, seed=seed)
        _require_at_least(SMALLEST_VOCABULARY, vocab_size=vocab_size)
        _require_at_least(1, tokenizer_documents=tokenizer_documents, shard_tokens=shard_tokens)
        _require_at_least(2, sequence_length=sequence_length)
        if not 0 < validation_share < 1:
            raise ConfigurationError(
                f"data.validation_share must be between 0 and 1, got {validation_share}"
            )
        self.root = expanded(root)
        self.source = source
        self.subset = subset
        self.revision = revision
        self.token_budget = token_budget
        self.validation_share = validation_share
        self.vocab_size = vocab_size
        self.tokenizer_documents = tokenizer_documents
        self.shard_tokens = shard_tokens
        self.sequence_length = sequence_length
        self._goal = self._tokens_of(token_budget) if token_budget is not None else None
        self._check_budget()
        self._cache: TokenCache | None = None

    def _tokens_of(self, budget: int) -> dict[Split, int]:
        """Divide a budget between training and validation."""
        validation = round(self.validation_share * budget)
        return {"train": budget - validation, "validation": validation}

    def _check_budget(self) -> None:
        if self._goal is None:
            return
        least = {
            "train": self.batch_size * self.sequence_length,
            "validation": self.sequence_length,
        }
        for split in SPLITS:
            if self._goal[split] < least[split]:
                raise ConfigurationError(
                    f"data.token_budget={self.token_budget} with data.validation_share="
                    f"{self.validation_share} leaves {self._goal[split]} tokens for {split}; it "
                    f"must leave at least {least[split]}: a batch (data.batch_size times "
                    "data.sequence_length) for train, a sequence for validation"
                )

    @property
    def model_arguments(self) -> dict[str, Any]:
        """Vocabulary and sequence length."""
        return {"vocab_size": self.vocab_size, "sequence_length": self.sequence_length}

    def prepare_data(self) -> None:
        """Stream and tokenise the documents that the cache lacks.

        Raises:
            DatasetNotFoundError: If the source or the cache cannot be read.
            ConfigurationError: If the corpus is empty, has no field ``text``, or too few tokens.
            OutputError: If the cache cannot be written.
        """
        self._cache = self._cache or self._prepared()

    def _prepared(self) -> TokenCache:
        source = DocumentSource.find(self.source, subset=self.subset, revision=self.revision)
        cache = TokenCache(self.root, settings=self._identity(source), vocab_size=self.vocab_size)
        cache.verify()
        if not self._complete(cache):
            with cache.lock() as waited:
                if waited:
                    cache.reload()
                if not self._complete(cache):
                    self._prepare(source, cache)
        self._check_size(cache)
        return cache

    def _identity(self, source: DocumentSource) -> dict[str, Any]:
        """Return the settings the tokens depend on; the budget only says how many are used."""
        return {
            "format": FORMAT,
            "source": source.identity(),
            "vocab_size": self.vocab_size,
            "tokenizer_documents": self.tokenizer_documents,
            "validation_share": self.validation_share,
            "shard_tokens": self.shard_tokens,
            "documents_per_batch": DOCUMENTS_PER_BATCH,
        }

    def _complete(self, cache: TokenCache) -> bool:
        return cache.manifest.ended or reached(
            {split: cache.tokens(split) for split in SPLITS}, self._goal
        )

    def _prepare(self, source: DocumentSource, cache: TokenCache) -> None:
        logger.info("preparing %s from data.source=%s", cache.folder, self.source)
        cache.sweep()
        scratch = self.root / "hub"
        if cache.manifest.tokenizer_sha256 is None:
            batches = DocumentStream(source, scratch=scratch).batches()
            texts = islice((text for batch in batches for text in batch), self.tokenizer_documents)
            tokenizer = train_tokenizer(texts, vocab_size=self.vocab_size)
            cache.store_tokenizer(tokenizer.to_str())
        tokenizer = Tokenizer.from_file(str(cache.tokenizer_path))
        packer = Packer(
            tokenizer,
            cache,
            validation_share=self.validation_share,
            shard_tokens=self.shard_tokens,
        )
        stream = DocumentStream(source, scratch=scratch, position=cache.manifest.position)
        packer.fill(stream, self._goal)

    def _check_size(self, cache: TokenCache) -> None:
        """Refuse a corpus with fewer tokens than the budget."""
        counts = {split: cache.tokens(split) for split in SPLITS}
        if not sum(counts.values()):
            raise ConfigurationError(f"data.source={self.source} has no documents")
        if self._goal is not None and not reached(counts, self._goal):
            train, validation = (counts[split] for split in SPLITS)
            share = self.validation_share
            # One less, for rounding.
            most = int(min(train / (1 - share), validation / share)) - 1
            raise ConfigurationError(
                f"data.source={self.source} ends after {train} tokens for training and {validation}"
                f" for validation, too few for data.token_budget={self.token_budget}; it must be "
                f"at most {most}, or null for all"
            )

    def setup(self, stage: str) -> None:
        """Map the shards into memory."""
        # Lightning calls prepare_data in one process; the others find the cache complete.
        cache = self._cache or self._prepared()
        self._train = self._sequences(cache, "train")
        self._val = self._sequences(cache, "validation")

    def _sequences(self, cache: TokenCache, split: Split) -> PackedSequences:
        dataset = cache.sequences(
            split,
            sequence_length=self.sequence_length,
            most_tokens=None if self._goal is None else self._goal[split],
        )
        if not len(dataset):
            raise ConfigurationError(
                f"data.source={self.source} has {dataset.tokens} tokens for {split}, fewer than "
                f"data.sequence_length={self.sequence_length}"
            )
        return dataset

    def train_dataset(self) -> PackedSequences:
        """See :meth:`OptINCDataModule.train_dataset`."""
        return self._train

    def val_dataset(self) -> PackedSequences:
        """See :meth:`OptINCDataModule.val_dataset`."""
        return self._val
