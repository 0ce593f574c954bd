"""Sums over angles against their definition, pair of bonds by pair of bonds."""

from __future__ import annotations

import pytest
import torch
from pymatgen.core import Lattice, Structure
from scipy.special import eval_legendre

from crystalssl._geometry import edge_vectors
from crystalssl.augment import AtomMasking, Compose, EdgeMasking
from crystalssl.encoders import ENCODERS, GatedGCN
from crystalssl.encoders._angles import AngularSums, BondAngles, harmonics
from crystalssl.encoders._topology import Topology

L_MAX, CHANNELS, DIM = 3, 2, 5


def by_definition(units, centers, weights):
    """Σ_k w_ik P_l(cos θ_jik) of every edge."""
    centers = centers.tolist()
    sums = torch.zeros(len(centers), L_MAX, CHANNELS, dtype=torch.float64)
    for a, i in enumerate(centers):
        for b, k in enumerate(centers):
            if i == k:
                cosine = float(units[a] @ units[b])
                for degree in range(L_MAX):
                    sums[a, degree] += eval_legendre(degree + 1, cosine) * weights[b]
    return sums


@pytest.fixture
def crystals(prototypes):
    # Few and many bonds, and an atom without any.
    far = Structure(Lattice.cubic(30), ["H"], [[0, 0, 0]])
    return [prototypes[0], far, prototypes[30], Structure(Lattice.cubic(3.2), ["Po"], [[0.1, 0, 0]])]


def test_sums_and_power_spectrum(crystals, make_batch):
    batch = make_batch(crystals, "gatedgcn")
    topology, _, bonds = Topology.of(batch).by_bonds()
    torch.manual_seed(0)
    layer = AngularSums(DIM, CHANNELS, L_MAX).double()
    n_edges = len(batch.distance)
    x, edges = torch.randn(len(batch.z), DIM).double(), torch.randn(n_edges, DIM).double()
    envelope = torch.rand(n_edges, 1).double()
    for key in ("distance", "pos", "cell", "image"):
        batch[key] = batch[key].double()
    angles = BondAngles.of(batch, topology, bonds, L_MAX)
    power, sums = layer(x, edges, topology, envelope, angles)

    weights = layer.radial(edges) * (1 + layer.source(x))[topology.neighbors] * envelope / 12
    expected = by_definition(angles.directions, topology.centers, weights.detach())
    torch.testing.assert_close(sums.view(n_edges, L_MAX, CHANNELS), expected)
    spectrum = torch.zeros(len(x), L_MAX, CHANNELS).double()
    spectrum.index_add_(0, topology.centers, expected * weights.detach()[:, None])
    torch.testing.assert_close(power.view(-1, L_MAX, CHANNELS), spectrum)
    assert (power.view(-1, L_MAX, CHANNELS) > -1e-9).all()  # squares of moments


def test_directions_are_those_of_the_bonds_in_their_order(crystals, make_batch):
    batch = make_batch(crystals, "gatedgcn")
    topology, _, bonds = Topology.of(batch).by_bonds()
    vectors = edge_vectors(batch)[bonds]
    found = BondAngles.of(batch, topology, bonds, L_MAX).directions
    torch.testing.assert_close(found * vectors.norm(dim=1, keepdim=True), vectors)


@pytest.mark.parametrize("l_max", [1, 2, 4, 7])
def test_harmonics_obey_the_addition_theorem(l_max):
    units = torch.nn.functional.normalize(
        torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double(), dim=1
    )
    units = torch.cat([units, torch.eye(3).double(), -torch.eye(3).double()])  # the poles too
    found = harmonics(units, l_max)
    first = 0
    for degree in range(1, l_max + 1):
        of_degree = found[:, first : first + 2 * degree + 1]
        expected = torch.from_numpy(eval_legendre(degree, (units @ units.T).clamp(-1, 1).numpy()))
        torch.testing.assert_close(of_degree @ of_degree.T, expected)
        first += 2 * degree + 1
    assert found.shape[1] == first


def test_a_batch_without_bonds(make_batch):
    batch = make_batch([Structure(Lattice.cubic(30), ["H"], [[0, 0, 0]])], "gatedgcn")
    encoded = GatedGCN()(batch)
    assert torch.isfinite(encoded.graph).all()


def test_angles_tell_crystals_apart_whose_distances_are_alike(make_batch):
    # Two bonds of the middle atom, 90° or 180° apart; all other distances exceed the cutoff but that of the ends.
    def molecule(end):
        return Structure(Lattice.cubic(40), ["O", "H", "He"], [[0, 0, 0], [6, 0, 0], end], coords_are_cartesian=True)

    straight, bent = molecule([-6, 0, 0]), molecule([0, 6, 0])
    for l_max, differ in ((0, False), (2, True)):
        torch.manual_seed(0)
        encoder = GatedGCN(l_max=l_max).eval()
        a, b = (encoder(make_batch([crystal], "gatedgcn")).graph for crystal in (straight, bent))
        assert (not torch.allclose(a, b, atol=1e-6)) == differ


def test_masked_bonds_and_atoms_leave_the_sums_finite(prototypes, make_batch):
    batch = make_batch(prototypes[:6], "gatedgcn")
    view = Compose([AtomMasking(0.5), EdgeMasking(0.5)])(batch, torch.Generator().manual_seed(0))
    encoded = GatedGCN()(view)
    encoded.graph.sum().backward()
    assert torch.isfinite(encoded.graph).all()


def test_a_config_without_angles_is_one_of_before_there_were_any():
    old = {"hidden_dim": 8, "n_layers": 1, "readout": "mean", "layers": "last"}
    encoder = GatedGCN(**GatedGCN.current_config(old))
    assert encoder.l_max == 0
    assert not encoder.angular
    assert ENCODERS["gatedgcn"]().l_max == 4
