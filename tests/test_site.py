"""The docs site, built strictly and opened in a browser: light and dark, on a desk and on a phone."""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest
from metaloop import plugins

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parent.parent
PICTURES = os.environ.get("METALOOP_SCREENSHOT")
"""A folder to keep the screenshots in, to be looked at."""
PAGES = ("", "papers/", "plugins/gpicl/", "plugins/basics/", "tutorial/", "how-to/claims/", "reference/experiments/")
SIZES = {"desk": (1280, 900), "phone": (390, 844)}

FAINT = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true})
const rgba = color => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1)
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data
  return [r, g, b, a / 255]
}
const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3])).concat(1)
const ground = element => {
  if (!element) return [255, 255, 255, 1]
  const own = rgba(getComputedStyle(element).backgroundColor)
  return own[3] === 1 ? own : over(own, ground(element.parentElement))
}
const light = color => {
  const [r, g, b] = color.map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  return .2126 * r + .7152 * g + .0722 * b
}
const found = []
let seen = 0
for (const element of document.querySelectorAll(".md-content article *, .md-header__title, .md-tabs__link")) {
  const text = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join("")
  if (!text || !element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue
  if (element.matches(".headerlink")) continue
  seen += 1
  const under = ground(element)
  const [a, b] = [light(over(rgba(getComputedStyle(element).color), under)), light(under)].sort((x, y) => y - x)
  const ratio = (a + .05) / (b + .05)
  if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${element.tagName}.${element.className}: ${text.slice(0, 40)}`)
}
return [seen, found]
"""


class Read(HTMLParser):
    """The ids of a page, and what it refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, without a window."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs chromium and chromedriver")
    os.environ["SE_OFFLINE"] = "true"
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    driver.set_page_load_timeout(300)
    yield driver
    driver.quit()


def opened(driver: Any, url: str, size: str = "desk", scheme: str = "light") -> None:
    width, height = SIZES[size]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.get(url)


def until(driver: Any, condition: str) -> Any:
    """What the JavaScript expression gives, once it is something."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 120).until(lambda _: driver.execute_script(f"return {condition}"))


def test_every_plugin_has_its_page_and_every_paper_its_row(site: Path) -> None:
    gallery = (site / "papers" / "index.html").read_text()
    for record in plugins.discover():
        page = (site / "plugins" / record.name / "index.html").read_text()
        assert record.distribution in page
        assert record.plugin is not None, record.error
        assert (f'href="../plugins/{record.name}/"><strong>' in gallery) == (record.plugin.paper is not None)
        assert ("not recorded yet" in page.lower() or "measured them" in page) == (record.plugin.claims is not None)


def test_a_recorded_claim_is_shown_beside_the_papers_value(site: Path) -> None:
    page = (site / "plugins" / "gpicl" / "index.html").read_text()
    record = json.loads((ROOT / "plugins" / "papers" / "gpicl" / "claims.json").read_text())
    known = [claim for claim in record["results"] if claim["low"] < claim["high"]]
    assert len(known) > 5
    for claim in known:
        assert "{estimate:.4g} [{low:.4g}, {high:.4g}]".format(**claim) in page
        assert escape(claim["paper_value"]) in page
    assert record["date"][:10] in page
    assert f"cpus {record['hardware']['cpus']}" in page


def test_no_link_or_picture_leads_nowhere(site: Path) -> None:
    pages = {path.resolve(): Read(path.read_text()) for path in site.rglob("*.html") if path.name != "404.html"}
    lost = []
    for path, page in pages.items():
        for link in page.links:
            place, anchor = urldefrag(link)
            if place.startswith(("http:", "https:", "mailto:", "data:")):
                continue
            target = (path.parent / unquote(place)).resolve() if place else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (anchor and target in pages and unquote(anchor) not in pages[target].ids):
                lost.append(f"{path.relative_to(site)}: {link}")
    assert len(pages) > 30
    assert not lost


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_can_be_read(address: str, browser: Any, tmp_path: Path, scheme: str, size: str) -> None:
    folder = Path(PICTURES) if PICTURES else tmp_path
    hard_to_read = {}
    for page in PAGES:
        opened(browser, f"{address}/{page}", size, scheme)
        browser.save_screenshot(str(folder / f"{page.replace('/', '-') or 'start-'}{size}-{scheme}.png"))
        shown = browser.execute_script("return document.body.dataset.mdColorScheme")
        assert shown == {"light": "default", "dark": "slate"}[scheme]
        wide = browser.execute_script(
            "const {scrollWidth, clientWidth} = document.documentElement; return scrollWidth - clientWidth"
        )
        assert wide <= 0, f"{page} is {wide} px too wide"
        seen, faint = browser.execute_script(FAINT)
        assert seen > 20
        hard_to_read |= {page: faint} if faint else {}
        asked = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert all(url.startswith((address, "data:", "blob:")) for url in asked), asked
    assert not hard_to_read
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


@pytest.mark.parametrize("size", SIZES)
def test_the_gallery_is_sorted_by_its_headings(address: str, browser: Any, size: str) -> None:
    opened(browser, f"{address}/papers/", size)

    def column(name: str) -> list[str]:
        found: list[str] = browser.execute_script(
            "return [...document.querySelectorAll('#gallery tbody tr')].map(row => row.dataset[arguments[0]])", name
        )
        return found

    def click(name: str) -> None:
        browser.find_element("css selector", f'#gallery th[data-sort="{name}"] button').click()

    assert column("family") == sorted(column("family"))
    years = [int(year) for year in column("year")]
    click("year")
    assert [int(year) for year in column("year")] == sorted(years)
    click("year")
    assert [int(year) for year in column("year")] == sorted(years, reverse=True)
    click("holds")
    shares = [float(share) for share in column("holds")]
    assert shares == sorted(shares)
    assert len(set(shares)) > 1
    click("title")
    assert column("title") == sorted(column("title"))


def test_a_verdict_in_the_gallery_leads_to_its_claim(address: str, browser: Any) -> None:
    opened(browser, f"{address}/papers/")
    browser.find_element("css selector", '#gallery a[href$="gpicl/#claim-C3a"]').click()
    until(browser, "document.querySelector('#claim-C3a:target')")
    assert "fails" in browser.find_element("id", "claim-C3a").text


def test_search_finds_a_class_of_a_plugin(address: str, browser: Any) -> None:
    opened(browser, f"{address}/")
    browser.find_element("css selector", ".md-search__input").send_keys("LSATransformer")
    results = until(browser, "[...document.querySelectorAll('.md-search-result__link')].map(link => link.href)")
    assert any("icl-gd" in result for result in results)
