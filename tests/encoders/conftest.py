from __future__ import annotations

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from crystalssl import CrystalGraphTransformer
from crystalssl.training import collate


@pytest.fixture
def make_batch():
    """A function that turns crystals into the batch that an encoder reads."""

    def make(structures, encoder="cgcnn", **params):
        graphs = CrystalGraphTransformer(encoder=encoder, **params).transform(structures)
        return collate(graphs, np.arange(len(graphs)))

    return make


@pytest.fixture
def randomise():
    """A function that gives every weight of a module a value of which nothing cancels, and batch norms statistics."""

    def apply(module, seed=0):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for part in module.modules():
                if isinstance(part, torch.nn.BatchNorm1d):
                    torch.nn.init.uniform_(part.weight, 0.5, 1.5)
                    torch.nn.init.normal_(part.bias, 0, 0.3)
                    part.running_mean.normal_(0, 0.3)
                    part.running_var.uniform_(0.5, 2)
        return module

    return apply


@pytest.fixture
def unusual_crystals():
    """Crystals of which batch normalisation, sums or means may make NaN."""
    argon = Structure(Lattice.cubic(50), ["Ar"], [[0.1, 0.2, 0.3]])
    polonium = Structure(Lattice.cubic(3.3), ["Po"], [[0, 0, 0]])
    dimer = Structure(Lattice.cubic(50), ["N", "N"], [[0, 0, 0], [0.022, 0, 0]])
    return {
        "isolated atom": [argon],
        "isolated atoms": [argon, argon],
        "one-atom cell": [polonium],
        "one-atom cells": [polonium, polonium],
        "molecule": [dimer],
        "molecule and isolated atom": [dimer, argon],
        "crystal and isolated atom": [polonium, argon],
    }
