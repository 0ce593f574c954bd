"""The losses as functions: numbers worked out by hand, symmetries, gradients, and the signs of collapse."""

from __future__ import annotations

import math

import pytest
import torch

from crystalssl.pretext.barlow import barlow_loss
from crystalssl.pretext.cosine import cosine_loss
from crystalssl.pretext.simclr import simclr_loss
from crystalssl.pretext.simsiam import simsiam_loss
from crystalssl.pretext.spmat import same_class, supervised_barlow_loss, supervised_contrastive_loss


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


# ---------------------------------------------------------------------- SimCLR and supervised contrast

AXES = tensor([[1, 0], [0, 1]])
CLASSES = torch.tensor([0, 1, 0, -1, 1, 0, -1])
"""Of the seven crystals that `draw` draws."""


def plain_contrast(a, b, classes, temperature):
    """Projection by projection, pair by pair."""
    z = [row / math.sqrt((row**2).sum()) for row in torch.cat([a, b])]
    crystals = [*range(len(a)), *range(len(a))]
    total = 0.0
    for i, anchor in enumerate(z):
        others = [j for j in range(len(z)) if j != i]
        partition = sum(math.exp((anchor @ z[j]).item() / temperature) for j in others)
        alike = [
            j for j in others
            if crystals[j] == crystals[i] or classes[crystals[j]] == classes[crystals[i]] != -1
        ]  # fmt: skip
        total += sum(math.log(partition) - (anchor @ z[j]).item() / temperature for j in alike) / len(alike)
    return total / len(z)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_simclr_loss_by_hand(temperature):
    # Each of the four has its other view at cosine 1 and two strangers at cosine 0.
    expected = math.log(math.exp(1 / temperature) + 2) - 1 / temperature
    assert simclr_loss(AXES, AXES, temperature).item() == pytest.approx(expected)
    # Each has its other view at cosine 0, a stranger at 1 and one at 0.
    expected = math.log(math.exp(1 / temperature) + 2)
    assert simclr_loss(AXES, AXES.flip(0), temperature).item() == pytest.approx(expected)


def test_single_crystal_has_simclr_loss_zero():
    assert simclr_loss(draw(0, n=1), draw(1, n=1)).item() == pytest.approx(0)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_simclr_loss_pair_by_pair(temperature):
    expected = plain_contrast(draw(0), draw(1), range(7), temperature)
    assert simclr_loss(draw(0), draw(1), temperature).item() == pytest.approx(expected)


def test_supervised_contrastive_loss_by_hand():
    # One class: of the three that each has to pick one is at cosine 1 and two are at 0; log(e + 2) - (1 + 0 + 0) / 3.
    found = supervised_contrastive_loss(AXES, AXES, torch.tensor([4, 4]), 1.0)
    assert found.item() == pytest.approx(math.log(math.e + 2) - 1 / 3)
    # Two classes: only the other view.
    found = supervised_contrastive_loss(AXES, AXES, torch.tensor([0, 1]), 1.0)
    assert found.item() == pytest.approx(math.log(math.e + 2) - 1)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_supervised_contrastive_loss_pair_by_pair(temperature):
    expected = plain_contrast(draw(0), draw(1), CLASSES.tolist(), temperature)
    assert supervised_contrastive_loss(draw(0), draw(1), CLASSES, temperature).item() == pytest.approx(expected)


@pytest.mark.parametrize("classes", [torch.full((7,), -1), torch.arange(7), -torch.ones(7)], ids=str)
def test_without_classes_the_supervised_contrastive_loss_is_simclrs(classes):
    found = supervised_contrastive_loss(draw(0), draw(1), classes, 0.3)
    torch.testing.assert_close(found, simclr_loss(draw(0), draw(1), 0.3))


def test_crystal_without_class_is_like_itself_only():
    expected = torch.eye(5, dtype=torch.bool)
    expected[0, 2] = expected[2, 0] = True
    assert torch.equal(same_class(torch.tensor([0, -1, 0, -1, 1])), expected)
    assert torch.equal(same_class(torch.tensor([0.0, -1.0, 0.0, -1.0, 1.0])), expected)


def test_temperatures_default_to_a_tenth():
    torch.testing.assert_close(simclr_loss(draw(0), draw(1)), simclr_loss(draw(0), draw(1), 0.1))
    views = draw(0), draw(1), CLASSES
    torch.testing.assert_close(supervised_contrastive_loss(*views), supervised_contrastive_loss(*views, 0.1))


# ---------------------------------------------------------------------- supervised Barlow Twins


@pytest.mark.parametrize(
    ("a", "b", "classes", "alike", "different"),
    [
        # Classes are orthogonal and their views agree.
        (AXES, AXES, [0, 1], 0, 0),
        # One class at right angles: (1 - 0)² for two pairs of four, and no pair of different classes.
        (AXES, AXES, [0, 0], 0.5, 0),
        # Each view looks like the other crystal's.
        (AXES, AXES.flip(0), [0, 1], 1, 1),
        # Opposite views: (1 + 1)².
        (AXES, -AXES, [0, 1], 4, 0),
        # Cosines [[1, 0.6], [0, 0.8]]: alike (0 + 0.2²) / 2, different (0.6² + 0) / 2, whatever the lengths.
        (tensor([[2, 0], [0, 5]]), tensor([[1, 0], [3, 4]]), [0, 1], 0.02, 0.18),
        # Neither has a class, which is not to say that they share one.
        (tensor([[2, 0], [0, 5]]), tensor([[1, 0], [3, 4]]), [-1, -1], 0.02, 0.18),
    ],
)
@pytest.mark.parametrize("weight", [1.0, 0.0, 0.3])
def test_supervised_barlow_loss_by_hand(a, b, classes, alike, different, weight):
    expected = alike + weight * different
    assert supervised_barlow_loss(a, b, torch.tensor(classes), weight).item() == pytest.approx(expected, abs=1e-12)


def test_supervised_barlow_loss_pair_by_pair():
    a, b, classes = draw(0), draw(1), CLASSES.tolist()
    alike, different = [], []
    for i in range(7):
        for j in range(7):
            cosine = (a[i] @ b[j] / (a[i].norm() * b[j].norm())).item()
            if i == j or classes[i] == classes[j] != -1:
                alike.append((1 - cosine) ** 2)
            else:
                different.append(cosine**2)
    expected = sum(alike) / len(alike) + 0.7 * sum(different) / len(different)
    assert supervised_barlow_loss(a, b, CLASSES, 0.7).item() == pytest.approx(expected)


# ---------------------------------------------------------------------- cosine


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([[2, 0]], [[7, 0]], 0),
        ([[2, 0]], [[-7, 0]], 2),
        ([[2, 0]], [[0, 3]], 1),
        ([[1, 0]], [[1, 1]], 1 - math.sqrt(0.5)),
        ([[1, 0], [0, 1]], [[3, 4], [1, 0]], 1 - (0.6 + 0) / 2),
    ],
)
def test_cosine_loss_by_hand(a, b, expected):
    assert cosine_loss(tensor(a), tensor(b)).item() == pytest.approx(expected)


# ---------------------------------------------------------------------- all that compare crystals by cosine

CONTRASTS = {
    "simclr": lambda a, b, classes: simclr_loss(a, b, 0.3),
    "supervised contrast": lambda a, b, classes: supervised_contrastive_loss(a, b, classes, 0.3),
    "supervised barlow": lambda a, b, classes: supervised_barlow_loss(a, b, classes, 0.7),
    "cosine": lambda a, b, classes: cosine_loss(a, b),
}
contrasts = pytest.mark.parametrize("loss", CONTRASTS.values(), ids=CONTRASTS)
supervised = pytest.mark.parametrize(
    "loss", [CONTRASTS[name] for name in ("supervised contrast", "supervised barlow")], ids=["contrast", "barlow"]
)
ORDER = [3, 0, 6, 2, 1, 5, 4]


@contrasts
def test_contrast_does_not_see_the_order_of_crystals(loss):
    a, b = draw(0), draw(1)
    torch.testing.assert_close(loss(a[ORDER], b[ORDER], CLASSES[ORDER]), loss(a, b, CLASSES))


@contrasts
def test_contrast_does_not_see_which_view_is_first(loss):
    a, b = draw(0), draw(1)
    torch.testing.assert_close(loss(b, a, CLASSES), loss(a, b, CLASSES))


@contrasts
@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[:, [2, 0, 3, 1]],
        lambda x: x * torch.linspace(0.1, 9, 7, dtype=torch.float64)[:, None],
        lambda x: x @ torch.linalg.qr(draw(5, n=4)).Q,
    ],
    ids=["order of features", "lengths", "rotation"],
)
def test_contrast_sees_angles_only(loss, change):
    a, b = draw(0), draw(1)
    torch.testing.assert_close(loss(change(a), change(b), CLASSES), loss(a, b, CLASSES))


@contrasts
def test_contrast_sees_which_crystal_is_which(loss):
    a = draw(0)
    b = a + 0.1 * draw(1)
    assert loss(a[ORDER], b, CLASSES) > loss(a, b, CLASSES) + 0.1


@supervised
def test_names_of_classes_do_not_matter_but_who_is_in_them(loss):
    a, b = draw(0), draw(1)
    renamed = torch.tensor([5, 2, 5, -1, 2, 5, -1])
    torch.testing.assert_close(loss(a, b, renamed), loss(a, b, CLASSES))
    assert (loss(a, b, CLASSES[ORDER]) - loss(a, b, CLASSES)).abs() > 1e-3
    assert (loss(a, b, CLASSES.clamp(min=0)) - loss(a, b, CLASSES)).abs() > 1e-3


@supervised
def test_classes_that_agree_lower_the_supervised_losses(loss):
    classes = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    apart = torch.eye(4, dtype=torch.float64)[classes]
    mixed = torch.eye(4, dtype=torch.float64)[classes[ORDER]]
    assert loss(apart, apart, classes) < loss(mixed, mixed, classes) - 0.1


@contrasts
def test_contrast_gradient(loss):
    a, b = draw(0).requires_grad_(), draw(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, CLASSES), (a, b))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [*zip(CONTRASTS.values(), [math.log(13), math.log(13), 0.7, 0.0], strict=True)],
    ids=CONTRASTS,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
def test_collapsed_encoder_shows_in_the_loss(loss, expected, size, dtype):
    # Of seven crystals: log(2n - 1) twice, the weight λ of pairs of different classes, and nothing.
    row = size * draw(0, n=1, d=16).to(dtype)
    a, b = (row.expand(7, 16).clone().requires_grad_() for _ in range(2))
    found = loss(a, b, CLASSES)
    assert found.item() == pytest.approx(expected, abs=1e-5)
    found.backward()
    assert torch.isfinite(a.grad).all()


@contrasts
def test_projections_of_zeros_leave_the_gradient_finite(loss):
    a, b = (torch.zeros(7, 4, requires_grad=True) for _ in range(2))
    loss(a, b, CLASSES).backward()
    assert torch.isfinite(a.grad).all()
