"""Readouts against loops over crystals, and what becomes of their weights when an encoder's readout is changed."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from crystalssl.encoders import CGCNN, READOUTS, GatedGCN
from crystalssl.encoders._readout import Readout

DIM = 5
EDGE_DIM = 3
readouts = pytest.mark.parametrize("name", READOUTS)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(name, *dims):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Readout(name, *dims).double()


def plain_set2set(x, lstm):
    """Of one crystal: two steps of a recurrent network that asks the rows."""
    q_star = torch.zeros(2 * x.shape[1], dtype=x.dtype)
    state = [torch.zeros(1, x.shape[1], dtype=x.dtype)] * 2
    for _ in range(2):
        gates = lstm.weight_ih_l0 @ q_star + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ state[0][0] + lstm.bias_hh_l0
        i, f, g, o = gates.chunk(4)
        cell = torch.sigmoid(f) * state[1][0] + torch.sigmoid(i) * torch.tanh(g)
        q = torch.sigmoid(o) * torch.tanh(cell)
        state = [q[None], cell[None]]
        answer = torch.softmax(x @ q, dim=0) @ x if len(x) else torch.zeros_like(q)
        q_star = torch.cat([q, answer])
    return q_star


def plain_attention(x, attention, z):
    """Of one crystal with the atomic numbers `z`."""
    composition = torch.zeros(119, dtype=x.dtype)
    for number in z.tolist():
        composition[number] += 1 / len(z)
    scores = [attention.score(softplus(attention.hidden(torch.cat([row, composition])))) for row in x]
    if not scores:
        return torch.zeros(x.shape[1], dtype=x.dtype)
    return torch.softmax(torch.cat(scores), dim=0) @ x


def plain_pool(name, x, pooling, z, statistics):
    """One crystal's vector of its rows `x`."""
    if name == "set2set":
        return plain_set2set(x, pooling.lstm)
    if name == "attention":
        return plain_attention(x, pooling, z)
    parts = {"mean": lambda: x.mean(dim=0), "max": lambda: x.amax(dim=0), "min": lambda: x.amin(dim=0)}
    names = ["mean"] if name == "mean" else statistics
    return torch.cat([parts[part]() if len(x) else torch.zeros(x.shape[1], dtype=x.dtype) for part in names])


def plain_readout(name, readout, batch, node, edge=None, state=None):
    rows = []
    for i in range(batch.num_graphs):
        z = batch.z[batch.batch == i]
        row = [plain_pool(name, node[batch.batch == i], readout.nodes, z, ["mean", "max", "min"])]
        if edge is not None:
            mine = batch.batch[batch.edge_index[1]] == i
            row.append(plain_pool(name, edge[mine], readout.edges, z, ["mean", "max"]))
        if state is not None:
            row.append(state[i])
        rows.append(torch.cat(row))
    return torch.stack(rows)


@pytest.fixture
def batch(prototypes, unusual_crystals, make_batch):
    """Crystals of several elements and sizes, one of them without edges."""
    return make_batch([*prototypes[3:60:8], *unusual_crystals["isolated atom"], prototypes[100]])


@pytest.fixture(params=["atoms", "atoms and edges", "atoms and state", "all"])
def pooled(request, batch):
    """What is pooled: vectors of atoms, of edges, and states; with their widths."""
    edge = draw(len(batch.distance), EDGE_DIM, seed=1) if request.param in ("atoms and edges", "all") else None
    state = draw(batch.num_graphs, 2, seed=2) if request.param in ("atoms and state", "all") else None
    widths = DIM, None if edge is None else EDGE_DIM, 0 if state is None else 2
    return (draw(len(batch.z), DIM), edge, state), widths


@readouts
def test_readout_is_that_of_each_crystal_alone(name, pooled, batch):
    tensors, widths = pooled
    readout = build(name, *widths)
    found = readout(*tensors, batch)
    assert found.shape == (batch.num_graphs, readout.out_dim)
    torch.testing.assert_close(found, plain_readout(name, readout, batch, *tensors))


@readouts
def test_gradients_are_those_of_each_crystal_alone(name, batch):
    tensors = [draw(len(batch.z), DIM), draw(len(batch.distance), EDGE_DIM, seed=1)]
    ours, theirs = ([x.clone().requires_grad_() for x in tensors] for _ in range(2))
    readout = build(name, DIM, EDGE_DIM)
    found, expected = readout(*ours, None, batch), plain_readout(name, readout, batch, *theirs)
    cotangent = draw(*found.shape, seed=3)
    found.backward(cotangent)
    grads = {key: p.grad.clone() for key, p in readout.named_parameters()}
    readout.zero_grad()
    expected.backward(cotangent)
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x.grad, y.grad)
        assert (x.grad != 0).any()
    for key, parameter in readout.named_parameters():
        torch.testing.assert_close(grads[key], parameter.grad)


@readouts
def test_widths(name):
    factor = {"mean": (1, 1), "mean+max+min": (3, 2), "set2set": (2, 2), "attention": (1, 1)}[name]
    assert Readout(name, DIM).out_dim == factor[0] * DIM
    assert Readout(name, DIM, EDGE_DIM).out_dim == factor[0] * DIM + factor[1] * EDGE_DIM
    assert Readout(name, DIM, EDGE_DIM, 2).out_dim == factor[0] * DIM + factor[1] * EDGE_DIM + 2


@readouts
def test_crystals_without_edges_are_finite(name, unusual_crystals, make_batch):
    batch = make_batch(unusual_crystals["isolated atoms"])
    assert len(batch.distance) == 0
    readout = build(name, DIM, EDGE_DIM)
    node = draw(len(batch.z), DIM).requires_grad_()
    found = readout(node, draw(0, EDGE_DIM), None, batch)
    assert torch.isfinite(found).all()
    assert (found[:, -EDGE_DIM:] == 0).all() or name == "set2set"
    found.sum().backward()
    assert torch.isfinite(node.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in readout.parameters() if p.grad is not None)


def test_attention_depends_on_the_composition(batch):
    readout = build("attention", DIM)
    # Enough for the softplus to bend; a shift that all atoms share would leave their weights alone.
    nn.init.normal_(readout.nodes.hidden.weight, generator=torch.Generator().manual_seed(0))
    nn.init.normal_(readout.nodes.score.weight, generator=torch.Generator().manual_seed(1))
    node = draw(len(batch.z), DIM)
    before = readout(node, None, None, batch)
    batch.z = batch.z.clone()
    changed = next(i for i in range(batch.num_graphs) if batch.ptr[i + 1] - batch.ptr[i] > 1)
    batch.z[batch.ptr[changed]] = 92
    differs = ((readout(node, None, None, batch) - before).abs() > 1e-6).any(dim=1)
    assert differs.nonzero()[:, 0].tolist() == [changed]


def test_attention_weights_sum_to_one(batch):
    # Equal rows are their own mean, whatever the weights.
    node = draw(1, DIM).expand(len(batch.z), DIM)
    torch.testing.assert_close(build("attention", DIM)(node, None, None, batch), node[: batch.num_graphs])


@pytest.mark.parametrize("make", [lambda name: Readout(name, 3), lambda name: CGCNN(readout=name)])
def test_unknown_readout_lists_those_that_exist(make):
    with pytest.raises(ValueError, match=r"no readout 'sum'; choose one of \['mean', 'mean\+max\+min', 'set2set'"):
        make("sum")


# ---------------------------------------------------------------------- load_pretrained


def encoder(readout, seed, pooled_layers="last", **params):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GatedGCN(8, 1, readout, pooled_layers=pooled_layers, **params)


def of_readout(state):
    return {name: tensor for name, tensor in state.items() if name.startswith("readout.")}


@readouts
def test_equal_readout_is_loaded_with_its_weights(name):
    pretrained, loaded = encoder(name, 0), encoder(name, 1)
    loaded.load_pretrained(pretrained.state_dict())
    for key, tensor in pretrained.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key
    assert bool(of_readout(pretrained.state_dict())) == (name in ("set2set", "attention"))


@pytest.mark.parametrize(("name", "other"), [*itertools.permutations(READOUTS, 2)])
def test_other_readout_keeps_its_initial_weights(name, other):
    pretrained, loaded = encoder(name, 0), encoder(other, 1)
    loaded.load_pretrained(pretrained.state_dict())
    initial = encoder(other, 1).state_dict()
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, (initial if key.startswith("readout.") else pretrained.state_dict())[key]), key


@pytest.mark.parametrize("name", ["set2set", "attention"])
def test_readout_of_another_width_keeps_its_initial_weights(name):
    pretrained, loaded = encoder(name, 0), encoder(name, 1, pooled_layers="all")
    loaded.load_pretrained(pretrained.state_dict())
    initial = encoder(name, 1, pooled_layers="all").state_dict()
    assert all(torch.equal(tensor, initial[key]) for key, tensor in of_readout(loaded.state_dict()).items())
    assert torch.equal(loaded.elements.weight, pretrained.elements.weight)


def missing(state):
    return {name: tensor for name, tensor in state.items() if name != "elements.weight"}


def unknown(state):
    return {**state, "elements.bias": torch.zeros(8)}


def misshapen(state):
    return {**state, "elements.weight": torch.zeros(119, 7)}


@pytest.mark.parametrize("readout", ["mean", "attention"])
@pytest.mark.parametrize("damage", [missing, unknown, misshapen])
def test_weights_of_another_body_are_refused(readout, damage):
    state = damage(encoder("attention", 0).state_dict())
    with pytest.raises(RuntimeError, match=r"elements\.(weight|bias)"):
        encoder(readout, 1).load_pretrained(state)


def test_loading_leaves_the_given_weights_alone():
    state = encoder("attention", 0).state_dict()
    keys = list(state)
    encoder("set2set", 1).load_pretrained(state)
    assert list(state) == keys
