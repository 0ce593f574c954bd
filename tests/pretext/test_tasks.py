"""What every pretext task promises, whichever it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crystalssl import CrystalGraphTransformer
from crystalssl.augment import AtomMasking, EdgeMasking, RandomPerturbation
from crystalssl.encoders import ENCODERS
from crystalssl.pretext import TASKS, PretextTask
from crystalssl.pretext._base import TwoViews, mlp
from crystalssl.pretext.barlow import barlow_loss
from crystalssl.pretext.simsiam import simsiam_loss
from crystalssl.training import collate

tasks = pytest.mark.parametrize("name", TASKS)
twins = pytest.mark.parametrize("name", [name for name, task in TASKS.items() if issubclass(task, TwoViews)])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def build(name, **params):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TASKS[name](ENCODERS[TASKS[name].encoder_name](), **params)


@pytest.fixture
def make_batch(prototypes):
    def make(name, n=16):
        graphs = CrystalGraphTransformer(encoder=TASKS[name].encoder_name).transform(prototypes[:n])
        batch = collate(graphs, np.arange(n))
        batch.y = torch.empty(n, 0)
        return batch

    return make


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


@tasks
def test_gradient_reaches_every_parameter(name, make_batch):
    # In evaluation mode: in training a bias before batch normalisation has no gradient.
    task = build(name).eval()
    task(make_batch(name), generator()).backward()
    for parameter_name, parameter in task.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert (parameter.grad != 0).any(), parameter_name


@tasks
def test_gradient_in_training_is_finite_and_reaches_the_elements(name, make_batch):
    task = build(name).train()
    task(make_batch(name), generator()).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in task.parameters())
    assert (task.encoder.embedding.weight.grad != 0).any()


@tasks
def test_all_randomness_comes_from_the_generator(name, make_batch):
    batch = make_batch(name)
    state = torch.random.get_rng_state()
    losses = [build(name)(batch, generator(seed)).item() for seed in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(torch.random.get_rng_state(), state)


@tasks
def test_batch_is_left_alone(name, make_batch):
    batch, twin = make_batch(name), make_batch(name)
    build(name)(batch, generator()).backward()
    for key in sorted(twin.keys()):
        assert torch.equal(batch[key], twin[key]), key


@tasks
def test_a_few_steps_lower_the_loss(name, make_batch):
    task, batch = build(name).train(), make_batch(name)
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        loss = task(batch, generator())  # always the same views
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1 * abs(losses[0])


# ---------------------------------------------------------------------- Crystal Twins


@twins
def test_views_are_the_papers_and_differ(name, make_batch):
    task, batch = build(name), make_batch(name)
    parts = task.augmentation.augmentations
    assert [type(part) for part in parts] == [RandomPerturbation, AtomMasking, EdgeMasking]
    assert (parts[0].distance, parts[1].rate, parts[2].rate) == (0.05, 0.1, 0.1)
    views = []
    task.encoder.register_forward_hook(lambda module, inputs, output: views.append(inputs[0]))
    task(batch, generator())
    assert len(views) == 2
    for key in ("pos", "z", "distance"):
        assert not torch.equal(views[0][key], batch[key])
        assert not torch.equal(views[0][key], views[1][key])


@twins
def test_parameters_of_the_views(name):
    task = build(name, perturbation=0.2, atom_masking=0.3, edge_masking=0.4, projection_dim=32)
    parts = task.augmentation.augmentations
    assert (parts[0].distance, parts[1].rate, parts[2].rate) == (0.2, 0.3, 0.4)
    assert task.projector[-1].out_features == 32


@twins
@pytest.mark.parametrize("params", [{"perturbation": -1}, {"atom_masking": 1.5}, {"edge_masking": -0.1}])
def test_parameters_out_of_range_are_refused(name, params):
    with pytest.raises(ValueError, match="must"):
        build(name, **params)


def test_barlow_compares_the_projections_of_both_views(make_batch):
    task, batch = build("barlow", redundancy_weight=0.7).eval(), make_batch("barlow")
    source = generator(3)
    a, b = (task.projector(task.encoder(task.augmentation(batch, source)).graph) for _ in range(2))
    torch.testing.assert_close(task(batch, generator(3)), barlow_loss(a, b, 0.7))


def test_simsiam_predicts_each_projection_from_the_other():
    # On projections without likeness, so that it shows which is compared with which.
    task = build("simsiam").train()
    a, b = (torch.randn(9, 128, generator=generator(seed)) for seed in (1, 2))
    predicted_a, predicted_b = task.predictor(a), task.predictor(b)
    loss = task.compare(a, b)
    torch.testing.assert_close(loss, simsiam_loss(predicted_a, a, predicted_b, b))
    assert abs(loss - simsiam_loss(predicted_b, a, predicted_a, b)) > 1e-3


def test_simsiam_compares_the_projections_of_both_views(make_batch):
    task, batch = build("simsiam").eval(), make_batch("simsiam")
    source = generator(3)
    a, b = (task.projector(task.encoder(task.augmentation(batch, source)).graph) for _ in range(2))
    torch.testing.assert_close(task(batch, generator(3)), task.compare(a, b))


def test_barlow_without_perturbation_compares_equal_views(make_batch):
    # Then the diagonal of C is 1, and what is left is redundancy.
    task = build("barlow", redundancy_weight=0.0, perturbation=0, atom_masking=0, edge_masking=0).train()
    assert task(make_batch("barlow"), generator()).item() == pytest.approx(0, abs=1e-3)


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
