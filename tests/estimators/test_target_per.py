"""Targets per atom, per area and per volume."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from sklearn.base import clone
from sklearn.metrics import r2_score

from crystalssl import CrystalGraphTransformer
from crystalssl.estimators._target_per import sizes_of
from crystalssl.exceptions import InvalidStructureError


def graphs_of(*structures):
    return CrystalGraphTransformer().transform([*structures])


def sizes(per, *structures):
    return sizes_of(graphs_of(*structures), per, np.arange(len(structures)))[:, 0]


def layer(a=3.2, vacuum=20.0):
    """A sheet of MoS2: three atoms over an area of a² √3 / 2."""
    height = vacuum + 3.1
    lattice = Lattice.hexagonal(a, height)
    z = np.array([1.55, 0.0, -1.55]) / height + 0.5
    return Structure(lattice, ["S", "Mo", "S"], [[1 / 3, 2 / 3, z[0]], [2 / 3, 1 / 3, z[1]], [1 / 3, 2 / 3, z[2]]])


def test_atoms_and_volume(salt):
    assert sizes("atom", salt, layer()).tolist() == [8, 3]
    np.testing.assert_allclose(sizes("volume", salt), 5.69**3 / 8)


SKEWED = [[1, 0, 0], [0, 1, 0], [2, -3, 1]]
CELLS = {
    "as it is": np.eye(3),
    "another choice of vectors": SKEWED,
    "vacuum along the first": [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
    "left-handed": [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
    "larger along the layer": [[2, 0, 0], [1, 3, 0], [0, 0, 1]],
    "two layers, each in vacuum": [[1, 0, 0], [0, 1, 0], [0, 0, 2]],
    "all of that": np.array([[2, 0, 0], [0, 1, 0], [0, 0, 2]]) @ SKEWED,
}


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("vacuum", [7.0, 25.0])
def test_area_does_not_depend_on_the_cell(cell, vacuum):
    other = layer(vacuum=vacuum).make_supercell(cell, in_place=False)
    np.testing.assert_allclose(sizes("area", other), 3.2**2 * np.sqrt(3) / 2 / 3, rtol=1e-6)


def test_buckled_sheet_along_a_diagonal_plane():
    """The planes with the gap are those of (110), which is none of the cell's faces."""
    sheet = layer()
    turned = sheet.make_supercell([[1, 0, 1], [0, 1, 0], [-1, 0, 0]], in_place=False)
    np.testing.assert_allclose(sizes("area", turned), sizes("area", sheet))


@pytest.mark.parametrize("rows", [slice(None), [1, 0]])
def test_crystal_without_a_gap_is_named(salt, rows):
    crystals = [layer(), salt]
    graphs = graphs_of(*crystals)[rows] if rows == [1, 0] else graphs_of(*crystals)
    index = 0 if rows == [1, 0] else 1
    with pytest.raises(InvalidStructureError, match=f"item {index} has no area: .*set target_per to None") as caught:
        sizes_of(graphs, "area", np.arange(2))
    assert caught.value.index == index
    with pytest.raises(InvalidStructureError, match="item 41 has no area"):
        sizes_of(graphs, "area", np.array([41, 41]))


def test_large_cells_take_little(salt):
    wide = Structure(Lattice.orthorhombic(3, 4, 9000), ["Si"], [[0, 0, 0]])
    np.testing.assert_allclose(sizes("area", wide), 12)


# ------------------------------------------------------------------ in the regressor


@pytest.fixture
def layers():
    """24 sheets of three sizes, and a target that is 2 per Å² of each atom."""
    structures = [layer(a, vacuum) for a in np.linspace(3.0, 4.4, 8) for vacuum in (8.0, 12.0, 16.0)]
    crystals = graphs_of(*structures)
    return crystals, 2 * sizes_of(crystals, "area", np.arange(24))[:, 0]


def test_network_learns_the_quotient(tiny_regressor, layers):
    graphs, y = layers
    model = tiny_regressor(target_per="area", pretrain=None).fit(graphs, y)
    assert model.target_.mean_ == pytest.approx(2)
    assert model.target_.scale_ == 0  # it is the same of all, and predictions are exact
    np.testing.assert_allclose(model.predict(graphs[[5, 20]]), y[[5, 20]], rtol=0.3)
    model.set_params(target_per=None)  # of the next fit
    np.testing.assert_allclose(model.predict(graphs), y, rtol=0.3)
    mean, std = (
        clone(model).set_params(target_per="area", ensemble_size=2).fit(graphs, y).predict(graphs, return_std=True)
    )
    assert mean.shape == std.shape == (24,)


@pytest.mark.parametrize("per", ["atom", "volume", "area"])
def test_size_cancels(tiny_regressor, layers, per):
    graphs, _ = layers
    size = sizes_of(graphs, per, np.arange(24))[:, 0]
    noise = 1 + np.random.default_rng(0).random(24)
    plain = tiny_regressor(pretrain=None, target_transform=None).fit(graphs, noise)
    divided = clone(plain).set_params(target_per=per).fit(graphs, noise * size)
    np.testing.assert_allclose(divided.predict(graphs), plain.predict(graphs) * size, rtol=1e-5)
    assert divided.score(graphs, noise * size) == pytest.approx(r2_score(noise * size, divided.predict(graphs)))


def test_crystal_without_area_is_refused(tiny_regressor, salt):
    mixed = graphs_of(layer(), layer(3.5), salt, layer(4.0))
    model = tiny_regressor(target_per="area", pretrain=None)
    with pytest.raises(InvalidStructureError, match="item 2 has no area"):
        model.fit(mixed, [1.0, 2.0, 3.0, 4.0])
    model.fit(mixed, [1.0, 2.0, 3.0, 4.0], sample_weight=[1, 1, 0, 1])  # as if it had not been given
    with pytest.raises(InvalidStructureError, match="item 2 has no area"):
        model.predict(mixed)


def test_gaps_stay_gaps(tiny_regressor, layers):
    graphs, y = layers
    targets = np.c_[y, np.where(np.arange(24) % 2, np.nan, y)]
    model = tiny_regressor(target_per="area", pretrain=None, max_epochs=1).fit(graphs, targets)
    np.testing.assert_allclose(model.target_.mean_, 2)


def test_warm_start_keeps_it(tiny_regressor, layers):
    model = tiny_regressor(target_per="area", pretrain=None, warm_start=True, max_epochs=1).fit(*layers)
    with pytest.raises(ValueError, match="target_per has changed since the last fit"):
        model.set_params(target_per="volume").fit(*layers)


def test_unknown_size(tiny_regressor, graphs, y):
    with pytest.raises(ValueError, match=r"'target_per' parameter .* Did you mean 'area'"):
        tiny_regressor(target_per="areas").fit(graphs, y)
