"""CGCNN against the equations of Xie and Grossman, written down plainly."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from crystalssl.encoders import CGCNN
from crystalssl.encoders._elements import element_features


class PlainConv(nn.Module):
    """Eq. 5 of Phys. Rev. Lett. 120, 145301, with the batch normalisation of the authors' code."""

    def __init__(self, d, e):
        super().__init__()
        self.fc_full = nn.Linear(2 * d + e, 2 * d)
        self.bn1 = nn.BatchNorm1d(2 * d)
        self.bn2 = nn.BatchNorm1d(d)

    def forward(self, x, edges, neighbors, centers):
        z = self.bn1(self.fc_full(torch.cat([x[centers], x[neighbors], edges], dim=1)))
        gate, core = z.chunk(2, dim=1)
        summed = torch.zeros_like(x).index_add(0, centers, torch.sigmoid(gate) * softplus(core))
        return softplus(x + self.bn2(summed))


class PlainCGCNN(nn.Module):
    """The network up to the pooled vector; distances are expanded from 0 to 8 Å in steps of 0.2 Å."""

    def __init__(self, d, n_layers):
        super().__init__()
        self.features = torch.from_numpy(element_features().copy())
        self.embedding = nn.Linear(self.features.shape[1], d)
        self.convs = nn.ModuleList(PlainConv(d, 41) for _ in range(n_layers))

    def forward(self, batch):
        neighbors, centers = batch.edge_index
        steps = 0.2 * torch.arange(41, dtype=torch.float64)
        edges = torch.exp(-((batch.distance.double()[:, None] - steps) ** 2) / 0.2**2)
        x = self.embedding(self.features[batch.z].double())
        for conv in self.convs:
            x = conv(x, edges, neighbors, centers)
        return x, torch.stack([x[batch.batch == i].mean(dim=0) for i in range(batch.num_graphs)])


def plain_copy(encoder):
    """The plain network in double precision, with the encoder's weights."""
    plain = PlainCGCNN(encoder.config["hidden_dim"], encoder.config["n_layers"]).double()
    plain.embedding.load_state_dict(encoder.embedding.state_dict())
    for ours, theirs in zip(encoder.convs, plain.convs, strict=True):
        for name, (gate, core) in {"fc_full": (ours.gate, ours.core), "bn1": (ours.gate_norm, ours.core_norm)}.items():
            target = getattr(theirs, name).state_dict()
            joined = {key: torch.cat([gate.state_dict()[key], core.state_dict()[key]]) for key in target
                      if key != "num_batches_tracked"}  # fmt: skip
            getattr(theirs, name).load_state_dict(target | joined)
        theirs.bn2.load_state_dict(ours.norm.state_dict())
    return plain.train(encoder.training)


def parameters_of_plain(plain):
    """Parameters by the encoder's names."""
    yield from ((f"embedding.{name}", p.grad) for name, p in plain.embedding.named_parameters())
    for i, conv in enumerate(plain.convs):
        for name, part in (("", conv.fc_full), ("_norm", conv.bn1)):
            for kind, p in part.named_parameters():
                gate, core = p.grad.chunk(2)
                yield f"convs.{i}.gate{name}.{kind}", gate
                yield f"convs.{i}.core{name}.{kind}", core
        yield from ((f"convs.{i}.norm.{name}", p.grad) for name, p in conv.bn2.named_parameters())


@pytest.fixture
def batch(crystals, make_batch):
    return make_batch(crystals[:: len(crystals) // 64][:64])


@pytest.fixture(params=["train", "eval"])
def encoder(request, randomise):
    torch.manual_seed(0)
    return randomise(CGCNN()).train(request.param == "train")


def test_outputs_are_those_of_the_equations(encoder, batch):
    node, graph = plain_copy(encoder)(batch)
    encoded = encoder(batch)
    assert encoded.edge is None
    for found, expected in ((encoded.node, node), (encoded.graph, graph)):
        assert found.shape == expected.shape
        errors = (found - expected).abs().amax(dim=0)
        assert (errors <= 2e-5 * expected.abs().amax(dim=0)).all()
        assert (errors <= 1e-4 * expected.std(dim=0)).all()


def test_gradients_are_those_of_the_equations(encoder, batch):
    plain = plain_copy(encoder)
    _, graph = plain(batch)
    cotangent = torch.randn(graph.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (graph * cotangent).sum().backward()
    (encoder(batch).graph * cotangent).sum().backward()
    expected = dict(parameters_of_plain(plain))
    found = {name: p.grad for name, p in encoder.named_parameters()}
    assert found.keys() == expected.keys()
    largest = max(grad.abs().max() for grad in expected.values())
    for name, grad in expected.items():
        # A bias before batch normalisation has no gradient in training.
        no_gradient = encoder.training and name.endswith((".gate.bias", ".core.bias"))
        scale = largest if no_gradient else grad.abs().max()
        assert (found[name] - grad).abs().max() <= 1e-4 * scale, name


def test_running_statistics_are_those_of_the_equations(batch, randomise):
    torch.manual_seed(0)
    encoder = randomise(CGCNN()).train()
    plain = plain_copy(encoder)
    for _ in range(3):
        encoder(batch)
        plain(batch)
    for ours, theirs in zip(encoder.convs, plain.convs, strict=True):
        for name in ("running_mean", "running_var"):
            joined = torch.cat([getattr(ours.gate_norm, name), getattr(ours.core_norm, name)])
            torch.testing.assert_close(joined.double(), getattr(theirs.bn1, name), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(
                getattr(ours.norm, name).double(), getattr(theirs.bn2, name), rtol=1e-4, atol=1e-4
            )


def test_equations_hold_for_other_widths_and_depths(batch, randomise):
    encoder = randomise(CGCNN(hidden_dim=7, n_layers=1)).eval()
    node, _ = plain_copy(encoder)(batch)
    torch.testing.assert_close(encoder(batch).node.double(), node, rtol=1e-5, atol=1e-5)


def test_all_layers_are_the_embedding_and_every_convolution_side_by_side(batch, randomise):
    encoder = randomise(CGCNN(hidden_dim=7, n_layers=3, pooled_layers="all")).eval()
    plain = plain_copy(encoder)
    outputs = []
    for part in (plain.embedding, *plain.convs):
        part.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    plain(batch)
    node = encoder(batch).node
    assert node.shape == (len(batch.z), 28)
    assert (encoder.node_dim, encoder.graph_dim) == (28, 28)
    torch.testing.assert_close(node.double(), torch.cat(outputs, dim=1), rtol=1e-5, atol=1e-5)
    # The last of them is what the default gives, of the same weights.
    last = CGCNN(hidden_dim=7, n_layers=3).eval()
    last.load_state_dict(encoder.state_dict())
    assert torch.equal(last(batch).graph, encoder(batch).graph[:, -7:])


def test_config_holds_all_that_was_chosen(batch):
    chosen = {"hidden_dim": 7, "n_layers": 2, "n_gaussians": 20, "readout": "mean+max+min", "pooled_layers": "all"}
    encoder = CGCNN(**chosen).eval()
    assert encoder.config == chosen
    rebuilt = CGCNN(**encoder.config).eval()
    rebuilt.load_state_dict(encoder.state_dict())
    assert torch.equal(rebuilt(batch).graph, encoder(batch).graph)


def test_gaussians_are_the_papers():
    encoder = CGCNN()
    torch.testing.assert_close(encoder.gaussian_centers, 0.2 * torch.arange(41))
    assert encoder.gaussian_width == pytest.approx(0.2)
    assert (encoder.config["hidden_dim"], len(encoder.convs), encoder.graph_dim) == (64, 3, 64)


def test_masked_atom_has_no_element_and_masked_edge_no_length(batch, randomise):
    encoder = randomise(CGCNN(n_layers=1)).eval()
    batch.z = torch.zeros_like(batch.z)
    batch.distance = torch.full_like(batch.distance, torch.inf)
    encoded = encoder(batch)
    # Then atoms differ by the number of their neighbours only.
    degrees = batch.edge_ptr.diff()
    assert len(degrees.unique()) > 1
    for degree in degrees.unique():
        rows = encoded.node[degrees == degree]
        torch.testing.assert_close(rows, rows[:1].expand_as(rows))
    assert torch.isfinite(encoded.graph).all()
