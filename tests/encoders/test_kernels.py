"""The fast kernels against the obvious implementations."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from crystalssl.encoders import _segments
from crystalssl.encoders._kernels import (
    Topology,
    gated_convolution,
    gaussian_expansion,
    normalised_gated_sum,
    pair_linear,
    pair_sum,
    pair_sum_backward,
    segment_sum,
)
from crystalssl.encoders._segments import segment_attention, segment_statistics

D = 5


def topology_of(neighbors, centers, n_atoms):
    """From edges in any order of neighbours, sorted by centre."""
    neighbors, centers = torch.as_tensor(neighbors).long(), torch.as_tensor(centers).long()
    zero = torch.zeros(1, dtype=torch.long)
    return Topology(
        pairs=torch.stack([centers, neighbors + n_atoms], dim=1).reshape(-1, 2),
        centers=centers,
        edge_ptr=torch.cat([zero, torch.bincount(centers, minlength=n_atoms).cumsum(0)]),
        neighbor_order=torch.argsort(neighbors, stable=True),
        neighbor_ptr=torch.cat([zero, torch.bincount(neighbors, minlength=n_atoms).cumsum(0)]),
    )


# Neighbours, centres, number of atoms.
GRAPHS = {
    "some": ([1, 2, 2, 0, 3, 3, 3, 1], [0, 0, 1, 2, 2, 2, 3, 3], 4),
    "atoms without edges": ([3, 3, 1], [1, 1, 3], 6),
    "self-loops": ([0, 0, 0, 1, 0], [0, 0, 0, 0, 1], 2),
    "one edge": ([1], [0], 3),
    "no edges": ([], [], 3),
}
graphs = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def leaf(tensor):
    return tensor.clone().requires_grad_()


def test_topology_of_a_batch(prototypes, make_batch):
    batch = make_batch(prototypes[:12])
    neighbors, centers = batch.edge_index
    found, expected = Topology.of(batch), topology_of(neighbors, centers, len(batch.z))
    for name in ("pairs", "centers", "edge_ptr", "neighbor_order", "neighbor_ptr", "neighbors"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert torch.equal(found.neighbors, neighbors)


# ---------------------------------------------------------------------- gaussian_expansion


@pytest.mark.parametrize("chunk", [7, 1024])
@pytest.mark.parametrize("width", [0.2, 0.5, 1.0])
def test_gaussian_expansion(width, chunk, monkeypatch):
    monkeypatch.setattr(_segments, "_CHUNK", chunk)
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


# ---------------------------------------------------------------------- sums and pairs


@graphs
def test_segment_sum(graph):
    _, centers, n = graph
    x = draw(len(centers), D)
    expected = torch.zeros(n, D, dtype=x.dtype).index_add(0, torch.tensor(centers).long(), x)
    torch.testing.assert_close(segment_sum(x, topology_of(*graph)), expected)


@graphs
def test_pair_sum_and_its_gradient(graph):
    neighbors, centers, n = graph
    table, cotangent = leaf(draw(2 * n, D)), draw(len(centers), D, seed=1)
    topology = topology_of(*graph)
    expected = table[torch.tensor(centers).long()] + table[n + torch.tensor(neighbors).long()]
    torch.testing.assert_close(pair_sum(table.detach(), topology.pairs), expected)
    expected.backward(cotangent)
    torch.testing.assert_close(pair_sum_backward(cotangent, topology), table.grad)


def plain_pair_linear(of_center, of_neighbor, edges, weight, neighbors, centers):
    return of_center[centers] + of_neighbor[neighbors] + edges @ weight.T


@graphs
def test_pair_linear_and_its_gradients(graph):
    neighbors, centers, n = graph
    inputs = [draw(n, D), draw(n, D, seed=1), draw(len(centers), 3, seed=2), draw(D, 3, seed=3)]
    cotangent = draw(len(centers), D, seed=4)
    found_inputs, expected_inputs = [leaf(x) for x in inputs], [leaf(x) for x in inputs]
    found = pair_linear(*found_inputs, topology_of(*graph))
    expected = plain_pair_linear(*expected_inputs, torch.tensor(neighbors).long(), torch.tensor(centers).long())
    torch.testing.assert_close(found, expected)
    (found * cotangent).sum().backward()
    (expected * cotangent).sum().backward()
    for x, y in zip(found_inputs, expected_inputs, strict=True):
        torch.testing.assert_close(x.grad, y.grad)


def test_pair_linear_is_the_linear_layer_on_the_concatenation():
    neighbors, centers, n = GRAPHS["some"]
    layer = nn.Linear(4 + 4 + 3, D).double()
    x, edges = draw(n, 4), draw(len(centers), 3, seed=1)
    center, neighbor, edge = layer.weight.split([4, 4, 3], dim=1)
    found = pair_linear(x @ center.T + layer.bias, x @ neighbor.T, edges, edge, topology_of(neighbors, centers, n))
    torch.testing.assert_close(found, layer(torch.cat([x[centers], x[neighbors], edges], dim=1)))


def test_pair_linear_computes_only_the_gradients_asked_for():
    neighbors, centers, n = GRAPHS["some"]
    weight = leaf(draw(D, 3))
    edges = draw(len(centers), 3)
    pair_linear(draw(n, D), draw(n, D), edges, weight, topology_of(neighbors, centers, n)).sum().backward()
    torch.testing.assert_close(weight.grad, edges.sum(dim=0).expand(D, 3))


# ---------------------------------------------------------------------- normalised_gated_sum


def norms(dtype=torch.float64):
    result = []
    for seed in (5, 6):
        norm = nn.BatchNorm1d(D).to(dtype)
        norm.weight.data = draw(D, seed=seed, dtype=dtype).abs() + 0.5
        norm.bias.data = draw(D, seed=seed + 10, dtype=dtype)
        norm.running_mean = draw(D, seed=seed + 20, dtype=dtype)
        norm.running_var = draw(D, seed=seed + 30, dtype=dtype).abs() + 0.5
        result.append(norm)
    return result


def plain_gated_sum(gate, core, gate_norm, core_norm, centers, n_atoms):
    messages = torch.sigmoid(gate_norm(gate)) * nn.functional.softplus(core_norm(core), threshold=1000)
    return torch.zeros(n_atoms, gate.shape[1], dtype=gate.dtype).index_add(0, centers, messages)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", ["some", "atoms without edges", "self-loops"])
def test_normalised_gated_sum_its_gradients_and_statistics(name, training, dtype):
    neighbors, centers, n = GRAPHS[name]
    ours = [norm.train(training) for norm in norms(dtype)]
    theirs = copy.deepcopy(ours)
    inputs = [3 * draw(len(centers), D, dtype=dtype), 3 * draw(len(centers), D, seed=1, dtype=dtype)]
    found_inputs, expected_inputs = [leaf(x) for x in inputs], [leaf(x) for x in inputs]
    for _ in range(3):  # the statistics move on with every call in training
        found = normalised_gated_sum(*found_inputs, *ours, topology_of(neighbors, centers, n))
        expected = plain_gated_sum(*expected_inputs, *theirs, torch.tensor(centers), n)
        torch.testing.assert_close(found, expected)
    cotangent = draw(n, D, seed=2, dtype=dtype)
    (found * cotangent).sum().backward()
    (expected * cotangent).sum().backward()
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {}
    for x, y in zip(found_inputs, expected_inputs, strict=True):
        torch.testing.assert_close(x.grad, y.grad, **tolerance)
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x.running_mean, y.running_mean)
        torch.testing.assert_close(x.running_var, y.running_var)
        torch.testing.assert_close(x.weight.grad, y.weight.grad, **tolerance)
        torch.testing.assert_close(x.bias.grad, y.bias.grad, **tolerance)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["one edge", "no edges"])
def test_with_fewer_than_two_edges_the_running_statistics_serve_and_stay(name, training):
    neighbors, centers, n = GRAPHS[name]
    ours = [norm.train(training) for norm in norms()]
    before = copy.deepcopy(ours)
    gate, core = leaf(draw(len(centers), D)), leaf(draw(len(centers), D, seed=1))
    found = normalised_gated_sum(gate, core, *ours, topology_of(neighbors, centers, n))
    expected = plain_gated_sum(gate, core, *(norm.eval() for norm in before), torch.tensor(centers).long(), n)
    torch.testing.assert_close(found, expected)
    if centers:
        found.sum().backward()
        assert torch.isfinite(gate.grad).all()
        assert (gate.grad != 0).any()
    for x, y in zip(ours, before, strict=True):
        assert torch.equal(x.running_mean, y.running_mean)
        assert torch.equal(x.running_var, y.running_var)


@pytest.mark.parametrize("value", [-200.0, -120.0, -90.0, -80.0, -40.0, -10.0, 10.0, 40.0, 90.0, 200.0])
@pytest.mark.parametrize("gate_value", [-200.0, 0.0, 200.0])
def test_extreme_inputs_give_the_limits_and_finite_gradients(value, gate_value):
    ours = [nn.BatchNorm1d(1).eval() for _ in range(2)]
    gate, core = leaf(torch.full((3, 1), gate_value)), leaf(torch.full((3, 1), value))
    found = normalised_gated_sum(gate, core, *ours, topology_of([1, 1, 0], [0, 0, 1], 2))
    # In double precision, for which nothing here is extreme but the exponential of 200.
    expected = plain_gated_sum(gate.double(), core.double(), *(nn.BatchNorm1d(1).double().eval(),) * 2,
                               torch.tensor([0, 0, 1]), 2)  # fmt: skip
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    expected_grad = torch.autograd.grad(expected.sum(), [gate, core])
    found.sum().backward()
    torch.testing.assert_close(gate.grad, expected_grad[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(core.grad, expected_grad[1], rtol=1e-3, atol=1e-4)


def test_outlier_among_many_in_training():
    # One edge a thousand standard deviations from the others.
    n = 10_000
    core = torch.zeros(n, 1)
    core[0] = -1e4
    gate = torch.zeros(n, 1)
    ours = [nn.BatchNorm1d(1) for _ in range(2)]
    gate, core = leaf(gate), leaf(core)
    topology = topology_of([0] * n, [0] * n, 1)
    found = normalised_gated_sum(gate, core, *ours, topology)
    expected = plain_gated_sum(gate.double(), core.double(), *(nn.BatchNorm1d(1).double() for _ in range(2)),
                               topology.centers, 1)  # fmt: skip
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)
    found.sum().backward()
    assert torch.isfinite(core.grad).all()
    assert torch.isfinite(gate.grad).all()


def test_inputs_are_left_alone():
    neighbors, centers, n = GRAPHS["some"]
    gate, core = draw(len(centers), D), draw(len(centers), D, seed=1)
    copies = gate.clone(), core.clone()
    normalised_gated_sum(gate, core, *norms(), topology_of(neighbors, centers, n))
    assert torch.equal(gate, copies[0])
    assert torch.equal(core, copies[1])


# ---------------------------------------------------------------------- gated_convolution


def plain_gated_convolution(projected, edges, weight, norm, envelope, neighbors, centers, epsilon):
    of_center, of_neighbor, values, own = projected.chunk(4, dim=1)
    logits = of_center[centers] + of_neighbor[neighbors] + edges @ weight.T
    weights = torch.sigmoid(logits) * (1 if envelope is None else envelope)
    above, below = (torch.zeros_like(values).index_add(0, centers, x) for x in (weights * values[neighbors], weights))
    return own + above / (below + epsilon), None if norm is None else edges + nn.functional.silu(norm(logits))


def convolution_inputs(graph, normalised, enveloped):
    _, centers, n = graph
    envelope = draw(len(centers), 1, seed=2).sigmoid() if enveloped else None
    if enveloped and centers:
        envelope[0] = 0
    norm = None
    if normalised:
        norm = nn.LayerNorm(D).double()
        norm.weight.data, norm.bias.data = draw(D, seed=3), draw(D, seed=4)
    return 2 * draw(n, 4 * D), draw(len(centers), D, seed=1), draw(D, D, seed=5), norm, envelope


normed = pytest.mark.parametrize("normalised", [True, False])
in_envelope = pytest.mark.parametrize("enveloped", [True, False])


@graphs
@normed
@in_envelope
@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
def test_gated_convolution_and_its_gradients(graph, normalised, enveloped, epsilon):
    neighbors, centers, n = graph
    *tensors, norm, envelope = convolution_inputs(graph, normalised, enveloped)
    ours, theirs = ([leaf(x) for x in tensors] for _ in range(2))
    norms = norm, copy.deepcopy(norm)
    found = gated_convolution(*ours, norms[0], envelope, topology_of(*graph), epsilon)
    edges = torch.tensor(neighbors).long(), torch.tensor(centers).long()
    expected = plain_gated_convolution(*theirs, norms[1], envelope, *edges, epsilon)
    assert (found[1] is None) == (expected[1] is None) == (not normalised)
    for x, y in zip(found, expected, strict=True):
        if y is not None:
            torch.testing.assert_close(x, y)
    for results in (found, expected):
        loss = (results[0] * draw(n, D, seed=6)).sum()
        if normalised:
            loss = loss + (results[1] * draw(len(centers), D, seed=7)).sum()
        loss.backward(retain_graph=True)
        loss.backward()  # what was kept is still there
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x.grad, y.grad)
    if normalised:
        for x, y in zip(norms[0].parameters(), norms[1].parameters(), strict=True):
            torch.testing.assert_close(x.grad, y.grad)


@graphs
@normed
@in_envelope
def test_gated_convolution_gradient_is_that_of_finite_differences(graph, normalised, enveloped):
    *tensors, norm, envelope = convolution_inputs(graph, normalised, enveloped)
    topology = topology_of(*graph)

    def convolve(*tensors):
        nodes, edges = gated_convolution(*tensors, norm, envelope, topology, 0.1)
        return nodes if edges is None else (nodes, edges)

    assert torch.autograd.gradcheck(convolve, [leaf(x) for x in tensors])


def test_only_one_of_the_two_results_may_be_used():
    graph = GRAPHS["some"]
    *tensors, norm, envelope = convolution_inputs(graph, True, True)
    edges = torch.tensor(graph[0]), torch.tensor(graph[1])
    for used in (0, 1):
        ours, theirs = ([leaf(x) for x in tensors] for _ in range(2))
        gated_convolution(*ours, norm, envelope, topology_of(*graph))[used].sum().backward()
        plain_gated_convolution(*theirs, norm, envelope, *edges, 1e-6)[used].sum().backward()
        for x, y in zip(ours, theirs, strict=True):
            torch.testing.assert_close(x.grad, torch.zeros_like(x) if y.grad is None else y.grad)


def test_gated_mean_of_equal_values_is_that_value_and_of_no_neighbours_zero():
    neighbors, centers, n = GRAPHS["atoms without edges"]
    value = draw(1, D).expand(n, D)
    logits, own = draw(n, 2 * D, seed=1), torch.zeros(n, D, dtype=torch.float64)
    found, _ = gated_convolution(
        torch.cat([logits, value, own], dim=1), draw(len(centers), D), draw(D, D), None, None,
        topology_of(neighbors, centers, n),
    )  # fmt: skip
    for i in range(n):
        expected = value[i] if i in centers else torch.zeros(D, dtype=torch.float64)
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=0)
    assert (found[[0, 2, 4, 5]] == 0).all()


def test_gated_mean_of_neighbours_behind_shut_gates_is_zero():
    graph = GRAPHS["some"]
    projected, edges, weight, _, envelope = convolution_inputs(graph, False, True)
    projected, edges = leaf(projected), leaf(edges)
    found, _ = gated_convolution(projected, edges, weight, None, torch.zeros_like(envelope), topology_of(*graph))
    torch.testing.assert_close(found, projected[:, 3 * D :], rtol=0, atol=0)
    found.sum().backward()
    assert (projected.grad[:, : 3 * D] == 0).all()
    assert (edges.grad == 0).all()


def test_gated_convolution_leaves_its_inputs_alone():
    *tensors, norm, envelope = convolution_inputs(GRAPHS["some"], True, True)
    inputs = [*(leaf(x) for x in tensors), envelope]
    found = gated_convolution(*inputs[:-1], norm, envelope, topology_of(*GRAPHS["some"]))
    copies = [x.detach().clone() for x in (*inputs, *found)]
    sum(x.sum() for x in found).backward()
    for x, y in zip([*inputs, *found], copies, strict=True):
        assert torch.equal(x, y)


# ---------------------------------------------------------------------- segments

SIZES = {"some": [3, 1, 4], "an empty one": [2, 0, 3, 0], "none": [0, 0]}
segments = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)


def index_and_ptr(sizes):
    sizes = torch.tensor(sizes)
    return torch.repeat_interleave(sizes), torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)])


@segments
@pytest.mark.parametrize("names", [["mean"], ["mean", "max", "min"], ["max"]])
def test_segment_statistics_and_their_gradients(sizes, names):
    index, ptr = index_and_ptr(sizes)
    ours, theirs = (leaf(draw(len(index), D)) for _ in range(2))
    plain = {"mean": lambda x: x.mean(0), "max": lambda x: x.amax(0), "min": lambda x: x.amin(0)}
    found = segment_statistics(ours, index, ptr, names)
    parts = theirs.split(sizes)
    for name, result in zip(names, found, strict=True):
        expected = torch.stack([plain[name](x) if len(x) else x.new_zeros(D) for x in parts])
        torch.testing.assert_close(result, expected)
        if len(index) == 0:
            continue
        cotangent = draw(len(sizes), D, seed=1)
        result.backward(cotangent, retain_graph=True)
        expected.backward(cotangent, retain_graph=True)
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_mean_of_many_rows_is_exact_to_rounding():
    x = draw(20_000, D, dtype=torch.float32) + 10
    index, ptr = index_and_ptr([19_000, 1000])
    (found,) = segment_statistics(x, index, ptr, ["mean"])
    expected = torch.stack([rows.double().mean(0) for rows in x.split([19_000, 1000])])
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)


def test_rows_that_share_an_extreme_share_its_gradient():
    x = leaf(torch.tensor([[2.0], [1.0], [2.0], [2.0]]))
    (largest,) = segment_statistics(x, torch.tensor([0, 0, 0, 1]), torch.tensor([0, 3, 4]), ["max"])
    largest.sum().backward()
    assert x.grad.flatten().tolist() == [0.5, 0, 0.5, 1]


@segments
@pytest.mark.parametrize("chunk", [2, 1024])
def test_segment_attention_and_its_gradients(sizes, chunk, monkeypatch):
    monkeypatch.setattr(_segments, "_CHUNK", chunk)
    index, ptr = index_and_ptr(sizes)
    ours, theirs = ([leaf(3 * draw(len(index), D)), leaf(draw(len(sizes), D, seed=1))] for _ in range(2))
    found = segment_attention(*ours, index, ptr)
    x, query = theirs
    expected = torch.stack(
        [(rows @ q).softmax(0) @ rows for rows, q in zip(x.split(sizes), query, strict=True)]
    )  # fmt: skip
    torch.testing.assert_close(found, expected)
    cotangent = draw(len(sizes), D, seed=2)
    found.backward(cotangent)
    expected.backward(cotangent)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)
