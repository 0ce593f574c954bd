"""What a release says of itself: citation, conda recipe and setup.cfg agree, and the wheel holds what is used."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

import crystalssl

ROOT = Path(__file__).resolve().parents[1]
NAMES_OF_CONDA = {"torch": "pytorch", "torch-geometric": "pytorch_geometric"}


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    recipe = (ROOT / "tools" / "conda" / "meta.yaml").read_text(encoding="utf-8")
    assert re.search(r"^version: (\S+)$", citation, re.MULTILINE)[1] == crystalssl.__version__
    assert re.search(r'set version = "(.*)"', recipe)[1] == crystalssl.__version__
    release = crystalssl.__version__.partition(".dev")[0]
    assert f"## [{release}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_conda_recipe_needs_what_the_wheel_needs(setup):
    needed = [line.partition(";")[0].strip() for line in setup["options"]["install_requires"].strip().splitlines()]
    recipe = (ROOT / "tools" / "conda" / "meta.yaml").read_text(encoding="utf-8")
    run = recipe.partition("  run:\n")[2].partition("\ntest:")[0]
    asked = set(re.findall(r"^    - (.*)$", run, re.MULTILINE)) - {"python >=3.10"}
    expected = set()
    for line in needed:
        name, bound = re.fullmatch(r"([\w-]+)(>=.*)", line).groups()
        expected.add(f"{NAMES_OF_CONDA.get(name, name)} {bound}")
    assert asked == expected


def test_citation_is_complete():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(citation)
    assert citation["license"] == "BSD-3-Clause"
    assert all({"type", "title", "authors"} <= set(reference) for reference in citation["references"])


def test_smoke_test_of_the_release_runs(tmp_path, monkeypatch):
    """tools/check_release.py runs it in empty environments."""
    source = (ROOT / "tools" / "check_release.py").read_text(encoding="utf-8")
    smoke = re.search(r'SMOKE = """\n(.*?)"""', source, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    exec(smoke.replace('assert "site-packages" in', "assert"), {})
