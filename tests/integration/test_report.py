from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.common.record import RESULTS, save
from experiments.report.page import build
from experiments.report.sections import sections
from tests.browser import DESKTOP, PHONE, SHOTS, chromium, needs_chromium, show

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed results, and a short run of Fig. 7a."""
    folder = tmp_path_factory.mktemp("report")
    for path in [*RESULTS.glob("*.csv"), *RESULTS.glob("*.json")]:
        shutil.copy(path, folder)
    about = {"title": "t", "source": "Fig. 7a", "command": "python x", "folder": folder}
    runs = [
        {"arm": arm, "seed": 1, "metric": "val_acc", "value": value}
        for arm, value in (("ring", 0.31), ("optinc", 0.3), ("table2_4_5_6_7", 0.29))
    ]
    save("fig7a_resnet50_smoke", rows=runs, **about)  # type: ignore[arg-type]
    curve = [{**run, "step": step} for run in runs for step in (0, 10)]
    save("fig7a_resnet50_smoke_curves", rows=curve, **about)  # type: ignore[arg-type]
    path = folder / "report.html"
    path.write_text(build(folder), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        driver.get(page.as_uri())
        yield driver


def test_the_page_loads_without_errors_or_network(browser) -> None:  # type: ignore[no-untyped-def]
    assert "OptINC" in browser.title
    assert browser.get_log("browser") == []
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    assert [name for name in loaded if not name.startswith("data:")] == []


def test_every_plot_is_drawn(browser, page: Path) -> None:  # type: ignore[no-untyped-def]
    show(browser, DESKTOP)
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('figure')].map((figure) =>"
        " figure.querySelectorAll('svg title').length)"
    )
    assert len(drawn) == sum(len(section.plots) for section in sections(page.parent)) >= 13
    assert min(drawn) > 0


def test_links_lead_somewhere(browser, page: Path) -> None:  # type: ignore[no-untyped-def]
    links = browser.execute_script(
        "return [...document.querySelectorAll('a')].map((link) => link.getAttribute('href'))"
    )
    inside = [link for link in links if link.startswith("#")]
    assert inside == [f"#{section.key}" for section in sections(page.parent)]
    for link in inside:
        assert browser.execute_script("return document.querySelectorAll(arguments[0]).length", link)
    others = [link for link in links if not link.startswith("#")]
    assert all(link.startswith(("data:text/csv;base64,", "https://arxiv.org/")) for link in others)
    browser.execute_script("document.querySelector('nav a[href=\"#fig7b\"]').click()")
    assert browser.execute_script("return document.querySelector('#fig7b').offsetTop") > 0
    assert browser.current_url.endswith("#fig7b")


def test_downloads_hold_the_data(browser) -> None:  # type: ignore[no-untyped-def]
    text = browser.execute_async_script(
        "const done = arguments[0];"
        "fetch(document.querySelector('a[download=\"fig6.csv\"]').href)"
        ".then((response) => response.text()).then(done)"
    )
    assert text == (RESULTS / "fig6.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_is_wider_than_the_screen(browser, screen) -> None:  # type: ignore[no-untyped-def]
    show(browser, screen)
    width, inner = browser.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth]"
    )
    assert inner == screen["width"]
    assert width <= inner
    plots = browser.execute_script(
        "return [...document.querySelectorAll('figure svg, .summary')].map("
        "(each) => each.getBoundingClientRect().right)"
    )
    assert max(plots) <= inner
    if SHOTS in os.environ:
        name = "phone" if screen["mobile"] else "desktop"
        height = browser.execute_script("return document.documentElement.scrollHeight")
        show(browser, {**screen, "height": height})
        browser.save_screenshot(str(Path(os.environ[SHOTS]) / f"{name}.png"))


def test_print_fits_the_paper(browser) -> None:  # type: ignore[no-untyped-def]
    show(browser, {**DESKTOP, "width": 680})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    rights = browser.execute_script(
        "return [...document.querySelectorAll('figure svg, .summary')].map("
        "(each) => each.getBoundingClientRect().right)"
    )
    assert 0 < max(rights) <= 680
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert browser.print_page()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_plots_have_the_colour_of_the_text(browser, scheme) -> None:  # type: ignore[no-untyped-def]
    show(browser, DESKTOP)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    fill, text, page = browser.execute_script(
        "const of = (each) => getComputedStyle(document.querySelector(each));"
        "return [of('figure svg text').fill, of('body').color, of('body').backgroundColor]"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert fill == text
    assert page == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 28)"}[scheme]


def test_the_page_opens_within_a_second(browser, page: Path) -> None:  # type: ignore[no-untyped-def]
    """It holds no library: data and pictures are about a quarter of what Plotly alone would add."""
    assert page.stat().st_size < 2_500_000
    browser.get(page.as_uri())
    opened = browser.execute_script(
        "return performance.getEntriesByType('navigation')[0].domInteractive"
    )
    assert 0 < opened < 1000


def test_short_runs_are_not_passed_off_as_the_papers(browser) -> None:  # type: ignore[no-untyped-def]
    text = browser.execute_script(
        "return document.querySelector('#fig7a_resnet50_smoke').textContent"
    )
    assert "A smoke run, not the paper's training." in text
    assert "--scale paper" in text
