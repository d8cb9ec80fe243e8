from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain, islice
from pathlib import Path
from typing import Any

import datasets
import pytest

from optinc.data import documents
from optinc.data.documents import DocumentSource, DocumentStream
from optinc.errors import ConfigurationError, DatasetNotFoundError
from tests.corpora import make_articles, write_articles

TEXTS = make_articles(100)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(documents, "DOCUMENTS_PER_BATCH", 8)
    # Data sets made from generators keep lock files there.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hub"))


def find(name: Path | str) -> DocumentSource:
    return DocumentSource.find(str(name), subset="20231101.en", revision="main")


@pytest.fixture(scope="module", params=[".jsonl", ".parquet"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_articles(tmp_path_factory.mktemp("articles"), TEXTS, suffix=request.param)


def test_documents_come_in_the_order_of_files_and_lines(folder: Path, tmp_path: Path) -> None:
    batches = list(DocumentStream(find(folder), scratch=tmp_path).batches())
    assert list(chain(*batches)) == TEXTS
    assert [len(batch) for batch in batches] == [8] * 12 + [4]


@pytest.mark.parametrize("read", [1, 5, 12, 13])
@pytest.mark.parametrize("upgraded", [False, True])
def test_a_stream_goes_on_where_another_stopped(
    folder: Path, tmp_path: Path, read: int, upgraded: bool
) -> None:
    first = DocumentStream(find(folder), scratch=tmp_path)
    done = list(chain(*islice(first.batches(), read)))
    position = json.loads(json.dumps(first.position()))
    assert position["documents"] == len(done) == min(8 * read, 100)
    if upgraded:
        position |= {"version": "0.0.1", "state": {"of": "another version"}}
    second = DocumentStream(find(folder), scratch=tmp_path, position=position)
    assert [*done, *chain(*second.batches())] == TEXTS


def test_one_file_is_enough(folder: Path, tmp_path: Path) -> None:
    file = sorted(folder.iterdir())[1]
    assert list(chain(*DocumentStream(find(file), scratch=tmp_path).batches())) == TEXTS[34:68]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"it has neither"),
        (["a.txt"], r"it has neither"),
        (["a.jsonl", "b.parquet"], r"of one kind; it has \.jsonl, \.parquet"),
    ],
)
def test_a_folder_of_other_files_is_refused(names: list[str], message: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(DatasetNotFoundError, match=message):
        find(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "data/articles.jsonl", "/absolute/path", "a/b/c"])
def test_what_is_neither_a_path_nor_of_the_hub_is_refused(name: str) -> None:
    with pytest.raises(DatasetNotFoundError, match=f"data.source={name} is neither a local file"):
        find(name)


def test_the_hub_is_asked_to_stream_a_named_subset_and_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def load_dataset(**arguments: Any) -> Any:
        asked.update(arguments)
        return datasets.IterableDataset.from_generator(
            lambda: ({"text": text, "id": "1"} for text in TEXTS),
            features=datasets.Features(text=datasets.Value("string"), id=datasets.Value("string")),
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    stream = DocumentStream(find("wikimedia/wikipedia"), scratch=tmp_path)
    assert list(chain(*stream.batches())) == TEXTS
    assert asked == {
        "path": "wikimedia/wikipedia",
        "name": "20231101.en",
        "revision": "main",
        "split": "train",
        "streaming": True,
        "cache_dir": str(tmp_path),
    }


def test_a_hub_out_of_reach_says_what_to_do(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from optinc.data.documents import *\n"
        "source = DocumentSource.find('wikimedia/wikipedia', subset='s', revision='main')\n"
        f"source.open(Path({str(tmp_path)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    assert "DatasetNotFoundError: data.source=wikimedia/wikipedia cannot be read" in last
    assert "connect this machine to the hub, or set data.source to local files" in last


def test_a_connection_lost_on_the_way_says_that_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> Any:
        yield from ({"text": text} for text in TEXTS[:20])
        raise ConnectionError("reset by peer")

    dataset = datasets.IterableDataset.from_generator(
        lost, features=datasets.Features(text=datasets.Value("string"))
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda **arguments: dataset)
    batches = DocumentStream(find("wikimedia/wikipedia"), scratch=tmp_path).batches()
    assert len(list(islice(batches, 2))) == 2
    with pytest.raises(
        DatasetNotFoundError, match=r"after 16 documents \(.*reset by peer\).*goes on from there"
    ):
        next(batches)


def test_documents_without_a_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"title": "A", "body": "no text"}\n')
    with pytest.raises(ConfigurationError, match="need a field 'text'; they have body, title"):
        DocumentStream(find(file), scratch=tmp_path)


@pytest.mark.parametrize("value", ["null", "7"])
def test_a_text_that_is_none_is_refused(value: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    lines = ['{"text": "fine"}'] * (value == "null") + [f'{{"text": {value}}}']
    file.write_text("\n".join(lines))
    stream = DocumentStream(find(file), scratch=tmp_path)
    with pytest.raises(
        ConfigurationError, match=r"document \d of .* must have a text in its field"
    ):
        list(stream.batches())


def test_damaged_files_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    file.write_bytes(b"not Parquet")
    with pytest.raises(DatasetNotFoundError, match=r"a.parquet cannot be read .*JSON lines"):
        list(DocumentStream(find(file), scratch=tmp_path).batches())


def test_other_fields_may_differ_from_line_to_line(tmp_path: Path) -> None:
    """The library wants one schema of all fields, and ended with a traceback of it."""
    file = tmp_path / "a.jsonl"
    rows: list[dict[str, Any]] = [
        {"id": 1, "text": "one"},
        {"id": "two", "text": "two", "more": {"a": [1]}},
        {"text": "three", "more": 7},
    ]
    file.write_text("\n\n".join(json.dumps(row) for row in rows))
    assert list(chain(*DocumentStream(find(file), scratch=tmp_path).batches())) == [
        "one",
        "two",
        "three",
    ]


@pytest.mark.parametrize(("line", "what"), [("{", "no JSON"), ("[1]", "no JSON object")])
def test_a_line_that_is_no_document_is_named(line: str, what: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"text": "fine"}) + "\n" + line + "\n")
    stream = DocumentStream(find(file), scratch=tmp_path)
    with pytest.raises(DatasetNotFoundError, match=rf"a\.jsonl, byte 17: {what}"):
        list(stream.batches())
