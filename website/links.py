"""Links of documents: where they lead in the repository, and on the site.

Documents are written for the repository, where a code host shows them. The site carries pages from
outside of ``docs`` under names of its own, a page of the reference for every module, and copies of
every other file that is linked.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

DOCS = "docs"

ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
    "SECURITY.md": "security.md",
    "sweeps/README.md": "sweeps.md",
    "benchmarks/GPU.md": "benchmarks/gpu.md",
    **{
        f"benchmarks/results/{path.name}": f"benchmarks/{path.name}"
        for path in sorted((ROOT / "benchmarks" / "results").glob("*.md"))
    },
}
"""Pages from outside of ``docs``: path in the repository and on the site."""

COPIES = "files"
"""Folder of the site for other files of the repository."""

_CODE_OR_LINK = re.compile(
    r"^(?P<fence>`{3,})[^\n]*\n.*?^(?P=fence)`*[ ]*$"
    r"|(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)"
    r"|\]\((?P<target>[^)\s]+)\)",
    re.DOTALL | re.MULTILINE,
)


def documents() -> list[str]:
    """Return every document of the repository as a path below its root."""
    inside = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / DOCS).rglob("*.md"))]
    return [*ELSEWHERE, *inside]


def targets(text: str) -> Iterator[str]:
    """Yield the targets of the links and images of a document, those within code left out."""
    for match in _CODE_OR_LINK.finditer(text):
        if match["target"]:
            yield match["target"]


def is_external(target: str) -> bool:
    """Whether a link leads to another host, or into a mail program."""
    return re.match(r"[a-z][a-z0-9+.-]*:", target) is not None


def resolve(target: str, document: str) -> tuple[str, str]:
    """Split a link into the file of the repository it leads to, and the anchor there.

    Args:
        target: Link as written, not external.
        document: Path of the document it stands in, below the root.
    """
    path, _, anchor = target.partition("#")
    if not path:
        return document, anchor
    return posixpath.normpath(posixpath.join(posixpath.dirname(document), path)), anchor


def site_path(path: str) -> str:
    """Return where the site carries a file of the repository."""
    if path in ELSEWHERE:
        return ELSEWHERE[path]
    if path.startswith(f"{DOCS}/"):
        return path.removeprefix(f"{DOCS}/")
    if path.startswith("optinc/") and path.endswith(".py"):
        return reference_path(path)
    return f"{COPIES}/{path}"


def reference_path(path: str) -> str:
    """Return the page of the reference for a module, ``optinc/signal/pam4.py`` for example."""
    module = path.removeprefix("optinc/").removesuffix(".py")
    folder, _, name = module.rpartition("/")
    return posixpath.join("reference", folder, "index.md" if name == "__init__" else f"{name}.md")


def for_site(text: str, document: str) -> str:
    """Return a document whose links lead to where the site carries their targets."""
    folder = posixpath.dirname(site_path(document)) or "."

    def link(match: re.Match[str]) -> str:
        target = match["target"]
        if not target or target.startswith("#") or is_external(target):
            return match[0]
        path, anchor = resolve(target, document)
        there = posixpath.relpath(site_path(path), folder)
        return f"]({there}#{anchor})" if anchor else f"]({there})"

    return _CODE_OR_LINK.sub(link, text)


def copied_files() -> list[str]:
    """Return the files of the repository that pages link to and that the site only copies."""
    found = {
        resolve(target, document)[0]
        for document in documents()
        for target in targets((ROOT / document).read_text(encoding="utf-8"))
        if not is_external(target)
    }
    return sorted(path for path in found if site_path(path).startswith(f"{COPIES}/"))


def anchors(text: str) -> set[str]:
    """Return the anchors that code hosts and the site give to the headings of a document."""
    found: set[str] = set()
    in_fence = False
    for line in text.splitlines():
        if line.startswith("```"):
            in_fence = not in_fence
        match = None if in_fence else re.match(r"#{1,6} +(.*?)(?: +#+)?$", line)
        if match is None:
            continue
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1])
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        numbered = slug
        count = 0
        while numbered in found:
            count += 1
            numbered = f"{slug}-{count}"
        found.add(numbered)
    return found


def dead_links(document: str) -> list[str]:
    """Return the links of a document whose file or anchor does not exist in the repository."""

    def leads_somewhere(path: str, anchor: str) -> bool:
        if not (ROOT / path).exists():
            return False
        if not anchor:
            return True
        return path.endswith(".md") and anchor in anchors((ROOT / path).read_text(encoding="utf-8"))

    text = (ROOT / document).read_text(encoding="utf-8")
    links = [target for target in targets(text) if not is_external(target)]
    return [target for target in links if not leads_somewhere(*resolve(target, document))]
