"""What every pretext task promises, whichever it is, and what each does with its views."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from crystalssl import CrystalGraphTransformer
from crystalssl.augment import (
    AtomMasking,
    Compose,
    EdgeMasking,
    GaussianPerturbation,
    NeighborDistanceNoising,
    RandomPerturbation,
)
from crystalssl.encoders import ENCODERS
from crystalssl.pretext import TASKS, PretextTask, atomic_stiffness
from crystalssl.pretext._base import TwoViews, mlp
from crystalssl.pretext.barlow import barlow_loss
from crystalssl.pretext.cdssl import standardised_distances
from crystalssl.pretext.cosine import cosine_loss
from crystalssl.pretext.simclr import simclr_loss
from crystalssl.pretext.simsiam import simsiam_loss
from crystalssl.pretext.spmat import SPMat, supervised_barlow_loss, supervised_contrastive_loss
from crystalssl.training import collate

N = 12
tasks = pytest.mark.parametrize("name", TASKS)
PAIRS = [name for name, task in TASKS.items() if issubclass(task, TwoViews)]
SPMAT = [name for name in PAIRS if issubclass(TASKS[name], SPMat)]
TWINS = [name for name in PAIRS if name not in SPMAT]
twins = pytest.mark.parametrize("name", TWINS)
spmat = pytest.mark.parametrize("name", SPMAT)
RANDOM = [name for name in TASKS if name not in ("properties", "forces")]
"""Tasks with something random in their views."""


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def n_labels(name):
    """Columns of the labels that the tests give to a task."""
    if name == "forces":
        return 9
    return 2 if TASKS[name].n_labels_param else int(TASKS[name].needs_labels)


def build(name, encoder=None, **params):
    """A task on a small encoder of its paper."""
    if TASKS[name].n_labels_param:
        params = {TASKS[name].n_labels_param: n_labels(name), **params}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TASKS[name](**params).bind(ENCODERS[encoder or TASKS[name].encoder_name](hidden_dim=16, n_layers=2))


@pytest.fixture(scope="module")
def graphs_of(prototypes):
    # Every sixth: crystals with one distance, with several, and with more than one kind of atom.
    return functools.cache(lambda encoder: CrystalGraphTransformer(encoder=encoder).transform(prototypes[: 6 * N : 6]))


@pytest.fixture
def make_batch(graphs_of):
    def make(name, encoder=None):
        batch = collate(graphs_of(encoder or TASKS[name].encoder_name), np.arange(N))
        batch.atom_y = torch.randn(len(batch.z), 3, generator=generator(8))
        if TASKS[name].needs_labels and name != "forces":
            batch.y = torch.tensor([0, 1, 2, -1] * (N // 4)).float()[:, None]
        else:
            batch.y = torch.randn(N, n_labels(name), generator=generator(7))
            batch.y[::3, 1:] = torch.nan
        return batch

    return make


@pytest.fixture
def record():
    """A function that makes a task remember what its encoder reads and what comes out."""

    def attach(task):
        seen = []
        task.encoder.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
        return seen

    return attach


@tasks
def test_name_and_encoder(name):
    assert issubclass(TASKS[name], PretextTask)
    assert TASKS[name].name == name
    assert TASKS[name].encoder_name in ENCODERS


@tasks
@pytest.mark.parametrize("training", [True, False])
def test_loss_is_a_finite_scalar(name, training, make_batch):
    loss = build(name).train(training)(make_batch(name), generator())
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert loss != 0


@tasks
@pytest.mark.parametrize("training", [True, False])
def test_gradient_reaches_all_that_the_task_owns_and_the_elements(name, training, make_batch):
    task = build(name).train(training)
    task(make_batch(name), generator()).backward()
    gradients = {name: p.grad for name, p in task.named_parameters() if p.grad is not None}
    assert all(torch.isfinite(grad).all() for grad in gradients.values())
    for parameter_name, parameter in task.named_parameters():
        if not parameter.requires_grad:  # of a target network
            assert parameter_name not in gradients
            continue
        own = not parameter_name.startswith("encoder.")
        # In training a bias before batch normalisation has no gradient.
        if (own and not training) or parameter_name.startswith(("encoder.embedding", "encoder.elements")):
            assert parameter_name in gradients
            assert (gradients[parameter_name] != 0).any(), parameter_name


@pytest.mark.parametrize("name", [*PAIRS, "cosine", "properties", "joint"])
def test_gradient_of_tasks_on_crystals_reaches_the_whole_encoder(name, make_batch):
    task = build(name).eval()
    task(make_batch(name), generator()).backward()
    for parameter_name, parameter in task.encoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert (parameter.grad != 0).any(), parameter_name


@tasks
def test_all_randomness_comes_from_the_generator(name, make_batch):
    batch = make_batch(name)
    state = torch.random.get_rng_state()
    losses = [build(name)(batch, generator(seed)).item() for seed in (0, 0, 1)]
    assert losses[0] == losses[1]
    assert (losses[0] != losses[2]) == (name in RANDOM)
    assert torch.equal(torch.random.get_rng_state(), state)


@tasks
def test_batch_is_left_alone(name, make_batch):
    batch, twin = make_batch(name), make_batch(name)
    build(name)(batch, generator()).backward()
    assert batch.keys() == twin.keys()
    for key in sorted(twin.keys()):
        torch.testing.assert_close(batch[key], twin[key], rtol=0, atol=0, equal_nan=True)


@tasks
def test_a_few_steps_lower_the_loss(name, make_batch):
    task, batch = build(name).train(), make_batch(name)
    optimizer = torch.optim.Adam(task.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = task(batch, generator())  # always the same views
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # Forces are drawn at random here, and there is little to learn.
    assert losses[-1] < losses[0] - (0.05 if name == "forces" else 0.1) * abs(losses[0])


@tasks
def test_only_tasks_on_edges_refuse_an_encoder_without_them(name):
    if name not in ("cdssl", "denoise", "forces", "joint"):
        assert build(name, "cgcnn").encoder.edge_dim is None
        return
    message = "needs an encoder with edge outputs, which 'cgcnn' does not have.* 'megnet', 'alignn' or 'gatedgcn'"
    with pytest.raises(ValueError, match=message):
        build(name, "cgcnn")


@pytest.mark.parametrize("name", ["cdssl", "denoise", "joint"])
@pytest.mark.parametrize("encoder", ["megnet", "alignn", "gatedgcn"])
def test_encoders_that_the_message_names_work(name, encoder, make_batch):
    loss = build(name, encoder)(make_batch(name, encoder), generator())
    assert torch.isfinite(loss)


# ---------------------------------------------------------------------- two views

VIEWS = {name: [RandomPerturbation, AtomMasking, EdgeMasking] for name in TWINS} | {
    name: [AtomMasking, EdgeMasking, NeighborDistanceNoising] for name in SPMAT
}


@pytest.mark.parametrize("name", PAIRS)
def test_views_are_the_papers_and_differ(name, make_batch, record):
    task, batch = build(name), make_batch(name)
    assert [[type(part) for part in view.augmentations] for view in task.views] == [VIEWS[name]] * 2
    values = {key: value for part in task.views[0].augmentations for key, value in part.config.items()}
    assert values in ({"distance": 0.05, "rate": 0.1}, {"rate": 0.1, "delta": 0.5})
    seen = record(task)
    task(batch, generator())
    (first, _), (second, _) = seen
    for key in ("z", "distance", *(["pos"] if name in TWINS else [])):
        assert not torch.equal(first[key], batch[key])
        assert not torch.equal(first[key], second[key])
    if name in SPMAT:
        assert first.pos is second.pos is batch.pos


@twins
def test_parameters_of_the_views(name):
    task = build(name, perturbation=0.2, atom_masking=0.3, edge_masking=0.4, projection_dim=32)
    for view in task.views:
        assert view == Compose([RandomPerturbation(0.2), AtomMasking(0.3), EdgeMasking(0.4)])
    assert task.projector[-1].out_features == 32


@spmat
def test_parameters_of_the_views_of_spmat(name):
    task = build(name, atom_masking=0.3, edge_masking=0.4, distance_noise=0.2, projection_dim=32)
    for view in task.views:
        assert view == Compose([AtomMasking(0.3), EdgeMasking(0.4), NeighborDistanceNoising(0.2)])
    assert task.projector[-1].out_features == 32


WRONG = [
    *((name, {"perturbation": -1}) for name in [*TWINS, "cosine", "dssl"]),
    *((name, {"atom_masking": 1.5}) for name in [*PAIRS, "mask", "valence", "stiffness", "dssl", "joint"]),
    *((name, {"edge_masking": -0.1}) for name in PAIRS),
    *((name, {"distance_noise": -0.1}) for name in SPMAT),
    *((name, {"sigma": sigma}) for name in ("cdssl", "denoise", "joint") for sigma in (0, -0.5, math.nan)),
    *((name, {"temperature": value}) for name in ("simclr", "spmat-simclr") for value in (0, -1, math.nan)),
    *(("dssl-ve", {name: value}) for name in ("alpha", "beta", "gamma") for value in (0, -1, math.nan)),
    ("joint", {"mask_weight": -0.1}),
    ("joint", {"denoise_weight": -1}),
]


@pytest.mark.parametrize(("name", "params"), WRONG, ids=str)
def test_parameters_out_of_range_are_refused(name, params):
    with pytest.raises(ValueError, match="must"):
        build(name, **params)


def projections(task, batch):
    """Of the two views that the generator with seed 3 makes."""
    source = generator(3)
    views = [view(batch, source) for view in task.views]
    return [task.projector(task.encoder(view).graph) for view in views]


COMPARED = {
    "barlow": ({"redundancy_weight": 0.7}, lambda a, b, y: barlow_loss(a, b, 0.7)),
    "simclr": ({"temperature": 0.3}, lambda a, b, y: simclr_loss(a, b, 0.3)),
    "spmat-simclr": ({"temperature": 0.3}, lambda a, b, y: supervised_contrastive_loss(a, b, y, 0.3)),
    "spmat-barlow": ({"different_weight": 0.7}, lambda a, b, y: supervised_barlow_loss(a, b, y, 0.7)),
    "cosine": ({}, lambda a, b, y: cosine_loss(a, b)),
}


@pytest.mark.parametrize("name", COMPARED)
def test_projections_of_both_views_are_compared(name, make_batch):
    params, loss = COMPARED[name]
    task, batch = build(name, **params).eval(), make_batch(name)
    expected = loss(*projections(task, batch), batch.y[:, 0] if name in SPMAT else None)
    torch.testing.assert_close(task(batch, generator(3)), expected)


def test_simsiam_predicts_each_projection_from_the_other():
    # On projections without likeness, so that it shows which is compared with which.
    task = build("simsiam").train()
    a, b = (torch.randn(9, 128, generator=generator(seed)) for seed in (1, 2))
    predicted_a, predicted_b = task.predictor(a), task.predictor(b)
    loss = task.compare(a, b, None)
    torch.testing.assert_close(loss, simsiam_loss(predicted_a, a, predicted_b, b))
    assert abs(loss - simsiam_loss(predicted_b, a, predicted_a, b)) > 1e-3


def test_simsiam_compares_the_projections_of_both_views(make_batch):
    task, batch = build("simsiam").eval(), make_batch("simsiam")
    torch.testing.assert_close(task(batch, generator(3)), task.compare(*projections(task, batch), batch))


def test_barlow_without_perturbation_compares_equal_views(make_batch):
    # Then the diagonal of C is 1, and what is left is redundancy.
    task = build("barlow", redundancy_weight=0.0, perturbation=0, atom_masking=0, edge_masking=0).train()
    assert task(make_batch("barlow"), generator()).item() == pytest.approx(0, abs=1e-3)


def test_cosine_without_perturbation_is_zero(make_batch):
    task = build("cosine", perturbation=0).eval()
    assert task(make_batch("cosine"), generator()).item() == pytest.approx(0, abs=1e-5)


def test_redundancy_weight_defaults_to_the_papers():
    assert build("barlow").redundancy_weight == 0.0051


def test_predictor_is_a_bottleneck():
    predictor = build("simsiam", predictor_dim=24).predictor
    widths = [(part.in_features, part.out_features) for part in predictor if isinstance(part, torch.nn.Linear)]
    assert widths == [(128, 24), (24, 128)]


def test_mlp_normalises_between_its_layers_only():
    kinds = [type(part) for part in mlp(3, 4, 5, 6)]
    linear, norm, relu = torch.nn.Linear, torch.nn.BatchNorm1d, torch.nn.ReLU
    assert kinds == [linear, norm, relu, linear, norm, relu, linear]
    assert mlp(3, 4, 5, 6)(torch.ones(2, 3)).shape == (2, 6)


@spmat
def test_spmat_follows_its_classes(name, make_batch):
    task, batch = build(name), make_batch(name)
    loss = task(batch, generator())
    batch.y = batch.y[torch.randperm(N, generator=generator(1))]
    assert (task(batch, generator()) - loss).abs() > 1e-3


# ---------------------------------------------------------------------- CDSSL


def test_cdssl_perturbs_the_positions_and_keeps_the_edges(make_batch, record):
    task, batch = build("cdssl"), make_batch("cdssl")
    assert task.views == [GaussianPerturbation(0.5)]
    seen = record(task)
    task(batch, generator())
    [(view, _)] = seen
    for key in ("edge_index", "image", "z", "cell"):
        assert view[key] is batch[key]
    assert (view.pos - batch.pos).std() == pytest.approx(0.5, rel=0.2)
    assert not torch.allclose(view.distance, batch.distance)


def test_cdssl_predicts_the_distances_of_the_unperturbed_crystals(make_batch, record):
    task, batch = build("cdssl").eval(), make_batch("cdssl")
    seen = record(task)
    loss = task(batch, generator())
    predicted = task.regressor(seen[0][1].edge)[:, 0]
    expected = ((predicted - standardised_distances(batch)) ** 2).sum() / N
    torch.testing.assert_close(loss, expected)


def test_cdssl_that_predicts_zeros_has_the_number_of_edges_of_crystals_with_unequal_distances(make_batch):
    task, batch = build("cdssl"), make_batch("cdssl")
    torch.nn.init.zeros_(task.regressor.weight)
    torch.nn.init.zeros_(task.regressor.bias)
    crystal = batch.batch[batch.edge_index[1]]
    lengths = [batch.distance[crystal == i] for i in range(N)]
    unequal = [len(row) for row in lengths if len(row) and row.max() - row.min() > 1e-3]
    assert len(unequal) > 1
    assert task(batch, generator()).item() == pytest.approx(sum(unequal) / N, rel=1e-5)


# ---------------------------------------------------------------------- DSSL


@pytest.mark.parametrize("name", ["dssl", "dssl-ve", "dssl-as"])
def test_dssl_is_a_weighted_sum_of_three_encodings(name, make_batch, record):
    weights = {"alpha": 2.0, "beta": 0.5} | ({} if name == "dssl" else {"gamma": 3.0})
    task, batch = build(name, **weights).eval(), make_batch(name)
    seen = record(task)
    loss = task(batch, generator())
    # The masked view serves the microproperty too.
    assert len(seen) == 3
    (masked, of_masked), (first, of_first), (second, of_second) = seen
    assert 0 < (masked.z == 0).float().mean() < 0.5
    assert masked.distance is batch.distance
    for view in (first, second):
        assert view.z is batch.z
        step = (view.pos - batch.pos).norm(dim=1)
        torch.testing.assert_close(step, torch.full_like(step, 0.05), rtol=1e-3, atol=0)
    assert not torch.equal(first.pos, second.pos)

    mask, cosine, *micro = task.tasks
    hidden = masked.z == 0
    expected = 2.0 * cross_entropy(mask.classifier(of_masked.node[hidden]), batch.z[hidden] - 1)
    expected = expected + 0.5 * cosine_loss(cosine.projector(of_first.graph), cosine.projector(of_second.graph))
    if name == "dssl-ve":
        expected = expected + 3.0 * cross_entropy(micro[0].classifier(of_masked.node), micro[0].classes[batch.z])
    if name == "dssl-as":
        stiffness = torch.from_numpy(atomic_stiffness().copy())[batch.z]
        known = ~stiffness.isnan()
        assert 0 < known.sum() < len(known)
        predicted = micro[0].regressor(of_masked.node)[:, 0]
        expected = expected + 3.0 * (predicted[known] - stiffness[known]).abs().mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("name", ["dssl", "dssl-ve", "dssl-as"])
def test_parameters_of_dssl(name):
    task = build(name, atom_masking=0.3, perturbation=0.2)
    assert task.views == [AtomMasking(0.3), RandomPerturbation(0.2), RandomPerturbation(0.2)]
    assert build(name).views == [AtomMasking(0.15), RandomPerturbation(0.05), RandomPerturbation(0.05)]
    assert build(name).weights == [1.0] * (2 if name == "dssl" else 3)


# ---------------------------------------------------------------------- joint


def test_joint_encodes_one_view_for_everything(make_batch, record):
    task, batch = build("joint", mask_weight=2.0, denoise_weight=3.0, sigma=0.2).eval(), make_batch("joint")
    seen = record(task)
    loss = task(batch, generator())
    [(view, encoded)] = seen
    hidden = view.z == 0
    assert 0 < hidden.sum() < len(hidden)
    assert (view.pos - batch.pos).std() == pytest.approx(0.2, rel=0.2)

    _, mask, denoise = task.tasks
    volume = (torch.linalg.det(batch.cell.double()).abs() / torch.bincount(batch.batch)).log()
    target = torch.cat([batch.y, (volume[:, None].float() - 3) / 0.5], dim=1)
    known = ~target.isnan()
    assert not known.all()
    errors = (encoded.properties - target).abs()
    expected = torch.stack([error[there].mean() for error, there in zip(errors.T, known.T, strict=True)]).mean()
    expected = expected + 2.0 * cross_entropy(mask.classifier(encoded.node[hidden]), batch.z[hidden] - 1)
    shift = (view.distance - batch.distance) / 0.2
    expected = expected + 3.0 * (denoise.regressor(encoded.edge)[:, 0] - shift).abs().mean()
    torch.testing.assert_close(loss, expected)


def test_joint_needs_no_labels(make_batch):
    task, batch = build("joint", n_properties=0), make_batch("joint")
    batch.y = torch.empty(N, 0)
    assert torch.isfinite(task(batch, generator()))


@pytest.mark.parametrize(
    ("left_out", "view", "others"),
    [
        ("mask_weight", [GaussianPerturbation(0.1)], ["denoise"]),
        ("denoise_weight", [AtomMasking(0.15)], ["mask"]),
    ],
)
def test_joint_without_a_part_neither_judges_nor_perturbs_for_it(left_out, view, others, make_batch):
    task = build("joint", **{left_out: 0})
    assert task.views == [Compose(view)]
    assert [part.name for part in task.tasks] == ["properties", *others]
    assert torch.isfinite(task(make_batch("joint"), generator()))


def test_defaults_of_joint():
    task = build("joint")
    assert task.views == [Compose([GaussianPerturbation(0.1), AtomMasking(0.15)])]
    assert task.weights == [1.0, 0.3, 0.3]


# ---------------------------------------------------------------------- composite


def n_encodings(record, make_batch, tasks, params=None):
    task = build("composite", tasks=tasks, params=params)
    seen = record(task)
    task(make_batch("composite"), generator())
    return len(seen)


@pytest.mark.parametrize(
    ("tasks", "params", "n"),
    [
        (["mask"], {}, 1),
        (["mask", "valence", "stiffness"], {}, 1),
        # Another share of masked atoms is another view.
        (["mask", "valence"], {"valence": {"atom_masking": 0.3}}, 2),
        # The two views of one task are not the same one, but another task may use both.
        (["cosine"], {}, 2),
        (["mask", "cosine"], {}, 3),
        (["barlow", "simclr"], {}, 2),
        (["barlow", "simclr"], {"simclr": {"edge_masking": 0.3}}, 4),
        (["properties", "mask"], {}, 2),
    ],
)
def test_only_equal_views_are_shared(tasks, params, n, record, make_batch):
    assert n_encodings(record, make_batch, dict.fromkeys(tasks, 1.0), params) == n


def test_composite_is_the_weighted_sum_of_its_tasks(make_batch, record):
    task, batch = build("composite", tasks={"cosine": 0.5, "mask": 2.0, "simclr": 3.0}).eval(), make_batch("composite")
    seen = record(task)
    loss = task(batch, generator())
    views, encoded = zip(*seen, strict=True)
    assert len(views) == 5
    parts = dict(zip(["cosine", "mask", "simclr"], task.tasks, strict=True))
    expected = (
        0.5 * parts["cosine"].loss(encoded[:2], views[:2], batch)
        + 2.0 * parts["mask"].loss(encoded[2:3], views[2:3], batch)
        + 3.0 * parts["simclr"].loss(encoded[3:], views[3:], batch)
    )
    torch.testing.assert_close(loss, expected)


def test_composite_has_one_encoder():
    task = build("composite", tasks={"mask": 1.0, "barlow": 1.0})
    names = [name for name, _ in task.named_parameters() if "encoder" in name]
    assert names
    assert all(name.startswith("encoder.") for name in names)


def test_default_composite_is_dssl_without_microproperties():
    assert [type(part).name for part in build("composite").tasks] == ["mask", "cosine"]
    assert build("composite").weights == [1.0, 1.0]


@pytest.mark.parametrize(
    ("tasks", "params", "message"),
    [
        ({"maks": 1.0}, None, "cannot hold the task 'maks'; choose from .*'mask'"),
        ({"spmat-simclr": 1.0}, None, "cannot hold the task 'spmat-simclr'; choose from"),
        ({"mask": 1.0, "spmat-barlow": 1.0}, None, "cannot hold the task 'spmat-barlow'"),
        ({"composite": 1.0}, None, "cannot hold the task 'composite'"),
        ({"mask": 0}, None, "weight of the task 'mask' must be positive, got 0; or leave it out"),
        ({"mask": 1.0, "cosine": -0.5}, None, "weight of the task 'cosine' must be positive, got -0.5"),
        ({"mask": math.nan}, None, "must be positive, got nan"),
        ({}, None, "tasks are"),
        ({"mask": 1.0}, {"cosine": {}}, r"tasks are \['mask'\], params are given for \['cosine'\]"),
        ({"mask": 1.0}, {"maks": {}}, "cannot hold the task 'maks'"),
        ({"denoise": 1.0}, None, "'denoise' needs an encoder with edge outputs"),
    ],
)
def test_impossible_composites_are_refused(tasks, params, message):
    with pytest.raises(ValueError, match=message):
        build("composite", tasks=tasks, params=params)
