"""The site that ``make docs`` builds, without executing its notebooks: their tests do so."""

from __future__ import annotations

import ast
import os
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.browser import DESKTOP, PHONE, SHOTS, chromium, needs_chromium, show
from tests.processes import python
from website import links, reference

pytestmark = pytest.mark.slow

pytest.importorskip("mkdocs", reason="mkdocs is not installed (pip install 'optinc[docs]')")
pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed (the extra docs)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site; warnings end its build."""
    folder = tmp_path_factory.mktemp("site")
    build = ["-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    python(*build, OPTINC_EXECUTE_NOTEBOOKS="false")
    return folder


def public_names() -> Iterator[str]:
    """Yield functions and classes of the package, and methods, that carry no underscore."""

    def within(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
                continue
            if ast.get_docstring(node) is None:
                continue  # it overrides what is documented where it comes from
            yield f"{prefix}.{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from within(node.body, f"{prefix}.{node.name}")

    for path in sorted(reference.PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield from within(tree.body, reference.module_name(path))


def test_every_public_name_stands_in_the_reference(site: Path) -> None:
    found: set[str] = set()
    for page in (site / "reference").rglob("*.html"):
        found |= set(re.findall(r'id="(optinc\.[\w.]+)"', page.read_text(encoding="utf-8")))
    names = set(public_names())
    assert len(names) > 1000
    assert names - found == set()


def test_every_link_leads_somewhere(site: Path) -> None:
    """Also those of the theme and of the reference, and anchors."""
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    ids = {path: set(re.findall(r'\bid="?([^\s">]+)', text)) for path, text in pages.items()}
    dead = set()
    for path, text in pages.items():
        if path.name == "404.html":  # its links start at the root of a server
            continue
        for target in re.findall(r'\b(?:href|src)="([^"]*)"', text):
            if links.is_external(target):
                continue
            file, _, anchor = unquote(target).partition("#")
            there = (path.parent / file).resolve() if file else path
            if there.is_dir():
                there /= "index.html"
            known = ids.get(there)
            if not there.exists() or (anchor and known is not None and anchor not in known):
                dead.add((path.name, target))
    assert dead == set()
    assert len(pages) > 230


def test_nothing_is_loaded_from_other_hosts(site: Path) -> None:
    loading = re.compile(r"<(?:script|img|iframe|source)[^>]*\bsrc=\"?(?:https?:)?//|<link[^>]*//")
    for page in site.rglob("*.html"):
        assert loading.search(page.read_text(encoding="utf-8")) is None, page
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8"), style


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site on a server of this machine: search needs one."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


PAGES = ["index", "photonics", "reliability", "reference/index", "reference/reducers/optinc"]


@needs_chromium
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_pages_open_and_fit_the_screen(
    browser: Any, address: str, screen: dict[str, Any], name: str
) -> None:
    show(browser, screen)
    browser.get(f"{address}/{name}.html")
    assert "OptINC" in browser.title
    width, inner = browser.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth]"
    )
    assert inner == screen["width"]
    assert width <= inner
    broken = browser.execute_script(
        "return [...document.images].filter((image) => !image.naturalWidth).length"
    )
    assert broken == 0
    assert browser.get_log("browser") == []
    if SHOTS in os.environ:
        label = "phone" if screen["mobile"] else "desktop"
        shot = f"site_{name.replace('/', '_')}_{label}.png"
        browser.save_screenshot(str(Path(os.environ[SHOTS]) / shot))


@needs_chromium
def test_search_finds_a_page_without_errors(browser: Any, address: str) -> None:
    show(browser, DESKTOP)
    browser.get(f"{address}/index.html?q=BlockQuantizer")
    found = browser.execute_async_script(
        "const done = arguments[0];"
        "const look = () => {"
        " const links = [...document.querySelectorAll('.md-search-result__link')];"
        " links.length ? done(links.map((link) => link.href)) : setTimeout(look, 100);"
        "}; look();"
    )
    assert any("reference/signal/block_quantizer.html" in link for link in found)
    assert browser.get_log("browser") == []


@needs_chromium
def test_dark_mode_is_that_of_the_system(browser: Any, address: str) -> None:
    backgrounds = []
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        browser.get(f"{address}/index.html")
        backgrounds.append(
            browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        )
        if SHOTS in os.environ:
            browser.save_screenshot(str(Path(os.environ[SHOTS]) / f"site_{scheme}.png"))
    light, dark = (sum(map(int, re.findall(r"\d+", color)[:3])) for color in backgrounds)
    assert light > 600
    assert dark < 200
