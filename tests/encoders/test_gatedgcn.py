"""GatedGCN against its equations, written down plainly."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.special import eval_legendre
from torch import nn
from torch.nn.functional import silu

from crystalssl._geometry import edge_vectors
from crystalssl.encoders import GatedGCN, Sight
from crystalssl.encoders._elements import element_features
from crystalssl.graphs import RECIPES

CUTOFF = 8.0


class PlainAngles(nn.Module):
    """The second line of the equations, over all pairs of edges."""

    def __init__(self, d, l_max, channels):
        super().__init__()
        self.l_max = l_max
        self.radial, self.source = nn.Linear(d, channels), nn.Linear(d, channels)

    def forward(self, x, e, f, batch):
        neighbors, centers = batch.edge_index
        units = nn.functional.normalize(edge_vectors(batch).double(), dim=1)
        cosines, of_one_atom = units @ units.T, centers[:, None] == centers
        a = self.radial(e) * (1 + self.source(x)[neighbors]) * f[:, None] / 12
        sums = [
            (torch.from_numpy(eval_legendre(degree, cosines.numpy())) * of_one_atom) @ a
            for degree in range(1, self.l_max + 1)
        ]
        power = [torch.zeros(len(x), a.shape[1]).double().index_add(0, centers, a * s) for s in sums]
        return torch.cat(power, dim=1), torch.cat(sums, dim=1)


class PlainConv(nn.Module):
    """The last two lines of the equations."""

    def __init__(self, d, extra):
        super().__init__()
        self.A, self.B, self.V, self.U = (nn.Linear(d + extra, d) for _ in range(4))
        self.C = nn.Linear(d + extra, d, bias=False)
        self.node_norm = nn.LayerNorm(d)
        self.edge_norm = nn.LayerNorm(d)

    def forward(self, x, e, f, neighbors, centers, p, s):
        xp, es = torch.cat([x, p], dim=1), torch.cat([e, s], dim=1)
        m = self.A(xp)[centers] + self.B(xp)[neighbors] + self.C(es)
        weights = torch.sigmoid(m) * f[:, None]
        above = torch.zeros_like(x).index_add(0, centers, weights * self.V(xp)[neighbors])
        below = torch.zeros_like(x).index_add(0, centers, weights)
        h = above / (below + 1e-6)
        return x + silu(self.node_norm(self.U(xp) + h)), e + silu(self.edge_norm(m))


class PlainGatedGCN(nn.Module):
    """The network up to the pooled vector; 48 Gaussians from 0 to 8 Å, 1.5 times as wide as their spacing."""

    def __init__(self, d, n_layers, l_max, channels):
        super().__init__()
        self.features = torch.from_numpy(element_features().copy()).double()
        self.properties = nn.Linear(self.features.shape[1], d)
        self.elements = nn.Embedding(119, d)
        self.lengths = nn.Linear(48, d)
        self.angular = nn.ModuleList(PlainAngles(d, l_max, channels) for _ in range(n_layers if l_max else 0))
        self.convs = nn.ModuleList(PlainConv(d, l_max * channels) for _ in range(n_layers))

    def forward(self, batch):
        neighbors, centers = batch.edge_index
        distance = batch.distance.double()
        within = distance < CUTOFF
        g = batch.edge_weight.double()
        f = torch.where(within, g * (1 + torch.cos(math.pi * distance.clamp(max=CUTOFF) / CUTOFF)) / 2, 0.0)
        steps = CUTOFF / 47 * torch.arange(48, dtype=torch.float64)
        e = self.lengths(torch.exp(-((distance[:, None] - steps) ** 2) / (1.5 * CUTOFF / 47) ** 2))
        nodes = [self.properties(self.features[batch.z]) + self.elements(batch.z)]
        none = torch.zeros(len(batch.z), 0).double(), torch.zeros(len(e), 0).double()
        for conv, angular in itertools.zip_longest(self.convs, self.angular):
            p, s = none if angular is None else angular(nodes[-1], e, f, batch)
            x, e = conv(nodes[-1], e, f, neighbors, centers, p, s)
            nodes.append(x)
        rows = []
        for i in range(batch.num_graphs):
            atoms, edges = nodes[-1][batch.batch == i], e[batch.batch[centers] == i]
            rows.append(torch.cat([*statistics(atoms), *faded_statistics(edges, g[batch.batch[centers] == i])]))
        return nodes, e, torch.stack(rows)


def statistics(rows):
    """Mean, maximum and minimum; zeros of nothing."""
    return [rows.mean(dim=0), rows.amax(dim=0), rows.amin(dim=0)] if len(rows) else [rows.sum(dim=0)] * 3


def faded_statistics(edges, weights):
    """Mean and maximum of edges of which some are about to be cut off."""
    if not len(edges):
        return [edges.sum(dim=0)] * 2
    largest, weights = weights.max(), (weights / weights.max())[:, None]
    return [largest * (weights * edges).sum(dim=0) / weights.sum(), largest * (edges + weights.log()).amax(dim=0)]


def plain_names(encoder):
    """The encoder's name, the rows and the plain network's name of every weight."""
    d = encoder.config["hidden_dim"]
    for name, _ in encoder.named_parameters():
        if ".nodes." in name:
            for i, part in enumerate("ABVU"):
                yield name, slice(i * d, (i + 1) * d), name.replace("nodes", part)
        else:
            yield name, slice(None), name.replace(".edge.", ".C.")


def plain_copy(encoder):
    """The plain network in double precision, with the encoder's weights."""
    plain = PlainGatedGCN(
        *(encoder.config[name] for name in ("hidden_dim", "n_layers", "l_max", "angular_channels"))
    ).double()
    weights = dict(encoder.named_parameters())
    state = {theirs: weights[ours][rows].detach().double() for ours, rows, theirs in plain_names(encoder)}
    plain.load_state_dict(state, strict=True)
    return plain


def make_encoder(**params):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = GatedGCN(**{"hidden_dim": 12, "n_layers": 3, **params})
        for part in encoder.modules():
            if isinstance(part, nn.LayerNorm):
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias, 0, 0.3)
    return encoder


@pytest.fixture
def batch(prototypes, unusual_crystals, make_batch):
    """With crystals of few and of many elements, and an isolated atom."""
    return make_batch([*prototypes[:60:6], *unusual_crystals["isolated atom"]], "gatedgcn")


def assert_close(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize(
    "params",
    [{}, {"hidden_dim": 7, "n_layers": 1, "l_max": 2}, {"l_max": 0}, {"hidden_dim": 64, "n_layers": 4}],
    ids=str,
)
def test_outputs_are_those_of_the_equations(params, batch):
    encoder = make_encoder(**params)
    nodes, edge, graph = plain_copy(encoder)(batch)
    encoded = encoder(batch)
    assert_close(encoded.node, nodes[-1])
    assert_close(encoded.edge, edge)
    assert_close(encoded.graph, graph)


def test_gradients_are_those_of_the_equations(batch):
    encoder = make_encoder()
    plain = plain_copy(encoder)
    nodes, edge, graph = plain(batch)
    encoded = encoder(batch)
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in (nodes[-1], edge, graph)]
    sum((x * c).sum() for x, c in zip((nodes[-1], edge, graph), cotangents, strict=True)).backward()
    sum((x * c).sum() for x, c in zip(encoded[:3], cotangents, strict=True)).backward()
    found, expected = dict(encoder.named_parameters()), dict(plain.named_parameters())
    for ours, rows, theirs in plain_names(encoder):
        grad = expected[theirs].grad
        assert (grad != 0).any(), theirs
        assert (found[ours].grad[rows] - grad).abs().max() <= 1e-4 * grad.abs().max(), theirs


def test_all_layers_are_the_embedding_and_every_convolution_side_by_side(batch):
    encoder = make_encoder(pooled_layers="all")
    nodes, _, _ = plain_copy(encoder)(batch)
    assert encoder.node_dim == 48
    assert encoder.graph_dim == 3 * 48 + 2 * 12
    assert_close(encoder(batch).node, torch.cat(nodes, dim=1))


def test_defaults():
    encoder = GatedGCN()
    sizes = {"hidden_dim": 64, "n_layers": 4, "l_max": 4, "angular_channels": 16}
    assert encoder.config == {**sizes, "readout": "mean+max+min", "pooled_layers": "last"}
    assert (encoder.node_dim, encoder.edge_dim, encoder.graph_dim) == (64, 64, 320)
    assert encoder.recipe == RECIPES["gatedgcn"]
    assert encoder.recipe.cutoff == CUTOFF


def test_config_holds_all_that_was_chosen(batch):
    sizes = {"hidden_dim": 7, "n_layers": 2, "l_max": 3, "angular_channels": 5}
    chosen = {**sizes, "readout": "set2set", "pooled_layers": "all"}
    encoder = make_encoder(**chosen)
    assert encoder.config == chosen
    rebuilt = GatedGCN(**encoder.config)
    rebuilt.load_state_dict(encoder.state_dict())
    assert torch.equal(rebuilt(batch).graph, encoder(batch).graph)


# ---------------------------------------------------------------------- cutoff


def with_length(batch, edges, length):
    """The batch with some edges of another length."""
    batch = batch.__copy__()
    batch._num_graphs = int(batch.batch[-1]) + 1
    batch.distance = batch.distance.masked_fill(edges, length)
    return batch


@pytest.mark.parametrize("length", [CUTOFF, torch.inf])
def test_neighbour_at_the_cutoff_or_masked_says_nothing(batch, length):
    encoder = make_encoder()
    some = torch.rand(len(batch.distance), generator=torch.Generator().manual_seed(0)) < 0.3
    before = encoder(with_length(batch, some, length)).node
    # The gates are shut: what the neighbour is like does not come through. Other edges of the same atoms are open.
    gone = with_length(batch, some, length)
    gone.edge_index = batch.edge_index.clone()
    plain = plain_copy(encoder)
    gone.edge_index[0, some] = gone.edge_index[1, some]
    expected, _, _ = plain(gone)
    assert_close(before, expected[-1])
    assert (before - encoder(batch).node).abs().max() > 1e-3


@pytest.mark.parametrize("length", [CUTOFF, torch.inf])
def test_atom_of_whom_all_neighbours_are_masked_is_an_isolated_one(batch, length, unusual_crystals, make_batch):
    encoder = make_encoder()
    masked = with_length(batch, torch.ones(len(batch.distance), dtype=torch.bool), length)
    masked.z = torch.full_like(batch.z, 18)
    node = encoder(masked).node
    argon = encoder(make_batch(unusual_crystals["isolated atom"], "gatedgcn")).node
    torch.testing.assert_close(node, argon.expand_as(node))


def test_neighbour_fades_out_before_it_is_cut_off(batch):
    encoder = make_encoder()
    some = torch.arange(len(batch.distance)) % 5 == 0
    at = {length: encoder(with_length(batch, some, length)).node for length in (7.0, 7.9, 7.99, CUTOFF)}
    steps = [(at[length] - at[CUTOFF]).abs().max() for length in (7.0, 7.9, 7.99)]
    assert steps[0] > steps[1] > steps[2]
    assert steps[2] < 0.02 * steps[0]


def test_masked_elements_leave_everything_finite(batch):
    encoder = make_encoder()
    batch.z = torch.zeros_like(batch.z)
    batch.distance = torch.full_like(batch.distance, torch.inf)
    assert_finite(encoder, batch)


# ---------------------------------------------------------------------- what may break


def assert_finite(encoder, batch):
    encoded = encoder(batch)
    (encoded.graph.sum() + encoded.edge.sum()).backward()
    assert all(torch.isfinite(tensor).all() for tensor in encoded if tensor is not None)
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


@pytest.mark.parametrize("readout", ["mean+max+min", "set2set", "attention"])
def test_unusual_crystals_leave_everything_finite(readout, unusual_crystals, make_batch):
    for structures in unusual_crystals.values():
        assert_finite(make_encoder(readout=readout), make_batch(structures, "gatedgcn"))


def test_crystals_of_a_batch_are_independent_in_training_too(prototypes, make_batch):
    encoder = make_encoder().train()
    together = encoder(make_batch(prototypes[:30:6], "gatedgcn")).graph
    alone = torch.cat([encoder(make_batch([crystal], "gatedgcn")).graph for crystal in prototypes[:30:6]])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_networks_of_version_0_1_know_no_angles(make_batch, prototypes):
    encoder, batch = GatedGCN(l_max=0), make_batch(prototypes[:3], "gatedgcn")
    expected, state = encoder(batch).graph, encoder.__getstate__()
    del state["l_max"], state["_modules"]["angular"], state["config"]["l_max"], state["config"]["angular_channels"]
    old = GatedGCN.__new__(GatedGCN)
    old.__setstate__(state)
    assert torch.equal(old(batch).graph, expected)
    assert old.sight == Sight(4, 0)
