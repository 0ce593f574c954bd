"""DeeperGATGNN against the equations of Louis et al. and Omee et al., written down plainly."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import leaky_relu, softplus
from torch_geometric.nn.norm import DiffGroupNorm
from torch_geometric.utils import softmax

from crystalssl.encoders._elements import element_features
from crystalssl.encoders._kernels import AtomLengthPairs
from crystalssl.encoders._topology import Topology
from crystalssl.encoders.deepergatgnn import DeeperGATGNN


class PlainLayer(nn.Module):
    """The augmented graph attention layer, group normalisation and residual of the authors' code."""

    def __init__(self, d, n_heads):
        super().__init__()
        self.W = nn.Parameter(torch.empty(2 * d, n_heads * d))
        self.att = nn.Parameter(torch.empty(n_heads, 2 * d))
        self.bias = nn.Parameter(torch.empty(d))
        self.bn1 = nn.BatchNorm1d(n_heads)
        self.norm = DiffGroupNorm(d, 10)

    def forward(self, x, edges, neighbors, centers):
        n_heads = len(self.att)
        z_i = softplus(torch.cat([x[centers], edges], dim=1) @ self.W).unflatten(1, (n_heads, -1))
        z_j = softplus(torch.cat([x[neighbors], edges], dim=1) @ self.W).unflatten(1, (n_heads, -1))
        alpha = softplus((torch.cat([z_i, z_j], dim=2) * self.att).sum(dim=2))
        self.alpha = softmax(softplus(self.bn1(alpha)), centers, num_nodes=len(x))
        summed = z_j.new_zeros(len(x), *z_j.shape[1:]).index_add(0, centers, z_j * self.alpha[:, :, None])
        return x + self.norm(summed.mean(dim=1) + self.bias)


class PlainDeeperGATGNN(nn.Module):
    """The network up to the vectors of the atoms; distances are expanded as by the authors, their range being 8 Å."""

    def __init__(self, d, n_layers, n_heads):
        super().__init__()
        self.features = torch.from_numpy(element_features().copy())
        self.embedding = nn.Linear(self.features.shape[1], d)
        self.lengths = nn.Linear(50, d)
        self.convs = nn.ModuleList(PlainLayer(d, n_heads) for _ in range(n_layers))

    def forward(self, batch):
        neighbors, centers = batch.edge_index
        scaled = batch.distance.double()[:, None] / 8 - torch.linspace(0, 1, 50, dtype=torch.float64)
        edges = leaky_relu(self.lengths(torch.exp(-0.5 / 0.2**2 * scaled**2)), 0.2)
        nodes = [leaky_relu(self.embedding(self.features[batch.z].double()), 0.2)]
        for conv in self.convs:
            nodes.append(conv(nodes[-1], edges, neighbors, centers))
        return nodes


def name_in_plain(name):
    """What a weight of the encoder is called in the plain network."""
    for ours, theirs in {"linear.weight": "W", "attention_norm": "bn1", "attention": "att"}.items():
        name = name.replace(ours, theirs)
    return name


def plain_copy(encoder):
    """The plain network in double precision, with the encoder's weights."""
    plain = PlainDeeperGATGNN(*(encoder.config[name] for name in ("hidden_dim", "n_layers", "n_heads"))).double()
    state = {name_in_plain(name): tensor.t() if name.endswith("linear.weight") else tensor
             for name, tensor in encoder.state_dict().items()
             if name.startswith(("embedding", "lengths", "convs"))}  # fmt: skip
    plain.load_state_dict(state)
    return plain.train(encoder.training)


@pytest.fixture
def batch(crystals, make_batch):
    return make_batch(crystals[:: len(crystals) // 64][:64], "deepergatgnn")


@pytest.fixture(params=["train", "eval"])
def encoder(request, randomise):
    torch.manual_seed(0)
    encoder = randomise(DeeperGATGNN()).train(request.param == "train")
    for conv in encoder.convs:
        nn.init.normal_(conv.bias, 0, 0.3)
    return encoder


def test_outputs_are_those_of_the_equations(encoder, batch):
    expected = plain_copy(encoder)(batch)[-1]
    encoded = encoder(batch)
    assert encoded.edge is None
    assert encoded.node.shape == expected.shape
    errors = (encoded.node - expected).abs().amax(dim=0)
    assert (errors <= 1e-5 * expected.abs().amax(dim=0)).all()
    assert (errors <= 2e-4 * expected.std(dim=0)).all()


def test_gradients_are_those_of_the_equations(encoder, batch):
    plain = plain_copy(encoder)
    node = plain(batch)[-1]
    cotangent = torch.randn(node.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (node * cotangent).sum().backward()
    (encoder(batch).node * cotangent).sum().backward()
    expected = {name: p.grad for name, p in plain.named_parameters()}
    found = {name_in_plain(name): p.grad.t() if name.endswith("linear.weight") else p.grad
             for name, p in encoder.named_parameters() if not name.startswith("readout")}  # fmt: skip
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        # The small variance that group normalisation divides by costs precision; double precision is tested below.
        assert (found[name] - grad).abs().max() <= 1e-2 * grad.abs().max(), name


def test_equations_hold_in_double_precision_to_rounding(batch, randomise):
    encoder = randomise(DeeperGATGNN(hidden_dim=7, n_layers=2, n_heads=3)).double().train()
    encoder.gaussian_centers = torch.linspace(0, 8, 50, dtype=torch.float64)
    plain = plain_copy(encoder)
    node = plain(batch)[-1]
    batch.distance = batch.distance.double()
    found = encoder.layer_outputs(batch).nodes[-1]
    torch.testing.assert_close(found, node, rtol=1e-9, atol=1e-9)
    cotangent = torch.randn(node.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (node * cotangent).sum().backward()
    (found * cotangent).sum().backward()
    for name, p in encoder.named_parameters():
        if not name.startswith("readout"):
            expected = dict(plain.named_parameters())[name_in_plain(name)].grad
            torch.testing.assert_close(p.grad, expected.t() if name.endswith("linear.weight") else expected)


def test_running_statistics_are_those_of_the_equations(batch, randomise):
    torch.manual_seed(0)
    encoder = randomise(DeeperGATGNN()).train()
    plain = plain_copy(encoder)
    for _ in range(3):
        encoder(batch)
        plain(batch)
    expected = dict(plain.named_buffers())
    for name, buffer in encoder.named_buffers():
        if "running" in name:
            torch.testing.assert_close(buffer.double(), expected[name_in_plain(name)], rtol=1e-4, atol=1e-4)


def test_all_layers_are_the_embedding_and_every_layer_side_by_side(batch, randomise):
    encoder = randomise(DeeperGATGNN(hidden_dim=7, n_layers=3, readout="mean", pooled_layers="all")).eval()
    expected = torch.cat(plain_copy(encoder)(batch), dim=1)
    node = encoder(batch).node
    assert node.shape == (len(batch.z), 28)
    assert (encoder.node_dim, encoder.graph_dim) == (28, 28)
    torch.testing.assert_close(node.double(), expected, rtol=1e-5, atol=1e-5)


def test_attention_weights_are_those_of_the_equations_and_sum_to_one(encoder, batch):
    plain = plain_copy(encoder)
    plain(batch)
    found = []
    for conv in encoder.convs:
        conv.attention_weights = lambda *args, weights=conv.attention_weights: found.append(weights(*args)) or found[-1]
    encoder(batch)
    for weights, conv in zip(found, plain.convs, strict=True):
        assert weights.shape == (len(batch.distance), 4)
        torch.testing.assert_close(weights.double(), conv.alpha, rtol=1e-4, atol=1e-5)
        sums = torch.zeros(len(batch.z), 4).index_add(0, batch.edge_index[1], weights)
        torch.testing.assert_close(sums, torch.ones_like(sums))


def test_pairs_are_each_atom_and_length_once(batch):
    lengths, length = batch.distance.unique(return_inverse=True)
    pairs = AtomLengthPairs.of(Topology.of(batch), length)
    neighbors, centers = batch.edge_index
    assert len(torch.stack([pairs.atom, pairs.length]).unique(dim=1).T) == len(pairs.atom) < 2 * len(centers)
    for end, found in ((centers, pairs.of_center), (neighbors, pairs.of_neighbor)):
        assert torch.equal(pairs.atom[found], end)
        assert torch.equal(lengths[pairs.length[found]], batch.distance)


def test_config_holds_all_that_was_chosen(batch):
    chosen = {
        "hidden_dim": 7,
        "n_layers": 2,
        "n_heads": 3,
        "n_gaussians": 20,
        "readout": "mean",
        "pooled_layers": "all",
    }
    encoder = DeeperGATGNN(**chosen).eval()
    assert encoder.config == chosen
    rebuilt = DeeperGATGNN(**encoder.config).eval()
    rebuilt.load_state_dict(encoder.state_dict())
    assert torch.equal(rebuilt(batch).graph, encoder(batch).graph)


def test_twenty_layers_with_group_normalisation_keep_crystals_apart(batch):
    spreads = []
    for lamda in (0.01, 0.0):
        torch.manual_seed(0)
        encoder = DeeperGATGNN(n_layers=20, readout="mean").train()
        for conv in encoder.convs:
            conv.norm.lamda = lamda
        with torch.no_grad():
            graph = encoder(batch).graph
        spreads.append(graph.std(dim=0).norm() / graph.mean(dim=0).norm())
    assert spreads[0] > 0.01
    assert spreads[0] > 1.5 * spreads[1]


@pytest.mark.parametrize("training", [True, False])
def test_unusual_crystals_leave_everything_finite(training, unusual_crystals, make_batch, randomise):
    for crystals in unusual_crystals.values():
        encoder = randomise(DeeperGATGNN()).train(training)
        encoded = encoder(make_batch(crystals, "deepergatgnn"))
        encoded.graph.sum().backward()
        assert torch.isfinite(encoded.node).all()
        assert torch.isfinite(encoded.graph).all()
        assert all(torch.isfinite(buffer).all() for buffer in encoder.buffers())
        assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_large_vectors_and_masked_distances_leave_everything_finite(batch, randomise):
    encoder = randomise(DeeperGATGNN()).train()
    with torch.no_grad():
        encoder.embedding.weight.mul_(1e3)
    batch.distance[::2] = torch.inf
    encoded = encoder(batch)
    encoded.graph.sum().backward()
    assert torch.isfinite(encoded.graph).all()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())
