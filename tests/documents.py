"""Code blocks and commands of the documents, as CommonMark reads them.

A comment before a block says what a test cannot know: ``<!-- takes: 40 minutes -->`` how long its
commands run, which makes them run on request only (``pytest -m on_request``), and
``<!-- given: STATEMENTS -->`` what a block of Python finds in the reader's program.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from string import Template
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from website.links import ROOT, documents

RUNNERS = ("python", "python3", "make", "bash", "torchrun", "optinc")
"""What the commands of the documents begin with."""


class Block(NamedTuple):
    """A block of code.

    Attributes:
        document: Path of the document below the root.
        line: Number of its first line.
        language: Info string of the fence; empty for indented blocks.
        text: The code.
        takes: Time that its commands run, None where a test runs them.
        given: Statements that precede a block of Python.
    """

    document: str
    line: int
    language: str
    text: str
    takes: str | None
    given: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Lines of a shell block: continued ones joined, variables replaced, without comments."""
        lines = re.sub(r" *\\\n\s*", " ", self.text).splitlines()
        variables: dict[str, str] = {}
        found = []
        for line in lines:
            command = Template(re.sub(r"(^|\s+)#.*", "", line).strip()).safe_substitute(variables)
            if assigned := re.fullmatch(r'(\w+)="(.*)"', command):
                variables[assigned[1]] = assigned[2]
            elif command:
                found.append(command)
        return found


def parse(text: str, document: str) -> list[Block]:
    """Return the blocks of a document in their order."""
    found = []
    previous: Token | None = None
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type in {"fence", "code_block"}:
            assert token.map is not None
            comment = previous.content if previous and previous.type == "html_block" else ""
            marks = dict(re.findall(r"<!-- (takes|given):\s(.*?)\s-->", comment, re.DOTALL))
            info, line = token.info.strip(), token.map[0] + 1
            takes, given = marks.get("takes"), marks.get("given", "")
            found.append(Block(document, line, info, token.content, takes, given))
        previous = token
    return found


def inline_commands(text: str) -> list[str]:
    """Return the commands within the sentences and tables of a document."""
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        for child in token.children or []:
            words = child.content.split() if child.type == "code_inline" else []
            if len(words) > 1 and words[0] in RUNNERS:
                found.append(child.content)
    return found


def read(document: str) -> str:
    """Return the text of a document."""
    return (ROOT / document).read_text(encoding="utf-8")


BLOCKS = [block for document in documents() for block in parse(read(document), document)]

FOLLOWED = ("docs/extend.md", "docs/import_an_onn.md")
"""Pages whose blocks are files and commands of a folder of the reader's own:
``tests/integration/test_how_to.py`` follows them."""

_RUN = [block for block in BLOCKS if block.document not in FOLLOWED]

SHELL = [block for block in _RUN if block.language in {"", "bash"}]

PYTHON = [block for block in _RUN if block.language == "python"]


def every_command() -> dict[str, str]:
    """Return every command of blocks and sentences, and the first place where it stands."""
    found: dict[str, str] = {}
    for block in SHELL:
        for command in block.commands:
            found.setdefault(command, str(block))
    for document in documents():
        for command in inline_commands(read(document)):
            found.setdefault(command, document)
    return found


def words_of(command: str, folder: Path) -> list[str]:
    """Split a command into words; what stands for a folder of the reader becomes ``folder``,
    and NAME the name of a preset of a chip."""
    filled = re.sub(r"\bFOLDER\b", str(folder), command)
    filled = re.sub(r"=NAME\b", "=silicon", filled)
    return [word for word in shlex.split(filled) if word != "..."]
