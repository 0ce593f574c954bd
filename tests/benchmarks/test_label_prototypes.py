"""What benchmarks/label_prototypes.py makes of a potential whose stiffness is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

pytestmark = pytest.mark.usefixtures("benchmarks")

K, G, SOFT = 100.0, 40.0, 10.0  # GPa; SOFT is the shear modulus of the xy plane
FORCE_CONSTANTS = {"Na": 2.0, "Cl": 5.0}  # eV/Å²


class Harmonic:
    """Has the interface of CHGNet, and an energy that is quadratic in strain and displacements."""

    def __init__(self, structure):
        self.structure = structure
        self.k = np.array([FORCE_CONSTANTS[str(species)] for species in structure.species])

    def graph_converter(self, structure):
        return SimpleNamespace(
            lattice=torch.tensor(structure.lattice.matrix),
            atom_frac_coord=torch.tensor(structure.frac_coords),
            atom_graph=torch.tensor([[site, 0] for site in range(len(structure))]),
            atomic_number=torch.tensor(structure.atomic_numbers),
        )

    def predict_graph(self, graphs, task, batch_size):
        return [
            {"e": self.energy(graph) / len(self.structure), "f": -self.k[:, None] * self.moved(graph)}
            for graph in graphs
        ]

    def moved(self, graph):
        return (graph.atom_frac_coord.numpy() - self.structure.frac_coords) @ self.structure.lattice.matrix

    def energy(self, graph):
        strain = np.linalg.inv(self.structure.lattice.matrix) @ graph.lattice.numpy() - np.eye(3)
        deviator = strain - np.trace(strain) / 3 * np.eye(3)
        shear = G * ((deviator**2).sum() - 2 * deviator[0, 1] ** 2) + SOFT * 2 * deviator[0, 1] ** 2
        density = (K / 2 * np.trace(strain) ** 2 + shear) / 160.21766
        return self.structure.volume * density + (self.k[:, None] * self.moved(graph) ** 2).sum() / 2


@pytest.fixture
def salt():
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_properties_of_a_harmonic_crystal_are_found(salt):
    from label_prototypes import measure

    bulk, shear, frequency = measure(Harmonic(salt), salt)
    assert bulk == pytest.approx(K)
    assert shear == pytest.approx((4 * G + SOFT) / 5)
    # √(5 eV/Å² / 35.45 u) / 2π: 1 eV/(Å² u) is (98.227 / ps)²; 33.356 1/cm in one THz.
    assert frequency == pytest.approx(33.35641 * 98.227 * np.sqrt(5 / 35.453) / (2 * np.pi), rel=1e-4)


def test_what_has_no_minimum_has_no_value(salt, monkeypatch):
    from label_prototypes import measure

    monkeypatch.setitem(FORCE_CONSTANTS, "Na", -1.0)
    monkeypatch.setitem(FORCE_CONSTANTS, "Cl", -1.0)
    bulk, shear, frequency = measure(Harmonic(salt), salt)
    assert np.isfinite([bulk, shear]).all()
    assert np.isnan(frequency)


def test_crystals_with_isolated_atoms_have_no_values(salt):
    from label_prototypes import measure

    model = Harmonic(salt)
    graph = model.graph_converter(salt)
    graph.atom_graph = graph.atom_graph[1:]
    model.graph_converter = lambda structure: graph
    assert np.isnan(measure(model, salt)).all()
