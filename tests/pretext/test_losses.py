"""The losses as functions: numbers worked out by hand, symmetries, gradients, and the signs of collapse."""

from __future__ import annotations

import math

import pytest
import torch

from crystalssl.pretext.barlow import barlow_loss
from crystalssl.pretext.simsiam import simsiam_loss


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


def draw(seed, n=7, d=4):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---------------------------------------------------------------------- Barlow Twins

# Orthogonal columns of mean zero: C is the identity.
CROSS = tensor([[1, 0], [-1, 0], [0, 1], [0, -1]])
# Centred: (-2, 0), (0, -2), (2, 2); both columns have norm √8.
A = tensor([[1, 2], [3, 0], [5, 4]])
# Centred: (-1, 0), (1, -1), (0, 1); both columns have norm √2.
B = tensor([[0, 1], [2, 0], [1, 2]])
# C = [[(-2)(-1) + 0·1 + 2·0, (-2)·0 + 0·(-1) + 2·1], [0·(-1) + (-2)·1 + 2·0, 0·0 + (-2)(-1) + 2·1]] / √(8·2)
#   = [[2, 2], [-2, 4]] / 4 = [[0.5, 0.5], [-0.5, 1]]: (1 - 0.5)² + (1 - 1)² = 0.25 on the diagonal, 0.5 off it.


@pytest.mark.parametrize(
    ("a", "b", "diagonal", "redundancy"),
    [
        (CROSS, CROSS, 0, 0),
        (A, B, 0.25, 0.5),
        # Features swapped in one view: C = [[0, 1], [1, 0]].
        (CROSS, CROSS[:, [1, 0]], 2, 2),
        # One view negated: C = -1, so that each feature gives (1 + 1)² = 4.
        (CROSS, -CROSS, 8, 0),
        # The same feature twice: C is all ones.
        (CROSS[:, [0, 0]], CROSS[:, [0, 0]], 0, 2),
        # One feature: centred (-1, 0, 1) against (1, -2, 1), orthogonal: C = 0.
        (tensor([[0], [1], [2]]), tensor([[3], [0], [3]]), 1, 0),
        # A feature of one view is constant: its row of C is zero, and the other feature correlates with itself alone.
        (tensor([[1, 3], [-1, 3], [0, 3], [0, 3]]), CROSS, 1, 0),
    ],
)
@pytest.mark.parametrize("weight", [0.0051, 0.0, 1.0])
def test_barlow_loss_by_hand(a, b, diagonal, redundancy, weight):
    expected = diagonal + weight * redundancy
    assert barlow_loss(a, b, weight).item() == pytest.approx(expected, abs=1e-12)
    assert barlow_loss(b, a, weight).item() == pytest.approx(expected, abs=1e-12)


def test_weight_defaults_to_the_papers():
    assert barlow_loss(A, B).item() == pytest.approx(0.25 + 0.0051 * 0.5)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[[3, 0, 6, 2, 1, 5, 4]],
        lambda x: x[:, [2, 0, 3, 1]],
        lambda x: x + tensor([[5, -3, 0.1, 100]]),
        lambda x: x * tensor([[2, 0.1, 30, 1]]),
    ],
    ids=["order of crystals", "order of features", "shift", "scale"],
)
def test_what_barlow_loss_does_not_see_in_both_views(change):
    a, b = draw(0), draw(1)
    torch.testing.assert_close(barlow_loss(change(a), change(b)), barlow_loss(a, b))


@pytest.mark.parametrize("change", [lambda x: x[[3, 0, 6, 2, 1, 5, 4]], lambda x: x[:, [2, 0, 3, 1]]])
def test_barlow_loss_sees_which_crystal_and_feature_is_which(change):
    a = draw(0)
    b = a + 0.1 * draw(1)
    assert barlow_loss(change(a), b) > barlow_loss(a, b) + 0.1


def test_barlow_gradient():
    a, b = draw(0).requires_grad_(), draw(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: barlow_loss(a, b, 0.3), (a, b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("n", [2, 3, 64])
def test_collapsed_encoder_has_barlow_loss_d(n, size, dtype):
    # Rounding of the mean must not pass for agreement of the views.
    row = size * draw(0, n=1, d=16).to(dtype)
    a, b = (row.expand(n, 16).clone().requires_grad_() for _ in range(2))
    loss = barlow_loss(a, b)
    assert loss.item() == pytest.approx(16)
    loss.backward()
    assert torch.isfinite(a.grad).all()


def test_small_differences_are_no_collapse():
    a = 1 + 1e-3 * draw(0, n=64, d=8)
    torch.testing.assert_close(barlow_loss(a.float(), a.float()), barlow_loss(a, a).float(), rtol=1e-3, atol=1e-4)
    assert barlow_loss(a.float(), a.float()) < 0.1


# ---------------------------------------------------------------------- SimSiam


@pytest.mark.parametrize(
    ("predicted_a", "a", "predicted_b", "b", "expected"),
    [
        # Each prediction hits the other view's projection, whatever the lengths: -½(1 + 1).
        ([[2, 0]], [[0, 5]], [[0, 3]], [[7, 0]], -1),
        # Both predictions point the other way.
        ([[2, 0]], [[0, 5]], [[0, -3]], [[-7, 0]], 1),
        # Both at right angles.
        ([[2, 0]], [[3, 0]], [[0, 1]], [[0, 1]], 0),
        # cos between (1, 0) and (1, 1) is 1/√2, that between (0, 1) and (3, 4) is 4/5.
        ([[1, 0]], [[3, 4]], [[0, 1]], [[1, 1]], -0.5 * (math.sqrt(0.5) + 0.8)),
        # Two crystals: cosines 1 and 0 on the one side, -1 and 3/5 on the other: -½(½ - 1/5).
        ([[1, 0], [1, 0]], [[0, 2], [3, 4]], [[0, -1], [1, 0]], [[4, 0], [0, 4]], -0.15),
    ],
)
def test_simsiam_loss_by_hand(predicted_a, a, predicted_b, b, expected):
    predicted_a, a, predicted_b, b = map(tensor, (predicted_a, a, predicted_b, b))
    assert simsiam_loss(predicted_a, a, predicted_b, b).item() == pytest.approx(expected)
    assert simsiam_loss(predicted_b, b, predicted_a, a).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "change",
    [lambda x: x[[3, 0, 6, 2, 1, 5, 4]], lambda x: x[:, [2, 0, 3, 1]], lambda x: 3 * x],
    ids=["order of crystals", "order of features", "scale"],
)
def test_what_simsiam_loss_does_not_see_in_both_views(change):
    views = [draw(seed) for seed in range(4)]
    torch.testing.assert_close(simsiam_loss(*map(change, views)), simsiam_loss(*views))


@pytest.mark.parametrize("change", [lambda x: x[[3, 0, 6, 2, 1, 5, 4]], lambda x: x[:, [2, 0, 3, 1]]])
def test_simsiam_loss_sees_which_crystal_and_feature_is_which(change):
    a = draw(0)
    b = a + 0.1 * draw(1)
    assert simsiam_loss(change(a), change(a), b, b) > simsiam_loss(a, a, b, b) + 0.1


def test_simsiam_gradient():
    a, b = draw(2), draw(3)
    inputs = draw(0).requires_grad_(), draw(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, q: simsiam_loss(p, a, q, b), inputs)


def test_no_gradient_flows_into_the_projections():
    predicted_a, a, predicted_b, b = (draw(seed).requires_grad_() for seed in range(4))
    simsiam_loss(predicted_a, a, predicted_b, b).backward()
    assert a.grad is None
    assert b.grad is None
    assert (predicted_a.grad != 0).any()
    assert (predicted_b.grad != 0).any()


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
def test_collapsed_encoder_has_simsiam_loss_minus_one(size):
    row = size * draw(0, n=1)
    assert simsiam_loss(*[row.expand(7, 4)] * 4).item() == pytest.approx(-1)
