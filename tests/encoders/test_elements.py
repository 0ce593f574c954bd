from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Element

from crystalssl.encoders._elements import element_features, valence_electrons
from crystalssl.graphs import N_ELEMENTS

GROUP, ROW, BLOCK = slice(0, 18), slice(18, 25), slice(25, 29)
NUMBERS = slice(29, 36)  # electronegativity, radius, valence, ionisation energy, affinity, volume, mass: standardised
ELECTRONEGATIVITY, RADIUS, VALENCE, IONISATION, AFFINITY, VOLUME, MASS = range(29, 36)
CLASSES = slice(36, 106)


@pytest.fixture(scope="module")
def features():
    return element_features()


def test_one_row_per_element_and_one_for_masked_atoms(features):
    assert features.shape == (N_ELEMENTS + 1, 106)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert (features[0] == 0).all()


def test_elements_can_be_told_apart(features):
    assert len(np.unique(features, axis=0)) == N_ELEMENTS + 1


@pytest.mark.parametrize("columns", [GROUP, ROW, BLOCK], ids=["group", "row", "block"])
def test_place_in_the_periodic_table_is_one_hot(features, columns):
    block = features[1:, columns]
    assert set(np.unique(block)) == {0, 1}
    assert (block.sum(axis=1) == 1).all()
    assert (block.sum(axis=0) > 0).all()


@pytest.mark.parametrize(
    ("symbol", "group", "row", "block"),
    [
        ("H", 1, 1, "s"),
        ("Ne", 18, 2, "p"),
        ("Na", 1, 3, "s"),
        ("Fe", 8, 4, "d"),
        ("Cl", 17, 3, "p"),
        ("Ce", 3, 6, "f"),
        ("Hg", 12, 6, "d"),
        ("U", 3, 7, "f"),
    ],
)
def test_place_in_the_periodic_table_is_the_known_one(features, symbol, group, row, block):
    row_of = features[Element(symbol).Z]
    assert row_of[GROUP].argmax() == group - 1
    assert row_of[ROW].argmax() == row - 1
    assert row_of[BLOCK].argmax() == "spdf".index(block)


def test_classes_are_one_hot_and_empty_where_no_value_is_known(features):
    classes = features[1:, CLASSES].reshape(N_ELEMENTS, 7, 10)
    assert set(np.unique(classes)) == {0, 1}
    assert (classes.sum(axis=2) <= 1).all()
    # Everything is known of the elements that crystals are made of; of mass, of all.
    common = [Element(symbol).Z - 1 for symbol in ("H", "Li", "C", "O", "Na", "Si", "Fe", "Cu", "Ag", "La", "Pb")]
    assert (classes[common].sum(axis=2) == 1).all()
    assert (classes[:, 6].sum(axis=1) == 1).all()
    # No electronegativity is known of helium: zero, the mean, and no class.
    assert features[2, ELECTRONEGATIVITY] == 0
    assert classes[1, 0].sum() == 0


def test_numbers_are_standardised_over_the_elements_they_are_known_of(features):
    known = features[1:, CLASSES].reshape(N_ELEMENTS, 7, 10).any(axis=2)
    for column, of in zip(features[1:, NUMBERS].T, known.T, strict=True):
        assert column[of].mean() == pytest.approx(0, abs=1e-5)
        assert column[of].std() == pytest.approx(1, abs=1e-5)
        assert (column[~of] == 0).all()


@pytest.mark.parametrize(
    ("column", "smaller", "larger"),
    [
        (ELECTRONEGATIVITY, "Cs", "Na"),
        (ELECTRONEGATIVITY, "O", "F"),
        (RADIUS, "F", "Cs"),
        (RADIUS, "H", "C"),
        (VALENCE, "Na", "Fe"),
        (IONISATION, "Cs", "He"),
        (AFFINITY, "Na", "Cl"),
        (VOLUME, "C", "K"),
        (MASS, "H", "Og"),
        (MASS, "K", "Ar"),  # argon comes before potassium, and is heavier
    ],
)
def test_numbers_are_in_the_known_order(features, column, smaller, larger):
    assert features[Element(smaller).Z, column] < features[Element(larger).Z, column]


@pytest.mark.parametrize(
    ("symbol", "n"),
    [
        ("H", 1), ("He", 2), ("Li", 1), ("C", 4), ("O", 6), ("F", 7), ("Ne", 8), ("Na", 1), ("Mg", 2), ("Ar", 8),
        ("Sc", 3), ("Cr", 6), ("Fe", 8), ("Cu", 11), ("Zn", 12), ("Ga", 3), ("Br", 7), ("Ag", 11), ("Sn", 4),
        ("La", 3), ("Ce", 4), ("Gd", 10), ("Lu", 3), ("Hf", 4), ("W", 6), ("Au", 11), ("Tl", 3), ("Pb", 4), ("U", 6),
    ],
)  # fmt: skip
def test_valence_electrons(symbol, n):
    assert valence_electrons(symbol) == n


def test_features_are_computed_once():
    assert element_features() is element_features()
