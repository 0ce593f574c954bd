"""GatedGCN is a continuous function of the positions, though neighbours come and go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from crystalssl.encoders import CGCNN, GatedGCN
from crystalssl.graphs import RECIPES


def iron(ratio):
    """Body-centred iron, stretched along one axis: at 1 the twelfth neighbour is one of six."""
    return Structure(Lattice.tetragonal(2.87, 2.87 * ratio), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def dimer(distance):
    return Structure(Lattice.cubic(40), ["Na", "Cl"], [[0, 0, 0], [distance / 40, 0, 0]])


@pytest.fixture
def vectors(make_batch):
    """A function that returns the vectors of crystals by an encoder with random weights, in double precision."""

    def encode(cls, structures, **params):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            encoder = cls(**params).eval().double()
        batch = make_batch(structures, cls.name)
        for name, value in batch.to_dict().items():
            if value.dtype == torch.float32:
                batch[name] = value.double()
        with torch.no_grad():
            return encoder(batch).graph

    return encode


def largest_step(vectors, cls, start, stop, n_steps, make, **params):
    found = vectors(cls, [make(value) for value in np.linspace(start, stop, n_steps + 1)], **params)
    return float(found.diff(dim=0).abs().max())


@pytest.mark.parametrize("readout", ["mean", "mean+max+min", "set2set", "attention"])
def test_steps_shrink_with_the_change_where_neighbours_come_and_go(vectors, readout):
    coarse, fine = (largest_step(vectors, GatedGCN, 0.9, 1.1, n, iron, readout=readout) for n in (100, 1000))
    assert 0 < fine < 0.2 * coarse


def test_a_network_without_fading_jumps(vectors):
    coarse, fine = (largest_step(vectors, CGCNN, 0.9, 1.1, n, iron, readout="mean+max+min") for n in (100, 1000))
    assert fine > 0.5 * coarse


@pytest.mark.parametrize("readout", ["mean", "mean+max+min", "set2set", "attention"])
def test_the_last_neighbour_fades_into_none(vectors, readout):
    apart, at_cutoff, alone = vectors(GatedGCN, [dimer(7.9), dimer(7.999), dimer(8.001)], readout=readout)
    scale = (apart - alone).abs().max()
    assert (at_cutoff - alone).abs().max() < 0.02 * scale


def test_weights_are_those_of_the_definition(prototypes, make_batch):
    batch = make_batch(prototypes[::12], "gatedgcn")
    recipe = RECIPES["gatedgcn"]
    seen = set()
    for center in range(len(batch.z)):
        edges = slice(batch.edge_ptr[center], batch.edge_ptr[center + 1])
        distances = batch.distance[edges].double()
        limit = recipe.cutoff
        if len(distances) >= recipe.max_neighbors:
            limit = min(limit, float(distances.sort().values[recipe.max_neighbors - 1]) + recipe.shell)
        inside = ((limit - distances) / recipe.shell).clamp(0, 1)
        expected = 3 * inside**2 - 2 * inside**3
        torch.testing.assert_close(batch.edge_weight[edges].double(), expected, rtol=0, atol=1e-5)
        seen |= {"full" if weight == 1 else "between" for weight in expected.tolist() if weight > 0}
        # Whoever is among the nearest counts in full, those at the same distance as the last of them included.
        assert (batch.edge_weight[edges][distances <= limit - recipe.shell] == 1).all()
    assert seen == {"full", "between"}
