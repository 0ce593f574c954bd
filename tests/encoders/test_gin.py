"""GIN against its equations, written down plainly."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from crystalssl.encoders._elements import element_features
from crystalssl.encoders.gin import GIN


class PlainConv(nn.Module):
    """A sum over neighbours and an MLP, its weights named as PyG's."""

    def __init__(self, d):
        super().__init__()
        self.lin = nn.Linear(41, d)
        self.eps = nn.Parameter(torch.zeros(1))
        self.nn = nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, d))

    def forward(self, x, edges, neighbors, centers):
        messages = torch.relu(x[neighbors] + self.lin(edges))
        return self.nn((1 + self.eps) * x + torch.zeros_like(x).index_add(0, centers, messages))


class PlainGIN(nn.Module):
    """The network up to the pooled vector; distances are expanded from 0 to 8 Å in steps of 0.2 Å."""

    def __init__(self, d, n_layers):
        super().__init__()
        self.features = torch.from_numpy(element_features().copy())
        self.embedding = nn.Linear(self.features.shape[1], d)
        self.convs = nn.ModuleList(PlainConv(d) for _ in range(n_layers))
        self.norms = nn.ModuleList(nn.BatchNorm1d(d) for _ in range(n_layers))

    def forward(self, batch):
        steps = 0.2 * torch.arange(41, dtype=torch.float64)
        edges = torch.exp(-((batch.distance.double()[:, None] - steps) ** 2) / 0.2**2)
        nodes = [self.embedding(self.features[batch.z].double())]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(nodes[-1], edges, *batch.edge_index))
            nodes.append(x if conv is self.convs[-1] else torch.relu(x))
        return nodes, torch.stack([nodes[-1][batch.batch == i].mean(dim=0) for i in range(batch.num_graphs)])


def plain_copy(encoder):
    """The plain network in double precision, with the encoder's weights."""
    plain = PlainGIN(encoder.config["hidden_dim"], encoder.config["n_layers"]).double()
    tables = ("element_features", "gaussian_centers")
    plain.load_state_dict({name: tensor for name, tensor in encoder.state_dict().items() if name not in tables})
    return plain.train(encoder.training)


@pytest.fixture
def batch(crystals, make_batch):
    return make_batch(crystals[:: len(crystals) // 64][:64], "gin")


@pytest.fixture(params=["train", "eval"])
def encoder(request, randomise):
    torch.manual_seed(0)
    encoder = randomise(GIN()).train(request.param == "train")
    for i, conv in enumerate(encoder.convs):
        torch.nn.init.constant_(conv.eps, 0.1 * (i + 1))
    return encoder


def test_outputs_are_those_of_the_equations(encoder, batch):
    nodes, graph = plain_copy(encoder)(batch)
    encoded = encoder(batch)
    assert encoded.edge is None
    for found, expected in ((encoded.node, nodes[-1]), (encoded.graph, graph)):
        assert found.shape == expected.shape
        errors = (found - expected).abs().amax(dim=0)
        # Batch statistics cost precision: in training single precision is 1.3e-5 away.
        tolerance = 3e-5 if encoder.training else 1e-5
        assert (errors <= tolerance * expected.abs().amax(dim=0)).all()


def test_gradients_are_those_of_the_equations(encoder, batch):
    plain = plain_copy(encoder)
    _, graph = plain(batch)
    cotangent = torch.randn(graph.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (graph * cotangent).sum().backward()
    (encoder(batch).graph * cotangent).sum().backward()
    expected = {name: p.grad for name, p in plain.named_parameters()}
    found = {name: p.grad for name, p in encoder.named_parameters()}
    assert found.keys() == expected.keys()
    largest = max(grad.abs().max() for grad in expected.values())
    for name, grad in expected.items():
        # A bias before batch normalisation has no gradient in training.
        scale = largest if encoder.training and name.endswith(".nn.2.bias") else grad.abs().max()
        # A sum so near zero that the two precisions disagree about its ReLU changes a gradient by more than rounding.
        assert (found[name] - grad).abs().max() <= 1e-3 * scale, name


def test_running_statistics_are_those_of_the_equations(batch, randomise):
    torch.manual_seed(0)
    encoder = randomise(GIN()).train()
    plain = plain_copy(encoder)
    for _ in range(3):
        encoder(batch)
        plain(batch)
    for ours, norm in zip(encoder.norms, plain.norms, strict=True):
        torch.testing.assert_close(ours.running_mean.double(), norm.running_mean, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.running_var.double(), norm.running_var, rtol=1e-4, atol=1e-4)


def test_all_layers_are_the_embedding_and_every_layer_side_by_side(batch, randomise):
    encoder = randomise(GIN(hidden_dim=7, n_layers=3, pooled_layers="all")).eval()
    nodes, _ = plain_copy(encoder)(batch)
    node = encoder(batch).node
    assert node.shape == (len(batch.z), 28)
    assert (encoder.node_dim, encoder.graph_dim) == (28, 28)
    torch.testing.assert_close(node.double(), torch.cat(nodes, dim=1), rtol=1e-5, atol=1e-5)


def test_config_holds_all_that_was_chosen(batch):
    chosen = {"hidden_dim": 7, "n_layers": 2, "n_gaussians": 20, "readout": "mean+max+min", "pooled_layers": "all"}
    encoder = GIN(**chosen).eval()
    assert encoder.config == chosen
    rebuilt = GIN(**encoder.config).eval()
    rebuilt.load_state_dict(encoder.state_dict())
    assert torch.equal(rebuilt(batch).graph, encoder(batch).graph)


@pytest.mark.parametrize("training", [True, False])
def test_unusual_crystals_leave_everything_finite(training, unusual_crystals, make_batch, randomise):
    for crystals in unusual_crystals.values():
        encoder = randomise(GIN()).train(training)
        encoded = encoder(make_batch(crystals, "gin"))
        encoded.graph.sum().backward()
        assert torch.isfinite(encoded.node).all()
        assert torch.isfinite(encoded.graph).all()
        assert all(torch.isfinite(buffer).all() for buffer in encoder.buffers())
        assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_weights_that_were_saved_under_other_names_are_loaded(batch, randomise):
    """Until version 0.1 the layers were the package's own."""
    encoder = randomise(GIN(hidden_dim=7, n_layers=2)).eval()
    old = {
        name.replace(".lin.", ".edge.").replace(".nn.", ".mlp.").replace(".eps", ".epsilon"): tensor
        for name, tensor in encoder.state_dict().items()
        if not name.startswith("norms.")
    }
    old |= {
        name.replace("norms.", "convs.").replace(f".{i}.", f".{i}.norm."): tensor
        for name, tensor in encoder.state_dict().items()
        for i in range(2)
        if name.startswith(f"norms.{i}.")
    }
    before = copy.copy(old)
    loaded = GIN(hidden_dim=7, n_layers=2).eval()
    loaded.load_pretrained(old)
    assert torch.equal(loaded(batch).graph, encoder(batch).graph)
    assert old.keys() == before.keys()
