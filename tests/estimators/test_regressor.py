from __future__ import annotations

import copy
import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import StandardScaler
from torch import nn

from crystalssl import CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.encoders import CGCNN
from crystalssl.estimators import _network
from crystalssl.training import CrystalNet, load_encoder


def encoder_state(model, member=0):
    return model.nets_[member].module_.encoder.state_dict()


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.fixture
def trainings(monkeypatch):
    """A list of (initial weights, training rows, validation rows, targets) of every network that is trained."""
    calls = []
    original = CrystalNet.fit_loop

    def spy(net, dataset, *args, **kwargs):
        _, valid = net.get_split_datasets(dataset)
        calls.append((copy.deepcopy(net.module_.state_dict()), dataset.indices, valid and valid.indices, dataset.y))
        return original(net, dataset, *args, **kwargs)

    monkeypatch.setattr(CrystalNet, "fit_loop", spy)
    return calls


# ------------------------------------------------------------------ learning


@pytest.mark.parametrize(
    "params",
    [
        {"loss": "absolute_error"},
        {"loss": "squared_error"},
        {"loss": "huber"},
        {"pretrain": None, "learning_rate": 0.005},
    ],
    ids=str,
)
def test_learns_the_density(tiny_regressor, graphs, y, params):
    model = tiny_regressor(**{"max_epochs": 40, "learning_rate": 0.02, "ema_decay": 0.5, "batch_size": 20, **params})
    assert model.fit(graphs, y).score(graphs, y) > 0.8
    assert model.history_[-1]["train_loss"] < 0.5 * model.history_[0]["train_loss"]
    assert [epoch["epoch"] for epoch in model.history_] == list(range(1, model.max_epochs + 1))


@pytest.mark.parametrize(("old", "new"), [("l1", "absolute_error"), ("mse", "squared_error")])
def test_old_names_of_losses(tiny_regressor, graphs, y, old, new):
    expected = tiny_regressor(loss=new).fit(graphs, y).predict(graphs)
    with pytest.warns(FutureWarning, match=f"loss='{old}' is now called '{new}'; set loss='{new}'") as caught:
        found = tiny_regressor(loss=old, ensemble_size=2).fit(graphs, y).nets_[0]
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert found.history[:, "train_loss"] == tiny_regressor(loss=new).fit(graphs, y).net_.history[:, "train_loss"]
    assert tiny_regressor(loss=new).fit(graphs, y).predict(graphs).tobytes() == expected.tobytes()


def test_score_is_r2(tiny_regressor, graphs, y, new):
    model = tiny_regressor().fit(graphs, y)
    assert model.score(graphs, y) == r2_score(y, model.predict(graphs))
    several = np.c_[y, -y]
    model.fit(graphs, several)
    assert model.score(graphs, several) == r2_score(several, model.predict(graphs))


@pytest.mark.parametrize("pretrain", ["barlow", None])
def test_predictions_do_not_depend_on_what_else_is_in_the_batch(graphs, y, pretrain):
    model = CrystalSSLRegressor(pretrain, max_epochs=2, random_state=0).fit(graphs, y)
    together = model.predict(graphs)
    alone = np.concatenate([model.predict(graphs[i : i + 1]) for i in range(len(graphs))])
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.predict(graphs[::-1])[::-1], together, rtol=1e-5, atol=1e-5)
    assert together.std() > 0


def test_more_crystals_than_fit_in_one_batch(tiny_regressor, graphs, y, monkeypatch):
    model = tiny_regressor().fit(graphs, y)
    expected = model.predict(graphs)
    monkeypatch.setattr(_network, "EDGES_AT_ONCE", 700)
    np.testing.assert_allclose(model.predict(graphs), expected, rtol=1e-5, atol=1e-5)


def test_other_seed_other_bits(tiny_regressor, graphs, y):
    first, second = (tiny_regressor(random_state=seed).fit(graphs, y).predict(graphs) for seed in (0, 1))
    assert (first != second).all()


def test_random_state_instance_moves_on(tiny_regressor, graphs, y):
    model = tiny_regressor(random_state=np.random.RandomState(0))
    first = model.fit(graphs, y).predict(graphs)
    assert (model.fit(graphs, y).predict(graphs) != first).any()


# Where prototypes stand in for the real crystals, one that is held out has an element of its own.
@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
@pytest.mark.parametrize(
    "change",
    [
        {"readout": "mean"},
        {"pooled_layers": "last"},
        {"head_dim": 9},
        {"dropout": 0.5},
        {"standardize": True},
        {"freeze_encoder": True},
        {"loss": "squared_error"},
        {"target_transform": "log"},
        {"max_epochs": 4},
        {"batch_size": 9},
        {"learning_rate": 0.01},
        {"encoder_learning_rate": 0.01},
        {"weight_decay": 10.0},
        {"gradient_clip": 1e-9},
        {"ema_decay": 0.0},
        {"early_stopping": True},
        {"ensemble_size": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_parameter_changes_the_result(tiny_regressor, graphs, y, change):
    default = tiny_regressor().fit(graphs, y).predict(graphs)
    assert not np.allclose(tiny_regressor(**change).fit(graphs, y).predict(graphs), default, rtol=1e-9)


@pytest.mark.parametrize("clip", [None, 1e-3])
def test_gradient_is_clipped(tiny_regressor, graphs, y, gradient_norms, clip):
    tiny_regressor(gradient_clip=clip).fit(graphs, y)
    assert len(gradient_norms) == 15
    assert max(gradient_norms) < 1.01 * clip if clip else min(gradient_norms) > 0.1


# ------------------------------------------------------------------ targets


@pytest.mark.parametrize("n_targets", [1, 2, 3])
def test_several_targets(tiny_regressor, graphs, y, new, n_targets):
    targets = np.c_[y, -10 * y, y**2][:, :n_targets]
    model = tiny_regressor(max_epochs=40, learning_rate=0.02, ema_decay=0.5, batch_size=20).fit(graphs, targets)
    assert model.n_targets_ == n_targets
    assert model.predict(new[1]).shape == (len(new[1]), n_targets)
    assert (r2_score(targets, model.predict(graphs), multioutput="raw_values") > 0.7).all()


@pytest.mark.parametrize("convert", [list, np.float32, "series", "int"])
def test_targets_of_any_kind(tiny_regressor, graphs, y, convert):
    import pandas as pd

    whole = y.round()
    targets = {"series": lambda v: pd.Series(v, index=v), "int": lambda v: v.astype(int)}.get(convert, convert)(whole)
    expected = tiny_regressor().fit(graphs, whole).predict(graphs)
    found = tiny_regressor().fit(graphs, targets).predict(graphs)
    assert found.dtype == np.float64
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("value", [0.0, 7.0, -1e6])
def test_constant_target_is_predicted(tiny_regressor, graphs, value):
    model = tiny_regressor(max_epochs=10, learning_rate=0.01).fit(graphs, np.full(len(graphs), value))
    np.testing.assert_allclose(model.predict(graphs), value, atol=0.3)


@pytest.mark.parametrize("factor", [1e-20, 1e20])
def test_unit_of_the_target_does_not_matter(tiny_regressor, graphs, y, factor):
    expected = tiny_regressor().fit(graphs, y).predict(graphs)
    found = tiny_regressor().fit(graphs, factor * y).predict(graphs)
    np.testing.assert_allclose(found / factor, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("transform", "values", "logged"),
    [
        ("auto", lambda n: np.geomspace(1, 1e4, n), True),
        ("auto", lambda n: np.linspace(1, 2, n), False),
        ("auto", lambda n: np.geomspace(1, 1e4, n) - 2, False),
        ("log", lambda n: np.linspace(1, 2, n), True),
        (None, lambda n: np.geomspace(1, 1e4, n), False),
    ],
)
def test_logarithm(tiny_regressor, graphs, trainings, transform, values, logged):
    targets = values(len(graphs))
    model = tiny_regressor(target_transform=transform).fit(graphs, targets)
    [(_, _, _, learnt)] = trainings
    expected = np.log(targets) if logged else targets
    np.testing.assert_allclose(learnt[:, 0], (expected - expected.mean()) / expected.std(), rtol=1e-4, atol=1e-5)
    if logged:
        assert (model.predict(graphs) > 0).all()


# ------------------------------------------------------------------ early stopping


@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_held_out_rows_are_not_learnt_from(tiny_regressor, graphs, y, trainings, fraction):
    params = {"early_stopping": True, "validation_fraction": fraction, "ema_decay": 0.0, "patience": 1000}
    model = tiny_regressor(**params).fit(graphs, y)
    [(_, train_rows, valid_rows, _)] = trainings
    assert len(valid_rows) == round(fraction * len(graphs))
    assert sorted([*train_rows, *valid_rows]) == list(range(len(graphs)))
    assert model.target_.mean_ == y[train_rows].mean()
    # With other targets on the held-out rows everything but the choice of the epoch stays the same.
    other = y.copy()
    other[valid_rows] = 1000 * other[valid_rows] + 5
    changed = clone(model).fit(graphs, other)
    assert changed.target_.mean_ == model.target_.mean_
    assert changed.target_.scale_ == model.target_.scale_
    losses = [[epoch["train_loss"] for epoch in fitted.history_] for fitted in (model, changed)]
    assert losses[0] == losses[1]
    assert model.history_[0]["valid_loss"] != changed.history_[0]["valid_loss"]


@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
def test_stops_when_the_held_out_loss_stagnates_and_keeps_the_best(tiny_regressor, graphs, trainings):
    noise = np.random.default_rng(0).normal(size=len(graphs))
    params = {"early_stopping": True, "validation_fraction": 0.3, "patience": 3, "max_epochs": 300}
    model = tiny_regressor(**params, learning_rate=0.01, ema_decay=0.5).fit(graphs, noise)
    losses = [epoch["valid_loss"] for epoch in model.history_]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 300
    [(_, _, valid_rows, _)] = trainings
    errors = np.abs(model.predict(graphs[valid_rows]) - noise[valid_rows]).mean() / model.target_.scale_[0]
    assert errors == pytest.approx(losses[best], rel=1e-4)


def test_negative_held_out_target_stops_nothing(tiny_regressor, graphs, trainings):
    targets = np.geomspace(1, 1e4, len(graphs))
    tiny_regressor(early_stopping=True).fit(graphs, targets)
    row = trainings[0][2][0]  # of a held-out crystal
    targets[row] = -1.0
    model = tiny_regressor(early_stopping=True).fit(graphs, targets)
    assert all(np.isfinite(epoch["valid_loss"]) for epoch in model.history_)


# ------------------------------------------------------------------ pretraining


def test_finetuning_starts_from_the_weights(tiny_regressor, tiny_weights, graphs, y, trainings):
    expected = load_encoder(tiny_weights)[0].state_dict()
    for source in (tiny_weights, str(tiny_weights), Path(tiny_weights)):
        tiny_regressor(pretrain=source).fit(graphs, y)
        start = trainings.pop()[0]
        assert_equal({name[8:]: tensor for name, tensor in start.items() if name.startswith("encoder.")}, expected)


def test_finetuning_changes_the_encoder_and_not_its_source(tiny_regressor, tiny_weights, graphs, y):
    source = PretrainedCrystalEmbedder(weights=tiny_weights).fit([])
    before = copy.deepcopy(source.encoder_.state_dict())
    model = tiny_regressor(pretrain=FrozenEstimator(source)).fit(graphs, y)
    assert not torch.equal(encoder_state(model)["embedding.weight"], before["embedding.weight"])
    assert_equal(source.encoder_.state_dict(), before)


@pytest.mark.parametrize("ema_decay", [0.0, 0.99])
def test_frozen_encoder_stays_as_it_was_to_the_bit(tiny_regressor, tiny_weights, graphs, y, ema_decay):
    params = {"freeze_encoder": True, "weight_decay": 1.0, "learning_rate": 0.1, "ema_decay": ema_decay}
    model = tiny_regressor(**params, early_stopping=True).fit(graphs, y)
    expected = load_encoder(tiny_weights)[0].state_dict()
    assert any("running_mean" in name for name in expected)
    assert_equal(encoder_state(model), expected)
    head = model.net_.module_.head[-1].weight
    assert not torch.equal(head, clone(model).set_params(max_epochs=1).fit(graphs, y).net_.module_.head[-1].weight)


@pytest.fixture
def gentle(monkeypatch):
    """The small encoder declares what GatedGCN does."""
    monkeypatch.setattr(CGCNN, "gentle_finetuning", True)


def test_encoder_has_its_own_learning_rate(tiny_regressor, tiny_weights, graphs, y, trainings):
    model = tiny_regressor(encoder_learning_rate=1e-12, learning_rate=0.1).fit(graphs, y)
    start = trainings[0][0]
    for name, parameter in model.net_.module_.named_parameters():
        moved = float((parameter.detach() - start[name]).abs().max())
        assert moved < 1e-8 if name.startswith("encoder.") else moved > 1e-4, name


@pytest.mark.parametrize(("n_crystals", "ratio"), [(40, 0.25), (500, 0.5), (1200, 1.0)])
def test_gentle_encoder_learns_more_slowly_where_labels_are_few(tiny_regressor, gentle, graphs, y, n_crystals, ratio):
    rows = np.arange(n_crystals) % len(graphs)
    model = tiny_regressor(max_epochs=1, learning_rate=0.01).fit(graphs[rows], y[rows])
    alike = clone(model).set_params(encoder_learning_rate=0.01 * ratio).fit(graphs[rows], y[rows])
    other = clone(model).set_params(encoder_learning_rate=0.009 * ratio).fit(graphs[rows], y[rows])
    np.testing.assert_array_equal(model.predict(graphs), alike.predict(graphs))
    assert (model.predict(graphs) != other.predict(graphs)).any()


@pytest.mark.usefixtures("gentle")
def test_encoder_from_random_weights_learns_at_the_rate_of_the_head(tiny_regressor, graphs, y):
    model = tiny_regressor(pretrain=None, learning_rate=0.01).fit(graphs, y)
    alike = clone(model).set_params(encoder_learning_rate=0.01).fit(graphs, y)
    np.testing.assert_array_equal(model.predict(graphs), alike.predict(graphs))


def test_head_sees_standardised_vectors_of_the_training_crystals(tiny_regressor, tiny_weights, gentle, graphs, y):
    vectors = PretrainedCrystalEmbedder(weights=tiny_weights, device="cpu").fit_transform(graphs)
    expected = StandardScaler().fit(vectors)
    first = tiny_regressor().fit(graphs, y).net_.module_.vectors
    np.testing.assert_allclose(first.center.numpy(), expected.mean_, rtol=1e-4, atol=1e-5)
    varying = expected.scale_ > np.median(expected.scale_) / 10
    np.testing.assert_allclose(first.scale.numpy()[varying], expected.scale_[varying], rtol=1e-3)
    assert isinstance(tiny_regressor(standardize=False).fit(graphs, y).net_.module_.vectors, torch.nn.Identity)
    # Crystals that are held out have no part in it.
    without = tiny_regressor(early_stopping=True).fit(graphs, y).net_.module_.vectors
    assert not torch.equal(without.center, first.center)


def test_components_that_hardly_vary_are_not_blown_up():
    vectors = np.float32([[-1, 3, 0, 7], [1, 5, 0.01, 7]])
    standardization = _network.Standardization(vectors)
    deviations = vectors.std(axis=0)  # 1, 1, 0.005, 0
    np.testing.assert_allclose(standardization.scale, [1, 1, np.median(deviations) / 10, np.median(deviations) / 10])
    np.testing.assert_allclose(standardization(torch.from_numpy(vectors))[1, :2], [1, 1])
    assert (_network.Standardization(np.ones((3, 2), np.float32)).scale == 1).all()


@pytest.mark.usefixtures("gentle")
def test_vectors_of_random_weights_are_standardised_on_demand_only(tiny_regressor, graphs, y):
    model = tiny_regressor(pretrain=None).fit(graphs, y)
    alike, other = (clone(model).set_params(standardize=value).fit(graphs, y) for value in (False, True))
    np.testing.assert_array_equal(model.predict(graphs), alike.predict(graphs))
    assert (model.predict(graphs) != other.predict(graphs)).any()


def test_other_encoders_are_finetuned_plainly(tiny_regressor, graphs, y):
    model = tiny_regressor().fit(graphs, y)
    alike = tiny_regressor(standardize=False, encoder_learning_rate=model.learning_rate).fit(graphs, y)
    np.testing.assert_array_equal(model.predict(graphs), alike.predict(graphs))


@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
def test_the_default_is_finetuned_gently(graphs, y):
    model = CrystalSSLRegressor(max_epochs=2, random_state=0).fit(graphs[:20], y[:20])
    assert model.net_.module_.vectors.center.shape == (model.net_.module_.encoder.vector_dim,)
    alike = clone(model).set_params(standardize=True, encoder_learning_rate=5e-4).fit(graphs[:20], y[:20])
    np.testing.assert_array_equal(model.predict(graphs), alike.predict(graphs))


def test_unfitted_embedder_is_pretrained_on_the_training_crystals(tiny_regressor, tiny_embedder, graphs, y, runs):
    embedder = tiny_embedder()
    model = tiny_regressor(pretrain=embedder, freeze_encoder=True).fit(graphs, y)
    assert [type(net.module_).__name__ for net in runs] == ["BarlowTwins", "PropertyNetwork"]
    assert not hasattr(embedder, "encoder_")
    assert model.pretrain is embedder
    assert_equal(encoder_state(model), tiny_embedder().fit(graphs).encoder_.state_dict())


def test_fitted_embedder_is_pretrained_anew_unless_frozen(tiny_regressor, tiny_embedder, graphs, y, runs):
    embedder = tiny_embedder().fit(graphs[:20])
    frozen = tiny_regressor(pretrain=FrozenEstimator(embedder), freeze_encoder=True).fit(graphs, y)
    assert [type(net.module_).__name__ for net in runs] == ["BarlowTwins", "PropertyNetwork"]
    assert_equal(encoder_state(frozen), embedder.encoder_.state_dict())
    thawed = tiny_regressor(pretrain=embedder, freeze_encoder=True).fit(graphs, y)
    assert [type(net.module_).__name__ for net in runs[2:]] == ["BarlowTwins", "PropertyNetwork"]
    assert_equal(encoder_state(thawed), tiny_embedder().fit(graphs).encoder_.state_dict())


@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
def test_frozen_embedder_survives_cloning_and_cross_validation(tiny_regressor, tiny_embedder, graphs, y, runs):
    model = tiny_regressor(pretrain=FrozenEstimator(tiny_embedder().fit(graphs)), max_epochs=1)
    n_runs = len(runs)
    predicted = cross_val_predict(model, graphs, y, cv=3)
    assert len(runs) == n_runs + 3
    assert np.isfinite(predicted).all()
    assert predicted.shape == y.shape


def test_nested_parameters_reach_the_embedder(tiny_regressor, tiny_embedder):
    model = tiny_regressor(pretrain=tiny_embedder())
    assert model.get_params()["pretrain__max_epochs"] == 2
    assert model.set_params(pretrain__max_epochs=7).pretrain.max_epochs == 7
    assert clone(model).pretrain.max_epochs == 7
    assert clone(model).pretrain is not model.pretrain


# ------------------------------------------------------------------ ensembles


def test_ensemble_averages_its_members(tiny_regressor, graphs, y, new):
    model = tiny_regressor(ensemble_size=3).fit(graphs, y)
    mean, std = model.predict(new[1], return_std=True)
    members = []
    for net in model.nets_:
        alone = copy.copy(model)
        alone.nets_ = [net]
        members.append(alone.predict(new[1]))
    np.testing.assert_allclose(mean, np.mean(members, axis=0))
    np.testing.assert_allclose(std, np.std(members, axis=0, ddof=1))
    assert mean.shape == std.shape == (len(new[1]),)
    assert (std > 0).all()
    assert mean.tobytes() == model.predict(new[1]).tobytes()
    assert model.net_ is model.nets_[0]


def test_ensemble_of_several_targets(tiny_regressor, graphs, y, new):
    model = tiny_regressor(ensemble_size=2).fit(graphs, np.c_[y, -y])
    mean, std = model.predict(new[1], return_std=True)
    assert mean.shape == std.shape == (len(new[1]), 2)


def test_std_without_an_ensemble_is_an_error(tiny_regressor, graphs, y):
    with pytest.raises(ValueError, match="takes an ensemble; set ensemble_size to at least 2"):
        tiny_regressor().fit(graphs, y).predict(graphs, return_std=True)


# ------------------------------------------------------------------ warm start


def test_warm_start_goes_on_from_the_last_networks(tiny_regressor, graphs, y, trainings):
    model = tiny_regressor(warm_start=True, ensemble_size=2).fit(graphs, y)
    left = [copy.deepcopy(net.module_.state_dict()) for net in model.nets_]
    scaler, before = (model.target_.mean_, model.target_.scale_), model.predict(graphs)
    trainings.clear()
    model.fit(graphs, 3 * y + 5)
    for (start, *_), expected in zip(trainings, left, strict=True):
        assert_equal(start, expected)
    assert (model.target_.mean_, model.target_.scale_) == scaler
    refitted = clone(model).fit(graphs, 3 * y + 5)
    assert (refitted.target_.mean_, refitted.target_.scale_) != scaler
    assert (model.predict(graphs) != before).all()
    assert (model.predict(graphs) != refitted.predict(graphs)).all()
    assert_equal(left[0], left[0])


def test_warm_start_improves_on_what_was_there(tiny_regressor, graphs, y):
    params = {"max_epochs": 10, "learning_rate": 0.01, "ema_decay": 0.5}
    model = tiny_regressor(warm_start=True, **params).fit(graphs, y)
    first = model.history_
    assert model.fit(graphs, y).history_[0]["train_loss"] < first[0]["train_loss"]
    assert len(model.history_) == 10


def test_warm_start_adds_members(tiny_regressor, graphs, y, trainings):
    model = tiny_regressor(warm_start=True).fit(graphs, y)
    left = copy.deepcopy(model.net_.module_.state_dict())
    trainings.clear()
    model.set_params(ensemble_size=2).fit(graphs, y)
    assert_equal(trainings[0][0], left)
    assert not torch.equal(trainings[1][0]["head.1.weight"], left["head.1.weight"])
    assert len(model.nets_) == 2


def test_warm_start_can_thaw_the_encoder(tiny_regressor, graphs, y):
    model = tiny_regressor(warm_start=True, freeze_encoder=True).fit(graphs, y)
    frozen = copy.deepcopy(encoder_state(model))
    model.set_params(freeze_encoder=False).fit(graphs, y)
    thawed = copy.deepcopy(encoder_state(model))
    assert not torch.equal(thawed["embedding.weight"], frozen["embedding.weight"])
    model.set_params(freeze_encoder=True).fit(graphs, y)
    assert_equal(encoder_state(model), thawed)


def test_warm_start_remembers_the_elements_of_earlier_fits(tiny_regressor, tiny_embedder, graphs, y):
    pretrained = FrozenEstimator(tiny_embedder().fit(graphs[:6]))
    model = tiny_regressor(pretrain=pretrained, warm_start=True, max_epochs=1)
    for rows in (slice(6, 16), slice(16, 26)):
        model.fit(graphs[rows], y[rows])
    assert set(model.elements_) == set(graphs[:26].elements)
    cold = clone(model).fit(graphs[16:26], y[16:26])
    assert set(cold.elements_) == set(graphs[:6].elements) | set(graphs[16:26].elements)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: np.c_[y, y], "y has 2 targets but the last fit had 1"),
        (lambda y: -y, r"y\[0\] is -.*, which has no logarithm"),
    ],
)
def test_warm_start_on_targets_that_do_not_fit(tiny_regressor, graphs, y, change, message):
    model = tiny_regressor(warm_start=True, target_transform="log").fit(graphs, y)
    expected = model.predict(graphs)
    with pytest.raises(ValueError, match=message):
        model.fit(graphs, change(y))
    assert model.predict(graphs).tobytes() == expected.tobytes()


# ------------------------------------------------------------------ keeping


@pytest.mark.parametrize("how", ["pickle", "joblib", "compressed", "deepcopy"])
@pytest.mark.parametrize("params", [{}, {"ensemble_size": 2, "early_stopping": True, "verbose": 1}], ids=["one", "two"])
def test_copy_predicts_the_same_bits(tiny_regressor, graphs, y, new, tmp_path, how, params):
    model = tiny_regressor(**params).fit(graphs, y)
    if how == "pickle":
        copied = pickle.loads(pickle.dumps(model))
    elif how == "deepcopy":
        copied = copy.deepcopy(model)
    else:
        joblib.dump(model, tmp_path / "model.joblib", compress=3 if how == "compressed" else 0)
        copied = joblib.load(tmp_path / "model.joblib")
    assert copied.predict(new[1]).tobytes() == model.predict(new[1]).tobytes()
    assert copied.history_ == model.history_
    copied.set_params(warm_start=True).fit(graphs, y)  # and it can be trained further


def test_fitted_model_holds_no_training_data(tiny_regressor, real_graphs, real_crystals):
    y = real_crystals[1]
    sizes = []
    for n in (40, len(y)):
        model = tiny_regressor(batch_size=n, max_epochs=1, early_stopping=True).fit(real_graphs[:n], y[:n])
        sizes.append(len(pickle.dumps(model)))
    assert real_graphs[40:].nbytes > 100_000
    # What it keeps of each, for inspection, is a vector of 33 numbers and a label.
    assert sizes[1] - sizes[0] < 1000 + 200 * (len(y) - 40)
    assert model.net_.optimizer_ is None
    assert all(parameter.grad is None for parameter in model.net_.module_.parameters())


@pytest.mark.parametrize(("params", "lines"), [({"verbose": 0}, 0), ({"verbose": 1}, 1), ({"ensemble_size": 2}, 2)])
def test_one_line_of_progress_per_network(tiny_regressor, graphs, y, capfd, params, lines):
    tiny_regressor(**{"verbose": 1, **params}).fit(graphs, y)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == lines
    for line in err.split("\n")[:-1]:
        last = line.split("\r")[-1]
        assert "finetuning" in last
        assert "epoch=3/3" in last


def test_net_is_a_skorch_net(tiny_regressor, graphs, y):
    from skorch import NeuralNet

    model = tiny_regressor().fit(graphs, y)
    assert isinstance(model.net_, NeuralNet)
    assert isinstance(model.net_.module_, nn.Module)
    assert len(model.net_.history) == 3
    assert not model.net_.module_.training


# ------------------------------------------------------------------ devices


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("trained_on", "used_on"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_trained_on_one_device_and_used_on_another(tiny_regressor, graphs, y, trained_on, used_on):
    model = tiny_regressor(device=trained_on).fit(graphs, y)
    here = model.predict(graphs)
    there = pickle.loads(pickle.dumps(model)).set_params(device=used_on).predict(graphs)
    np.testing.assert_allclose(there, here, rtol=1e-4)
