"""Several targets of which some values are missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score

from crystalssl.training import CrystalNet

NAN = float("nan")


@pytest.fixture(scope="module")
def several(y):
    """Three targets: all known, known of every second crystal, known of three; positive over decades in the second."""
    targets = np.c_[y, np.geomspace(1, 1e4, len(y)), -y]
    targets[1::2, 1] = NAN
    targets[3:, 2] = NAN
    return targets


@pytest.fixture
def learnt(monkeypatch):
    """A list of the data sets that networks are trained on."""
    datasets = []
    original = CrystalNet.fit_loop

    def spy(net, dataset, *args, **kwargs):
        datasets.append(dataset)
        return original(net, dataset, *args, **kwargs)

    monkeypatch.setattr(CrystalNet, "fit_loop", spy)
    return datasets


def test_predictions_of_all_targets(tiny_regressor, graphs, several, new):
    predicted = tiny_regressor().fit(graphs, several).predict(new[1])
    assert predicted.shape == (len(new[1]), 3)
    assert np.isfinite(predicted).all()


def test_each_target_is_scaled_on_its_known_rows(tiny_regressor, graphs, several, learnt):
    model = tiny_regressor().fit(graphs, several)
    assert model.target_.log_.tolist() == [False, True, False]
    for target, values in enumerate([several[:, 0], np.log(several[::2, 1]), several[:3, 2]]):
        assert model.target_.mean_[target] == pytest.approx(values.mean())
        assert model.target_.scale_[target] == pytest.approx(values.std())
    [dataset] = learnt
    np.testing.assert_array_equal(np.isnan(dataset.y), np.isnan(several))
    assert np.nanmean(dataset.y[:, 1]) == pytest.approx(0, abs=1e-6)


def batch_loss(net_class, y, weights, predicted):
    class Batch:
        sample_weight = torch.tensor(weights)

    net = net_class(torch.nn.Linear(1, 1)).initialize()
    return net.get_loss(predicted, torch.tensor(y), Batch)


def test_loss_and_gradient_of_a_batch():
    predicted = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
    y = np.float32([[0.0, NAN], [NAN, 1.0], [4.0, 4.0]])
    loss = batch_loss(CrystalNet, y, [1.0, 1.0, 2.0], predicted)
    # Per crystal: (1 + 0) / 2, (0 + 3) / 2, 2 (1 + 2) / 2.
    assert loss.item() == pytest.approx((0.5 + 1.5 + 3.0) / 3)
    loss.backward()
    assert (predicted.grad == 0).tolist() == [[False, True], [True, False], [False, False]]


def test_every_known_value_counts_the_same(tiny_regressor, graphs, y, learnt):
    targets = np.c_[y, np.where(np.arange(len(y)) % 4, NAN, -y)]
    tiny_regressor(early_stopping=True).fit(graphs, targets)
    [dataset] = learnt
    rows = dataset.indices
    assert len(np.unique(dataset.sample_weight)) == 1
    known = (~np.isnan(targets[rows])).mean(axis=1)
    assert (known * dataset.sample_weight[rows]).mean() == pytest.approx(1)


def test_without_gaps_nothing_changes(tiny_regressor, graphs, y, learnt):
    tiny_regressor().fit(graphs, np.c_[y, -y])
    assert (learnt[0].sample_weight == 1).all()


@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
def test_gap_and_sample_weights(tiny_regressor, graphs, several):
    """A crystal of weight 0 is as good as left out, gaps or not."""
    weights = np.r_[np.ones(30), np.zeros(10)]
    weighed = tiny_regressor().fit(graphs, several, sample_weight=weights).predict(graphs)
    left_out = tiny_regressor().fit(graphs[:30], several[:30]).predict(graphs)
    np.testing.assert_array_equal(weighed, left_out)


def test_targets_are_learnt_together(tiny_regressor, graphs, y, several):
    params = {"max_epochs": 60, "learning_rate": 0.02, "ema_decay": 0.5, "batch_size": 20}
    targets = np.c_[y, np.where(np.arange(len(y)) % 2, NAN, -3 * y)]
    model = tiny_regressor(**params).fit(graphs, targets)
    predicted = model.predict(graphs)
    assert r2_score(y, predicted[:, 0]) > 0.7
    assert r2_score(-3 * y, predicted[:, 1]) > 0.6  # where it was missing, too


@pytest.mark.parametrize("seed", range(5))
def test_early_stopping_leaves_some_of_each_target_to_train_on(tiny_regressor, graphs, y, learnt, seed):
    targets = np.c_[y, np.full(len(y), NAN), np.full(len(y), NAN)]
    targets[4, 1] = 1.0
    targets[[7, 8], 2] = 1.0, 2.0
    params = {"early_stopping": True, "validation_fraction": 0.9, "random_state": seed, "max_epochs": 1}
    tiny_regressor(**params).fit(graphs, targets)
    rows = learnt[0].indices
    assert 4 in rows
    assert {7, 8} & {*rows}
    assert 4 <= len(rows) <= 7


def test_ensemble(tiny_regressor, graphs, several):
    mean, std = tiny_regressor(ensemble_size=2).fit(graphs, several).predict(graphs, return_std=True)
    assert mean.shape == std.shape == several.shape
    assert (std > 0).all()


def test_warm_start(tiny_regressor, graphs, several):
    model = tiny_regressor(warm_start=True).fit(graphs, several)
    scale, before = model.target_, model.predict(graphs)
    model.fit(graphs, several)
    assert model.target_ is scale
    assert (model.predict(graphs) != before).any()
    with pytest.raises(ValueError, match=r"y\[:, 2\], is nan for all 40 crystals to train on"):
        model.fit(graphs, np.c_[several[:, :2], np.full(40, NAN)])
    with pytest.raises(ValueError, match="y has 2 targets but the last fit had 3"):
        model.fit(graphs, several[:, :2])


@pytest.mark.parametrize(
    ("container", "message"),
    [
        (lambda v: v, r"^the target 'y1', y\[:, 1\], is nan for all 40 crystals to train on; leave it out"),
        (lambda v: pd.DataFrame(v, columns=["gap", "bulk"]), r"^the target 'bulk', y\[:, 1\], is nan for all"),
    ],
)
def test_target_without_any_value(tiny_regressor, graphs, y, container, message):
    with pytest.raises(ValueError, match=message):
        tiny_regressor().fit(graphs, container(np.c_[y, np.full(len(y), NAN)]))


@pytest.mark.parametrize("missing", [None, pd.NA, NAN], ids=str)
def test_missing_values_of_any_kind(tiny_regressor, graphs, y, missing):
    second = [missing if row % 3 else value for row, value in enumerate(y)]
    expected = tiny_regressor(max_epochs=1).fit(graphs, np.c_[y, np.where(np.arange(len(y)) % 3, NAN, y)])
    frame = pd.DataFrame({"a": y, "b": pd.array(second, dtype="Float64")})
    found = tiny_regressor(max_epochs=1).fit(graphs, frame)
    assert found.predict(graphs).tobytes() == expected.predict(graphs).tobytes()


def test_gaps_in_a_frame_of_polars(tiny_regressor, graphs, y):
    pl = pytest.importorskip("polars")
    second = [None if row % 3 else value for row, value in enumerate(y.tolist())]
    expected = tiny_regressor(max_epochs=1).fit(graphs, np.c_[y, np.where(np.arange(len(y)) % 3, NAN, y)])
    found = tiny_regressor(max_epochs=1).fit(graphs, pl.DataFrame({"a": y, "b": second}))
    assert found.predict(graphs).tobytes() == expected.predict(graphs).tobytes()
    assert found.target_names_ == ["a", "b"]


# ------------------------------------------------------------------ score


def test_score_is_the_mean_r2_over_known_values(tiny_regressor, graphs, y, several):
    model = tiny_regressor().fit(graphs, several)
    predicted = model.predict(graphs)
    expected = [r2_score(several[k, t], predicted[k, t]) for t, k in enumerate(~np.isnan(several.T))]
    assert model.score(graphs, several) == pytest.approx(np.mean(expected))
    weights = np.arange(1.0, len(y) + 1)
    weighed = [
        r2_score(several[k, t], predicted[k, t], sample_weight=weights[k]) for t, k in enumerate(~np.isnan(several.T))
    ]
    assert model.score(graphs, several, sample_weight=weights) == pytest.approx(np.mean(weighed))
    # A target with a single value has no R².
    assert model.score(graphs[2:], several[2:]) == pytest.approx(
        np.mean(
            [r2_score(several[2:][k, t], predicted[2:][k, t]) for t, k in enumerate(~np.isnan(several[2:].T)) if t < 2]
        )
    )


def test_score_without_gaps_is_that_of_scikit_learn(tiny_regressor, graphs, y):
    model = tiny_regressor().fit(graphs, np.c_[y, -y])
    assert model.score(graphs, np.c_[y, -y]) == r2_score(np.c_[y, -y], model.predict(graphs))


def test_what_has_no_score(tiny_regressor, graphs, several, y):
    model = tiny_regressor(max_epochs=1).fit(graphs, several)
    with pytest.raises(ValueError, match="no target has two known values"):
        model.score(graphs[:3], np.where(np.eye(3, dtype=bool), 1.0, NAN))
    with pytest.raises(ValueError, match=r"y has shape \(40, 2\), but predictions have \(40, 3\)"):
        model.score(graphs, several[:, 1:])
    single = tiny_regressor(max_epochs=1).fit(graphs, y)
    with pytest.raises(ValueError, match="NaN"):
        single.score(graphs, np.r_[NAN, y[1:]])


@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
def test_cross_validation_and_search_go_over_gaps(tiny_regressor, graphs, y):
    targets = pd.DataFrame({"a": y, "b": np.where(np.arange(len(y)) % 2, NAN, -y)})
    model = tiny_regressor(max_epochs=1)
    assert np.isfinite(cross_val_score(model, graphs, targets, cv=3)).all()
    search = GridSearchCV(model, {"learning_rate": [0.001, 0.01]}, cv=2).fit(graphs, targets)
    assert search.best_estimator_.target_names_ == ["a", "b"]


def test_clone_of_a_fitted_model_fits(tiny_regressor, graphs, several):
    model = tiny_regressor(max_epochs=1).fit(graphs, several)
    assert clone(model).fit(graphs, several).predict(graphs).tobytes() == model.predict(graphs).tobytes()


def test_none_can_be_held_out(tiny_regressor, graphs):
    # Each target is known of one crystal, which has to be trained on.
    diagonal = np.where(np.eye(4), 1.0 + np.arange(4), NAN)
    with pytest.raises(ValueError, match=r"can hold out none of 4 crystals.* set early_stopping=False"):
        tiny_regressor(early_stopping=True).fit(graphs[:4], diagonal)
    assert len(tiny_regressor(max_epochs=1).fit(graphs[:4], diagonal).predict(graphs[:4])) == 4


def test_another_is_held_out_in_place_of_one_that_cannot_be(tiny_regressor):
    targets = np.where(np.eye(10), 1.0, NAN)
    targets[9, [8, 9]] = 1.0, NAN
    targets = targets[:, :9]
    model = tiny_regressor(early_stopping=True, validation_fraction=0.1)
    for seed in range(5):
        [row] = model._hold_out(targets, np.arange(10), np.random.RandomState(seed))
        assert row in (8, 9)
