"""The page on classes of one's own: its code is complete, runs as it stands, and is that of the package."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from crystalssl import CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.encoders import ENCODERS

# The page's few crystals hold elements that others do not.
pytestmark = pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text()
BLOCK = re.compile(r"(?:<!-- (\S+) -->\n)?```python\n(.*?)```", re.DOTALL)
BLOCKS = [(match[1], match[2]) for match in BLOCK.finditer(PAGE)]
"""Files that blocks are copies of, if they are, and their code."""


@pytest.fixture
def page(registries, monkeypatch):
    """Everything that the page defines, after running it from top to bottom."""
    module = types.ModuleType("page_on_extending")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for path, code in BLOCKS:
        # What is in the package already is run as if it were there, under whose names it is registered.
        name = path.removesuffix(".py").replace("/", ".") if path else module.__name__
        space = vars(module) if path is None else {"__name__": name}
        exec(compile(code, str(ROOT / "docs" / "extending.md"), "exec"), space)
    return module


def test_copies_are_the_source_of_the_package():
    copies = [(path, code) for path, code in BLOCKS if path]
    assert [path for path, _ in copies] == ["crystalssl/pretext/byol.py", "crystalssl/augment/strain.py"]
    for path, code in copies:
        assert code == (ROOT / path).read_text(), f"docs/extending.md shows another {path} than there is"


def test_examples_are_short():
    classes = [code for _, code in BLOCKS if re.search(r"^class (SchNet|BYOL|RandomStrain)\(", code, re.MULTILINE)]
    assert len(classes) == 3
    assert all(code.count("\n") < 60 for code in classes)


def test_page_runs(page):
    results = page.search.cv_results_
    assert len(results["params"]) == 3
    assert np.isfinite(results["mean_test_score"]).all()
    assert len(set(results["mean_test_score"].round(6))) == 3
    assert page.vectors.shape == (10, 3 * 2 * 16)
    assert np.isfinite(page.vectors).all()
    assert page.embedder.config_["task_params"]["views"] == [
        [{"name": "strain", "params": {"sigma": 0.05}}],
        ["perturb", "mask-edges"],
    ]


def test_encoder_of_the_page_learns_and_is_stored(page, tmp_path):
    X, y = page.X[:60], page.y[:60]
    model = CrystalSSLRegressor(None, encoder=page.SchNet(hidden_dim=32), max_epochs=30, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.8
    embedder = PretrainedCrystalEmbedder("mask", encoder="schnet", hidden_dim=16, weights=None, max_epochs=1)
    embedder.fit(X).save_pretrained(tmp_path / "weights")
    loaded = PretrainedCrystalEmbedder.from_pretrained(tmp_path / "weights")
    assert type(loaded.encoder_) is page.SchNet is ENCODERS["schnet"]
    assert loaded.transform(X[:5]).tobytes() == embedder.transform(X[:5]).tobytes()
    assert CrystalSSLRegressor(tmp_path / "weights", max_epochs=1).fit(X, y).predict(X[:5]).shape == (5,)
