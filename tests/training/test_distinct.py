"""Atoms and edges that are alike are computed once, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor
from crystalssl.encoders import ALIGNN, CGCNN, GIN, DeeperGATGNN, GatedGCN, MEGNet, Sight
from crystalssl.estimators import _network
from crystalssl.graphs import CorpusWriter, CrystalCorpus
from crystalssl.training import BatchIterator, CrystalDataset, _batching, _distinct, collate
from crystalssl.training._distinct import collate_distinct, find_distinct

SIGHT = Sight(n_layers=4, l_max=4)


@pytest.fixture
def rock_salt():
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.fixture
def chain():
    """A chain in which one boron is midway between two atoms of gold and another one is a little off."""
    bond, shift = 2.0, 0.002
    return Structure(
        Lattice.orthorhombic(4 * bond, 30, 30),
        ["Au", "B", "Au", "B"],
        [[0, 0, 0], [bond, 0, 0], [2 * bond, 0, 0], [3 * bond + shift, 0, 0]],
        coords_are_cartesian=True,
    )


@pytest.fixture
def build():
    """A function that makes an encoder whose weights do not depend on anything."""

    def make(cls=GatedGCN, **params):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return cls(**params)

    return make


def graphs_of(structures, encoder="gatedgcn"):
    return CrystalGraphTransformer(encoder=encoder).transform(structures)


def both_batches(graphs, encoder, indices=None):
    indices = np.arange(len(graphs)) if indices is None else indices
    return collate(graphs, indices), collate_distinct(graphs, find_distinct(graphs, encoder.sight), indices)


def vectors_and_gradients(encoder, batch):
    encoder.zero_grad()
    vectors = encoder(batch).vector
    generator = torch.Generator().manual_seed(1)
    (vectors * torch.randn(vectors.shape, generator=generator)).sum().backward()
    return vectors.detach(), {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


def test_rock_salt_has_one_atom_of_each_element_and_one_edge_of_each_length(rock_salt):
    graphs = graphs_of([rock_salt, rock_salt.get_primitive_structure()])
    parts = find_distinct(graphs, SIGHT)
    assert parts.n_alike.tolist() == [4, 4, 1, 1]
    assert parts.atom_offsets.tolist() == [0, 2, 4]
    assert np.diff(parts.edge_offsets).tolist() == [2, 2, 2, 2]
    assert np.diff(parts.bond_offsets).tolist() == [6, 12] * 4
    lengths = graphs.distances[parts.bonds]
    for start, end in zip(parts.bond_offsets[:-1], parts.bond_offsets[1:], strict=True):
        np.testing.assert_allclose(lengths[start:end], lengths[start], rtol=1e-6)


def test_every_atom_and_every_bond_is_counted(prototypes):
    graphs = graphs_of(prototypes)
    parts = find_distinct(graphs, SIGHT)
    counted = np.add.reduceat(parts.n_alike, parts.atom_offsets[:-1])
    np.testing.assert_array_equal(counted, np.diff(graphs.atom_offsets))
    bonds = np.diff(parts.bond_offsets[parts.edge_offsets])
    np.testing.assert_array_equal(bonds, np.diff(graphs.edge_offsets)[parts.atoms])
    assert len(parts.neighbors) < 0.4 * graphs.n_edges


@pytest.mark.parametrize(
    "params",
    [
        {"readout": "mean+max+min"},
        {"readout": "mean", "pooled_layers": "all"},
        {"l_max": 0},
        {"l_max": 6, "n_layers": 2, "n_properties": 3},
        {"hidden_dim": 24},  # not done by compiled passes
        {"readout": "set2set"},
        {"readout": "attention"},
        {"cls": MEGNet},
        {"cls": MEGNet, "readout": "mean+max+min"},
    ],
    ids=str,
)
def test_vectors_and_gradients_are_those_of_all_atoms_and_edges(params, build, prototypes):
    encoder = build(**params)
    graphs = graphs_of(prototypes[::6], encoder.name)
    indices = np.random.RandomState(0).permutation(len(graphs))
    (full, full_gradients), (distinct, gradients) = (
        vectors_and_gradients(encoder, batch) for batch in both_batches(graphs, encoder, indices)
    )
    torch.testing.assert_close(distinct, full, rtol=1e-3, atol=2e-4 * float(full.abs().max()))
    largest = max(gradient.abs().max() for gradient in full_gradients.values())
    for name, gradient in full_gradients.items():
        scale = max(gradient.abs().max(), 1e-4 * largest)  # a softmax has no gradient by a constant
        assert (gradients[name] - gradient).abs().max() <= 1e-3 * scale, name


def test_a_displaced_atom_breaks_the_symmetry_and_noise_does_not(rock_salt):
    moved = rock_salt.copy()
    moved.translate_sites([0], [0.01, 0, 0], frac_coords=False)
    noisy = rock_salt.copy().perturb(1e-7)
    whole, broken, same = (find_distinct(graphs_of([s]), SIGHT) for s in (rock_salt, moved, noisy))
    assert len(broken.atoms) > 2
    assert same.n_alike.tolist() == whole.n_alike.tolist()
    assert np.diff(same.bond_offsets).tolist() == np.diff(whole.bond_offsets).tolist()


def test_atoms_whose_bonds_differ_in_pairs_stay_apart(chain, build, monkeypatch):
    """A longer and a shorter bond have nearly the sum of two equal ones, but another maximum."""
    encoder, graphs = build(readout="mean+max+min"), graphs_of([chain])
    full, distinct = (encoder(batch).vector for batch in both_batches(graphs, encoder))
    torch.testing.assert_close(distinct, full, rtol=0, atol=1e-5)
    assert find_distinct(graphs, SIGHT).n_alike.tolist() == [1, 1, 1, 1]
    monkeypatch.setattr(_distinct, "_have_equal_edges", lambda numbers, edge_ptr, others: np.ones(len(others), bool))
    assert find_distinct(graphs, SIGHT).n_alike.tolist() != [1, 1, 1, 1]


def test_crystals_without_edges(build):
    argon = Structure(Lattice.cubic(50), ["Ar"], [[0.1, 0.2, 0.3]])
    dimer = Structure(Lattice.cubic(50), ["N", "N"], [[0, 0, 0], [0.022, 0, 0]])
    encoder = build()
    for structures in ([argon], [argon, dimer, argon]):
        full, distinct = both_batches(graphs_of(structures), encoder)
        torch.testing.assert_close(encoder(distinct).vector, encoder(full).vector)
    assert distinct.n_alike.tolist() == [1, 2, 1]


def test_crystals_do_not_depend_on_what_is_beside_them(prototypes):
    graphs = graphs_of(prototypes[:60])
    together = find_distinct(graphs, SIGHT)
    alone = [find_distinct(graphs[i : i + 1], SIGHT) for i in range(60)]
    np.testing.assert_array_equal(np.concatenate([parts.n_alike for parts in alone]), together.n_alike)
    np.testing.assert_array_equal(np.concatenate([parts.neighbors for parts in alone]), together.neighbors)


def test_parts_of_a_large_set_are_joined(prototypes, monkeypatch):
    graphs = graphs_of(prototypes[:60])
    whole = find_distinct(graphs, SIGHT)
    monkeypatch.setattr(_distinct, "_EDGES_AT_ONCE", 500)
    for name, values in vars(find_distinct(graphs, SIGHT)).items():
        np.testing.assert_array_equal(values, getattr(whole, name), err_msg=name)


def test_batches_of_a_corpus_are_those_of_its_graphs(prototypes, tmp_path):
    graphs = graphs_of(prototypes[:20])
    with CorpusWriter(tmp_path / "corpus", graphs.recipe) as writer:
        for part in (slice(0, 8), slice(8, 20)):
            writer.write(graphs[part], [f"c{row}" for row in range(20)[part]])
    corpus = CrystalCorpus.load(tmp_path / "corpus")
    batches = [[batch for batch, _ in BatchIterator(CrystalDataset(of), 6, sight=SIGHT)] for of in (graphs, corpus)]
    for ours, theirs in zip(*batches, strict=True):
        torch.testing.assert_close(theirs.directions, ours.directions)
        assert theirs.n_bonds.tolist() == ours.n_bonds.tolist()
        assert theirs.edge_index.tolist() == ours.edge_index.tolist()


def test_encoders_say_what_they_see():
    assert GatedGCN(n_layers=3, l_max=2).sight == Sight(3, 2)
    assert MEGNet(n_layers=2).sight == Sight(2, 0)
    assert GatedGCN(kernels="plain").sight is None
    for of_every_atom in (ALIGNN, CGCNN, DeeperGATGNN, GIN):
        assert of_every_atom().sight is None


def test_a_subclass_with_layers_of_its_own_sees_every_atom():
    class Own(GatedGCN):
        def layer_outputs(self, batch):
            return super().layer_outputs(batch)

    class Renamed(GatedGCN):
        name = "renamed"

    assert Own().sight is None
    assert Renamed().sight == GatedGCN().sight


def test_a_regressor_learns_and_predicts_as_from_all_atoms_and_edges(prototypes, monkeypatch):
    graphs = graphs_of(prototypes[::8])
    y = np.log(np.linalg.det(graphs.lattice))
    seen = []
    model = CrystalSSLRegressor(max_epochs=3, random_state=0, device="cpu")
    original = CrystalDataset.collate
    monkeypatch.setattr(CrystalDataset, "collate", lambda *args: seen.append(original(*args)) or seen[-1])
    found = model.fit(graphs, y).predict(graphs)
    assert all("n_bonds" in batch for batch in seen)
    monkeypatch.setattr(GatedGCN, "sight", None)
    seen.clear()
    expected = model.fit(graphs, y).predict(graphs)
    assert not any("n_bonds" in batch for batch in seen)
    np.testing.assert_allclose(found, expected, atol=2e-3 * y.std())


def test_a_gpu_gets_all_atoms_and_edges():
    class Network(torch.nn.Module):
        sight, reads_cell = SIGHT, True

    dataset = CrystalDataset(graphs_of([Structure(Lattice.cubic(3.3), ["Po"], [[0, 0, 0]])]))
    on_cpu, on_gpu = (_batching.batches_for(Network(), dataset, 1, device) for device in ("cpu", "cuda"))
    assert (on_cpu.sight, on_cpu.ahead, on_cpu.with_cell) == (SIGHT, False, True)
    assert (on_gpu.sight, on_gpu.ahead, on_gpu.with_cell) == (None, True, True)


def test_what_is_distinct_is_found_once_for_all_networks_and_batches(prototypes, monkeypatch):
    graphs = graphs_of(prototypes[:30])
    y = np.log(np.linalg.det(graphs.lattice))
    calls = []
    monkeypatch.setattr(_batching, "find_distinct", lambda *args: calls.append(args) or find_distinct(*args))
    model = CrystalSSLRegressor(max_epochs=2, ensemble_size=2, random_state=0, device="cpu").fit(graphs, y)
    assert len(calls) == 1
    expected = model.predict(graphs)
    calls.clear()
    monkeypatch.setattr(_network, "prediction_batch_size", lambda *args: 10)
    np.testing.assert_allclose(model.predict(graphs), expected, atol=1e-4 * y.std())
    assert len(calls) == 1
