"""Ensembles whose networks each leave out a part of the crystals, and what follows from it."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Composition
from scipy.special import softmax
from sklearn.metrics import accuracy_score, r2_score

import crystalssl
from crystalssl.estimators._left_out import (
    LeftOut,
    check_enough,
    check_groups,
    conformal_interval,
    deal_out,
    temperature_of,
)
from crystalssl.estimators._surroundings import Surroundings
from crystalssl.exceptions import UnseenElementsWarning
from crystalssl.training import CrystalNet

CROSS = {"ensemble": "cross-validated", "ensemble_size": 4, "max_epochs": 2}


@pytest.fixture
def trained_rows(monkeypatch):
    """A list of the rows that each network is trained on, and of those that decide when to stop."""
    calls = []
    original = CrystalNet.fit_loop

    def spy(net, dataset, *args, **kwargs):
        _, valid = net.get_split_datasets(dataset)
        calls.append((dataset.indices, [] if valid is None else valid.indices))
        return original(net, dataset, *args, **kwargs)

    monkeypatch.setattr(CrystalNet, "fit_loop", spy)
    return calls


# ------------------------------------------------------------------ who is left out


@pytest.mark.parametrize("early_stopping", [False, True])
def test_each_crystal_is_left_out_once(tiny_regressor, graphs, y, trained_rows, early_stopping):
    weight = np.ones(len(y))
    weight[[3, 7]] = 0
    model = tiny_regressor(**CROSS, early_stopping=early_stopping).fit(graphs, y, weight)
    left_out = [np.setdiff1d(np.flatnonzero(weight), np.r_[rows, valid].astype(int)) for rows, valid in trained_rows]
    assert sorted(np.concatenate(left_out)) == np.flatnonzero(weight).tolist()
    assert {len(rows) for rows in left_out} == {9, 10}
    for member, rows in enumerate(left_out):
        single = tiny_regressor().fit(graphs, y)
        single.nets_, single.target_ = [model.nets_[member]], model._scales[member]
        single._scales = [single.target_]
        np.testing.assert_allclose(model.oof_prediction_[rows], single.predict(graphs[rows]), rtol=1e-5, atol=1e-5)
    assert np.isnan(model.oof_prediction_[[3, 7]]).all()


def test_scale_is_that_of_the_crystals_trained_on(tiny_regressor, graphs, y, trained_rows):
    model = tiny_regressor(**CROSS, target_transform=None).fit(graphs, y)
    for scale, (rows, _) in zip(model._scales, trained_rows, strict=True):
        np.testing.assert_allclose([scale.mean_[0], scale.scale_[0]], [y[rows].mean(), y[rows].std()])


def test_what_is_left_out_has_no_part_in_its_prediction(tiny_regressor, graphs, y):
    # The label of a crystal changes the networks that see it, and not the prediction by the one that does not.
    changed = y.copy()
    changed[5] *= 1.5
    one, other = (tiny_regressor(**CROSS, target_transform=None).fit(graphs, labels) for labels in (y, changed))
    same = one.oof_prediction_ == other.oof_prediction_
    fold = one._record.left_out.members == one._record.left_out.members[5]
    assert same[fold].all()
    assert not same[~fold].any()


def test_groups_stay_together(tiny_regressor, graphs, y):
    groups = np.arange(len(y)) % 8
    members = tiny_regressor(**CROSS).fit(graphs, y, groups=groups)._record.left_out.members
    assert all(len(set(members[groups == group])) == 1 for group in range(8))
    assert set(members) == {0, 1, 2, 3}


GROUPS = {
    "compositions": lambda codes: [Composition({"Na": code + 1, "Cl": 1}) for code in codes],
    "tuples": lambda codes: [("Na", int(code)) for code in codes],
    "series of tuples": lambda codes: pd.Series([("Na", int(code)) for code in codes], index=codes + 7),
    "texts": lambda codes: codes.astype(str).tolist(),
    "frame of one column": lambda codes: pd.DataFrame({"group": codes}),
    "numbers of two kinds": lambda codes: [code if i % 3 else float(code) for i, code in enumerate(codes.tolist())],
    "generator": lambda codes: (code for code in codes),
}


@pytest.mark.parametrize("kind", GROUPS.values(), ids=GROUPS)
def test_groups_of_any_kind(kind):
    codes = np.arange(40) % 8
    found = check_groups(kind(codes), 40)
    assert len(set(found.tolist())) == len({*zip(found.tolist(), codes.tolist(), strict=True)}) == 8


def test_classes_are_spread_over_the_parts():
    strata = np.repeat([0, 1], [24, 6])
    folds = deal_out(3, np.arange(30), strata, None, np.random.RandomState(0))
    assert [np.bincount(strata[fold]).tolist() for fold in folds] == [[8, 2]] * 3


def test_seeds_are_the_default_and_have_nothing_left_out(tiny_regressor, graphs, y):
    model = tiny_regressor(**CROSS).fit(graphs, y)
    model.set_params(ensemble="seeds").fit(graphs, y)
    assert not hasattr(model, "oof_prediction_")
    assert not hasattr(model, "oof_score_")
    with pytest.raises(ValueError, match="predict_interval takes predictions of training crystals that were left out"):
        model.predict_interval(graphs)


# ------------------------------------------------------------------ intervals


def test_cv_plus_of_known_residuals():
    # Two networks, four crystals, no distance: the interval is that of the definition, computed by hand.
    left_out = LeftOut(
        np.array([0, 0, 1, 1]), np.zeros((4, 1)), np.array([[1.0], [-2.0], [3.0], [4.0]]), np.full(4, 0.0)
    )
    predictions = np.array([[[10.0]], [[20.0]]])
    lower, upper = conformal_interval(predictions, np.zeros((2, 1)), left_out, 0.6)
    # ends 9, 8, 17, 16 and 11, 12, 23, 24; floor(0.4 * 5) = 2
    assert (lower.item(), upper.item()) == (9.0, 23.0)
    lower, upper = conformal_interval(predictions, np.zeros((2, 1)), left_out, 0.8)
    assert (lower.item(), upper.item()) == (8.0, 24.0)
    wide = conformal_interval(predictions, np.full((2, 1), 3.0), left_out, 0.8)
    assert (wide[0].item(), wide[1].item()) == (2.0, 36.0)  # at the distance 3 errors are four times as large


@pytest.mark.parametrize("coverage", [1e-12, 0.5])
def test_low_coverage(coverage):
    left_out = LeftOut(np.arange(9) % 2, np.zeros((9, 1)), np.linspace(1, 2, 9)[:, None], np.zeros(9))
    check_enough(left_out, coverage, ["y"])
    lower, upper = conformal_interval(np.zeros((2, 1, 1)), np.zeros((2, 1)), left_out, coverage)
    # The ends are the least and the largest, of all errors or of half of them.
    assert upper.item() == -lower.item() == (1 if coverage < 0.5 else 1.5)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_coverage_of_exchangeable_errors(coverage):
    # One prediction for all, and errors that grow with the distance: the rule is then exact, floor(α (n + 1)) / (n + 1)
    # to both sides of the score.
    rng = np.random.default_rng(0)
    n, trials = 39, 4000
    hits = 0
    for _ in range(trials):
        distances = rng.exponential(size=n + 1)
        truths = rng.standard_normal(n + 1) * (1 + distances)
        left_out = LeftOut(np.zeros(n, int), np.zeros((n, 1)), truths[:n, None], distances[:n])
        lower, upper = conformal_interval(np.zeros((1, 1, 1)), distances[None, n:], left_out, coverage)
        hits += lower.item() <= truths[n] <= upper.item()
    assert abs(hits / trials - coverage) < 4 * np.sqrt(coverage * (1 - coverage) / trials)


def test_networks_that_disagree_widen_the_interval():
    left_out = LeftOut(np.arange(40) % 2, np.zeros((40, 1)), np.linspace(-1, 1, 40)[:, None], np.ones(40))
    narrow, wide = (
        np.subtract(*conformal_interval(np.array([[[-x]], [[x]]]), np.ones((2, 1)), left_out, 0.9)[::-1]).item()
        for x in (0.0, 3.0)
    )
    assert wide > narrow + 5


def test_too_few_for_the_coverage():
    left_out = LeftOut(np.zeros(40, int), np.zeros((40, 2)), np.ones((40, 2)), np.ones(40))
    left_out.truths[9:, 1] = np.nan
    check_enough(left_out, 0.9, ["a", "b"])
    with pytest.raises(ValueError, match=r"coverage=0.95 takes at least 19 .* 'b' is known, and there are 9: .*0.9,"):
        check_enough(left_out, 0.95, ["a", "b"])


@pytest.mark.parametrize("transform", ["log", None])
@pytest.mark.parametrize("per", [None, "atom"])
def test_intervals_hold_the_predictions_in_the_unit_of_the_targets(tiny_regressor, graphs, y, new, transform, per):
    model = tiny_regressor(**CROSS, target_transform=transform, target_per=per).fit(graphs, y)
    mean, std = model.predict(new[1], return_std=True)
    lower, upper = model.predict_interval(new[1], coverage=0.8)
    assert lower.shape == upper.shape == mean.shape
    assert ((lower < mean) & (mean < upper) & (std > 0)).all()
    wider = model.predict_interval(new[1], coverage=0.9)
    assert ((wider[0] <= lower) & (wider[1] >= upper)).all()
    ends = model.predict_interval(new[1], coverage=0.6826894921370859)
    np.testing.assert_allclose(std, (ends[1] - ends[0]) / 2)
    np.testing.assert_allclose(model.predict(new[1]), mean, rtol=1e-5, atol=1e-5)
    if transform == "log":
        assert (lower > 0).all()


def test_several_targets_with_gaps(tiny_regressor, graphs, y, new):
    several = np.c_[y, -y]
    several[::2, 1] = np.nan
    model = tiny_regressor(**CROSS).fit(graphs, several)
    assert model.oof_prediction_.shape == several.shape
    assert np.isfinite(model.oof_prediction_).all()
    lower, upper = model.predict_interval(new[1])
    assert lower.shape == (len(new[1]), 2)
    assert (upper > lower).all()
    rows = np.isfinite(several[:, 1])
    expected = [r2_score(y, model.oof_prediction_[:, 0]), r2_score(-y[rows], model.oof_prediction_[rows, 1])]
    assert model.oof_score_ == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 90, "0.9", np.nan])
def test_wrong_coverage(tiny_regressor, graphs, y, coverage):
    with pytest.raises(ValueError, match="coverage must be a number between 0 and 1"):
        tiny_regressor(**CROSS).fit(graphs, y).predict_interval(graphs, coverage)


# ------------------------------------------------------------------ classes


def test_temperature():
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((4000, 3))
    codes = np.array([rng.choice(3, p=p) for p in softmax(logits, axis=1)])
    assert temperature_of(3 * logits, codes) == pytest.approx(3, rel=0.1)
    assert 0.05 <= temperature_of(50 * np.eye(2), np.arange(2)) < 50


def test_probabilities_are_calibrated_on_what_was_left_out(tiny_classifier, graphs, y, new):
    labels = np.where(y > np.median(y), "heavy", "light")
    model = tiny_classifier(**CROSS).fit(graphs, labels)
    left_out = model._record.left_out
    temperature = temperature_of(left_out.outputs, (labels == "light").astype(int))
    assert temperature != 1
    np.testing.assert_array_equal(model.oof_probability_, softmax(left_out.outputs / temperature, axis=1))
    assert model.oof_score_ == accuracy_score(labels, model.classes_[model.oof_probability_.argmax(axis=1)])
    logits = model._apply(new[1])[0]
    np.testing.assert_allclose(model.predict_proba(new[1]), softmax(logits / temperature, axis=2).mean(axis=0))


def test_a_class_that_is_left_out_as_a_whole(tiny_classifier, graphs):
    labels = ["a"] * 39 + ["b"]
    with pytest.raises(ValueError, match="leaves one class to train on"):
        tiny_classifier(**CROSS).fit(graphs, labels)


# ------------------------------------------------------------------ stored


@pytest.mark.parametrize("kind", ["folder", "pickle", "skops"])
@pytest.mark.parametrize("ensemble", ["cross-validated", "seeds"])
def test_comes_back_to_the_bit(tiny_regressor, graphs, y, new, tmp_path, kind, ensemble):
    model = tiny_regressor(**CROSS | {"ensemble": ensemble}).fit(graphs, np.c_[y, -y])
    if kind == "folder":
        model.save(tmp_path / "model")
        again = crystalssl.load(tmp_path / "model")
    elif kind == "pickle":
        again = pickle.loads(pickle.dumps(model))
    else:
        sio = pytest.importorskip("skops.io")
        again = sio.loads(sio.dumps(model), trusted=crystalssl.skops_trusted_types())
    for found, expected in zip(
        again.predict(new[1], return_std=True), model.predict(new[1], return_std=True), strict=True
    ):
        assert found.tobytes() == expected.tobytes()
    assert again._record.labels.tobytes() == model._record.labels.tobytes()
    if ensemble == "cross-validated":
        for found, expected in zip(again.predict_interval(new[1]), model.predict_interval(new[1]), strict=True):
            assert found.tobytes() == expected.tobytes()
        assert again.oof_prediction_.tobytes() == model.oof_prediction_.tobytes()
        assert again.oof_score_ == model.oof_score_
    else:
        assert not hasattr(again, "oof_score_")


def test_classifier_comes_back(tiny_classifier, graphs, y, new, tmp_path):
    model = tiny_classifier(**CROSS).fit(graphs, y > np.median(y))
    model.save(tmp_path / "model")
    again = crystalssl.load(tmp_path / "model")
    assert again.predict_proba(new[1]).tobytes() == model.predict_proba(new[1]).tobytes()
    assert again.oof_probability_.tobytes() == model.oof_probability_.tobytes()


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("params", "fit", "message"),
    [
        ({"ensemble_size": 1}, {}, "set ensemble_size to at least 2, it is 1"),
        ({"ensemble_size": 41}, {}, "there are 40 crystals to train on, fewer than ensemble_size=41"),
        ({}, {"groups": [0] * 20 + [1] * 20}, "groups has 2 different values, fewer than ensemble_size=4"),
        ({}, {"groups": [0, 1]}, "X holds 40 crystals but groups has 2 values"),
        ({}, {"groups": np.zeros((40, 2))}, r"groups has shape \(40, 2\); expected \(n_crystals,\)"),
        ({}, {"groups": [[0]] * 40}, r"groups\[0\] is a list, which cannot be a key; give texts"),
        ({}, {"groups": "formula"}, "groups is 'formula'; expected one value for each crystal"),
        ({"ensemble": "seeds"}, {"groups": [0] * 40}, "set ensemble="),
    ],
)
def test_what_cannot_be_left_out(tiny_regressor, graphs, y, params, fit, message):
    with pytest.raises(ValueError, match=message):
        tiny_regressor(**CROSS | params).fit(graphs, y, **fit)


def test_warm_start_is_refused(tiny_regressor, graphs, y):
    model = tiny_regressor(**CROSS, warm_start=True).fit(graphs, y)
    with pytest.raises(ValueError, match="must not see what they left out"):
        model.fit(graphs, y)
    with pytest.raises(ValueError, match="ensemble has changed since the last fit"):
        model.set_params(ensemble="seeds").fit(graphs, y)


# ------------------------------------------------------------------ distances


def test_distances_are_those_of_the_vectors():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((30, 8)).astype(np.float32)  # fewer components than axes: nothing is lost
    surroundings = Surroundings.of(vectors, np.arange(30) + 100)
    new = rng.standard_normal((5, 8)).astype(np.float32)
    true = np.linalg.norm(new[:, None] - vectors, axis=2)
    found, rows = surroundings.nearest(new, 3)
    np.testing.assert_allclose(found, np.sort(true, axis=1)[:, :3], rtol=1e-4)
    np.testing.assert_array_equal(rows, 100 + np.argsort(true, axis=1)[:, :3])
    assert np.median(surroundings.own / surroundings.unit) == pytest.approx(1)


def test_distances_are_those_from_what_was_trained_on():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((30, 8)).astype(np.float32)
    trained, more = Surroundings.of(vectors[:20], np.arange(20)), Surroundings.of(vectors, np.arange(30), n_trained=20)
    # Products of 20 and of 30 rows are rounded differently by some processors.
    np.testing.assert_allclose(more.distances(vectors), trained.distances(vectors), rtol=1e-6)
    assert more.distances(vectors[20:]).min() > 0.1
    found, rows = more.nearest(vectors[20:], 1)
    np.testing.assert_allclose(found, 0, atol=1e-3)
    np.testing.assert_array_equal(rows[:, 0], np.arange(20, 30))


def test_training_crystals_are_compared_with_each_other_once(monkeypatch):
    vectors = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
    surroundings, own, calls = Surroundings.of(vectors, np.arange(30)), Surroundings.own, []
    monkeypatch.setattr(Surroundings, "own", property(lambda self: calls.append(1) or own.fget(self)))
    np.testing.assert_array_equal(surroundings.distances(vectors), surroundings.distances(vectors))
    assert len(calls) == 1


def test_copies_count_once():
    rng = np.random.default_rng(0)
    vectors, new = (rng.standard_normal((n, 8)).astype(np.float32) for n in (20, 5))
    copies = np.tile(vectors, (8, 1)) + 1e-6 * rng.standard_normal((160, 8)).astype(np.float32)
    once, often = (Surroundings.of(x, np.arange(len(x))) for x in (vectors, copies))
    assert len(often.own) == 20
    assert often.unit == pytest.approx(once.unit, rel=1e-4)
    np.testing.assert_allclose(often.distances(new), once.distances(new), rtol=1e-4)
    assert often.repeated.tolist() == list(range(20, 160))
    assert often.holds(vectors).all()
    assert not often.holds(new).any()


@pytest.mark.parametrize("size", [0, 1e-7, 100])
def test_copies_of_one_crystal(size):
    # As large as standardised vectors of copies are, and as large as vectors are that are not standardised.
    rng = np.random.default_rng(0)
    copies = (size * (1 + 1e-6 * rng.standard_normal((10, 8)))).astype(np.float32)
    surroundings = Surroundings.of(copies, np.arange(10))
    assert surroundings.own.tolist() == [0]
    assert surroundings.unit == 1
    assert surroundings.holds(copies).all()
    np.testing.assert_allclose(surroundings.distances(copies + np.eye(8, dtype=np.float32)[3]), 1, rtol=1e-3)


def test_what_was_stored_before_copies_were_told_stays_as_it_was():
    vectors = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)
    new = Surroundings.of(vectors, np.arange(30))
    before = {name: getattr(new, name) for name in Surroundings.FIELDS if name != "floor"}
    assert Surroundings(**before).distances(vectors).tobytes() == new.distances(vectors).tobytes()
    before["points"] = np.repeat(new.points[::3], 3, axis=0)
    assert len(Surroundings(**before).own) == 30
    old = Surroundings(**before)
    del old.floor  # of a pickle
    assert old.repeated.size == 0


def test_what_lies_off_the_axes_is_far():
    vectors = np.zeros((40, 100), np.float32)
    vectors[:, :3] = np.random.default_rng(0).standard_normal((40, 3))
    far = np.zeros((1, 100), np.float32)
    far[0, 50] = 1000
    assert Surroundings.of(vectors, np.arange(40)).distances(far)[0] > 100


def test_intervals_warn_of_unseen_elements_where_they_are_asked_for(tiny_regressor, graphs, y):
    has_oxygen = np.array([8 in graphs[row : row + 1].elements for row in range(len(graphs))])
    model = tiny_regressor(**CROSS).fit(graphs[~has_oxygen], y[~has_oxygen])
    for ask in (model.predict_interval, lambda X: model.predict(X, return_std=True)):
        with pytest.warns(UnseenElementsWarning) as caught:
            ask(graphs)
        assert [warning.filename for warning in caught] == [__file__]
