"""Templates, views that users choose, and what happens after a step."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
import torch

from crystalssl import CrystalGraphTransformer
from crystalssl.augment import AtomMasking, Compose, EdgeMasking, RandomPerturbation, RandomStrain
from crystalssl.encoders import ENCODERS, GIN, Encoded
from crystalssl.pretext import (
    BYOL,
    DSSL,
    TASKS,
    BarlowTwins,
    Composite,
    CosineContrast,
    Joint,
    MaskedElements,
    PretextTask,
    SimCLR,
    SPMatBarlow,
    resolve_task,
)
from crystalssl.training import CrystalDataset, PretrainingNet, collate
from crystalssl.training._fit import fit_network

tasks = pytest.mark.parametrize("name", TASKS)
COMPARING = ["barlow", "simsiam", "simclr", "byol", "cosine", "spmat-simclr", "spmat-barlow"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small(name="gin"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ENCODERS[name](hidden_dim=8, n_layers=1)


@pytest.fixture(scope="module")
def graphs(prototypes):
    return CrystalGraphTransformer().transform(prototypes[:96:6])


@pytest.fixture
def batch(graphs):
    batch = collate(graphs, np.arange(len(graphs)))
    batch.y = torch.empty(len(graphs), 0)
    return batch


def train(task, graphs, valid=None, **params):
    rows = np.arange(len(graphs))
    settings = {
        "max_epochs": 2, "batch_size": 4, "learning_rate": 0.01, "weight_decay": 0.1, "gradient_clip": 1.0,
        "device": "cpu", "precision": "highest", "seed": 0, **params,
    }  # fmt: skip
    training = CrystalDataset(graphs, None, rows if valid is None else rows[:-valid])
    validation = None if valid is None else CrystalDataset(graphs, None, rows[-valid:])
    return fit_network(PretrainingNet, task, training, validation, **settings)


# ---------------------------------------------------------------------- templates


@tasks
def test_template_has_neither_weights_nor_encoder(name):
    template = TASKS[name]()
    assert [*template.state_dict()] == []
    assert not hasattr(template, "encoder")
    encoder = small(TASKS[name].encoder_name) if name != "dssl-as" else ENCODERS["gin"](8, 1)
    task = template.bind(encoder)
    assert task is not template
    assert task.encoder is encoder
    assert [*template.state_dict()] == []
    assert task.config == template.config
    # Bound twice, it has layers twice.
    other = template.bind(copy.deepcopy(encoder))
    assert not {id(p) for p in task.parameters()} & {id(p) for p in other.parameters()}
    assert [*task.state_dict()] == [*other.state_dict()]


@tasks
def test_config_is_json_and_makes_the_same_template(name):
    template = TASKS[name]()
    config = json.loads(json.dumps(template.to_config()))
    assert config["name"] == name
    again = resolve_task(config)
    assert type(again) is type(template)
    assert again.to_config() == config
    assert repr(pickle.loads(pickle.dumps(template))) == repr(template) == repr(copy.deepcopy(template))


def test_config_holds_what_was_given():
    assert BarlowTwins(0.1, projection_dim=4, atom_masking=0.3).config == {
        "redundancy_weight": 0.1,
        "projection_dim": 4,
        "atom_masking": 0.3,
    }
    views = [RandomStrain(0.1), "perturb", AtomMasking]
    task = SimCLR(views=views)
    assert task.to_config()["params"]["views"] == [
        {"name": "strain", "params": {"sigma": 0.1}},
        "perturb",
        "mask-atoms",
    ]
    views.clear()
    assert len(task.config["views"]) == 3


def test_parameters_replace_those_of_a_template():
    template = SimCLR(temperature=0.3, projection_dim=16)
    assert resolve_task(template).config == template.config
    assert resolve_task(template, temperature=0.5).config == {"temperature": 0.5, "projection_dim": 16}
    assert template.temperature == 0.3
    assert resolve_task(SimCLR, temperature=0.5).temperature == 0.5
    # A task that has weights is a template of one that has none.
    assert [*resolve_task(template.bind(small())).state_dict()] == []


def test_values_without_a_form_in_json_are_refused():
    with pytest.raises(ValueError, match="parameters must be numbers, text, lists or dicts of these, got <object"):
        BarlowTwins(redundancy_weight=object()).to_config()
    assert BarlowTwins(redundancy_weight=np.float32(0.5)).to_config()["params"]["redundancy_weight"] == 0.5


# ---------------------------------------------------------------------- parameters without effect


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("dssl", {"gamma": 100}, "'dssl' does not take .*'gamma'"),
        ("dssl", {"projection_dim": 4}, "'dssl' does not take .*'projection_dim'"),
        ("cosine", {"projection_dim": 4}, "'cosine' does not take .*'projection_dim'"),
        ("cosine", {"atom_masking": 0.1}, "'cosine' does not take .*'atom_masking'"),
        ("spmat-barlow", {"perturbation": 0.1}, "'spmat-barlow' does not take .*'perturbation'"),
        ("barlow", {"temperature": 0.1}, "'barlow' does not take .*'temperature'"),
        ("mask", {"views": "strain"}, "'mask' does not take .*'views'"),
        ("joint", {"views": "strain"}, "'joint' does not take .*'views'"),
        ("simclr", {"atom_maksing": 0.1}, "Did you mean 'atom_masking'"),
        ("simclr", {"projetcion_dim": 4}, "'simclr' does not take .*'projetcion_dim'"),
    ],
)
def test_parameters_that_a_task_does_not_use_are_refused(name, params, message):
    with pytest.raises(ValueError, match=message):
        resolve_task(name, **params)


def test_gamma_is_for_microproperties():
    assert TASKS["dssl-ve"](gamma=3.0).weights == [1.0, 1.0, 3.0]
    assert DSSL(2.0, 3.0).weights == [2.0, 3.0]


# ---------------------------------------------------------------------- views


@pytest.mark.parametrize("name", COMPARING)
def test_views_are_chosen(name):
    def views(given):
        return TASKS[name](views=given).views

    masked, strained = AtomMasking(0.1), RandomStrain(0.02)
    for one in ("mask-atoms", ["mask-atoms"], AtomMasking, AtomMasking(0.1), {"name": "mask-atoms"}, ("mask-atoms",)):
        assert views(one) == [masked, masked]
    assert views(["strain", AtomMasking]) == [Compose([strained, masked])] * 2
    assert views([["strain"], ["mask-atoms"]]) == [strained, masked]
    assert views([[], ["mask-atoms", EdgeMasking(0.3)]]) == [Compose([]), Compose([masked, EdgeMasking(0.3)])]
    assert views({"name": "strain", "params": {"sigma": 0.1}}) == [RandomStrain(0.1)] * 2
    # What is stored as JSON reads as it was.
    both = Compose([strained, masked])
    for given in ([both, masked], [both, both], [[both], [masked]], both, [both]):
        assert resolve_task(json.loads(json.dumps(TASKS[name](views=given).to_config()))).views == views(given)
    assert views(None) == TASKS[name]().views


@pytest.mark.parametrize("name", COMPARING)
def test_views_are_used(name, batch):
    seen = []
    encoder = small()
    encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    batch.y = torch.arange(len(batch.ptr) - 1)[:, None].float() % 2
    TASKS[name](views=[["strain"], ["mask-atoms"]]).bind(encoder)(batch, generator())
    strained, masked = seen[:2]
    assert not torch.equal(strained.cell, batch.cell)
    assert strained.z is batch.z
    assert masked.cell is batch.cell
    assert (masked.z == 0).any()


@pytest.mark.parametrize("name", COMPARING)
def test_views_and_parameters_of_the_default_ones_exclude_each_other(name):
    param = "atom_masking" if name != "cosine" else "perturbation"
    with pytest.raises(ValueError, match=f"{param} and views were given"):
        TASKS[name](views="strain", **{param: 0.1 if name != "cosine" else 0.05})


@pytest.mark.parametrize("wrong", [[["strain"], "perturb"], [["strain"]], [["strain"]] * 3], ids=str)
def test_views_that_are_no_pair(wrong):
    with pytest.raises(ValueError, match="one list of augmentations for both views, or two lists, one for each"):
        BarlowTwins(views=wrong)


def test_views_with_wrong_parameters():
    with pytest.raises(ValueError, match=r"the augmentation 'strain' does not take these parameters: .*'size'"):
        BarlowTwins(views={"name": "strain", "params": {"size": 1}})


# ---------------------------------------------------------------------- composites


def test_composite_of_templates_is_that_of_names():
    params = {"simclr": {"temperature": 0.5}}
    by_name = Composite({"simclr": 2.0, "mask": 0.5}, params)
    for given in (
        [SimCLR(temperature=0.5), "mask"],
        [SimCLR(temperature=0.5), MaskedElements],
        [{"name": "simclr", "params": {"temperature": 0.5}}, MaskedElements()],
    ):
        composite = Composite(given, weights=[2.0, 0.5])
        assert composite.weights == by_name.weights
        assert [repr(task) for task in composite.templates] == [repr(task) for task in by_name.templates]
        assert composite.views == by_name.views
    assert Composite([BYOL(), "mask"]).weights == [1.0, 1.0]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"tasks": ["mask"], "params": {"mask": {}}}, "params are those of tasks by name"),
        ({"tasks": {"mask": 1.0}, "weights": [1.0]}, "tasks by name have their weights beside them"),
        ({"tasks": ["mask", "byol"], "weights": [1.0]}, "one weight for each of its tasks"),
        ({"tasks": []}, "one weight for each of its tasks"),
        ({"tasks": [SPMatBarlow()]}, "cannot hold the task 'spmat-barlow'"),
        ({"tasks": [Composite()]}, "cannot hold the task 'composite'"),
        ({"tasks": [GIN]}, "cannot hold the task <class"),
        ({"tasks": [Joint(n_properties=2)]}, "a composite has no labels; leave n_properties out of Joint"),
        ({"tasks": {"byol": 1.0}, "params": {"byol": {"momentum": 2}}}, "momentum must lie between 0 and 1"),
    ],
)
def test_impossible_composites(params, message):
    with pytest.raises(ValueError, match=message):
        Composite(**params)


def test_parts_reach_the_encoder_which_stands_once_in_the_weights():
    encoder = small()
    task = Composite([DSSL(), "byol"]).bind(encoder)
    assert all(part.encoder is encoder for part in [*task.tasks, *task.tasks[0].tasks])
    names = [name for name in task.state_dict() if "encoder." in name]
    assert names == [f"encoder.{name}" for name in encoder.state_dict()]
    again = pickle.loads(pickle.dumps(copy.deepcopy(task)))
    assert all(part.encoder is again.encoder for part in again.tasks)
    assert again.encoder is not encoder


def test_parts_are_checked_and_called_after_a_step(batch):
    calls = []

    class Counting(MaskedElements):
        name = "counting"

        def after_step(self):
            calls.append(self.encoder)

        def check_elements(self, elements):
            raise ValueError(f"nothing in {elements}")

    task = Composite([Counting(), "mask", Counting()]).bind(small())
    task.after_step()
    assert calls == [task.encoder] * 2
    with pytest.raises(ValueError, match=r"nothing in \[3\]"):
        task.check_elements([3])


# ---------------------------------------------------------------------- after a step


def test_hook_is_called_after_every_step_of_training_and_in_no_validation(graphs):
    class Counting(MaskedElements):
        name = "counting"

        def build(self, encoder):
            super().build(encoder)
            self.before, self.weights = self.classifier.weight.detach().clone(), []

        def after_step(self):
            self.weights.append(self.classifier.weight.detach().clone())

    task = Counting().bind(small())
    train(task, graphs, valid=4, max_epochs=3)
    assert len(task.weights) == 3 * 3
    for before, after in zip([task.before, *task.weights[:-2]], task.weights[:-1], strict=True):  # the last rate is 0
        assert not torch.equal(before, after)  # the step had been made


def test_base_class_does_nothing_after_a_step():
    assert PretextTask().after_step() is None


# ---------------------------------------------------------------------- BYOL


def normalised(x):
    return x / x.norm(dim=1, keepdim=True)


def test_loss_of_byol_by_hand(batch):
    task = BYOL(views=[[RandomStrain(0.3)], [EdgeMasking(0.5)]]).bind(small("cgcnn")).eval()
    source = generator(3)
    views = [view(batch, source) for view in task.views]
    with torch.no_grad():
        for parameter in task.target.parameters():
            parameter.mul_(0.7)
        a, b = (normalised(task.predictor(task.projector(task.encoder(view).graph))) for view in views)
        encoder, projector = task.target
        of_a, of_b = (normalised(projector(encoder(view).graph)) for view in views)
    expected = ((a - of_b) ** 2).sum(dim=1).mean() + ((b - of_a) ** 2).sum(dim=1).mean()
    torch.testing.assert_close(task(batch, generator(3)), expected)
    torch.testing.assert_close(expected, 4 - 2 * ((a * of_b).sum(1) + (b * of_a).sum(1)).mean())


def test_byol_predicts_each_view_from_the_other():
    # On projections without likeness, so that it shows which is compared with which.
    task = BYOL().bind(small()).eval()
    task.projector, task.predictor = torch.nn.Identity(), torch.nn.Identity()

    class Reading(torch.nn.Module):
        def forward(self, view):
            return Encoded(view, None, view)

    task.target = torch.nn.ModuleList([Reading(), torch.nn.Identity()])
    a, b, of_a, of_b = (normalised(torch.randn(9, 128, generator=generator(seed))) for seed in range(4))
    loss = task.loss([Encoded(a, None, a), Encoded(b, None, b)], [of_a, of_b], None)
    torch.testing.assert_close(loss, 4 - 2 * ((a * of_b).sum(1) + (b * of_a).sum(1)).mean())
    assert (loss - 4 + 2 * ((a * of_a).sum(1) + (b * of_b).sum(1)).mean()).abs() > 1e-3


def test_byol_is_zero_where_predictions_and_projections_have_one_direction(batch):
    task = BYOL(views=[[], []]).bind(small()).eval()
    task.predictor = torch.nn.Identity()
    assert task(batch, generator()).item() == pytest.approx(0, abs=1e-6)


def test_target_begins_as_a_copy_and_has_no_gradient(batch):
    task = BYOL().bind(small())
    online = [*task.encoder.parameters(), *task.projector.parameters()]
    for target, parameter in zip(task.target.parameters(), online, strict=True):
        assert torch.equal(target, parameter)
        assert target is not parameter
        assert not target.requires_grad
    task(batch, generator()).backward()
    assert all(parameter.grad is None for parameter in task.target.parameters())
    assert all(parameter.grad is not None for parameter in [*task.projector.parameters(), *task.predictor.parameters()])


def watched(momentum=0.9):
    """A BYOL that notes what its target should be: the exact moving average of the weights after every step."""

    class Watched(BYOL):
        name = "watched"

        def build(self, encoder):
            super().build(encoder)
            self.expected = [parameter.detach().double() for parameter in self.target.parameters()]
            self.n_steps = 0

        def after_step(self):
            self.n_steps += 1
            online = [*self.encoder.parameters(), *self.projector.parameters()]
            self.expected = [
                self.momentum * mean + (1 - self.momentum) * parameter.detach().double()
                for mean, parameter in zip(self.expected, online, strict=True)
            ]
            super().after_step()

    return Watched(momentum)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("clip", [None, 0.01])
def test_target_is_the_moving_average_of_the_weights(graphs, alone, clip):
    task = (watched() if alone else Composite([watched(), "mask"])).bind(small())
    # Weight decay of half the weights per step would show in a target that the optimiser moves.
    train(task, graphs, weight_decay=50.0, gradient_clip=clip, max_epochs=3)
    byol = task if alone else task.tasks[0]
    assert byol.n_steps == 12
    for target, expected, online in zip(
        byol.target.parameters(), byol.expected, [*task.encoder.parameters(), *byol.projector.parameters()], strict=True
    ):
        torch.testing.assert_close(target.double(), expected, rtol=1e-4, atol=1e-6)
        assert not torch.equal(target, online)


@pytest.mark.parametrize(("momentum", "as_it_was"), [(1.0, True), (0.0, False)])
def test_extremes_of_the_momentum(graphs, momentum, as_it_was):
    task = BYOL(momentum).bind(small())
    before = copy.deepcopy(task.target)
    train(task, graphs)
    online = [*task.encoder.parameters(), *task.projector.parameters()]
    for target, old, new in zip(task.target.parameters(), before.parameters(), online, strict=True):
        assert torch.equal(target, old if as_it_was else new)


def test_target_follows_modes_and_devices():
    task = Composite(["byol"]).bind(small()).train()
    (byol,) = task.tasks
    assert byol.target.training
    assert not task.eval().tasks[0].target.training
    assert {p.device.type for p in task.to("meta").parameters()} == {"meta"}
    assert {p.device.type for p in byol.encoder.parameters()} == {"meta"}


def test_validation_leaves_the_target_alone(graphs, batch):
    task = BYOL().bind(small("cgcnn")).eval()
    before = copy.deepcopy(task.state_dict())
    task(batch, generator())
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.state_dict().items())


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan")])
def test_momentum_is_a_share(momentum):
    with pytest.raises(ValueError, match="momentum must lie between 0 and 1"):
        BYOL(momentum)


def test_defaults_of_the_views_stay():
    assert BYOL(perturbation=0.2).views == [Compose([RandomPerturbation(0.2), AtomMasking(0.1), EdgeMasking(0.1)])] * 2
    assert CosineContrast(perturbation=0.2).views == [RandomPerturbation(0.2)] * 2
    assert Joint(sigma=0.2).config["sigma"] == 0.2
