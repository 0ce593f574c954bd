"""Crystals that the tests of several subpackages share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

from crystalssl import CrystalGraphTransformer
from crystalssl.augment import AUGMENTATIONS
from crystalssl.datasets import fetch_matbench, load_prototypes
from crystalssl.encoders import ENCODERS
from crystalssl.exceptions import DatasetError
from crystalssl.graphs import RECIPES
from crystalssl.pretext import TASKS

_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def benchmarks():
    """Scripts import each other by name, from the folder that they are in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(_ROOT / "benchmarks")
        yield


@pytest.fixture(scope="session")
def prototypes():
    """The 288 crystals that ship inside pymatgen; up to 105 atoms."""
    return load_prototypes().data


@pytest.fixture(scope="session")
def _crystals_and_targets():
    home = os.environ.get("CRYSTALSSL_DATA") or _ROOT / ".." / "shared" / "data"
    try:
        return fetch_matbench("matbench_phonons", data_home=home, return_X_y=True, download_if_missing=False)
    except DatasetError:
        return load_prototypes(return_X_y=True)


@pytest.fixture(scope="session")
def crystals(_crystals_and_targets):
    """The 1,265 crystals of matbench_phonons where the file is at hand (never downloaded), else the prototypes."""
    return _crystals_and_targets[0]


@pytest.fixture(scope="session")
def real_crystals(_crystals_and_targets):
    """The first 100 of them, and their targets."""
    X, y = _crystals_and_targets
    return X[:100], y[:100]


@pytest.fixture(scope="session")
def real_graphs(real_crystals):
    """Their graphs, as CGCNN reads them."""
    return CrystalGraphTransformer().transform(real_crystals[0])


@pytest.fixture
def registries(monkeypatch):
    """What a test registers is gone after it."""
    for registry in (ENCODERS, TASKS, AUGMENTATIONS, RECIPES):
        monkeypatch.setattr(registry, "_values", dict(registry._values))


@pytest.fixture
def salt():
    """Conventional cell of rock salt, 8 atoms."""
    sodium = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    chlorine = [[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    return Structure(Lattice.cubic(5.69), ["Na"] * 4 + ["Cl"] * 4, sodium + chlorine)
