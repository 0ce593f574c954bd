"""The pages of the site, read as files and in a browser."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import inspect
import re
import sys
import threading
from pathlib import Path
from urllib.parse import unquote

import pytest

import crystalssl

# What the other subpackages define for users is in the package itself.
MODULES = {"crystalssl": crystalssl} | {
    f"crystalssl.{name}": value
    for name in crystalssl.__all__
    if inspect.ismodule(value := getattr(crystalssl, name)) and name != "estimators"
}
ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("browser", ROOT / "tests" / "browser.py")
browser = sys.modules["browser"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(browser)
DOCS = ROOT / "docs"
# Main pages, with their titles.
PAGES = {
    **{
        str(path.relative_to(DOCS).with_suffix("")): path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        for path in sorted([*DOCS.glob("*.md"), *DOCS.glob("methods/*.md")])
    },
    **{
        f"auto_examples/{path.stem}": path.read_text(encoding="utf-8").splitlines()[1]
        for path in sorted((ROOT / "examples").glob("*.py"))
    },
    "auto_examples/index": "Examples",
    "api/index": "API reference",
    "api/crystalssl.CrystalSSLRegressor": "CrystalSSLRegressor",
}
# What the theme says at every start in a browser that has no settings stored.
NEWS = "Got invalid theme mode: . Resetting to auto."


@pytest.fixture(scope="module")
def browse(site, tmp_path_factory):
    """A function that opens a page in a browser, and returns the browser's page when its scripts have run."""
    browser.chromium()  # skips where there is none, before a server is started

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_port}/"

    def browse(address):
        page.events.clear()
        page.open(home + address)
        return page

    with browser.open_page(tmp_path_factory.mktemp("chromium")) as page:
        yield browse
    server.shutdown()
    server.server_close()


def check_quiet(page):
    """Fail if the console has complaints, or anything was asked of another machine."""
    assert not [complaint for complaint in page.complaints() if NEWS not in complaint]
    asked = page.requests()
    assert asked, "not even the page itself: nothing was recorded"
    assert not [address for address in asked if not address.startswith(("http://127.0.0.1:", "data:"))]


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_its_entry(site, module):
    page = (site / "api" / f"{module}.html").read_text(encoding="utf-8")
    entries = set(re.findall(r'(?:title|id)="crystalssl[\w.]*\.(\w+)"', page))
    names = {name for name in MODULES[module].__all__ if not inspect.ismodule(getattr(MODULES[module], name))}
    assert names - {"__version__"} <= entries


def test_methods_that_are_inherited_are_documented_with_the_class(site):
    page = (site / "api" / "crystalssl.CrystalSSLRegressor.html").read_text(encoding="utf-8")
    entries = set(re.findall(r'id="crystalssl\.CrystalSSLRegressor\.(\w+)"', page))
    assert {"fit", "predict", "save"} <= entries
    assert "get_params" not in entries  # scikit-learn's


def test_links_to_other_files_lead_to_the_repository(site):
    page = (site / "scikit-learn.html").read_text(encoding="utf-8")
    assert 'href="https://github.com/crystalssl/crystalssl/blob/main/tests/contract/checks.py"' in page
    assert 'href="reliability.html#what-is-promised"' in page


def test_pictures_and_links_within_the_site_lead_to_files(site):
    pages = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    lost = set()
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for address in re.findall(r'(?:<img[^>]* src|<a[^>]* href)="([^"#?]+)', text):
            if not re.match(r"[a-z+]+:", address) and not (page.parent / unquote(address)).exists():
                lost.add((str(page.relative_to(site)), address))
        assert "github.com/crystalssl/crystalssl/blob/main/figures" not in text, page
    assert not lost
    assert len(pages) > 50


def test_formulas_are_drawn_by_the_browser(site):
    page = (site / "methods" / "crystal-twins.html").read_text(encoding="utf-8")
    assert page.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">') == 2
    assert not re.search(r"<script[^>]*mathjax", page, re.IGNORECASE)


@pytest.mark.parametrize("name", PAGES)
def test_main_pages_in_a_browser(browse, name):
    page = browse(f"{name}.html")
    title = page.run("document.querySelector('article h1').textContent")
    assert title.rstrip("#").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'") == PAGES[name].replace("`", "")
    lost = "[...document.images].filter((one) => !one.complete || !one.naturalWidth).map((one) => one.src)"
    page.wait_for("[...document.images].every((one) => one.complete)")
    assert page.run(lost) == []
    assert page.run("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the window"
    check_quiet(page)


@pytest.mark.parametrize(("word", "found"), [("isolated", "faq.html"), ("predict_interval", "trust.html")])
def test_search_finds(browse, word, found):
    page = browse(f"search.html?q={word}")
    page.wait_for(f"document.querySelector('ul.search a[href*=\"{found}\"]')", tries=100)
    check_quiet(page)
