"""The vectors of a crystal do not hang on how it was written down: the promise of ``GraphRecipe``."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from scipy.spatial.transform import Rotation

from crystalssl import CrystalGraphTransformer
from crystalssl.encoders import ENCODERS
from crystalssl.training import collate

# Relative to a feature's largest value: distances of single precision cost some 1e-6. What a shell cut in two changes
# is 1e-3 and more.
TOLERANCE = 1e-5
PARTS = 3
"""Each crystal is asked of every third encoder: what could go wrong are graphs, which are those of all."""
EVERY = 2
"""Of these the crystals whose symmetry is searched, which takes a while."""


def batches(structures, name, size=128):
    graphs = CrystalGraphTransformer(encoder=name).transform(structures)
    for start in range(0, len(graphs), size):
        batch = collate(graphs, np.arange(start, min(start + size, len(graphs))))
        batch.distance = batch.distance.double()
        yield batch


@torch.no_grad()
def vectors(encoder, structures):
    return torch.cat([encoder(batch).graph for batch in batches(structures, encoder.name)]).numpy()


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request, crystals):
    """In evaluation mode, batch norms with the statistics of some crystals: untrained ones would let values grow."""
    torch.manual_seed(0)
    encoder = ENCODERS[request.param](readout="mean+max+min")  # among its parts is the readout "mean"
    encoder.double()  # what rounding does to nearly constant features is not what is asked here
    for part in encoder.modules():
        if isinstance(part, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.normal_(part.bias, 0, 0.3)
            part.momentum = 1.0
    with torch.no_grad():
        encoder.train()(next(batches(crystals[::10], request.param)))
    return encoder.eval()


@pytest.fixture(scope="module")
def some(encoder, crystals):
    return crystals[list(ENCODERS).index(encoder.name) % PARTS :: PARTS]


@pytest.fixture(scope="module")
def expected(encoder, some):
    found = vectors(encoder, some)
    # Not blind: features tell crystals apart, by much more than the tolerance. Of those that do not, nearly all are
    # maxima over the edges of an untrained MEGNet, which are much the same in all large crystals.
    assert (found.std(axis=0) > 100 * TOLERANCE * np.abs(found).max(axis=0)).mean() > 0.8
    return found


def assert_unchanged(encoder, expected, crystals, rewritten):
    found = vectors(encoder, rewritten)
    errors = (np.abs(found - expected) / np.abs(expected).max(axis=0)).max(axis=1)
    failures = [(int(i), crystals[i].formula, errors[i]) for i in np.flatnonzero(errors > TOLERANCE)]
    assert failures == []


def translated(structure, rng):
    positions = structure.cart_coords + rng.uniform(-10, 10, 3)
    return Structure(structure.lattice, structure.species, positions, coords_are_cartesian=True)


def translated_into_the_cell(structure, rng):
    sites = structure.frac_coords + rng.uniform(-1, 1, 3)
    return Structure(structure.lattice, structure.species, sites, to_unit_cell=True)


def moved_to_other_cells(structure, rng):
    sites = structure.frac_coords + rng.integers(-3, 4, structure.frac_coords.shape)
    return Structure(structure.lattice, structure.species, sites)


def rotated(structure, rng):
    rotation = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    return Structure(structure.lattice.matrix @ rotation.T, structure.species, structure.frac_coords)


def permuted(structure, rng):
    order = rng.permutation(len(structure))
    return Structure(structure.lattice, [structure.species[i] for i in order], structure.frac_coords[order])


def inverted(structure, rng):
    return Structure(structure.lattice, structure.species, -structure.frac_coords)


def doubled(structure, rng):
    return structure * (2, 1, 1)


def sheared(structure, rng):
    shear = np.array([[1, 0, 0], [3, 1, 0], [-2, 5, 1]])
    return Structure(
        shear @ structure.lattice.matrix, structure.species, structure.cart_coords, coords_are_cartesian=True
    )


@pytest.mark.parametrize(
    "rewrite",
    [
        translated,
        translated_into_the_cell,
        moved_to_other_cells,
        rotated,
        permuted,
        inverted,
        doubled,
        sheared,
    ],
)
def test_vectors_do_not_change(encoder, expected, some, rewrite):
    rng = np.random.default_rng(0)
    assert_unchanged(encoder, expected, some, [rewrite(structure, rng) for structure in some])


def test_primitive_and_conventional_cells_have_the_same_vectors(encoder, expected, some):
    primitive, conventional = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spglib's and pymatgen's own
        for structure in some[::EVERY]:
            # Symmetrised first: the two cells are otherwise made of slightly different coordinates.
            symmetry = SpacegroupAnalyzer(SpacegroupAnalyzer(structure).get_refined_structure())
            primitive.append(right_handed(symmetry.get_primitive_standard_structure()))
            conventional.append(right_handed(symmetry.get_conventional_standard_structure()))
    assert sum(len(a) < len(b) for a, b in zip(primitive, conventional, strict=True)) > len(primitive) / 3
    found = vectors(encoder, primitive), vectors(encoder, conventional)
    errors = (np.abs(found[0] - found[1]) / np.abs(expected).max(axis=0)).max(axis=1)
    failures = [(EVERY * int(i), primitive[i].formula, errors[i]) for i in np.flatnonzero(errors > TOLERANCE)]
    assert failures == []


def right_handed(structure):
    """The same crystal; pymatgen's standard cells are left-handed at times."""
    matrix = structure.lattice.matrix
    if np.linalg.det(matrix) > 0:
        return structure
    return Structure(-matrix, structure.species, -structure.frac_coords)
