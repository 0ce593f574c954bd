"""What scikit-learn builds out of estimators, with crystals as X. docs/scikit-learn.md tells users the same."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    train_test_split,
    validation_curve,
)
from sklearn.multioutput import MultiOutputRegressor, RegressorChain
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, LRScheduler

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor
from crystalssl.exceptions import NotACrystalError, UnseenElementsWarning

MAE = "neg_mean_absolute_error"

# The crystals are few: some hold elements that those which are learnt from lack.
pytestmark = pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")


def as_frame(crystals, **columns):
    """A DataFrame with the crystals in the column "structure"."""
    return pd.DataFrame({"structure": pd.Series(crystals, dtype=object), **columns})


@pytest.fixture
def pipeline(regressor):
    """Graphs, then a quick regressor."""
    return Pipeline([("graphs", CrystalGraphTransformer()), ("model", regressor)])


# ---------------------------------------------------------------------- pipelines


def test_pipeline_parameters(pipeline, X, numbers):
    assert pipeline.get_params()["model__max_epochs"] == 2
    pipeline.set_params(model__max_epochs=3, graphs__n_jobs=1)
    assert len(clone(pipeline).fit(X, numbers)["model"].history_) == 3


def test_pipeline_may_change_the_structures_first(pipeline, X, numbers):
    def swell(crystals):
        return [crystal.copy().scale_lattice(1.2 * crystal.volume) for crystal in crystals]

    swollen = FunctionTransformer(swell)
    model = make_pipeline(swollen, *[clone(step) for _, step in pipeline.steps]).fit(X, numbers)
    expected = clone(pipeline).fit(swollen.transform(X), numbers).predict(swollen.transform(X))
    assert model.predict(X).tobytes() == expected.tobytes()


def test_vectors_as_a_frame_in_a_pipeline(embedder, X, numbers):
    probe = make_pipeline(embedder, StandardScaler(), Ridge()).set_output(transform="pandas").fit(X, numbers)
    assert probe[-1].feature_names_in_[0] == "pretrainedcrystalembedder0"
    assert isinstance(probe[:-1].transform(X), pd.DataFrame)


def test_feature_union(embedder, X, numbers):
    def sizes(crystals):
        return np.array([[len(crystal), crystal.volume] for crystal in crystals])

    union = FeatureUnion([("vectors", embedder), ("sizes", FunctionTransformer(sizes))])
    vectors = union.fit_transform(X)
    assert vectors.shape == (24, union["vectors"].n_features_out_ + 2)
    assert vectors[:, -1].tolist() == [crystal.volume for crystal in X]
    probe = make_pipeline(union, RandomForestRegressor(5, random_state=0)).fit(X, numbers)
    assert probe.predict(X).shape == (24,)


@pytest.mark.parametrize("column", ["structure", ["structure"]], ids=["series", "frame"])
def test_column_of_structures_beside_numbers(embedder, X, numbers, column):
    frame = as_frame(X, temperature=np.linspace(100, 400, 24), pressure=np.ones(24))
    columns = ColumnTransformer(
        [("crystal", embedder, column), ("rest", StandardScaler(), ["temperature", "pressure"])]
    )
    probe = make_pipeline(columns, Ridge())
    assert np.isfinite(cross_val_score(probe, frame, numbers, cv=2, error_score="raise")).all()
    vectors = columns.set_output(transform="pandas").fit_transform(frame)
    assert vectors.columns[0] == "crystal__pretrainedcrystalembedder0"
    assert vectors.columns[-2:].tolist() == ["rest__temperature", "rest__pressure"]


def test_column_of_graphs_beside_numbers(embedder, X, graphs, numbers):
    """Graphs may stand in a column, so that folds do not build them again."""
    frame = pd.DataFrame({"graph": np.asarray(graphs)[:, 0], "temperature": np.linspace(100, 400, 24)})
    columns = ColumnTransformer([("crystal", embedder, "graph"), ("rest", "passthrough", ["temperature"])])
    found = columns.fit_transform(frame)[:, :-1]
    np.testing.assert_array_equal(found, embedder.fit(X).transform(X))


def test_pipeline_with_memory(embedder, X, numbers, tmp_path, monkeypatch):
    calls = []
    transform = CrystalGraphTransformer.transform
    monkeypatch.setattr(CrystalGraphTransformer, "transform", lambda self, X: calls.append(1) or transform(self, X))
    steps = [("graphs", CrystalGraphTransformer()), ("vectors", embedder), ("ridge", Ridge())]
    expected = Pipeline(steps).fit(X, numbers).predict(X)
    # Use and joblib's repr fill pymatgen's caches inside the structures, and the key of the cached result with them:
    # without this line the first fit would be found from the third on.
    repr(X)
    del calls[:]
    for _ in range(2):  # the second finds graphs and vectors in the cache
        model = Pipeline(clone(steps, safe=False), memory=str(tmp_path)).fit(X, numbers)
    assert len(calls) == 1
    assert model.predict(X).tobytes() == expected.tobytes()


def test_pandas_input_through_everything(pipeline, X, numbers):
    frame = as_frame(X, density=numbers).set_index(np.arange(len(X)) + 100)
    train, test = train_test_split(frame, random_state=0)
    model = clone(pipeline).fit(train["structure"], train["density"])
    assert model.predict(test["structure"]).shape == (len(test),)
    scores = cross_val_score(pipeline, frame["structure"], frame["density"], cv=2, error_score="raise")
    assert np.isfinite(scores).all()


def test_frozen_estimators(regressor, embedder, X, graphs, numbers):
    fitted = clone(regressor).fit(graphs, numbers)
    frozen = FrozenEstimator(fitted)
    assert frozen.fit(X[:3], numbers[:3]).predict(graphs).tobytes() == fitted.predict(graphs).tobytes()
    assert clone(frozen).predict(X[:3]).shape == (3,)
    predicted = cross_val_predict(frozen, X, numbers, cv=3)
    np.testing.assert_allclose(predicted, fitted.predict(X), rtol=1e-5, atol=1e-5)
    probe = make_pipeline(FrozenEstimator(embedder.fit(X)), Ridge()).fit(X, numbers)
    assert probe.predict(X).shape == (24,)
    regressor.set_params(pretrain=FrozenEstimator(embedder)).fit(graphs, numbers)
    assert regressor.net_.module_.encoder.name == embedder.encoder_.name


# ---------------------------------------------------------------------- model selection


@pytest.mark.parametrize(
    "make",
    [
        lambda model: GridSearchCV(model, {"readout": ["mean", "mean+max+min"]}, cv=2, error_score="raise"),
        lambda model: RandomizedSearchCV(
            model, {"head_dim": [4, 8, 16]}, n_iter=2, cv=2, random_state=0, error_score="raise"
        ),
        lambda model: HalvingGridSearchCV(
            model, {"head_dim": [4, 8]}, cv=2, min_resources=8, random_state=0, error_score="raise"
        ),
        lambda model: HalvingGridSearchCV(
            model,
            {"head_dim": [4, 8]},
            cv=2,
            resource="max_epochs",
            min_resources=1,
            max_resources=4,
            factor=2,
            error_score="raise",
        ),
    ],
    ids=["grid", "randomized", "halving by crystals", "halving by epochs"],
)
def test_searches(make, regressor, graphs, numbers):
    search = make(regressor).fit(graphs, numbers)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(graphs).shape == (24,)


def test_several_scores_and_the_estimators_of_the_folds(pipeline, X, numbers):
    result = cross_validate(
        pipeline,
        X,
        numbers,
        cv=3,
        scoring={"mae": MAE, "r2": "r2"},
        return_train_score=True,
        return_estimator=True,
        return_indices=True,
        error_score="raise",
    )
    assert np.isfinite(result["test_r2"]).all()
    assert np.isfinite(result["train_mae"]).all()
    test = result["indices"]["test"][0]
    errors = numbers[test] - result["estimator"][0].predict([X[row] for row in test])
    np.testing.assert_allclose(result["test_mae"][0], -np.abs(errors).mean())


def test_curves(regressor, graphs, numbers):
    sizes, _, test = learning_curve(regressor, graphs, numbers, train_sizes=[8, 12], cv=2, error_score="raise")
    assert sizes.tolist() == [8, 12]
    assert np.isfinite(test).all()
    train, test = validation_curve(
        regressor, graphs, numbers, param_name="max_epochs", param_range=[1, 3], cv=2, error_score="raise"
    )
    assert np.isfinite(train).all()
    assert test.shape == (2, 2)


def test_folds_that_keep_a_composition_together(regressor, X, graphs, numbers):
    groups = [crystal.composition.reduced_formula for crystal in X]
    groups[1] = groups[0]
    folds = GroupKFold(3)
    scores = cross_val_score(regressor, graphs, numbers, groups=groups, cv=folds, error_score="raise")
    assert np.isfinite(scores).all()
    for train, test in folds.split(graphs, numbers, groups):
        assert not {groups[row] for row in train} & {groups[row] for row in test}


@pytest.mark.parametrize("routing", [False, True])
def test_sample_weights(regressor, graphs, numbers, routing):
    weights = np.where(np.arange(24) % 3 == 0, 0.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=routing):
        if routing:
            model = clone(regressor).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
            search = GridSearchCV(model, {"head_dim": [4]}, cv=2, error_score="raise")
            search.fit(graphs, numbers, sample_weight=weights)
            piped = make_pipeline(CrystalGraphTransformer(), model).fit(graphs, numbers, sample_weight=weights)
        else:
            search = GridSearchCV(regressor, {"head_dim": [4]}, cv=2, error_score="raise")
            search.fit(graphs, numbers, sample_weight=weights)
            piped = make_pipeline(CrystalGraphTransformer(), clone(regressor))
            piped.fit(graphs, numbers, crystalsslregressor__sample_weight=weights)
    kept = np.flatnonzero(weights)
    expected = clone(regressor).fit(graphs[kept], numbers[kept]).predict(graphs)
    assert piped.predict(graphs).tobytes() == expected.tobytes()
    expected = clone(regressor).set_params(head_dim=4).fit(graphs[kept], numbers[kept]).predict(graphs)
    assert search.predict(graphs).tobytes() == expected.tobytes()


# ---------------------------------------------------------------------- ensembles


def members(regressor, embedder):
    return [("finetuned", regressor), ("probe", make_pipeline(embedder, Ridge()))]


def test_voting(regressor, embedder, X, graphs, numbers):
    vote = VotingRegressor(members(regressor, embedder)).fit(X, numbers)
    expected = [member.fit(X, numbers).predict(X) for _, member in members(regressor, embedder)]
    np.testing.assert_allclose(vote.predict(X), np.mean(expected, axis=0))
    np.testing.assert_allclose(vote.predict(graphs), vote.predict(X))


def test_voting_of_classifiers(classifier, embedder, X, words):
    probe = make_pipeline(embedder, LogisticRegression())
    vote = VotingClassifier([("finetuned", classifier), ("probe", probe)], voting="soft").fit(X, words)
    assert vote.predict_proba(X).shape == (24, 2)


def test_stacking(regressor, classifier, embedder, X, numbers, words):
    stack = StackingRegressor(members(regressor, embedder), cv=2).fit(X, numbers)
    assert stack.predict(X).shape == (24,)
    stack = StackingClassifier([("finetuned", classifier)], cv=2).fit(X, words)
    assert set(stack.predict(X)) == {"low", "high"}


def test_stacking_passes_vectors_through_but_not_crystals(regressor, embedder, X, numbers):
    """`passthrough` puts X beside the predictions: a crystal is no number, its vector is."""
    with pytest.raises(ValueError, match=r"inhomogeneous|sequence"):
        StackingRegressor([("finetuned", regressor)], cv=2, passthrough=True).fit(X, numbers)
    stack = StackingRegressor([("ridge", Ridge())], cv=2, passthrough=True)
    assert make_pipeline(embedder, stack).fit(X, numbers).predict(X).shape == (24,)


@pytest.mark.parametrize("form", ["graphs", "frame", "column", "pipeline"])
def test_bagging(regressor, X, graphs, numbers, form):
    bagging = BaggingRegressor(regressor, n_estimators=2, random_state=0)
    column = as_frame(X)["structure"].to_numpy()[:, None]
    given = {"graphs": graphs, "frame": as_frame(X), "column": column, "pipeline": X}[form]
    first = [CrystalGraphTransformer()] if form == "pipeline" else []
    model = make_pipeline(*first, bagging)
    predicted = model.fit(given, numbers).predict(given)
    # How often a crystal was drawn is its weight.
    members = [
        clone(member).fit(graphs, numbers, sample_weight=np.bincount(rows, minlength=24)).predict(graphs)
        for member, rows in zip(model[-1].estimators_, model[-1].estimators_samples_, strict=True)
    ]
    np.testing.assert_allclose(predicted, np.mean(members, axis=0), rtol=1e-5, atol=1e-5)


def test_bagging_and_boosting_of_the_rest(classifier, regressor, graphs, numbers, words):
    bagging = BaggingClassifier(classifier, n_estimators=2, random_state=0).fit(graphs, words)
    assert bagging.predict_proba(graphs).shape == (24, 2)
    boosting = AdaBoostRegressor(regressor, n_estimators=2, random_state=0).fit(graphs, numbers)
    assert boosting.predict(graphs).shape == (24,)


def test_bagging_of_a_list_of_structures_is_an_error(regressor, X, salt, numbers):
    """numpy takes each Structure for a sequence of sites before any code of ours runs."""
    with pytest.raises(ValueError, match="inhomogeneous"):
        BaggingRegressor(regressor).fit(X, numbers)
    with pytest.raises(NotACrystalError, match=r"numpy took each Structure for a sequence.*one-column DataFrame"):
        BaggingRegressor(regressor).fit([salt] * 24, numbers)


def test_calibration_and_self_training(classifier, embedder, graphs, words):
    calibrated = CalibratedClassifierCV(classifier, cv=2).fit(graphs, words)
    np.testing.assert_allclose(calibrated.predict_proba(graphs).sum(axis=1), 1)
    partly = np.where(np.arange(24) % 3 == 0, -1, np.where(words == "low", 0, 1))
    probe = make_pipeline(embedder, SelfTrainingClassifier(LogisticRegression(), threshold=0.5))
    assert set(probe.fit(graphs, partly).predict(graphs)) <= {0, 1}


# ---------------------------------------------------------------------- targets


def test_transformed_targets(regressor, X, numbers):
    regressor.set_params(target_transform=None)
    model = TransformedTargetRegressor(regressor, func=np.log, inverse_func=np.exp).fit(X, numbers)
    expected = np.exp(clone(regressor).fit(X, np.log(numbers)).predict(X))
    np.testing.assert_allclose(model.predict(X), expected)


def test_several_targets(regressor, X, graphs, numbers):
    y = np.column_stack([numbers, numbers[::-1]])
    apart = MultiOutputRegressor(regressor).fit(X, y)
    for target in (0, 1):
        alone = clone(regressor).fit(X, y[:, target]).predict(X)
        assert apart.predict(X)[:, target].tobytes() == alone.tobytes()
    together = clone(regressor).fit(graphs, y)
    assert together.predict(graphs).shape == (24, 2)
    assert (together.predict(graphs) != apart.predict(graphs)).any()


def test_chain_of_targets_takes_vectors(regressor, embedder, graphs, numbers):
    """A chain puts the earlier targets beside X, which only a table can have."""
    y = np.column_stack([numbers, numbers[::-1]])
    with pytest.raises(NotACrystalError, match="an array of shape"):
        RegressorChain(regressor).fit(graphs, y)
    assert make_pipeline(embedder, RegressorChain(Ridge())).fit(graphs, y).predict(graphs).shape == (24, 2)


# ---------------------------------------------------------------------- going on, and callbacks


def test_warm_start_is_the_way_to_go_on(regressor, graphs, numbers):
    assert not hasattr(CrystalSSLRegressor, "partial_fit")
    regressor.set_params(warm_start=True, max_epochs=1).fit(graphs, numbers)
    first = regressor.net_.module_.head[-1].weight.clone()
    regressor.fit(graphs, numbers)
    assert not first.equal(regressor.net_.module_.head[-1].weight)
    assert first.allclose(regressor.net_.module_.head[-1].weight, atol=0.05)  # it did not begin anew


class Counter(Callback):
    """Counts epochs, and ends training after the third."""

    def __init__(self, log=None):
        self.log = log

    def on_train_begin(self, net, **kwargs):
        self.epochs_ = 0

    def on_epoch_end(self, net, **kwargs):
        self.epochs_ += 1


@pytest.mark.parametrize("name", ["regressor", "classifier"])
def test_callbacks(name, request, graphs, numbers, words):
    model = request.getfixturevalue(name)
    y = words if name == "classifier" else numbers
    expected = clone(model).set_params(ensemble_size=2).fit(graphs, y).predict(graphs)
    counter = Counter()
    model.set_params(callbacks=[counter, ("again", Counter)], ensemble_size=2).fit(graphs, y)
    assert (model.predict(graphs) == expected).all()  # they may look, and nothing changes
    assert not hasattr(counter, "epochs_")  # each net has a copy
    counters = [dict(net.callbacks_) for net in model.nets_]
    assert [found["Counter"].epochs_ for found in counters] == [2, 2]
    assert counters[0]["again"].epochs_ == 2
    assert isinstance(clone(model).callbacks[0], Counter)
    assert GridSearchCV(model, {"max_epochs": [1]}, cv=2, error_score="raise").fit(graphs, y)


def error_of(net, dataset, y):
    """What a user measures: labels are scaled targets."""
    return np.abs(net.predict(dataset)[:, 0] - y[:, 0]).mean()


def test_score_of_every_epoch(regressor, graphs, numbers):
    scoring = EpochScoring(error_of, name="error")
    regressor.set_params(callbacks=[scoring], early_stopping=True).fit(graphs, numbers)
    errors = regressor.net_.history[:, "error"]
    assert len(errors) == 2
    losses = [epoch["valid_loss"] for epoch in regressor.history_]
    np.testing.assert_allclose(errors, losses, rtol=1e-4)


@pytest.mark.parametrize("callback", [EarlyStopping(), EarlyStopping, ("stop", EarlyStopping())])
def test_early_stopping_is_a_parameter(regressor, graphs, numbers, callback):
    with pytest.raises(ValueError, match="set early_stopping=True and patience instead"):
        regressor.set_params(callbacks=[callback]).fit(graphs, numbers)


@pytest.mark.parametrize("callback", [LRScheduler("StepLR", step_size=1), LRScheduler, ("rate", LRScheduler())])
def test_schedule_of_the_learning_rate_is_set_by_parameters(regressor, graphs, numbers, callback):
    with pytest.raises(ValueError, match="set learning_rate and max_epochs instead"):
        regressor.set_params(callbacks=[callback]).fit(graphs, numbers)


def test_nothing_warns(pipeline, X, numbers):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("error", FutureWarning)
        warnings.simplefilter("ignore", UnseenElementsWarning)
        cross_val_score(pipeline, X, numbers, cv=2, error_score="raise")
