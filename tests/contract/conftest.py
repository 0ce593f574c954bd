"""Few and small crystals, so that every check can be run on every estimator."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone, is_classifier

from crystalssl import CrystalGraphTransformer, CrystalSSLClassifier, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes
from crystalssl.training import bundled_weights, load_encoder

from .cases import CASES


@pytest.fixture(scope="session")
def small_crystals():
    """At most six atoms each, of elements that the weights know, the last 12 of those of the first 24; densities."""
    structures, densities = load_prototypes(return_X_y=True)
    known = set.intersection(*(set(load_encoder(name)[1]["elements"]) for name in bundled_weights()))
    rows = [
        row for row, crystal in enumerate(structures) if len(crystal) <= 6 and known >= {e.Z for e in crystal.elements}
    ]
    first = rows[::3][:24]
    seen = {element for row in first for element in structures[row].elements}
    rows = first + [row for row in rows if row not in first and seen >= set(structures[row].elements)][:12]
    return [structures[row] for row in rows], densities[rows]


@pytest.fixture(scope="session")
def X(small_crystals):
    """24 structures."""
    return small_crystals[0][:24]


@pytest.fixture(scope="session")
def numbers(small_crystals):
    """Their densities."""
    return small_crystals[1][:24]


@pytest.fixture(scope="session")
def words(numbers):
    """Whether they are dense, in words."""
    return np.where(numbers < np.median(numbers), "low", "high")


@pytest.fixture(scope="session")
def new(small_crystals):
    """12 other structures and their graphs, to predict."""
    return small_crystals[0][24:], CrystalGraphTransformer().transform(small_crystals[0][24:])


@pytest.fixture(scope="session")
def graphs(X):
    """The graphs of X."""
    return CrystalGraphTransformer().transform(X)


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def estimator(request):
    """An unfitted estimator."""
    return clone(request.param)


@pytest.fixture
def y(estimator, numbers, words):
    """Densities, or for a classifier whether they are low, in words."""
    return words if is_classifier(estimator) else numbers


@pytest.fixture(scope="session")
def tiny_weights(small_crystals, tmp_path_factory):
    """A weights folder of a small encoder."""
    embedder = PretrainedCrystalEmbedder(weights=None, hidden_dim=8, n_layers=1, max_epochs=1, random_state=0)
    folder = tmp_path_factory.mktemp("tiny") / "weights"
    embedder.fit(small_crystals[0]).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def embedder(tiny_weights):
    """A quick embedder."""
    return PretrainedCrystalEmbedder(weights=tiny_weights)


@pytest.fixture
def regressor(tiny_weights):
    """A quick regressor."""
    return CrystalSSLRegressor(tiny_weights, head_dim=8, max_epochs=2, batch_size=8, random_state=0)


@pytest.fixture
def classifier(tiny_weights):
    """A quick classifier."""
    return CrystalSSLClassifier(tiny_weights, head_dim=8, max_epochs=2, batch_size=8, random_state=0)
