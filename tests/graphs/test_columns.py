"""Crystals read by columns: the same arrays as one by one, and the same errors."""

from __future__ import annotations

import numpy as np
import pytest
from joblib import parallel_config
from pymatgen.core import Composition, DummySpecies, IStructure, Lattice, Species, Structure

from crystalssl import CrystalGraphTransformer
from crystalssl.exceptions import InvalidStructureError
from crystalssl.graphs import _columns
from crystalssl.graphs._arrays import PART_SIZE, CrystalColumns
from crystalssl.graphs._columns import read_columns
from crystalssl.graphs._structures import crystal_arrays

CUBE = Lattice.cubic(4.2)
SITES = [[0, 0, 0], [0.5, 0.5, 0.5]]


def cscl(*species, **params):
    return Structure(CUBE, species, SITES, **params)


PLAIN = {
    "elements": cscl("Cs", "Cl"),
    "ions": cscl("Cs+", "Cl-"),
    "isotopes": cscl("D", "T"),
    "spins": cscl(Species("Fe", 2, spin=5), Species("O", -2)),
    "properties and labels": cscl("Cs", "Cl", site_properties={"magmom": [1, None]}, labels=["A", "B"]),
    "coordinates that were set": Structure(CUBE, ["Cs", "Cl"], [[0, 0, 0], [1, 2, 9]], coords_are_cartesian=True),
    "immutable": IStructure(CUBE, ["Cs", "Cl"], SITES),
    "one atom, left-handed": Structure(-np.eye(3) * 3, ["Po"], [[0.2, -3, 0.4]]),
}
ONE_BY_ONE = {
    "isotopes that share a site": cscl({"H": 0.4, "D": 0.6}, "Cl"),
    "occupancies of three digits": cscl({"Cs": 0.999}, "Cl"),
    "text": cscl("Cs", "Cl").to(fmt="cif"),
    "dict": cscl("Cs", "Cl").as_dict(),
}
WRONG = {
    "disordered": (cscl({"Cs": 0.5, "Rb": 0.5}, "Cl"), "partially occupied"),
    "vacancies": (cscl("Cs", {"Cl": 0.5}), "partially occupied"),
    "dummies": (cscl(DummySpecies("X"), "Cl"), "dummy species"),
    "without sites": (Structure(CUBE, [], []), "no atoms"),
    "a slab": (Structure(Lattice(CUBE.matrix, pbc=(True, True, False)), ["Cs", "Cl"], SITES), "periodic along"),
    "NaN": (Structure(CUBE, ["Cs", "Cl"], [[0, 0, 0], [0.5, np.nan, 0]]), "atom 1 has NaN"),
    "dense": (Structure(Lattice.cubic(0.5), ["Cs", "Cl"], SITES), "per atom, less than any crystal"),
}


def read(items, first=0):
    return list(read_columns(items, first))


def assert_as_one_by_one(items):
    (found,) = read(items)
    expected = CrystalColumns.of([crystal_arrays(item, i) for i, item in enumerate(items)])
    for name, column in expected._asdict().items():
        assert getattr(found, name).dtype == column.dtype, name
        assert np.array_equal(getattr(found, name), column), name


@pytest.fixture
def one_by_one(monkeypatch):
    """The indices of crystals that were read by themselves."""
    indices = []

    def spy(item, index):
        indices.append(index)
        return crystal_arrays(item, index)

    monkeypatch.setattr(_columns, "crystal_arrays", spy)
    return indices


@pytest.mark.parametrize("kind", PLAIN)
def test_columns_are_those_of_each_crystal(kind, one_by_one):
    assert_as_one_by_one([PLAIN["elements"], PLAIN[kind], PLAIN["one atom, left-handed"]])
    assert one_by_one == []


def test_columns_of_many_crystals(crystals):
    assert_as_one_by_one(crystals[:PART_SIZE])


@pytest.mark.parametrize("kind", ONE_BY_ONE)
def test_what_has_to_be_decided_is_read_one_by_one(kind, one_by_one):
    assert_as_one_by_one([PLAIN["ions"], ONE_BY_ONE[kind], PLAIN["isotopes"]])
    assert one_by_one == [0, 1, 2]


@pytest.mark.parametrize("position", [0, PART_SIZE - 1, PART_SIZE])
@pytest.mark.parametrize("kind", WRONG)
def test_wrong_crystals_are_named(kind, position):
    wrong, message = WRONG[kind]
    items = [PLAIN["ions"]] * (PART_SIZE + 1)
    items[position] = wrong
    with pytest.raises(InvalidStructureError, match=rf"item {position + 5}\b.*{message}") as caught:
        read(items, first=5)
    assert caught.value.index == position + 5


def test_parts_follow_each_other():
    items = [PLAIN["elements"]] * PART_SIZE + [PLAIN["one atom, left-handed"]]
    first, second = read(items)
    assert len(first.lattice) == PART_SIZE
    assert second.atomic_numbers.tolist() == [84]


def test_composition_shared_by_many_sites_counts_for_each():
    shared = Composition({"Fe": 1})
    (found,) = read([Structure(CUBE, [shared, shared], SITES)])
    assert found.atomic_numbers.tolist() == [26, 26]


@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize("position", [0, 3 * PART_SIZE])
def test_wrong_crystals_are_named_while_others_are_searched(backend, position):
    items = [PLAIN["elements"]] * (3 * PART_SIZE + 1)
    items[position] = WRONG["vacancies"][0]
    with parallel_config(backend=backend), pytest.raises(InvalidStructureError, match=f"item {position}: site"):
        CrystalGraphTransformer(n_jobs=2).transform(items)
