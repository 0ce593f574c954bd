from __future__ import annotations

import pytest

from crystalssl import CrystalSSLRegressor
from crystalssl.datasets import load_prototypes

TINY = {"pretrain": None, "encoder": "cgcnn", "head_dim": 8, "max_epochs": 2, "batch_size": 16, "random_state": 0}


@pytest.fixture(scope="session")
def known():
    """60 crystals that ship with pymatgen, and their densities."""
    X, y = load_prototypes(return_X_y=True)
    return X[:60], y[:60]


@pytest.fixture(scope="session")
def tiny_regressor():
    """A function that returns a quick regressor."""
    return lambda **params: CrystalSSLRegressor(**{**TINY, **params})


@pytest.fixture(scope="session")
def cross_validated(known):
    return CrystalSSLRegressor(**TINY, ensemble="cross-validated", ensemble_size=3).fit(*known)


@pytest.fixture(scope="session")
def plain(known):
    return CrystalSSLRegressor(**TINY).fit(*known)
