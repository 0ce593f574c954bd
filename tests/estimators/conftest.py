from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from crystalssl import CrystalGraphTransformer, CrystalSSLClassifier, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import fetch_matbench
from crystalssl.exceptions import DatasetError
from crystalssl.training import CrystalNet, bundled_weights, load_encoder

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def phonons():
    """Structures and targets of matbench_phonons; tests that need the very set are skipped without the file."""
    home = os.environ.get("CRYSTALSSL_DATA") or _ROOT / ".." / "shared" / "data"
    try:
        return fetch_matbench("matbench_phonons", data_home=home, return_X_y=True, download_if_missing=False)
    except DatasetError:
        pytest.skip(f"no matbench_phonons in {home}; set CRYSTALSSL_DATA")


@pytest.fixture(scope="session")
def real_crystals(crystals):
    """240 real crystals, all of elements that every bundled encoder knows, and their densities in g/cm³."""
    known = set.intersection(*(set(load_encoder(name)[1]["elements"]) for name in bundled_weights()))
    rows = [row for row, crystal in enumerate(crystals) if {element.Z for element in crystal.elements} <= known]
    chosen = [crystals[row] for row in np.random.default_rng(0).permutation(rows)[:240]]
    return chosen, np.array([float(crystal.density) for crystal in chosen])


@pytest.fixture(scope="session")
def real_graphs(real_crystals):
    """Their graphs."""
    return CrystalGraphTransformer().transform(real_crystals[0])


@pytest.fixture(scope="session")
def X(real_crystals):
    """40 structures."""
    return real_crystals[0][:40]


@pytest.fixture(scope="session")
def y(real_crystals):
    """Their targets."""
    return real_crystals[1][:40]


@pytest.fixture(scope="session")
def graphs(real_graphs):
    """Their graphs."""
    return real_graphs[:40]


@pytest.fixture(scope="session")
def new(X, real_crystals, real_graphs):
    """Other structures and their graphs, to predict, of elements that occur in `X`."""
    known = {element for crystal in X for element in crystal.elements}
    rows = [row for row in range(40, len(real_graphs)) if set(real_crystals[0][row].elements) <= known]
    assert len(rows) > 10
    return [real_crystals[0][row] for row in rows], real_graphs[rows]


@pytest.fixture
def tiny_embedder():
    """A function that returns an embedder that pretrains in no time."""

    def make(method="barlow", **params):
        params = {"weights": None, "hidden_dim": 8, "n_layers": 1, "max_epochs": 2, "random_state": 0, **params}
        return PretrainedCrystalEmbedder(method, batch_size=16, **params)

    return make


@pytest.fixture(scope="session")
def _tiny_weights(real_graphs, tmp_path_factory):
    embedder = PretrainedCrystalEmbedder(
        "barlow",
        weights=None,
        hidden_dim=8,
        n_layers=1,
        max_epochs=1,
        batch_size=16,
        learning_rate=0.01,
        random_state=0,
    )
    folder = tmp_path_factory.mktemp("tiny") / "weights"
    embedder.fit(real_graphs).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_weights(_tiny_weights, tmp_path):
    """A weights folder of a small encoder that has seen all crystals, to damage at will."""
    return shutil.copytree(_tiny_weights, tmp_path / "tiny_weights")


@pytest.fixture
def quick_finetuning(_tiny_weights):
    """Parameters with which a small pretrained encoder is finetuned in no time."""
    return {"pretrain": _tiny_weights, "head_dim": 8, "max_epochs": 3, "batch_size": 8, "random_state": 0}


@pytest.fixture
def tiny_regressor(quick_finetuning):
    """A function that returns a quick regressor."""
    return lambda **params: CrystalSSLRegressor(**{**quick_finetuning, **params})


@pytest.fixture
def tiny_classifier(quick_finetuning):
    """A function that returns a quick classifier."""
    return lambda **params: CrystalSSLClassifier(**{**quick_finetuning, **params})


@pytest.fixture
def runs(monkeypatch):
    """A list that grows by one net for every training that begins, whether of pretraining or finetuning."""
    begun = []
    original = CrystalNet.on_train_begin

    def spy(net, *args, **kwargs):
        begun.append(net)
        return original(net, *args, **kwargs)

    monkeypatch.setattr(CrystalNet, "on_train_begin", spy)
    return begun
