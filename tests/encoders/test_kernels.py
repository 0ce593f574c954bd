"""The fast forms of layers against the plain ones, and what only the plain ones can do."""

from __future__ import annotations

import copy

import pytest
import torch
from pymatgen.core import Lattice, Structure

from crystalssl.encoders import ENCODERS, GatedGCN
from crystalssl.encoders._kernels import _rows
from crystalssl.encoders._layers import BatchNorm, Layer, gaussian_expansion
from crystalssl.encoders._topology import Topology
from crystalssl.training import load_encoder, save_encoder

encoders = pytest.mark.parametrize("name", ENCODERS)
in_both_modes = pytest.mark.parametrize("training", [True, False])

UNUSUAL = [
    "isolated atom",
    "isolated atoms",
    "one-atom cell",
    "molecule",
    "molecule and isolated atom",
    "crystal and isolated atom",
]


@pytest.fixture
def build(randomise):
    """A function that makes an encoder in double precision; its weights do not depend on `kernels`."""

    def make(name, kernels, training=True, **params):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            encoder = randomise(ENCODERS[name](kernels=kernels, **params)).double().train(training)
            for part in encoder.modules():
                if isinstance(part, torch.nn.LayerNorm):
                    torch.nn.init.uniform_(part.weight, 0.5, 1.5)
                    torch.nn.init.normal_(part.bias, 0, 0.3)
        return encoder

    return make


@pytest.fixture
def make_double_batch(make_batch):
    def make(structures, name):
        batch = make_batch(structures, name)
        for key in ("distance", "pos", "cell", "image"):
            batch[key] = batch[key].double()
        return batch

    return make


def outputs(encoder, batch):
    """All that an encoder returns, and the gradients of all weights by some combination of it."""
    tensors = [tensor for tensor in encoder(batch) if tensor is not None]
    generator = torch.Generator().manual_seed(1)
    loss = sum((x * torch.randn(x.shape, generator=generator, dtype=x.dtype)).sum() for x in tensors)
    loss.backward()
    return tensors, {name: p.grad for name, p in encoder.named_parameters()}


def assert_equal(found, expected, tolerance):
    for x, y in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)
    largest = max(grad.abs().max() for grad in expected[1].values() if grad is not None)
    for name, grad in expected[1].items():
        assert (found[1][name] is None) == (grad is None), name
        if grad is not None:
            # A bias before batch normalisation has no gradient in training.
            scale = max(grad.abs().max(), 1e-6 * largest)
            assert (found[1][name] - grad).abs().max() <= 100 * tolerance * scale, name


# ---------------------------------------------------------------------- both forms of every encoder


@encoders
@in_both_modes
def test_fast_form_is_the_plain_one(name, training, build, make_double_batch, prototypes, unusual_crystals):
    batch = make_double_batch([*prototypes[:40:4], *unusual_crystals["isolated atom"]], name)
    fast, plain = (build(name, kernels, training) for kernels in ("fast", "plain"))
    assert fast.state_dict().keys() == plain.state_dict().keys()
    # ALIGNN makes cosines equal that differ by 1e-6.
    tolerance = 1e-5 if name == "alignn" else 1e-9
    for _ in range(2):  # statistics move on with every call in training
        found, expected = outputs(fast, batch), outputs(plain, batch)
    assert_equal(found, expected, tolerance)
    for key, buffer in plain.named_buffers():
        torch.testing.assert_close(fast.get_buffer(key), buffer, rtol=tolerance, atol=tolerance)


@encoders
def test_fast_form_is_the_plain_one_with_masked_atoms_and_lengths(name, build, make_double_batch, prototypes):
    batch = make_double_batch(prototypes[:12:3], name)
    generator = torch.Generator().manual_seed(0)
    batch.z = batch.z.masked_fill(torch.rand(len(batch.z), generator=generator) < 0.3, 0)
    hidden = torch.rand(len(batch.distance), generator=generator) < 0.3
    batch.distance = batch.distance.masked_fill(hidden, torch.inf)
    found, expected = (outputs(build(name, kernels), batch) for kernels in ("fast", "plain"))
    assert_equal(found, expected, 1e-5 if name == "alignn" else 1e-9)


@encoders
@in_both_modes
@pytest.mark.parametrize("crystal", UNUSUAL)
def test_fast_form_is_the_plain_one_of_unusual_crystals(
    name, crystal, training, build, make_double_batch, unusual_crystals
):
    batch = make_double_batch(unusual_crystals[crystal], name)
    fast, plain = (build(name, kernels, training) for kernels in ("fast", "plain"))
    found, expected = outputs(fast, batch), outputs(plain, batch)
    if training:  # of equal rows, batch normalisation makes rounding errors hundreds of times larger
        for encoder, (tensors, grads) in ((fast, found), (plain, expected)):
            kept = [*tensors, *encoder.buffers(), *(grad for grad in grads.values() if grad is not None)]
            assert all(torch.isfinite(x).all() for x in kept)
    else:
        assert_equal(found, expected, 1e-5 if name == "alignn" else 1e-9)


@encoders
def test_rows_are_done_in_chunks(name, build, make_double_batch, prototypes, monkeypatch):
    batch = make_double_batch(prototypes[:8:2], name)
    expected = outputs(build(name, "fast"), batch)
    monkeypatch.setattr(_rows, "_CHUNK", 7)
    assert_equal(outputs(build(name, "fast"), batch), expected, 1e-10)


@encoders
@pytest.mark.parametrize("scale", [1e2, 1e3])
def test_large_weights_leave_everything_finite(name, scale, build, make_batch, prototypes):
    """In single precision, where sigmoids and exponentials overflow."""
    batch = make_batch(prototypes[:8:2], name)
    found = []
    for kernels in ("fast", "plain"):
        encoder = build(name, kernels, training=False, pooled_layers="all", readout="mean").float()
        with torch.no_grad():
            for key, parameter in encoder.named_parameters():
                if key.startswith(("convs.0.", "blocks.0.")) and "norm" not in key and key.endswith("weight"):
                    parameter.mul_(scale)
        found.append(outputs(encoder, batch))
    for tensors, grads in found:
        assert all(torch.isfinite(x).all() for x in tensors)
        assert all(torch.isfinite(grad).all() for grad in grads.values() if grad is not None)


# ---------------------------------------------------------------------- what only the plain form can do


@pytest.fixture
def tiny_batch(make_double_batch):
    """Two crystals of two or three atoms, none of them exactly symmetric: maxima have no kink there."""
    crystals = [
        Structure(Lattice.from_parameters(3.1, 3.4, 3.7, 85, 95, 100), ["Na", "Cl"], [[0, 0, 0], [0.46, 0.52, 0.55]]),
        Structure(Lattice.from_parameters(4.1, 3.8, 3.3, 92, 83, 97), ["Li", "O"], [[0, 0, 0], [0.53, 0.41, 0.57]]),
    ]
    batch = make_double_batch(crystals, "cgcnn")
    # Few edges, so that second derivatives by finite differences take no time.
    kept = torch.arange(len(batch.distance)) % 3 == 0
    neighbors, centers = batch.edge_index = batch.edge_index[:, kept]
    for name in ("distance", "image", "edge_weight"):
        batch[name] = batch[name][kept]
    zero = torch.zeros(1, dtype=torch.long)
    batch.edge_ptr = torch.cat([zero, torch.bincount(centers, minlength=4).cumsum(0)])
    batch.neighbor_order = neighbors.argsort(stable=True)
    batch.neighbor_ptr = torch.cat([zero, torch.bincount(neighbors, minlength=4).cumsum(0)])
    return batch


@encoders
@pytest.mark.parametrize("readout", ["mean+max+min", "set2set", "attention"])
def test_plain_form_can_be_differentiated_twice(name, readout, build, tiny_batch):
    encoder = build(name, "plain", training=False, hidden_dim=2, n_layers=1, readout=readout)
    weights = [p for key, p in encoder.named_parameters() if key.endswith("weight") and p.numel() < 40][:3]

    def energy(distance, *_):
        batch = tiny_batch.__copy__()
        batch._num_graphs = 2
        batch.distance = distance
        return encoder(batch).graph.sum(dim=1)

    distance = tiny_batch.distance.clone().requires_grad_()
    assert torch.autograd.gradcheck(energy, (distance, *weights))
    assert torch.autograd.gradgradcheck(energy, (distance, *weights))


@encoders
def test_forces_can_be_trained_on(name, build, make_double_batch, prototypes):
    """The gradient by positions, and its gradient by the weights."""
    batch = make_double_batch(prototypes[:3], name)
    encoder = build(name, "plain", readout="mean")
    batch.pos.requires_grad_()
    neighbors, centers = batch.edge_index
    shifts = torch.einsum("ei,eij->ej", batch.image, batch.cell[batch.batch[centers]])
    batch.distance = (batch.pos[neighbors] + shifts - batch.pos[centers]).norm(dim=1)
    (forces,) = torch.autograd.grad(encoder(batch).graph.square().sum(), batch.pos, create_graph=True)
    assert (forces != 0).any()
    # Moving all atoms of a crystal changes nothing.
    total = torch.zeros(3, 3, dtype=forces.dtype).index_add(0, batch.batch, forces)
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-8 * (1 + forces.detach().abs().max()))
    forces.square().sum().backward()
    grads = [p.grad for p in encoder.parameters() if p.grad is not None]
    assert all(torch.isfinite(grad).all() for grad in grads)
    assert any((grad != 0).any() for grad in grads)


# ---------------------------------------------------------------------- how a form is chosen


@encoders
def test_form_is_chosen_for_all_layers_and_is_no_part_of_the_config(name):
    encoder = ENCODERS[name](kernels="plain")
    layers = [part for part in encoder.modules() if isinstance(part, Layer)]
    assert {part.kernels for part in layers} == {"plain"}
    assert "kernels" not in encoder.config
    assert ENCODERS[name](**encoder.config).kernels == "fast"
    assert copy.deepcopy(encoder).kernels == "plain"
    encoder.use_kernels("fast")
    assert {part.kernels for part in layers} == {"fast"}


@encoders
def test_unknown_form_lists_those_that_exist(name):
    with pytest.raises(ValueError, match=r"kernels must be one of \('fast', 'plain'\), got 'quick'"):
        ENCODERS[name](kernels="quick")


@pytest.mark.parametrize("kernels", ["fast", "plain"])
def test_weights_of_either_form_load_with_the_default(kernels, tmp_path, prototypes, make_batch):
    encoder = GatedGCN(hidden_dim=8, n_layers=1, kernels=kernels).eval()
    save_encoder(tmp_path / "weights", encoder, {"method": "joint", "elements": [1]})
    loaded, _ = load_encoder(tmp_path / "weights")
    assert loaded.kernels == "fast"
    batch = make_batch(prototypes[:4], "gatedgcn")
    torch.testing.assert_close(loaded(batch).graph, encoder(batch).graph)


# ---------------------------------------------------------------------- shared parts


def test_topology_of_a_batch(prototypes, make_batch):
    batch = make_batch(prototypes[:12])
    neighbors, centers = batch.edge_index
    topology = Topology.of(batch)
    assert torch.equal(topology.neighbors, neighbors)
    assert torch.equal(topology.centers, centers)
    assert torch.equal(topology.edge_ptr.diff(), torch.bincount(centers, minlength=len(batch.z)))
    assert torch.equal(topology.neighbor_order, torch.argsort(neighbors, stable=True))
    assert torch.equal(topology.neighbor_ptr.diff(), torch.bincount(neighbors, minlength=len(batch.z)))
    assert torch.equal(topology.pairs, torch.stack([centers, neighbors + len(batch.z)], dim=1))
    x = torch.randn(len(centers), 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(topology.sum(x), torch.stack([x[centers == i].sum(dim=0) for i in range(len(batch.z))]))


def test_topology_by_bonds(prototypes, make_batch, unusual_crystals):
    batch = make_batch([*unusual_crystals["isolated atom"], *prototypes[:12]], "gatedgcn")
    before = Topology.of(batch)
    topology, atoms, edges = before.by_bonds()
    degrees = topology.edge_ptr.diff()
    assert torch.equal(degrees, before.edge_ptr.diff()[atoms])
    assert (degrees.diff() >= 0).all()
    assert degrees[0] == 0
    # The same edges between the same atoms, under new numbers.
    assert torch.equal(atoms[topology.centers], before.centers[edges])
    assert torch.equal(atoms[topology.neighbors], before.neighbors[edges])
    assert torch.equal(edges.sort().values, torch.arange(len(edges)))
    grouped = topology.neighbors[topology.neighbor_order]
    assert torch.equal(grouped, grouped.sort().values)
    assert torch.equal(topology.neighbor_order.sort().values, torch.arange(len(edges)))
    assert torch.equal(topology.neighbor_ptr.diff(), torch.bincount(topology.neighbors, minlength=len(atoms)))
    assert [block.n_bonds for block in topology.blocks] == degrees.unique().tolist()
    rows = topology.centers[:, None]
    for block, of_edges, of_atoms in zip(
        topology.blocks, topology.edges_by_block(rows), topology.atoms_by_block(torch.arange(len(atoms))), strict=True
    ):
        assert torch.equal(of_edges[..., 0], of_atoms[:, None].expand(block.n_atoms, block.n_bonds))


@pytest.mark.parametrize("width", [0.2, 0.5, 1.0])
def test_gaussian_expansion(width):
    distances, centers = torch.linspace(0.1, 9, 200), torch.linspace(0, 8, 41)
    found = gaussian_expansion(distances, centers, width)
    expected = torch.exp(-(((distances[:, None] - centers[None]) / width) ** 2))
    assert found.shape == (200, 41)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-25)


def test_gaussian_expansion_is_one_at_its_centers_and_1_over_e_a_width_away():
    found = gaussian_expansion(torch.tensor([2.0, 2.5]), torch.tensor([2.0, 3.0]), 0.5)
    torch.testing.assert_close(found, torch.tensor([[1, 0.01831564], [0.36787944, 0.36787944]]))


def test_masked_distance_gives_exact_zeros():
    found = gaussian_expansion(torch.tensor([torch.inf, 2.0]), torch.linspace(0, 8, 41), 0.2)
    assert (found[0] == 0).all()
    assert found[1].max() == 1


def test_gaussian_expansion_has_no_subnormal_numbers_and_leaves_the_input_alone():
    distances = torch.linspace(0.5, 8, 500)
    before = distances.clone()
    found = gaussian_expansion(distances, torch.linspace(0, 8, 41), 0.2)
    assert found[found > 0].min() > torch.finfo(torch.float32).tiny
    assert torch.equal(distances, before)


@pytest.mark.parametrize("n_rows", [0, 1])
def test_batch_normalisation_of_few_rows_takes_the_running_statistics_and_leaves_them(n_rows):
    norm = BatchNorm(3)
    norm.running_mean, norm.running_var = torch.tensor([1.0, 2, 3]), torch.tensor([4.0, 5, 6])
    before = copy.deepcopy(norm.state_dict())
    x = torch.randn(n_rows, 3, requires_grad=True)
    found = norm.train()(x)
    torch.testing.assert_close(found, copy.deepcopy(norm).eval()(x))
    found.sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(torch.equal(tensor, before[key]) for key, tensor in norm.state_dict().items())


@pytest.mark.parametrize("x", [-200.0, -90.0, -80.0, -40.0, -1.0, 0.0, 1.0, 40.0, 200.0])
def test_softplus(x):
    x = torch.tensor([x])
    expected = torch.nn.functional.softplus(x.double())
    torch.testing.assert_close(_rows.softplus_(x).double(), expected, rtol=1e-5, atol=1e-7)
