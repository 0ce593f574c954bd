"""The classifier, and what sample weights do to it and to the regressor."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.model_selection import StratifiedKFold, cross_val_score, cross_validate


@pytest.fixture(scope="module")
def kinds(real_crystals):
    """Three classes of very unequal size, by density; four of the crystals `X` are heavy."""
    densities = real_crystals[1]
    return np.array(["light", "medium", "heavy"])[np.digitize(densities, np.quantile(densities[:40], [0.4, 0.9]))]


@pytest.fixture(scope="module")
def labels(kinds):
    """Those of the crystals `X`."""
    return kinds[:40]


# ---------------------------------------------------------------------- classes


@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
def test_classes_are_learnt(tiny_classifier, real_graphs, kinds):
    model = tiny_classifier(max_epochs=30).fit(real_graphs[:160], kinds[:160])
    assert model.classes_.tolist() == ["heavy", "light", "medium"]
    most_common = max((kinds[160:] == kind).mean() for kind in model.classes_)
    assert model.score(real_graphs[160:], kinds[160:]) > most_common + 0.1
    probabilities = model.predict_proba(real_graphs[160:])
    assert probabilities.shape == (80, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (model.predict(real_graphs[160:]) == model.classes_[probabilities.argmax(axis=1)]).all()


@pytest.mark.parametrize("names", [[0, 1, 2], [-5, 7, 100], [0.0, 1.0, 2.0], ["a", "b", "c"]], ids=str)
def test_names_of_the_classes_do_not_matter(tiny_classifier, graphs, labels, names):
    codes = np.unique(labels, return_inverse=True)[1]
    model, plain = tiny_classifier().fit(graphs, np.array(names)[codes]), tiny_classifier().fit(graphs, labels)
    assert model.classes_.tolist() == names
    assert (model.predict_proba(graphs) == plain.predict_proba(graphs)).all()
    assert (model.predict(graphs) == np.array(names)[np.searchsorted(plain.classes_, plain.predict(graphs))]).all()


def test_booleans_and_lists_are_classes(tiny_classifier, graphs, labels):
    model = tiny_classifier().fit(graphs, (labels == "light").tolist())
    assert model.classes_.tolist() == [False, True]
    assert model.predict(graphs).dtype == bool


def test_ensemble_averages_probabilities(tiny_classifier, graphs, labels):
    model = tiny_classifier(ensemble_size=2).fit(graphs, labels)
    first, second = model._outputs(graphs)
    assert (first != second).any()
    np.testing.assert_array_equal(model.predict_proba(graphs), (first + second) / 2)


def test_balanced_classes_make_rare_ones_likelier(tiny_classifier, graphs, labels):
    rare = list(np.unique(labels)).index("heavy")
    assert 0 < (labels == "heavy").mean() < 0.2
    plain, balanced = (tiny_classifier(max_epochs=8, class_weight=w).fit(graphs, labels) for w in (None, "balanced"))
    assert balanced.predict_proba(graphs)[:, rare].mean() > plain.predict_proba(graphs)[:, rare].mean() + 0.02


def test_class_weights_are_sample_weights(tiny_classifier, graphs, labels):
    weights = {"heavy": 4.0, "light": 1.0, "medium": 0.5}
    by_class = tiny_classifier(class_weight=weights).fit(graphs, labels)
    by_sample = tiny_classifier().fit(graphs, labels, sample_weight=[weights[label] for label in labels])
    assert (by_class.predict_proba(graphs) == by_sample.predict_proba(graphs)).all()
    both = tiny_classifier(class_weight=weights).fit(graphs, labels, sample_weight=np.full(len(labels), 2.0))
    assert (both.predict_proba(graphs) == by_class.predict_proba(graphs)).all()


@pytest.mark.parametrize("smoothing", [0, 0.2, 0.4])
def test_classes_are_as_sure_as_the_smoothed_labels(tiny_classifier, graphs, labels, smoothing):
    model = tiny_classifier(max_epochs=60, label_smoothing=smoothing).fit(graphs, labels == "light")
    sure = model.predict_proba(graphs).max(axis=1).mean()
    assert sure == pytest.approx(1 - smoothing / 2, abs=0.05)


def test_classes_are_not_quite_sure_by_default(tiny_classifier, graphs, labels):
    by_default, smoothed, plain = (
        tiny_classifier(**params).fit(graphs, labels).predict_proba(graphs)
        for params in ({}, {"label_smoothing": 0.1}, {"label_smoothing": 0})
    )
    np.testing.assert_array_equal(by_default, smoothed)
    assert (by_default != plain).any()


def test_warm_start_keeps_the_classes(tiny_classifier, graphs, labels):
    model = tiny_classifier(warm_start=True).fit(graphs, labels)
    some = labels != "heavy"
    model.fit(graphs[np.flatnonzero(some)], labels[some])
    assert model.classes_.tolist() == ["heavy", "light", "medium"]
    before = model.predict_proba(graphs)
    with pytest.raises(ValueError, match="y holds 'odd', which the last fit has not seen"):
        model.fit(graphs, np.where(some, labels, "odd"))
    assert (model.predict_proba(graphs) == before).all()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "y is None"),
        (["a"] * 40, "one class only, 'a'; a classifier needs at least two"),
        (np.linspace(0, 1, 40), "continuous"),
        (["a", "b"] * 19, "X holds 40 crystals but y has 38 labels"),
        (["a", None] * 20, r"y\[1\] is None"),
        ([0.0, 1.0, np.nan, 1.0] * 10, r"y\[2\] is nan"),
        (pd.Series(["a", "b", pd.NA, "b"] * 10, dtype="string"), r"y\[2\] is <NA>, no class; leave out"),
        (pd.Series([0, 1, 1, pd.NA] * 10, dtype="Int64"), r"y\[3\] is nan, no class; leave out"),
        (np.zeros((40, 2)), "1d array"),
    ],
)
def test_labels_that_cannot_be_learnt(tiny_classifier, graphs, y, message, runs):
    with pytest.raises(ValueError, match=message):
        tiny_classifier().fit(graphs, y)
    assert runs == []


def test_class_that_is_only_held_out_has_no_model(tiny_classifier, graphs):
    y = np.array([0] * 39 + [1])
    weights = np.ones(40)
    weights[39] = 0
    with pytest.raises(ValueError, match="one class only, 0"):
        tiny_classifier().fit(graphs, y, sample_weight=weights)


@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
def test_calibration_and_stratified_folds(tiny_classifier, real_graphs, kinds):
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    scores = cross_val_score(tiny_classifier(), real_graphs, kinds, cv=folds, scoring="neg_log_loss")
    assert np.isfinite(scores).all()
    calibrated = CalibratedClassifierCV(tiny_classifier(), cv=folds).fit(real_graphs, kinds)
    np.testing.assert_allclose(calibrated.predict_proba(real_graphs).sum(axis=1), 1)


# ---------------------------------------------------------------------- sample weights


@pytest.fixture(params=["regressor", "classifier"])
def model_and_y(request, tiny_regressor, tiny_classifier, y, labels):
    """A function that returns unfitted models of either kind, and targets for them."""
    return (tiny_regressor, y) if request.param == "regressor" else (tiny_classifier, labels)


def predictions(model, graphs):
    return model.predict_proba(graphs) if hasattr(model, "predict_proba") else model.predict(graphs)


@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
@pytest.mark.parametrize("early_stopping", [False, True])
def test_no_weight_is_as_good_as_left_out(model_and_y, graphs, early_stopping):
    make, y = model_and_y
    kept = np.arange(len(graphs)) % 4 != 0
    weighted = make(early_stopping=early_stopping).fit(graphs, y, sample_weight=kept.astype(int))
    without = make(early_stopping=early_stopping).fit(graphs[np.flatnonzero(kept)], y[kept])
    assert (predictions(weighted, graphs) == predictions(without, graphs)).all()


@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
@pytest.mark.parametrize("unknown", [None, np.nan, pd.NA], ids=str)
@pytest.mark.parametrize("container", [list, pd.Series])
def test_target_of_no_weight_may_be_unknown(model_and_y, graphs, unknown, container):
    make, y = model_and_y
    kept = np.arange(len(graphs)) % 4 != 0
    values = container([value if known else unknown for value, known in zip(y.tolist(), kept, strict=True)])
    weighted = make(early_stopping=True).fit(graphs, values, sample_weight=kept)
    without = make(early_stopping=True).fit(graphs[np.flatnonzero(kept)], y[kept].tolist())
    assert (predictions(weighted, graphs) == predictions(without, graphs)).all()
    assert weighted.trained_on_ == without.trained_on_


@pytest.mark.parametrize("wrong", [None, "unknown"])
def test_unknown_target_of_some_weight_is_named_as_it_was_given(tiny_regressor, graphs, y, wrong, runs):
    values = [None, *y[1:5].tolist(), wrong, *y[6:].tolist()]
    weights = np.arange(len(y)) > 0
    with pytest.raises(ValueError, match=r"y\[5\] is (nan|'unknown')"):
        tiny_regressor().fit(graphs, values, sample_weight=weights)
    with pytest.raises(ValueError, match="X holds 40 crystals but y has 39 values"):
        tiny_regressor().fit(graphs, y[1:], sample_weight=weights)
    assert runs == []


def test_only_ratios_of_weights_matter(model_and_y, graphs):
    make, y = model_and_y
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
    model, scaled, plain = (make().fit(graphs, y, sample_weight=w) for w in (weights, 8 * weights, None))
    assert (predictions(model, graphs) == predictions(scaled, graphs)).all()
    assert (predictions(model, graphs) != predictions(plain, graphs)).any()
    assert (predictions(make().fit(graphs, y), graphs) == predictions(plain, graphs)).all()


def test_weights_say_whom_to_believe(tiny_regressor, graphs, y):
    """The same crystals twice, with contradictory targets."""
    twice = graphs[np.tile(np.arange(len(graphs)), 2)]
    targets = np.concatenate([y, -y])
    errors = {}
    for name, weights in {"first": [9.0, 1.0], "second": [1.0, 9.0]}.items():
        model = tiny_regressor(max_epochs=20, target_transform=None)
        model.fit(twice, targets, sample_weight=np.repeat(weights, len(y)))
        errors[name] = mean_absolute_error(y, model.predict(graphs))
    assert errors["first"] < 0.5 * errors["second"]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(39), "shape"),
        (-np.ones(40), "[Nn]egative"),
        (np.full(40, np.nan), "NaN"),
        (np.zeros(40), "not zero|non-zero"),
        (np.eye(40)[0], "1 of 40 sample weights are not zero"),
    ],
)
def test_weights_that_make_no_sense(model_and_y, graphs, weights, message, runs):
    make, y = model_and_y
    with pytest.raises(ValueError, match=message):
        make().fit(graphs, y, sample_weight=weights)
    assert runs == []


@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
def test_weights_are_routed(model_and_y, graphs):
    make, y = model_and_y
    weights = np.ones(len(y))
    weights[::3] = 0
    seen = []

    def score(y_true, y_pred, sample_weight=None):
        seen.append(None if sample_weight is None else len(sample_weight))
        return (y_true == y_pred).mean()

    with sklearn.config_context(enable_metadata_routing=True):
        model = make().set_fit_request(sample_weight=True)
        scorer = make_scorer(score).set_score_request(sample_weight=True)
        routed = cross_validate(
            model, graphs, y, cv=2, scoring=scorer, params={"sample_weight": weights}, return_estimator=True,
            return_indices=True,
        )  # fmt: skip
    assert seen == [20, 20]
    rows = routed["indices"]["train"][0]
    alone = make().fit(graphs[rows], y[rows], sample_weight=weights[rows])
    assert (predictions(routed["estimator"][0], graphs) == predictions(alone, graphs)).all()
