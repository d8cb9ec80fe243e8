"""A small corpus in the format of the public Wikipedia dump."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

WORDS = ["the", "of", "light", "average", "gradient", "server", "naïve", "café", "光", "mesh"]


def make_articles(articles: int, *, seed: int = 0) -> list[str]:
    """Draw texts of several lines, all different; one is empty, one spells out a special token."""
    generator = torch.Generator().manual_seed(seed)
    texts = []
    for number in range(articles):
        length = int(torch.randint(1, 60, (), generator=generator))
        words = torch.randint(len(WORDS), (length,), generator=generator).tolist()
        texts.append(f"Article {number}\n\n" + " ".join(WORDS[word] for word in words) + ".\n")
    texts[1] = ""
    texts[2] = "before <|endoftext|> after"
    return texts


def write_articles(folder: Path, texts: list[str], *, suffix: str, files: int = 3) -> Path:
    """Write the texts, with the other fields of the dump, into files of about the same size."""
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-len(texts) // files)
    for file in range(files):
        rows = [
            {"id": str(n), "url": f"https://example.org/{n}", "title": f"Article {n}", "text": text}
            for n, text in enumerate(texts)
        ][file * size : (file + 1) * size]
        path = folder / f"part-{file:05d}{suffix}"
        if suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
        else:
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            path.write_text("".join(lines), encoding="utf-8")
    return folder
