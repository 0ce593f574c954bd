"""The losses of tasks that predict something, on encodings made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch_geometric.data import Batch

from crystalssl.encoders import Encoded, GatedGCN, valence_electrons
from crystalssl.pretext import TASKS, atomic_stiffness
from crystalssl.pretext.cdssl import standardised_distances
from crystalssl.pretext.composite import WeightedTasks

DIM = 4


def batch_of(z=(), distances=((),), sizes=None, cells=None, y=None):
    """Atoms `z` of crystals of these sizes, and the distances of each crystal, all edges at its first atom."""
    sizes = [len(z)] if sizes is None else sizes
    ptr = torch.tensor([0, *np.cumsum(sizes).tolist()])
    first = torch.repeat_interleave(ptr[:-1], torch.tensor([len(row) for row in distances]))
    batch = Batch(
        z=torch.tensor(z, dtype=torch.long),
        distance=torch.tensor([d for row in distances for d in row], dtype=torch.float64),
        edge_index=torch.stack([first, first]),
        batch=torch.repeat_interleave(torch.tensor(sizes)),
        ptr=ptr,
        cell=torch.eye(3).expand(len(sizes), 3, 3) if cells is None else torch.tensor(cells),
        y=torch.empty(len(sizes), 0) if y is None else torch.tensor(y),
    )
    batch._num_graphs = len(sizes)
    return batch


def view_of(batch, **changed):
    view = batch.__copy__()
    for name, value in changed.items():
        view[name] = value
    return view


def make(name, **params):
    """A task in double precision on an encoder of which only the widths matter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TASKS[name](**params).bind(GatedGCN(DIM, 1, readout="attention")).double()


def encoded(node=None, edge=None, graph=None, properties=None):
    return [Encoded(node, edge, graph, properties)]


def draw(n, seed=0, d=DIM):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---------------------------------------------------------------------- standardised distances and CDSSL


@pytest.mark.parametrize(
    ("distances", "expected"),
    [
        ([[1, 3]], [-1, 1]),
        # Mean 2, variance 2/3.
        ([[1, 2, 3]], [-math.sqrt(1.5), 0, math.sqrt(1.5)]),
        # Mean 2, variance ((1 + 1 + 1 + 9) / 4 = 3).
        ([[1, 1, 1, 5]], [-1 / math.sqrt(3)] * 3 + [math.sqrt(3)]),
        ([[2.8] * 12], [0] * 12),
        # Copies of one shell, equal but for rounding.
        ([[2.8, 2.8 + 1e-6, 2.8 - 1e-6]], [0, 0, 0]),
        # Every crystal by itself, one of them without edges.
        ([[1, 3], [], [30, 10], [7, 7]], [-1, 1, 1, -1, 0, 0]),
        ([[], []], []),
    ],
)
def test_standardised_distances_by_hand(distances, expected):
    found = standardised_distances(batch_of([1] * len(distances), distances, [1] * len(distances)))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-7)


def test_unit_and_origin_of_distances_do_not_matter():
    distances = draw(9)[:, 0].abs()
    found = [standardised_distances(batch_of([1], [row])) for row in (distances.tolist(), (3 * distances + 1).tolist())]
    torch.testing.assert_close(*found)
    assert found[0].mean().item() == pytest.approx(0)
    assert found[0].square().sum().item() == pytest.approx(9)


def test_small_differences_of_large_single_precision_distances_are_kept():
    batch = batch_of([1], [[100.0, 100.01, 100.02]])
    batch.distance = batch.distance.float()
    found = standardised_distances(batch)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor([-1.5, 0, 1.5]).sign() * math.sqrt(1.5), rtol=1e-3, atol=1e-3)


CRYSTALS = [[1.0, 3.0], [2.0, 2.0, 2.0], [1.0, 2.0, 3.0, 4.0], []]


def cdssl(edge, batch, weight=(0.0,) * DIM):
    task = make("cdssl")
    with torch.no_grad():
        task.regressor.weight.copy_(torch.tensor([weight]))
        task.regressor.bias.zero_()
    return task.loss(encoded(edge=edge), [batch], batch)


def test_cdssl_loss_of_zeros_is_the_number_of_edges_per_crystal():
    # Σ (d - mean)² / variance is a crystal's number of edges, or zero if they are equally long: (2 + 0 + 4 + 0) / 4.
    batch = batch_of([1] * 4, CRYSTALS, [1] * 4)
    assert cdssl(draw(9), batch).item() == pytest.approx(6 / 4)
    equal = batch_of([1] * 2, [[2.0] * 6, [3.0] * 4], [1] * 2)
    assert cdssl(draw(10), equal).item() == pytest.approx(0)


def test_cdssl_loss_sums_over_edges_and_averages_over_crystals():
    batch = batch_of([1] * 4, CRYSTALS, [1] * 4)
    edge = draw(9)
    target = standardised_distances(batch)
    assert cdssl(edge, batch, (0, 1.0, 0, 0)).item() == pytest.approx(((edge[:, 1] - target) ** 2).sum().item() / 4)
    edge[:, 1] = target
    assert cdssl(edge, batch, (0, 1.0, 0, 0)).item() == pytest.approx(0)


def test_cdssl_target_is_the_unperturbed_crystal():
    task, batch = make("cdssl"), batch_of([1] * 4, CRYSTALS, [1] * 4)
    perturbed = view_of(batch, distance=batch.distance + draw(9)[:, 0].abs())
    edge = draw(9)
    loss = task.loss(encoded(edge=edge), [perturbed], batch)
    torch.testing.assert_close(loss, task.loss(encoded(edge=edge), [batch], batch))
    assert (loss - task.loss(encoded(edge=edge), [perturbed], perturbed)).abs() > 1e-3


# ---------------------------------------------------------------------- distance denoising


def test_denoising_loss_by_hand():
    # Shifts of 0.1, -0.2, 0.3 and 0 Å are 1, -2, 3 and 0 sigmas; predictions of 0.5 are off by 0.5, 2.5, 2.5 and 0.5.
    batch = batch_of([1, 1], [[2.0, 3.0, 4.0], [5.0]], [1, 1])
    view = view_of(batch, distance=batch.distance + torch.tensor([0.1, -0.2, 0.3, 0], dtype=torch.float64))
    task = make("denoise", sigma=0.1)
    with torch.no_grad():
        task.regressor.weight.zero_()
        task.regressor.bias.fill_(0.5)
    assert task.loss(encoded(edge=draw(4)), [view], batch).item() == pytest.approx(6 / 4)


def test_denoising_without_edges_is_zero():
    batch = batch_of([18])
    assert make("denoise").loss(encoded(edge=draw(0)), [batch], batch).item() == 0


# ---------------------------------------------------------------------- masked elements

Z = [11, 17, 8, 26, 26, 1]
MASKED = [0, 2, 4]


def masked_view(batch, rows):
    return view_of(batch, z=batch.z.index_fill(0, torch.tensor(rows, dtype=torch.long), 0))


def test_mask_loss_is_the_mean_cross_entropy_of_masked_atoms():
    task, batch, node = make("mask"), batch_of(Z), draw(6)
    view = masked_view(batch, MASKED)
    logits = node @ task.classifier.weight.T + task.classifier.bias
    assert logits.shape == (6, 118)
    expected = sum(torch.logsumexp(logits[i], 0) - logits[i, Z[i] - 1] for i in MASKED) / 3
    torch.testing.assert_close(task.loss(encoded(node), [view], batch), expected)


def test_mask_loss_looks_at_masked_atoms_only():
    task, batch = make("mask"), batch_of(Z)
    node = draw(6).requires_grad_()
    task.loss(encoded(node), [masked_view(batch, MASKED)], batch).backward()
    assert ((node.grad != 0).any(dim=1) == torch.tensor([i in MASKED for i in range(6)])).all()


def test_mask_loss_of_a_know_nothing_is_the_logarithm_of_all_elements():
    task, batch = make("mask"), batch_of(Z)
    torch.nn.init.zeros_(task.classifier.weight)
    torch.nn.init.zeros_(task.classifier.bias)
    loss = task.loss(encoded(draw(6)), [masked_view(batch, MASKED)], batch)
    assert loss.item() == pytest.approx(math.log(118))


def test_nothing_masked_costs_nothing():
    task, batch, node = make("mask"), batch_of(Z), draw(6).requires_grad_()
    loss = task.loss(encoded(node), [batch], batch)
    loss.backward()
    assert loss.item() == 0
    assert (node.grad == 0).all()


# ---------------------------------------------------------------------- microproperties

KNOWN = {"Na": 1, "Cl": 7, "O": 6, "Fe": 8, "H": 1, "He": 2, "Ga": 3, "Ce": 4}


def test_valence_loss_is_the_mean_cross_entropy_of_all_atoms():
    task, batch, node = make("valence"), batch_of(Z), draw(6)
    expected = cross_entropy(task.classifier(node), torch.tensor([1, 7, 6, 8, 8, 1]))
    # What is masked does not matter: the number follows from the crystal, not from the view.
    for rows in ([], MASKED):
        torch.testing.assert_close(task.loss(encoded(node), [masked_view(batch, rows)], batch), expected)


def test_valence_classes_are_those_of_pymatgen_and_fit():
    from pymatgen.core import Element

    task = make("valence")
    assert task.classifier.out_features == 17
    assert {symbol: task.classes[Element(symbol).Z].item() for symbol in KNOWN} == KNOWN
    known = [z for z in range(1, 119) if task.classes[z] >= 0]
    assert set(range(1, 104)) <= set(known)
    for z in known:
        assert task.classes[z] == valence_electrons(Element.from_Z(z).symbol)
        assert 0 <= task.classes[z] <= 16
    assert task.classes[0] == -1


def test_elements_without_known_valence_are_left_out():
    task, node = make("valence"), draw(3)
    unknown = int((task.classes[1:] < 0).nonzero()[0, 0]) + 1
    with_unknown, alone = batch_of([11, unknown, 8]), batch_of([11, 8])
    loss = task.loss(encoded(node), [with_unknown], with_unknown)
    torch.testing.assert_close(loss, task.loss(encoded(node[[0, 2]]), [alone], alone))
    nothing = batch_of([unknown])
    assert task.loss(encoded(node[:1]), [nothing], nothing).item() == 0


def test_stiffness_table_has_the_published_values():
    table = atomic_stiffness()
    assert table.shape == (119,)
    assert table.dtype == np.float32
    published = {3: 1.76, 4: 6.02, 6: 15.55, 14: 10.61}
    np.testing.assert_allclose([table[z] for z in published], list(published.values()), rtol=1e-6)
    assert np.isfinite(table).sum() == 62
    assert (table[np.isfinite(table)] > 0).all()
    assert np.isnan(table[[0, 2, 10, 18, 118]]).all()
    with pytest.raises(ValueError, match="read-only"):
        table[14] = 0


def test_stiffness_loss_by_hand_leaves_atoms_without_value_out():
    # Predictions of 2: |2 - 1.76| and |2 - 6.02|; argon and helium have no value.
    task, batch = make("stiffness"), batch_of([3, 18, 4, 2])
    torch.nn.init.zeros_(task.regressor.weight)
    torch.nn.init.constant_(task.regressor.bias, 2.0)
    node = draw(4).requires_grad_()
    for rows in ([], [0, 1]):
        loss = task.loss(encoded(node), [masked_view(batch, rows)], batch)
        assert loss.item() == pytest.approx((0.24 + 4.02) / 2)
    torch.nn.init.ones_(task.regressor.weight)
    task.loss(encoded(node), [batch], batch).backward()
    assert (node.grad[[0, 2]] != 0).all()
    assert (node.grad[[1, 3]] == 0).all()


def test_crystals_without_any_stiffness_cost_nothing():
    task, batch, node = make("stiffness"), batch_of([18, 18]), draw(2).requires_grad_()
    loss = task.loss(encoded(node), [batch], batch)
    loss.backward()
    assert loss.item() == 0
    assert (node.grad == 0).all()


@pytest.mark.parametrize("name", ["stiffness", "dssl-as"])
def test_corpus_without_any_stiffness_is_refused(name):
    with pytest.raises(ValueError, match=r"none of the elements .*\[2, 18\]\).*'stiffness'.*another method"):
        make(name).check_elements([18, 2])
    make(name).check_elements([18, 3])
    for other in ("mask", "denoise", "dssl", "dssl-ve"):
        make(other).check_elements([18, 2])


# ---------------------------------------------------------------------- known properties

NAN = math.nan
# Two atoms in 2 × 3 × 4 Å³, the other cell left-handed with one atom in 8 Å³.
CELLS = [[[2.0, 0, 0], [0, 3, 0], [0, 0, 4]], [[0, 2.0, 0], [2, 0, 0], [0, 0, 2]]]
VOLUMES = [(math.log(12) - 3) / 0.5, (math.log(8) - 3) / 0.5]


def properties_loss(labels, predicted=None):
    task = make("properties", n_properties=len(labels[0]))
    assert task.encoder.n_properties == len(labels[0]) + 1
    if predicted is None:
        predicted = torch.arange(len(labels[0]) + 1.0).expand(2, -1)
    batch = batch_of([1] * 3, [[], []], [2, 1], CELLS, labels)
    return task.loss(encoded(properties=predicted), [batch], batch)


def test_properties_loss_without_labels_is_the_error_of_the_volume():
    assert properties_loss([[], []]).item() == pytest.approx((abs(VOLUMES[0]) + abs(VOLUMES[1])) / 2)


@pytest.mark.parametrize(
    ("labels", "errors"),
    [
        # Predictions 0, 1, and 2 of the volume.
        ([[0.5, -2.0], [0.0, 1.0]], [0.25, 1.5]),
        ([[0.5, NAN], [NAN, -1.0]], [0.5, 2]),
        ([[0.5, NAN], [0.3, -1.0]], [0.4, 2]),  # what is known of few crystals counts as much as the rest
        ([[NAN, NAN], [NAN, NAN]], [0, 0]),
    ],
)
def test_properties_loss_is_the_mean_over_known_values_then_over_properties(labels, errors):
    errors = [*errors, sum(abs(2 - volume) for volume in VOLUMES) / 2]
    assert properties_loss(labels).item() == pytest.approx(sum(errors) / 3)


def test_missing_labels_have_no_gradient():
    predicted = torch.zeros(2, 3, dtype=torch.double, requires_grad=True)
    properties_loss([[1.0, NAN], [0.3, NAN]], predicted).backward()
    assert (predicted.grad[:, 1] == 0).all()
    assert (predicted.grad[:, [0, 2]] != 0).all()


# ---------------------------------------------------------------------- all of them

PREDICTIONS = {
    "cdssl": "edge",
    "denoise": "edge",
    "mask": "node",
    "valence": "node",
    "stiffness": "node",
    "properties": "properties",
}
"""What each task predicts from."""
predictions = pytest.mark.parametrize("name", PREDICTIONS)
N_EDGES = [3, 5]
SIZES = [4, 2]


def example(name, order=(0, 1)):
    """A task, an encoding of two crystals (in either order), their view and their batch."""
    task = make(name, **({"n_properties": 2} if name == "properties" else {}))
    atoms, lengths, labels = [Z[:4], Z[4:]], draw(8, 1)[:, 0].abs().split(N_EDGES), [[1.0, NAN], [0.3, -1.0]]
    batch = batch_of(
        [z for i in order for z in atoms[i]],
        [lengths[i].tolist() for i in order],
        [SIZES[i] for i in order],
        [CELLS[i] for i in order],
        [labels[i] for i in order],
    )
    shift = torch.cat([draw(8, 2)[:, 0].split(N_EDGES)[i] for i in order])
    hidden = torch.cat([torch.tensor([True, False, True, False, True, False]).split(SIZES)[i] for i in order])
    view = view_of(batch, distance=batch.distance + shift, z=batch.z.masked_fill(hidden, 0))
    rows = {
        "edge": draw(8, 3).split(N_EDGES),
        "node": draw(6, 3).split(SIZES),
        "properties": draw(2, 3, 3).split([1, 1]),
    }[PREDICTIONS[name]]
    return task, torch.cat([rows[i] for i in order]), view, batch


@predictions
def test_order_of_crystals_does_not_matter(name):
    losses = []
    for order in ((0, 1), (1, 0)):
        task, x, view, batch = example(name, order)
        losses.append(task.loss(encoded(**{PREDICTIONS[name]: x}), [view], batch))
    torch.testing.assert_close(*losses)
    assert losses[0] > 0


@predictions
def test_gradient_is_that_of_finite_differences(name):
    task, x, view, batch = example(name)
    assert torch.autograd.gradcheck(
        lambda x: task.loss(encoded(**{PREDICTIONS[name]: x}), [view], batch), x.requires_grad_()
    )


def test_weighted_sum():
    names = ["mask", "valence", "stiffness"]
    _, node, view, batch = example("mask")
    encoder = GatedGCN(DIM, 1)
    task = WeightedTasks([TASKS[name]() for name in names], [2.0, 0.3, 7.0]).bind(encoder).double()
    parts = list(task.tasks)
    expected = sum(w * part.loss(encoded(node), [view], batch) for w, part in zip([2.0, 0.3, 7.0], parts, strict=True))
    assert task.views == [parts[0].views[0]]
    found = task.loss([Encoded(node, None, node[:2])], [view], batch)
    torch.testing.assert_close(found, expected)
