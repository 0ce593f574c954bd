"""What every public estimator promises, found by discovery: a new class cannot forget it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks as checks
from sklearn.utils._param_validation import InvalidParameterError, make_constraint

import crystalssl
from crystalssl.exceptions import NotACrystalError, RecipeMismatchError

PUBLIC = [getattr(crystalssl, name) for name in crystalssl._DEFINED_IN]
ESTIMATORS = [cls for cls in PUBLIC if isinstance(cls, type) and issubclass(cls, BaseEstimator)]
# Their answers depend on what was fitted; CrystalGraphTransformer learns nothing.
LEARNERS = [cls for cls in ESTIMATORS if cls().__sklearn_tags__().requires_fit]

# scikit-learn's own checks that need no table of numbers as X.
CHECKS = [
    checks.check_do_not_raise_errors_in_init_or_set_params,
    checks.check_estimator_cloneable,
    checks.check_estimator_repr,
    checks.check_estimator_tags_renamed,
    checks.check_get_params_invariance,
    checks.check_mixin_order,
    checks.check_no_attributes_set_in_init,
    checks.check_param_validation,
    checks.check_set_params,
    checks.check_valid_tag_types,
]


def quick(cls):
    """An estimator with default parameters, but for those that make it quick and repeatable."""
    known = cls().get_params()
    return cls(**{name: value for name, value in {"random_state": 0, "max_epochs": 1}.items() if name in known})


CASES = {cls.__name__: quick(cls) for cls in ESTIMATORS} | {
    "embedder that pretrains": crystalssl.PretrainedCrystalEmbedder(
        weights=None, hidden_dim=8, n_layers=1, max_epochs=2, random_state=0
    ),
    "embedder that continues": crystalssl.PretrainedCrystalEmbedder(
        "simsiam", continue_training=True, max_epochs=1, random_state=0
    ),
    "regressor without pretraining": crystalssl.CrystalSSLRegressor(None, max_epochs=1, random_state=0),
    "regressor with everything": crystalssl.CrystalSSLRegressor(
        "simsiam", early_stopping=True, ensemble_size=2, freeze_encoder=True, dropout=0.2, max_epochs=2, random_state=0
    ),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def estimator(request):
    """An unfitted estimator."""
    return clone(request.param)


def output(estimator, X):
    return estimator.predict(X) if is_regressor(estimator) else estimator.transform(X)


def test_the_known_estimators_are_discovered():
    names = {cls.__name__ for cls in ESTIMATORS}
    assert {"CrystalGraphTransformer", "CrystalSSLRegressor", "PretrainedCrystalEmbedder"} <= names


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_scikit_learns_check(cls, check):
    check(cls.__name__, cls())


@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_every_parameter_has_a_constraint_that_its_default_meets(cls):
    assert cls._parameter_constraints.keys() == cls().get_params(deep=False).keys()
    for name, value in cls().get_params(deep=False).items():
        assert any(make_constraint(c).is_satisfied_by(value) for c in cls._parameter_constraints[name]), name


@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_every_parameter_is_documented(cls):
    for name in cls().get_params(deep=False):
        assert any(name in line and " : " in line for line in cls.__doc__.splitlines()), name


def test_tags(estimator):
    tags = estimator.__sklearn_tags__()
    assert not tags.input_tags.two_d_array
    assert (tags.estimator_type == "regressor") == is_regressor(estimator)


def test_fit_returns_self_and_sets_only_fitted_attributes(estimator, X, y):
    before = {name: repr(value) for name, value in vars(estimator).items()}
    assert estimator.fit(X, y) is estimator
    after = vars(estimator)
    assert {name: repr(after[name]) for name in before} == before
    assert all(name.endswith("_") or name.startswith("_") for name in after.keys() - before.keys())


@pytest.mark.parametrize("cls", LEARNERS, ids=lambda cls: cls.__name__)
def test_unfitted_is_an_error_of_scikit_learn(cls, X):
    with pytest.raises(NotFittedError, match=cls.__name__):
        output(cls(), X)


def test_clone_is_unfitted_and_has_equal_parameters(estimator, X, y):
    estimator.fit(X, y)
    copied = clone(estimator)
    assert repr(copied.get_params()) == repr(estimator.get_params())
    assert not any(name.endswith("_") and not name.startswith("_") for name in vars(copied))


def as_numbers(result):
    if isinstance(result, crystalssl.CrystalGraphs):
        return np.concatenate([result.distances, result.atomic_numbers, result.positions.ravel()])
    return result


def test_fitting_twice_gives_the_same_bits(estimator, X, y, new):
    first = as_numbers(output(estimator.fit(X, y), new[0]))
    second = as_numbers(output(estimator.fit(X, y), new[0]))
    assert first.tobytes() == second.tobytes()
    assert as_numbers(output(clone(estimator).fit(X, y), new[0])).tobytes() == first.tobytes()


def test_pickle_gives_the_same_bits(estimator, X, y, new):
    estimator.fit(X, y)
    expected = as_numbers(output(estimator, new[0]))
    again = pickle.loads(pickle.dumps(estimator))
    assert as_numbers(output(again, new[0])).tobytes() == expected.tobytes()
    assert repr(again.get_params()) == repr(estimator.get_params())


@pytest.mark.parametrize("container", ["list", "tuple", "array", "series", "frame", "graphs"])
def test_containers_of_the_same_crystals_give_the_same_bits(estimator, X, y, new, container):
    import pandas as pd

    def convert(structures):
        if container == "graphs":
            return crystalssl.CrystalGraphTransformer().transform(structures)
        if container in ("list", "tuple"):
            return list(structures) if container == "list" else tuple(structures)
        column = np.empty(len(structures), dtype=object)
        column[:] = structures
        series = pd.Series(column, index=range(50, 50 + len(structures)), name="structure")
        return {"array": column, "series": series, "frame": series.to_frame()}[container]

    expected = as_numbers(output(clone(estimator).fit(X, y), new[0]))
    found = as_numbers(output(estimator.fit(convert(X), y), convert(new[0])))
    assert np.asarray(found).tobytes() == expected.tobytes()


def test_nothing_that_is_passed_in_is_changed(estimator, X, y, new):
    structures, targets = [crystal.copy() for crystal in X], y.copy()
    crystals = list(structures)
    output(estimator.fit(crystals, targets), new[0])
    assert crystals == X
    assert all(a is b for a, b in zip(crystals, structures, strict=True))
    assert np.array_equal(targets, y)


def test_read_only_memory_is_enough(estimator, X, y, new, tmp_path):
    graphs = crystalssl.CrystalGraphTransformer().transform(X)
    graphs.save(tmp_path / "graphs")
    mapped = crystalssl.CrystalGraphs.load(tmp_path / "graphs")
    targets = y.copy()
    targets.flags.writeable = False
    expected = as_numbers(output(clone(estimator).fit(graphs, y), graphs))
    assert as_numbers(output(estimator.fit(mapped, targets), mapped)).tobytes() == expected.tobytes()


@pytest.mark.filterwarnings("error")
def test_global_random_states_are_left_alone(estimator, X, y, new):
    import torch

    def states():
        _, keys, *rest = np.random.get_state()  # noqa: NPY002  (the global state is the point)
        precision = [backend.matmul.fp32_precision for backend in (torch.backends.mkldnn, torch.backends.cuda)]
        return torch.get_rng_state().tolist(), keys.tolist(), rest, precision

    before = states()
    output(estimator.fit(X, y), new[0])
    assert states() == before


def test_silent_unless_asked(estimator, X, y, new, capfd):
    output(estimator.fit(X, y), new[0])
    assert capfd.readouterr() == ("", "")


def test_bare_structure_is_an_error_that_says_what_to_do(estimator, X, y):
    estimator.fit(X, y)
    with pytest.raises(NotACrystalError, match=r"X is a single Structure.*Wrap it in a list"):
        output(estimator, X[0])


def test_graphs_of_another_recipe_are_refused(estimator, X, y):
    graphs = crystalssl.CrystalGraphTransformer(cutoff=5.0).transform(X)
    estimator.fit(X, y)
    with pytest.raises(RecipeMismatchError, match=r"cutoff=5.0.* but .*cutoff=8.0.* is needed; build them again with"):
        output(estimator, graphs)


def test_wrong_item_is_named(estimator, X, y):
    estimator.fit(X, y)
    with pytest.raises(NotACrystalError, match="item 3: NoneType is not a crystal") as caught:
        output(estimator, [*X[:3], None])
    assert caught.value.index == 3


def test_no_crystals_are_an_error(estimator, X, y):
    estimator.fit(X, y)
    for nothing in ([], crystalssl.CrystalGraphTransformer().transform(X)[:0]):
        if isinstance(estimator, crystalssl.CrystalGraphTransformer) and nothing != []:
            continue  # graphs pass through
        with pytest.raises(ValueError, match="no crystals"):
            output(estimator, nothing)


def test_parameters_are_checked_in_fit(estimator, X, y):
    for name in estimator.get_params(deep=False):
        with pytest.raises(InvalidParameterError, match=f"'{name}' parameter of {type(estimator).__name__}"):
            clone(estimator).set_params(**{name: object()}).fit(X, y)
