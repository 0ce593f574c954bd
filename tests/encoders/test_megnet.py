"""MEGNet against matgl's, and against the equations of Chen et al., written down plainly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from crystalssl import CrystalGraphTransformer
from crystalssl.datasets import load_prototypes
from crystalssl.encoders.megnet import MEGNet
from crystalssl.training import collate


def linears(mlp):
    return [part for part in mlp.layers if isinstance(part, nn.Linear)]


@pytest.fixture(scope="module")
def batch(crystals):
    graphs = CrystalGraphTransformer(encoder="megnet").transform(crystals[:: len(crystals) // 32][:32])
    return collate(graphs, np.arange(len(graphs)))


def widened(encoder):
    """The encoder with larger weights: with the initial ones, crystals hardly differ."""
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name.endswith("weight") and not name.startswith("readout"):
                parameter.mul_(2)
    return encoder


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return widened(MEGNet(hidden_dim=8))


class Plain:
    """The equations in double precision, with an encoder's weights."""

    def __init__(self, encoder):
        self.config = encoder.config
        self.parameters = {
            name: p.detach().double().requires_grad_()
            for name, p in encoder.named_parameters()
            if "readout" not in name
        }

    def mlp(self, name, x):
        i = 0
        while f"{name}.layers.{i}.weight" in self.parameters:
            weight, bias = (self.parameters[f"{name}.layers.{i}.{kind}"] for kind in ("weight", "bias"))
            x = softplus(x @ weight.T + bias, threshold=1000) - math.log(2)
            i += 1
        return x

    def __call__(self, batch):
        neighbors, centers = batch.edge_index
        crystal = batch.batch
        mu = torch.linspace(0, 6, self.config["n_gaussians"], dtype=torch.float64)
        e = self.mlp("edge_encoder", torch.exp(-0.5 * (batch.distance.double()[:, None] - mu) ** 2))
        v = self.mlp("node_encoder", self.parameters["elements.weight"][batch.z])
        u = self.mlp("state_encoder", softplus(self.parameters["state"])[None] - math.log(2))
        u = u.repeat(batch.num_graphs, 1)
        for i in range(self.config["n_layers"]):
            before = v, e, u
            if i > 0:
                v, e, u = (
                    self.mlp(f"blocks.{i}.{name}_dense", x) for name, x in (("node", v), ("edge", e), ("state", u))
                )
            e = self.mlp(
                f"blocks.{i}.edge_update", torch.cat([v[centers], v[neighbors], e, u[crystal[centers]]], dim=1)
            )
            of_atom = mean(e, centers, len(v))
            v = self.mlp(f"blocks.{i}.node_update", torch.cat([v, of_atom, u[crystal]], dim=1))
            of_edges, of_atoms = mean(e, crystal[centers], len(u)), mean(v, crystal, len(u))
            u = self.mlp(f"blocks.{i}.state_update", torch.cat([u, of_edges, of_atoms], dim=1))
            v, e, u = v + before[0], e + before[1], u + before[2]
        return v, e, u


def mean(x, index, size):
    """Mean of the rows of each group; zero for a group of none."""
    count = torch.bincount(index, minlength=size).clamp(min=1)
    return torch.zeros(size, x.shape[1], dtype=x.dtype).index_add(0, index, x) / count[:, None]


def assert_close(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    errors = (found - expected).abs().amax(dim=0)
    assert (errors <= tolerance * expected.abs().amax(dim=0)).all()


def outputs(encoder, batch):
    nodes, edge, state = encoder.layer_outputs(batch)
    return nodes[-1], edge, state


def test_outputs_are_those_of_the_equations(encoder, batch):
    for found, expected in zip(outputs(encoder, batch), Plain(encoder)(batch), strict=True):
        assert (expected.std(dim=0) > 1e-3 * expected.abs().amax(dim=0)).all()
        assert_close(found.double(), expected)


def test_gradients_are_those_of_the_equations(encoder, batch):
    plain = Plain(encoder)
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in outputs(encoder, batch)]
    for source in (plain, lambda batch: outputs(encoder, batch)):
        sum((x * c).sum() for x, c in zip(source(batch), cotangents, strict=True)).backward()
    found = {name: p.grad for name, p in encoder.named_parameters() if "readout" not in name}
    assert found.keys() == plain.parameters.keys()
    for name, p in plain.parameters.items():
        assert p.grad.abs().max() > 0, name
        assert (found[name] - p.grad).abs().max() <= 1e-4 * p.grad.abs().max(), name


@pytest.mark.parametrize(
    "params", [{"hidden_dim": 7, "n_layers": 1}, {"hidden_dim": 4, "n_layers": 4, "n_gaussians": 9}]
)
def test_equations_hold_for_other_widths_and_depths(params, batch):
    torch.manual_seed(0)
    encoder = widened(MEGNet(**params))
    for found, expected in zip(outputs(encoder, batch), Plain(encoder)(batch), strict=True):
        assert_close(found.double(), expected)


def test_frozen_embedding_is_the_mean_of_atoms_the_mean_of_edges_and_the_state(encoder, batch):
    frozen = MEGNet(hidden_dim=8, **MEGNet.frozen_pooling)
    frozen.load_pretrained(encoder.state_dict())
    v, e, u = Plain(encoder)(batch)
    crystal = batch.batch
    expected = [mean(v, crystal, len(u)), mean(e, crystal[batch.edge_index[1]], len(u)), u]
    assert frozen.graph_dim == 24
    assert_close(frozen(batch).graph.double(), torch.cat(expected, dim=1), tolerance=2e-5)  # sums of float32


def test_widths_are_those_of_cdssl():
    encoder = MEGNet()
    shapes = {name: tuple(p.shape) for name, p in encoder.named_parameters()}
    assert shapes["elements.weight"] == (119, 16)
    assert [shapes[f"edge_encoder.layers.{i}.weight"] for i in range(2)] == [(128, 100), (64, 128)]
    assert [shapes[f"blocks.2.edge_update.layers.{i}.weight"] for i in range(3)] == [(128, 256), (128, 128), (64, 128)]
    assert len(encoder.blocks) == 3
    assert (encoder.node_dim, encoder.edge_dim, encoder.graph_dim) == (64, 64, 320)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "name", ["isolated atom", "isolated atoms", "one-atom cell", "molecule", "crystal and isolated atom"]
)
def test_unusual_crystals_leave_everything_finite(name, training, encoder, unusual_crystals, make_batch):
    encoded = encoder.train(training)(make_batch(unusual_crystals[name], "megnet"))
    encoded.graph.sum().backward()
    assert all(torch.isfinite(x).all() for x in encoded if x is not None)
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_masked_atom_has_its_own_vector_and_masked_edge_no_length(encoder, salt, make_batch):
    batch = make_batch([salt], "megnet")
    known = encoder(batch)
    batch.z = torch.zeros_like(batch.z)
    batch.distance = torch.full_like(batch.distance, torch.inf)
    masked = encoder(batch)
    # All atoms of rock salt have the same number of neighbours.
    torch.testing.assert_close(masked.node, masked.node[:1].expand_as(masked.node))
    torch.testing.assert_close(masked.edge, masked.edge[:1].expand_as(masked.edge))
    assert all(torch.isfinite(x).all() for x in masked if x is not None)
    assert (masked.node - known.node).abs().max() > 1e-3
    for found, expected in zip(outputs(encoder, batch), Plain(encoder)(batch), strict=True):
        assert_close(found.double(), expected)


@pytest.mark.parametrize("value", [-1e4, -60.0, 60.0, 1e4])
def test_extreme_inputs_give_the_limits_and_finite_gradients(value, encoder):
    mlp = encoder.node_encoder
    with torch.no_grad():
        mlp.layers[0].bias.fill_(value)
        mlp.layers[1].weight.zero_()[:, :].fill_diagonal_(1)
        mlp.layers[1].bias.zero_()
    x = torch.zeros(3, 16)
    expected = softplus(softplus(torch.tensor(value).double()) - math.log(2)) - math.log(2)
    torch.testing.assert_close(mlp(x).double(), expected.expand(3, 8), rtol=1e-5, atol=1e-6)
    mlp(x).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in mlp.parameters())


# What follows needs matgl, the implementation that CDSSL used.

N_FIDELITY = 200


@pytest.fixture(scope="module")
def reference():
    """matgl's network, with elements indexed by atomic number."""
    models = pytest.importorskip("matgl.models")
    from pymatgen.core import Element

    torch.manual_seed(0)
    return models.MEGNet(
        hidden_layer_sizes_input=(128, 64), hidden_layer_sizes_conv=(128, 128, 64), hidden_layer_sizes_output=(64, 32),
        element_types=tuple(Element.from_Z(z).symbol for z in range(1, 119)), cutoff=5.0,
    ).eval()  # fmt: skip


def copy_mlp(ours, theirs, skip=0):
    for a, b in zip(ours.layers, linears(theirs)[skip:], strict=True):
        a.load_state_dict(b.state_dict())


@torch.no_grad()
def copy_of(reference):
    """Our network with the weights of matgl's."""
    encoder = MEGNet().eval()
    encoder.elements.weight[1:] = reference.embedding.layer_node_embedding.weight
    copy_mlp(encoder.node_encoder, reference.node_encoder)
    copy_mlp(encoder.edge_encoder, reference.edge_encoder)
    encoder.state.copy_(linears(reference.state_encoder)[0].bias)
    copy_mlp(encoder.state_encoder, reference.state_encoder, skip=1)
    for ours, theirs in zip(encoder.blocks, reference.blocks, strict=True):
        for name in ("node", "edge", "state"):
            copy_mlp(getattr(ours, f"{name}_update"), getattr(theirs.conv, f"{name}_func"))
            if theirs.has_dense:
                copy_mlp(getattr(ours, f"{name}_dense"), getattr(theirs, f"{name}_func"))
    encoder.readout.nodes.lstm.load_state_dict(reference.node_s2s.lstm.state_dict())
    encoder.readout.edges.lstm.load_state_dict(reference.edge_s2s.lstm.state_dict())
    return encoder


def as_matgl_reads(batch):
    """The batch as matgl's network reads it: edges from the centre, into which it sums, to the neighbour."""
    from torch_geometric.data import Data

    neighbors, centers = batch.edge_index
    shift = torch.einsum("ei,eij->ej", batch.image, batch.cell[batch.batch[centers]])
    data = Data(node_type=batch.z - 1, pos=batch.pos, edge_index=torch.stack([centers, neighbors]), pbc_offshift=shift)
    data.batch, data.num_graphs = batch.batch, batch.num_graphs
    return data, torch.zeros(batch.num_graphs, 2)


@pytest.mark.parametrize("scale", [1.0, 2.0])
@torch.no_grad()
def test_outputs_and_readout_are_matgls(scale, reference, crystals):
    state = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    try:
        for name, parameter in reference.named_parameters():
            if name.endswith("weight"):
                parameter.mul_(scale)
        encoder = copy_of(reference)
        graphs = CrystalGraphTransformer(encoder="megnet").transform(crystals[:N_FIDELITY])
        batch = collate(graphs, np.arange(len(graphs)))
        reference(*as_matgl_reads(batch))
    finally:
        reference.load_state_dict(state)
    features = reference.feature_dict
    found = (*outputs(encoder, batch), encoder(batch).graph)
    expected = [features["gc_3"][f"{name}_feat"] for name in ("node", "edge", "state")] + [features["readout"]]
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * max(1, float(b.abs().max())))


@torch.no_grad()
def test_graphs_are_matgls(reference, make_batch):
    pymatgen = pytest.importorskip("matgl.ext.pymatgen")
    encoder = copy_of(reference)
    converter = pymatgen.Structure2Graph(element_types=reference.element_types, cutoff=5.0)
    for structure in load_prototypes().data[:8]:
        graph, lattice, state = converter.get_graph(structure)
        graph.pbc_offshift = graph.pbc_offset @ lattice[0]
        graph.pos = graph.frac_coords @ lattice[0]
        assert list(state) == [0, 0]
        batch = make_batch([structure], "megnet")
        assert len(batch.distance) == graph.edge_index.shape[1]
        reference(graph, torch.tensor(np.asarray(state), dtype=torch.float32))
        torch.testing.assert_close(encoder(batch).graph, reference.feature_dict["readout"], rtol=0, atol=1e-5)
