"""The pages of the site, read as files and in a browser."""

from __future__ import annotations

import functools
import http.server
import inspect
import re
import shutil
import subprocess
import threading
from urllib.parse import unquote

import pytest

import crystalssl

# What the other subpackages define for users is in the package itself.
MODULES = {"crystalssl": crystalssl} | {
    f"crystalssl.{name}": value
    for name in crystalssl.__all__
    if inspect.ismodule(value := getattr(crystalssl, name)) and name != "estimators"
}
PAGES = {
    "index": "Predict properties of crystals from few labels",
    "get-started": "A first model",
    "guide": "User guide",
    "choosing": "Which method and encoder to choose",
    "methods": "Crystal graphs",
    "methods/joint": "What the bundled weights learn from",
    "results": "Results",
    "performance": "Performance",
    "inside": "How it works inside",
    "faq": "FAQ",
    "auto_examples/index": "Examples",
    "api/index": "API reference",
    "api/crystalssl.CrystalSSLRegressor": "CrystalSSLRegressor",
}
# What the theme tells the console when all is well; Chromium notes errors at the same level.
NEWS = ("Got invalid theme mode: . Resetting to auto.", '"[PST]: ')


@pytest.fixture(scope="module")
def browse(site, tmp_path_factory):
    """A function that returns the text of a page after its scripts have run, and what they wrote to the console."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    profile = tmp_path_factory.mktemp("chromium")

    def browse(address):
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
        done = subprocess.run(
            [
                chromium,
                *options,
                f"--user-data-dir={profile}",
                "--virtual-time-budget=10000",
                "--dump-dom",
                f"http://127.0.0.1:{server.server_port}/{address}",
            ],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        return done.stdout, [line for line in console if not any(news in line for news in NEWS)]

    yield browse
    server.shutdown()
    server.server_close()


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
    text, console = browse(f"{name}.html")
    assert PAGES[name] in text
    assert not console


def test_search_finds(browse):
    text, console = browse("search.html?q=isolated")
    assert not console
    found = re.search(r'<ul [^>]*class="search".*?</ul>', text, re.DOTALL)
    assert found, "no list of results"
    assert 'href="faq.html"' in found[0]
