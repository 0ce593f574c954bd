"""The fast kernels against the obvious implementations."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from crystalssl.encoders._kernels import (
    Topology,
    gated_mean,
    gaussian_expansion,
    normalised_gated_sum,
    pair_linear,
    segment_sum,
)

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
    for name, tensor in expected._asdict().items():
        assert torch.equal(getattr(found, name), tensor), name


# ---------------------------------------------------------------------- gaussian_expansion


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


# ---------------------------------------------------------------------- sums and pairs


@graphs
def test_segment_sum(graph):
    _, centers, n = graph
    x = draw(len(centers), D)
    expected = torch.zeros(n, D, dtype=x.dtype).index_add(0, torch.tensor(centers).long(), x)
    torch.testing.assert_close(segment_sum(x, topology_of(*graph)), expected)


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


# ---------------------------------------------------------------------- gated_mean


def plain_gated_mean(logits, envelope, values, neighbors, centers, epsilon):
    weights = torch.sigmoid(logits) * (1 if envelope is None else envelope)
    above, below = (torch.zeros_like(values).index_add(0, centers, x) for x in (weights * values[neighbors], weights))
    return above / (below + epsilon)


def mean_inputs(graph, enveloped):
    _, centers, n = graph
    envelope = draw(len(centers), 1, seed=2).sigmoid() if enveloped else None
    if enveloped and centers:
        envelope[0] = 0
    return 3 * draw(len(centers), D), envelope, draw(n, D, seed=1)


@graphs
@pytest.mark.parametrize("enveloped", [True, False])
@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
def test_gated_mean_and_its_gradients(graph, enveloped, epsilon):
    neighbors, centers, n = graph
    logits, envelope, values = mean_inputs(graph, enveloped)
    ours, theirs = ([leaf(logits), leaf(values)] for _ in range(2))
    found = gated_mean(ours[0], envelope, ours[1], topology_of(*graph), epsilon)
    edges = torch.tensor(neighbors).long(), torch.tensor(centers).long()
    expected = plain_gated_mean(theirs[0], envelope, theirs[1], *edges, epsilon)
    torch.testing.assert_close(found, expected)
    cotangent = draw(n, D, seed=4)
    found.backward(cotangent)
    expected.backward(cotangent)
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x.grad, y.grad)


@graphs
@pytest.mark.parametrize("enveloped", [True, False])
def test_gated_mean_gradient_is_that_of_finite_differences(graph, enveloped):
    logits, envelope, values = mean_inputs(graph, enveloped)
    topology = topology_of(*graph)
    assert torch.autograd.gradcheck(
        lambda logits, values: gated_mean(logits, envelope, values, topology, 0.1), (leaf(logits), leaf(values))
    )


def test_gated_mean_of_equal_values_is_that_value_and_of_no_neighbours_zero():
    neighbors, centers, n = GRAPHS["atoms without edges"]
    values = draw(1, D).expand(n, D).contiguous()
    found = gated_mean(draw(len(centers), D), None, values, topology_of(neighbors, centers, n))
    for i in range(n):
        expected = values[i] if i in centers else torch.zeros(D, dtype=values.dtype)
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=0)
    assert (found[[0, 2, 4, 5]] == 0).all()


def test_gated_mean_of_neighbours_behind_shut_gates_is_zero():
    _, centers, n = GRAPHS["some"]
    logits, values = leaf(draw(len(centers), D)), leaf(draw(n, D))
    found = gated_mean(logits, torch.zeros(len(centers), 1, dtype=torch.float64), values, topology_of(*GRAPHS["some"]))
    assert (found == 0).all()
    found.sum().backward()
    assert (logits.grad == 0).all()
    assert (values.grad == 0).all()


def test_gated_mean_leaves_its_inputs_alone():
    logits, envelope, values = mean_inputs(GRAPHS["some"], True)
    copies = [x.clone() for x in (logits, envelope, values)]
    inputs = [leaf(logits), envelope, leaf(values)]
    found = gated_mean(*inputs, topology_of(*GRAPHS["some"]))
    kept = found.detach().clone()
    found.sum().backward()
    for x, y in zip([*inputs, found], [*copies, kept], strict=True):
        assert torch.equal(x, y)
