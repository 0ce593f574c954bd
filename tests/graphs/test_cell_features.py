"""What the cell says of a crystal."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystalssl import CrystalGraphTransformer
from crystalssl.graphs import CELL_FEATURES, cell_features
from crystalssl.graphs._cell_features import _planes


def features(*structures):
    return cell_features(CrystalGraphTransformer(encoder="cgcnn").transform(list(structures)))


def layer(vacuum, skew=0, sides=(2.5, 2.5)):
    """Two planes of atoms 1.5 Å apart, with a vacuum above; the third vector may lean by whole cells."""
    height = vacuum + 1.5
    lattice = np.array([[sides[0], 0, 0], [0, sides[1], 0], [skew * sides[0], skew * sides[1], height]])
    return Structure(lattice, ["B", "N"], [[0, 0, 0.1], [1.2, 1.2, 1.6]], coords_are_cartesian=True)


def column(rows, name):
    return rows[:, CELL_FEATURES.index(name)]


def test_of_a_layer():
    (row,) = features(layer(20))
    named = dict(zip(CELL_FEATURES, row.tolist(), strict=True))
    assert named["vacuum"] == 1
    assert named["gap"] == 5
    assert named["log area per atom"] == pytest.approx(np.log(2.5**2 / 2))
    assert named["log thickness"] == pytest.approx(np.log(1.5 + 3))
    assert named["log volume per atom"] == pytest.approx(np.log(2.5**2 * (1.5 + 3) / 2))
    spheres = 4 / 3 * np.pi * (0.85**3 + 0.65**3)  # the radii of B and N
    assert named["packing fraction"] == pytest.approx(spheres / (2.5**2 * 4.5), rel=1e-5)


def test_of_a_bulk_crystal():
    (row,) = features(Structure(Lattice.cubic(2.87), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]]))
    np.testing.assert_allclose(row[[0, 2, 3, 4, 5]], [np.log(2.87**3 / 2), 2.5, 0, 0, 0], rtol=1e-5)


def test_a_vacuum_counts_the_same_however_wide():
    rows = features(layer(9), layer(15), layer(40))
    np.testing.assert_allclose(rows, rows[:1].repeat(3, axis=0), atol=1e-5)


def test_a_layer_becomes_a_crystal_continuously():
    gaps = np.arange(2.0, 10, 0.05)
    steps = abs(np.diff(features(*(layer(gap) for gap in gaps)), axis=0))
    assert steps.max() < 0.1
    assert steps.sum() > 1  # of many small ones


def test_the_widest_gap_may_change_its_plane():
    # A wire along z in two vacuums; where they are equally wide, the plane of the widest one changes.
    def wire(width):
        return Structure(Lattice.orthorhombic(width, 12, 2.5), ["C"], [[0, 0, 0]])

    a, b = features(wire(12 - 1e-4), wire(12 + 1e-4))
    np.testing.assert_allclose(a, b, atol=1e-2)
    wide = features(wire(11.0), wire(13.0))
    assert abs(wide[0] - wide[1]).max() > 0.02


@pytest.mark.parametrize("index", [0, 3, 60, 100, 180, 250])
def test_the_crystal_counts_not_its_cell(index, prototypes):
    crystal = prototypes[index]
    if len(crystal) > 20:
        crystal = prototypes[0]
    slab = layer(12)
    rng = np.random.default_rng(index)
    for original in (crystal, slab):
        skewed = original.copy()
        skewed.make_supercell([[1, 1, 0], [0, 1, 3], [0, 0, 1]], to_unit_cell=False)
        doubled = original.copy()
        doubled.make_supercell([2, 1, 3])
        turned = Structure(
            original.lattice.matrix @ np.linalg.qr(rng.normal(size=(3, 3)))[0], original.species, original.frac_coords
        )
        shifted = Structure(original.lattice, original.species, original.frac_coords + rng.normal(size=3))
        order = Structure.from_sites(original.sites[::-1])
        rows = features(original, skewed, doubled, turned, shifted, order)
        np.testing.assert_allclose(rows, rows[:1].repeat(len(rows), axis=0), atol=2e-4)


def test_a_very_skewed_cell_takes_no_longer():
    leaning = layer(20, skew=400)
    np.testing.assert_allclose(features(leaning), features(layer(20)), atol=1e-3)


def test_the_widest_gap_is_that_of_all_planes(prototypes):
    for crystal in [*prototypes[:40:4], layer(3), layer(12)]:
        if len(crystal) > 12:
            continue
        lattice, widest = crystal.lattice.matrix, 0.0
        for plane in itertools.product(range(-4, 5), repeat=3):
            if np.gcd.reduce(plane) == 1:
                spacing = 1 / np.linalg.norm(np.linalg.inv(lattice) @ plane)
                heights = np.sort(crystal.frac_coords @ plane % 1)
                widest = max(widest, spacing * np.diff(heights, append=heights[0] + 1).max())
        found = _planes(crystal.cart_coords, np.array([0, len(crystal)]), lattice[None]).gaps.max()
        assert max(found, 2.5) == pytest.approx(max(widest, 2.5), abs=1e-6)
