"""ALIGNN against its equations, written down plainly, and against the authors' code."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import silu

from crystalssl.encoders._elements import element_features
from crystalssl.encoders._topology import Topology
from crystalssl.encoders.alignn import ALIGNN, bond_cosines, line_topology
from crystalssl.graphs import RECIPES


def bond_vectors(batch):
    """From an edge's start, the neighbour, to its end, the centre; in double precision."""
    starts, ends = batch.edge_index
    pos, cell, image = batch.pos.double(), batch.cell.double(), batch.image.double()
    return pos[ends] - pos[starts] - torch.einsum("ei,eij->ej", image, cell[batch.batch[ends]])


def pairs_of(batch):
    """Every edge that ends where another starts, and that other, found one by one."""
    into = {}
    for edge, end in enumerate(batch.edge_index[1].tolist()):
        into.setdefault(end, []).append(edge)
    pairs = [(first, second) for second, j in enumerate(batch.edge_index[0].tolist()) for first in into.get(j, [])]
    return torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T


def cosines_of(vectors, first, second):
    """Of the angle, at the atom that they share, between the start of the first edge and the end of the second."""
    dot = -(vectors[first] * vectors[second]).sum(dim=1)
    return dot / (vectors.norm(dim=1)[first] * vectors.norm(dim=1)[second])


class PlainConv(nn.Module):
    """Edge-gated graph convolution."""

    def __init__(self, d, updates_edges=True):
        super().__init__()
        self.nodes = nn.Linear(d, 4 * d)
        self.edge = nn.Linear(d, d, bias=False)
        self.node_norm = nn.LayerNorm(d)
        self.edge_norm = nn.LayerNorm(d) if updates_edges else None

    def forward(self, x, e, neighbors, centers):
        a, b, v, u = self.nodes(x).chunk(4, dim=1)
        m = a[centers] + b[neighbors] + self.edge(e)
        gate = torch.sigmoid(m)
        above = torch.zeros_like(x).index_add(0, centers, gate * v[neighbors])
        below = torch.zeros_like(x).index_add(0, centers, gate)
        x = x + silu(self.node_norm(u + above / (below + 1e-6)))
        return x, e + silu(self.edge_norm(m)) if self.edge_norm else None


def layer(a, b):
    return nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.SiLU())


class PlainALIGNN(nn.Module):
    """The network up to the pooled vector, its weights named as the encoder's."""

    def __init__(self, d, n_layers, n_gcn_layers):
        super().__init__()
        self.features = torch.from_numpy(element_features().copy()).double()
        self.embedding = layer(self.features.shape[1], d)
        self.lengths = nn.Sequential(layer(80, 64), layer(64, d))
        self.convs = nn.ModuleList(PlainConv(d) for _ in range(n_layers + n_gcn_layers))
        self.line_convs = nn.ModuleList(PlainConv(d, i < n_layers - 1) for i in range(n_layers))
        if n_layers:
            self.cosines = nn.Sequential(layer(40, 64), layer(64, d))

    def forward(self, batch):
        steps = torch.arange(80, dtype=torch.float64) * 8 / 79
        e = self.lengths(torch.exp(-((batch.distance.double()[:, None] - steps) ** 2) / (8 / 79)))
        if self.line_convs:
            first, second = pairs_of(batch)
            cosines = cosines_of(bond_vectors(batch), first, second)
            steps = torch.arange(40, dtype=torch.float64) * 2 / 39 - 1
            p = self.cosines(torch.exp(-((cosines[:, None] - steps) ** 2) / (2 / 39)))
        nodes = [self.embedding(self.features[batch.z])]
        for i, conv in enumerate(self.convs):
            x, e = conv(nodes[-1], e, *batch.edge_index)
            nodes.append(x)
            if i < len(self.line_convs):
                e, p = self.line_convs[i](e, p, first, second)
        graph = torch.stack([nodes[-1][batch.batch == i].mean(dim=0) for i in range(batch.num_graphs)])
        return nodes, e, graph


def plain_copy(encoder):
    """The plain network in double precision, with the encoder's weights."""
    plain = PlainALIGNN(*(encoder.config[name] for name in ("hidden_dim", "n_layers", "n_gcn_layers"))).double()
    plain.load_state_dict(dict(encoder.named_parameters()))
    return plain


def randomise_norms(module):
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.3)
    return module


def make_encoder(**params):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomise_norms(ALIGNN(**params))


@pytest.fixture
def batch(crystals, make_batch):
    return make_batch(crystals[:: len(crystals) // 16][:16], "alignn")


def assert_close(found, expected, tolerance):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize(
    "params",
    [{}, {"hidden_dim": 7, "n_layers": 1, "n_gcn_layers": 0}, {"hidden_dim": 7, "n_layers": 0, "n_gcn_layers": 1}],
    ids=["default", "line graph only", "no line graph"],
)
def test_outputs_and_gradients_are_those_of_the_equations(params, batch):
    encoder = make_encoder(**params)
    plain = plain_copy(encoder)
    nodes, edge, graph = plain(batch)
    encoded = encoder(batch)
    assert_close(encoded.node, nodes[-1], 1e-5)
    assert_close(encoded.edge, edge, 1e-5)
    assert_close(encoded.graph, graph, 1e-5)

    generator = torch.Generator().manual_seed(1)
    for_graph, for_edge = (torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in (graph, edge))
    ((graph * for_graph).sum() + (edge * for_edge).mean()).backward()
    ((encoded.graph * for_graph).sum() + (encoded.edge * for_edge).mean()).backward()
    expected = {name: parameter.grad for name, parameter in plain.named_parameters()}
    found = {name: parameter.grad for name, parameter in encoder.named_parameters()}
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        assert (grad != 0).any(), name
        assert (found[name] - grad).abs().max() <= 1e-4 * grad.abs().max(), name


def test_all_layers_are_the_embedding_and_every_layer_side_by_side(batch):
    encoder = make_encoder(hidden_dim=7, n_layers=1, n_gcn_layers=2, pooled_layers="all")
    nodes, _, _ = plain_copy(encoder)(batch)
    assert encoder.node_dim == encoder.graph_dim == 28
    assert_close(encoder(batch).node, torch.cat(nodes, dim=1), 1e-5)


# ---------------------------------------------------------------------- line graph


def test_line_graph_joins_every_edge_to_all_that_end_where_it_starts(batch):
    first, second = pairs_of(batch)
    n_edges = len(batch.distance)
    line = line_topology(Topology.of(batch))
    assert torch.equal(line.pairs, torch.stack([second, first + n_edges], dim=1))
    assert torch.equal(line.centers, second)
    assert (line.centers.diff() >= 0).all()
    assert torch.equal(line.edge_ptr.diff(), torch.bincount(second, minlength=n_edges))
    assert torch.equal(line.neighbor_order, torch.argsort(first, stable=True))
    assert torch.equal(line.neighbor_ptr.diff(), torch.bincount(first, minlength=n_edges))
    assert line.edge_ptr[0] == line.neighbor_ptr[0] == 0
    vectors = bond_vectors(batch)
    # An edge and its own reverse are a pair, as in the authors' line graph.
    assert ((vectors[first] + vectors[second]).norm(dim=1) < 1e-3).any()
    expected = cosines_of(vectors, first, second)
    torch.testing.assert_close(bond_cosines(batch, line).double(), expected, rtol=0, atol=1e-5)


def test_line_graph_is_the_authors(batch):
    pytest.importorskip("alignn")
    from alignn.torch_graph_builder import _line_graph_edges, torch_bond_cosines

    first, second = _line_graph_edges(*batch.edge_index, len(batch.z))
    line = line_topology(Topology.of(batch))
    order = torch.argsort(second * len(batch.distance) + first)
    assert torch.equal(line.pairs, torch.stack([second, first + len(batch.distance)], dim=1)[order])
    vectors = bond_vectors(batch)
    cosines = torch_bond_cosines(vectors[first], vectors[second])[order]
    torch.testing.assert_close(bond_cosines(batch, line).double(), cosines, rtol=0, atol=1e-5)


def test_angles_follow_moved_atoms_and_lengths_the_distances(batch):
    encoder = make_encoder(hidden_dim=7)
    before = encoder(batch).graph
    batch.pos = batch.pos + 0.3 * torch.randn(batch.pos.shape, generator=torch.Generator().manual_seed(0))
    moved = encoder(batch)
    assert ((moved.graph - before).abs().amax(dim=1) > 1e-6).any()
    nodes, _, _ = plain_copy(encoder)(batch)
    assert_close(moved.node, nodes[-1], 1e-5)
    batch.distance = torch.full_like(batch.distance, torch.inf)
    masked = encoder(batch)
    nodes, _, _ = plain_copy(encoder)(batch)
    assert_close(masked.node, nodes[-1], 1e-5)
    # Not the graphs: where all atoms are alike, so are the means over neighbours, whatever the gates.
    assert ((masked.edge - moved.edge).abs().amax(dim=1) > 1e-6).all()


# ---------------------------------------------------------------------- what may break


def assert_finite(encoder, batch):
    encoded = encoder(batch)
    (encoded.graph.sum() + encoded.edge.sum()).backward()
    assert all(torch.isfinite(tensor).all() for tensor in encoded if tensor is not None)
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_unusual_crystals_leave_everything_finite(unusual_crystals, make_batch):
    for structures in unusual_crystals.values():
        assert_finite(make_encoder(hidden_dim=7), make_batch(structures, "alignn"))


def test_atoms_on_top_of_each_other_leave_everything_finite(batch):
    batch.pos = torch.zeros_like(batch.pos)
    batch.image = torch.zeros_like(batch.image)
    batch.distance = torch.zeros_like(batch.distance)
    assert (bond_cosines(batch, line_topology(Topology.of(batch))) == 0).all()
    assert_finite(make_encoder(hidden_dim=7), batch)


def test_a_single_directed_edge_has_no_pairs(batch):
    batch = batch.__copy__()
    batch._num_graphs = 1
    for name, values in {"z": [11, 17], "batch": [0, 0], "ptr": [0, 2], "edge_index": [[1], [0]], "edge_ptr": [0, 1, 1],
                         "neighbor_order": [0], "neighbor_ptr": [0, 0, 1]}.items():  # fmt: skip
        batch[name] = torch.tensor(values)
    batch.pos, batch.cell = torch.tensor([[0.0, 0, 0], [1, 2, 2]]), 50 * torch.eye(3)[None]
    batch.image, batch.distance = torch.zeros(1, 3), torch.tensor([3.0])
    assert len(line_topology(Topology.of(batch)).centers) == 0
    assert_finite(make_encoder(hidden_dim=7), batch)


def test_masked_elements_and_lengths_leave_everything_finite(batch):
    batch.z = torch.zeros_like(batch.z)
    batch.distance = torch.full_like(batch.distance, torch.inf)
    assert_finite(make_encoder(hidden_dim=7), batch)


def test_config_holds_all_that_was_chosen(batch):
    chosen = {"hidden_dim": 7, "n_layers": 1, "n_gcn_layers": 3, "readout": "mean+max+min", "pooled_layers": "all"}
    encoder = make_encoder(**chosen)
    assert encoder.config == chosen
    rebuilt = ALIGNN(**encoder.config)
    rebuilt.load_state_dict(encoder.state_dict())
    assert torch.equal(rebuilt(batch).graph, encoder(batch).graph)
    assert (ALIGNN.name, ALIGNN.recipe) == ("alignn", RECIPES["alignn"])


# ---------------------------------------------------------------------- the authors' code


def copy_conv(theirs, ours):
    # What they call destination is where an edge ends, our centre.
    parts = (theirs.dst_gate, theirs.src_gate, theirs.dst_update, theirs.src_update)
    ours.nodes.weight.copy_(torch.cat([part.weight for part in parts]))
    ours.nodes.bias.copy_(torch.cat([part.bias for part in parts]))
    ours.nodes.bias[: len(theirs.edge_gate.bias)] += theirs.edge_gate.bias
    ours.edge.weight.copy_(theirs.edge_gate.weight)
    ours.node_norm.load_state_dict(theirs.bn_nodes.state_dict())
    if ours.edge_norm is not None:
        ours.edge_norm.load_state_dict(theirs.bn_edges.state_dict())


@torch.no_grad()
def copy_weights(theirs, ours):
    ours.embedding.load_state_dict(theirs.atom_embedding.layer.state_dict())
    for mlp, peer in ((ours.lengths, theirs.edge_embedding), (ours.cosines, theirs.angle_embedding)):
        for part, of_peer in zip(mlp, peer[1:], strict=True):
            part.load_state_dict(of_peer.layer.state_dict())
    convs = [*(conv.node_update for conv in theirs.alignn_layers), *theirs.gcn_layers]
    line_convs = [conv.edge_update for conv in theirs.alignn_layers]
    for peer, conv in zip([*convs, *line_convs], [*ours.convs, *ours.line_convs], strict=True):
        copy_conv(peer, conv)


def test_outputs_are_those_of_the_authors_code(crystals, make_batch):
    pytest.importorskip("alignn")
    from alignn.models.alignn_atomwise_pure import ALIGNNAtomWisePure, ALIGNNAtomWisePureConfig
    from alignn.torch_graph_builder import TorchGraph, _line_graph_edges

    encoder = make_encoder()
    config = ALIGNNAtomWisePureConfig(
        name="alignn_atomwise_pure", atom_input_features=encoder.element_features.shape[1], calculate_gradient=False
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        peer = randomise_norms(ALIGNNAtomWisePure(config))
    assert (config.hidden_features, config.alignn_layers, config.gcn_layers) == (64, 2, 2)
    copy_weights(peer, encoder)

    batch = make_batch(crystals[:: len(crystals) // 200][:200], "alignn")
    graph = TorchGraph(
        len(batch.z),
        *batch.edge_index,
        ndata={"atom_features": encoder.element_features[batch.z]},
        edata={"r": bond_vectors(batch).float()},
        batch_num_nodes=batch.ptr.diff(),
    )
    line = TorchGraph(len(batch.distance), *_line_graph_edges(*batch.edge_index, len(batch.z)))
    seen = {}
    peer.gcn_layers[-1].register_forward_hook(lambda module, inputs, output: seen.update(atoms_and_edges=output))
    peer.fc.register_forward_hook(lambda module, inputs, output: seen.update(readout=inputs[0]))
    with torch.no_grad():
        prediction = peer((graph, line, None))["out"]
        encoded = encoder(batch)
        node, edge = seen["atoms_and_edges"]
        for found, expected in (
            (encoded.node, node),
            (encoded.edge, edge),
            (encoded.graph, seen["readout"]),
            (peer.fc(encoded.graph)[:, 0], prediction),
        ):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
            assert expected.std() > 0.01
