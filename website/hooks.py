"""Hooks of MkDocs: pages from outside of ``docs``, links, the reference and the notebooks."""

from __future__ import annotations

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from website import notebooks, reference
from website.links import COPIES, DOCS, ELSEWHERE, ROOT, copied_files, for_site

_IN_REPOSITORY = {there: here for here, there in ELSEWHERE.items()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the reference to the navigation."""
    assert config.nav is not None
    for section in config.nav:
        if "Reference" in section:
            section["Reference"] += [{"optinc": reference.navigation()}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what the site carries beside the files of ``docs``."""
    for here, there in ELSEWHERE.items():
        files.append(File.generated(config, there, abs_src_path=str(ROOT / here)))
    for path in copied_files():
        files.append(File.generated(config, f"{COPIES}/{path}", abs_src_path=str(ROOT / path)))
    for there, text in reference.pages().items():
        files.append(File.generated(config, there, content=text))
    execute = config.extra["execute_notebooks"]
    for source in notebooks.sources():
        for there, content in notebooks.pages(source, execute=execute):
            files.append(File.generated(config, there, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links that are written for the repository lead to their targets on the site."""
    uri = page.file.src_uri
    if page.file.generated_by is not None and uri not in _IN_REPOSITORY:
        return markdown
    return for_site(markdown, _IN_REPOSITORY.get(uri, f"{DOCS}/{uri}"))
