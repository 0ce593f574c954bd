"""The Python of README and docs runs as it stands, page by page, each page's blocks one after the other.

A block that is not run stands below ``<!-- skip: next "reason" -->``. Pages that need files of theirs are run by other
tests. So that pages take seconds, networks train for one epoch, and large crystals are replaced by small ones.
"""

from __future__ import annotations

import copy
import inspect
import re
from dataclasses import fields
from pathlib import Path
from unittest import SkipTest

import pytest

import crystalssl.datasets
from crystalssl import LIMITS, CrystalSSLClassifier, CrystalSSLRegressor, PretrainedCrystalEmbedder

sybil = pytest.importorskip("sybil")
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser  # noqa: E402

pytest.importorskip("matplotlib")

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if "```python" in path.read_text(encoding="utf-8")
}
ELSEWHERE = {
    "docs/data.md": "tests/io/test_docs.py",
    "docs/extending.md": "tests/test_extending.py",
    "docs/matbench.md": "tests/matbench/test_docs.py",
    "docs/models.md": "tests/estimators/test_sharing.py",
}
SKIP = re.compile(r"<!-- skip: next (?:if\(.*reason=)?\"([^\"]*)\"")
NOT_RUN = [
    pytest.param(match[1], id=f"{name}:{text.count(chr(10), 0, match.start()) + 1}")
    for name, path in PAGES.items()
    for text in [path.read_text(encoding="utf-8")]
    for match in SKIP.finditer(text)
]


@pytest.fixture
def quick(monkeypatch):
    """Estimators that are made train for one epoch."""
    for estimator in (CrystalSSLRegressor, CrystalSSLClassifier, PretrainedCrystalEmbedder):
        init = estimator.__init__

        def few(self, *args, init=init, **kwargs):
            init(self, *args, **kwargs)
            self.max_epochs = 1

        few.__signature__ = inspect.signature(init)
        monkeypatch.setattr(estimator, "__init__", few)


@pytest.fixture(scope="module")
def loaded():
    """What `load_prototypes` returned, by its arguments: reading it takes a second, which pages do again and again."""
    return {}


@pytest.fixture
def small(monkeypatch, loaded):
    """As many prototypes as there are, of two atoms at most; polonium, which the weights refuse, stays where it is."""
    load = crystalssl.datasets.load_prototypes

    def load_small(*args, **kwargs):
        key = (args, tuple(kwargs.items()))
        if key not in loaded:
            loaded[key] = load(*args, **kwargs)
        result = copy.copy(loaded[key])
        X = result[0] if isinstance(result, tuple) else result.data
        few = [crystal for crystal in X if len(crystal) <= 2 and "Po" not in crystal.symbol_set]
        X = [few[i % len(few)] if len(crystal) > 2 else crystal for i, crystal in enumerate(X)]
        if isinstance(result, tuple):
            return X, result[1]
        result.data = X
        return result

    monkeypatch.setattr(crystalssl.datasets, "load_prototypes", load_small)


@pytest.fixture
def limits():
    """The package's limits are as before after a page that sets them."""
    before = copy.copy(LIMITS)
    yield
    for field in fields(LIMITS):
        setattr(LIMITS, field.name, getattr(before, field.name))


@pytest.mark.parametrize("name", [name for name in PAGES if name not in ELSEWHERE])
@pytest.mark.usefixtures("limits", "quick", "small")
@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
def test_blocks_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document = sybil.Sybil(parsers=[PythonCodeBlockParser(), SkipParser()]).parse(PAGES[name])
    n_run = 0
    for example in document.examples():
        try:
            example.evaluate()
        except SkipTest:
            continue
        n_run += 1
    assert n_run


@pytest.mark.parametrize("reason", NOT_RUN)
def test_blocks_that_are_not_run(reason):
    pytest.skip(reason)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_other_tests_run_the_rest(name):
    test = (ROOT / ELSEWHERE[name]).read_text(encoding="utf-8")
    assert name in PAGES
    assert Path(name).name in test


def test_commands_are_on_the_page_that_is_tested():
    """tests/cli/test_docs.py runs those of docs/cli.md."""
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        blocks = re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
        commands = [line for block in blocks for line in block.splitlines() if line.startswith("crystalssl ")]
        # scaling.md is of machines that are not here.
        assert path.name in ("cli.md", "scaling.md") or not commands, f"{path.name}: {commands}"
