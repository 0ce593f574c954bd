"""What every public estimator promises: the checks of scikit-learn with crystals as X, and some of our own."""

from __future__ import annotations

import copy
import inspect

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError, make_constraint
from sklearn.utils.estimator_checks import _NotAnArray
from sklearn.utils.fixes import parse_version
from sklearn.utils.validation import check_is_fitted

import crystalssl
from crystalssl.exceptions import InvalidStructureError, NotACrystalError, RecipeMismatchError

from .cases import ESTIMATORS, LEARNERS, as_numbers, output

# The crystals are few: some hold elements that those which are learnt from lack.
pytestmark = pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")


def supervised(estimator):
    return is_classifier(estimator) or is_regressor(estimator)


def same_bits(one, other):
    return as_numbers(one).tobytes() == as_numbers(other).tobytes()


# ---------------------------------------------------------------------- parameters and tags


@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_every_parameter_has_a_constraint_that_its_default_meets(cls):
    assert cls._parameter_constraints.keys() == cls().get_params(deep=False).keys()
    for name, value in cls().get_params(deep=False).items():
        assert any(make_constraint(c).is_satisfied_by(value) for c in cls._parameter_constraints[name]), name


def test_tags(estimator):
    tags = estimator.__sklearn_tags__()
    assert not tags.input_tags.two_d_array
    assert is_regressor(estimator) == isinstance(estimator, crystalssl.CrystalSSLRegressor)
    assert is_classifier(estimator) == isinstance(estimator, crystalssl.CrystalSSLClassifier)


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


def test_fitting_twice_gives_the_same_bits(estimator, X, y, new):
    first = as_numbers(output(estimator.fit(X, y), new[0]))
    second = as_numbers(output(estimator.fit(X, y), new[0]))
    assert first.tobytes() == second.tobytes()
    assert as_numbers(output(clone(estimator).fit(X, y), new[0])).tobytes() == first.tobytes()


def test_copy_through_a_file_gives_the_same_bits(estimator, X, y, new, tmp_path):
    expected = output(estimator.fit(X, y), new[0])
    joblib.dump(estimator, tmp_path / "estimator.joblib")
    again = joblib.load(tmp_path / "estimator.joblib")
    assert same_bits(output(again, new[0]), expected)
    assert repr(again.get_params()) == repr(estimator.get_params())


# ---------------------------------------------------------------------- X


def as_column(crystals):
    column = np.empty(len(crystals), dtype=object)
    column[:] = crystals
    return column


def as_files(crystals, folder):
    folder.mkdir()
    for index, crystal in enumerate(crystals):
        crystal.to(folder / f"{index}.cif")
    return [folder / f"{index}.cif" for index in range(len(crystals))]


CONTAINERS = {
    "tuple": tuple,
    "array": as_column,
    "column": lambda crystals: as_column(crystals)[:, None],
    "series": lambda crystals: pd.Series(as_column(crystals), index=range(50, 50 + len(crystals)), name="structure"),
    "frame": lambda crystals: pd.DataFrame({"structure": as_column(crystals)}),
    "graphs": lambda crystals: crystalssl.CrystalGraphTransformer().transform(crystals),
    "column of graphs": lambda crystals: np.asarray(crystalssl.CrystalGraphTransformer().transform(crystals)),
}


def test_containers_give_the_same_bits(estimator, X, y, new):
    expected = output(clone(estimator).fit(list(X), y), new[0])
    fitted = estimator.fit(CONTAINERS["frame"](X), y)
    for name, convert in CONTAINERS.items():
        assert same_bits(output(fitted, convert(new[0])), expected), name
    for name in ("tuple", "graphs", "column of graphs"):
        assert same_bits(output(clone(estimator).fit(CONTAINERS[name](X), y), new[0]), expected), name


@pytest.mark.parametrize("form", ["atoms", "files"])
def test_atoms_and_files_are_crystals(estimator, X, y, new, form, tmp_path):
    """To the last digits of their coordinates, which a Structure holds as fractions of the cell."""
    if form == "atoms":
        adaptor = pytest.importorskip("pymatgen.io.ase").AseAtomsAdaptor
        crystals, others = ([adaptor.get_atoms(crystal) for crystal in some] for some in (X, new[0]))
    else:
        crystals, others = as_files(X, tmp_path / "X"), [str(path) for path in as_files(new[0], tmp_path / "new")]
    structures, other_structures = crystalssl.check_structures(crystals), crystalssl.check_structures(others)
    assert [structure.composition for structure in structures] == [crystal.composition for crystal in X]
    expected = as_numbers(output(clone(estimator).fit(structures, y), other_structures))
    found = as_numbers(output(estimator.fit(crystals, y), others))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


TABLES = {
    "numbers": np.ones((24, 3)),
    "one column of numbers": np.ones((24, 1)),
    "numbers as objects": np.ones((24, 3), dtype=object),
    "complex numbers": np.ones((24, 3)) * 1j,
    "frame": pd.DataFrame(np.ones((24, 3))),
    "sparse array": scipy.sparse.csr_array(np.eye(24)),
    "sparse matrix": scipy.sparse.csr_matrix(np.eye(24)),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_a_table_as_X_is_refused(cls, table, numbers, words, graphs):
    estimator = cls(**{"weights": None} if cls is crystalssl.PretrainedCrystalEmbedder else {})
    y = words if is_classifier(estimator) else numbers
    with pytest.raises(NotACrystalError, match=r"expected a .*pymatgen Structure|pass the one column"):
        estimator.fit(table, y) if cls in LEARNERS else estimator.transform(table)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_crystal_with_nan_or_infinity_is_named(estimator, X, y, value):
    from pymatgen.core import Structure

    sick = Structure(X[2].lattice, ["Na"], [[value, 0, 0]])
    estimator.fit(X, y)
    with pytest.raises(InvalidStructureError, match="item 2: atom 0 has NaN or infinite coordinates"):
        output(estimator, [*X[:2], sick])


def test_order_of_the_crystals_does_not_matter(estimator, X, y, new):
    estimator.fit(X, y)
    order = np.random.default_rng(0).permutation(len(new[1]))
    # Graphs of graphs in another order are other columns: here it is what each crystal gives.
    if isinstance(estimator, crystalssl.CrystalGraphTransformer):
        found = estimator.transform([new[0][row] for row in order])
        assert all(same_bits(found[[place]], new[1][[row]]) for place, row in enumerate(order))
    else:
        expected = output(estimator, new[1])[order]
        np.testing.assert_allclose(output(estimator, new[1][order]), expected, rtol=1e-5, atol=1e-5)


def test_a_crystal_gets_the_same_alone_as_among_others(estimator, X, y, new):
    estimator.fit(X, y)
    together = output(estimator, new[0])
    for row in range(3):
        alone = output(estimator, [new[0][row]])
        np.testing.assert_allclose(as_numbers(alone), as_numbers(together[row : row + 1]), rtol=1e-5, atol=1e-5)


def test_a_single_crystal(estimator, X, y):
    trains = supervised(estimator) or getattr(estimator, "weights", "bundled") is None
    trains |= getattr(estimator, "continue_training", False)
    if trains:
        with pytest.raises(ValueError, match=r"one crystal; training needs at least two|1 are too few"):
            estimator.fit(X[:1], y[:1])
    else:
        assert len(output(estimator.fit(X[:1], y[:1]), X[:1])) == 1


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


# ---------------------------------------------------------------------- fit


@pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)
def test_y_is_the_second_argument(cls, X):
    for name in ("fit", "score", "fit_transform", "fit_predict", "partial_fit"):
        if hasattr(cls, name):
            assert list(inspect.signature(getattr(cls, name)).parameters)[1:3] == ["X", "y"], name
    assert not hasattr(cls, "partial_fit")  # warm_start goes on from the last fit


def test_check_is_fitted(estimator, X, y):
    if type(estimator) in LEARNERS:
        with pytest.raises(NotFittedError):
            check_is_fitted(estimator)
    check_is_fitted(estimator.fit(X, y))


def test_predicting_changes_nothing(estimator, X, y, new):
    estimator.fit(X, y)
    before = {name: joblib.hash(value) for name, value in vars(estimator).items()}
    output(estimator, new[0])
    if supervised(estimator):
        estimator.predict(new[0])
    assert {name: joblib.hash(value) for name, value in vars(estimator).items()} == before


def test_number_of_epochs(estimator, X, y):
    """What n_iter_ says of scikit-learn's estimators, the length of history_ says here."""
    assert not hasattr(estimator, "max_iter")
    estimator.fit(X, y)
    if supervised(estimator):
        assert 1 <= len(estimator.history_) <= estimator.max_epochs


def test_alone_in_a_pipeline(estimator, X, y):
    alone, piped = clone(estimator).fit(X, y), make_pipeline(clone(estimator)).fit(X, y)
    assert same_bits(output(alone, X), output(piped, X))
    if supervised(estimator):
        assert alone.score(X, y) == piped.score(X, y)
    else:
        assert same_bits(clone(estimator).fit_transform(X, y), make_pipeline(clone(estimator)).fit_transform(X, y))


# ---------------------------------------------------------------------- y

MODELS = ["regressor", "classifier"]


@pytest.fixture(params=MODELS)
def model(request):
    """A quick regressor or classifier."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def labels(model, numbers, words):
    """What it learns."""
    return words if is_classifier(model) else numbers


def test_crystals_and_y_of_unequal_length(model, graphs, labels):
    with pytest.raises(ValueError, match="X holds 24 crystals but y has 23"):
        model.fit(graphs, labels[:-1])


def test_y_that_is_missing(model, graphs, labels):
    with pytest.raises(ValueError, match="the target y is None; training requires y to be passed"):
        model.fit(graphs, None)
    missing = labels.astype(object)
    missing[3] = np.nan
    with pytest.raises(ValueError, match=r"y\[3\] is nan"):
        model.fit(graphs, missing)
    if is_regressor(model):
        missing[3] = np.inf
        with pytest.raises(ValueError, match=r"y\[3\] is inf"):
            model.fit(graphs, missing)


def test_complex_targets_are_refused(model, graphs, labels):
    with pytest.raises(ValueError, match=r"Complex data not supported|[Uu]nknown label type"):
        model.fit(graphs, np.arange(24) * 1j)


def test_y_in_any_container(model, graphs, labels):
    if is_regressor(model):
        labels = np.round(labels)  # whole numbers may be integers
    expected = output(clone(model).fit(graphs, labels), graphs)
    kinds = [list, tuple, pd.Series, lambda y: y.astype(object), lambda y: pd.Series(y, index=range(100, 124))]
    kinds += [lambda y: _NotAnArray(np.asarray(y))]
    if is_regressor(model):
        kinds += [lambda y: y.astype(np.int64), lambda y: y.astype(np.float32), lambda y: y.astype(np.uint8)]
    for kind in kinds:
        assert same_bits(output(clone(model).fit(graphs, kind(labels)), graphs), expected)


def test_y_as_a_column(model, graphs, labels):
    flat = clone(model).fit(graphs, labels).predict(graphs)
    if is_classifier(model):
        with pytest.warns(DataConversionWarning, match="A column-vector y was passed when a 1d array was expected"):
            model.fit(graphs, labels[:, None])
        assert (model.predict(graphs) == flat).all()
    else:  # one target of several that there could be
        assert model.fit(graphs, labels[:, None]).predict(graphs).shape == (24, 1)
        assert same_bits(model.predict(graphs)[:, 0], flat)


def test_order_in_memory_does_not_matter(regressor, graphs, numbers):
    y = np.column_stack([numbers, -numbers, numbers**2])
    expected = clone(regressor).fit(graphs, y).predict(graphs)
    assert same_bits(clone(regressor).fit(graphs, np.asfortranarray(y)).predict(graphs), expected)
    strided = np.repeat(y, 2, axis=1)[:, ::2]
    assert same_bits(clone(regressor).fit(graphs, strided).predict(graphs), expected)


def test_regressor_learns_several_targets(regressor, graphs, numbers):
    assert regressor.__sklearn_tags__().target_tags.multi_output
    y = np.column_stack([numbers, -numbers])
    predicted = regressor.set_params(max_epochs=20).fit(graphs, y).predict(graphs)
    assert predicted.shape == y.shape
    assert predicted.dtype == np.float64
    assert regressor.score(graphs, y) > 0.2


def test_regressor_has_no_probabilities(regressor, graphs, numbers):
    regressor.fit(graphs, numbers)
    for name in ("decision_function", "predict_proba", "predict_log_proba"):
        assert not hasattr(regressor, name)


def test_regressor_learns(regressor, graphs, numbers):
    assert regressor.set_params(max_epochs=40).fit(graphs, numbers).score(graphs, numbers) > 0.5
    assert regressor.predict(graphs).shape == (24,)


def test_classifier_learns(classifier, graphs, words):
    classifier.set_params(max_epochs=40).fit(graphs, words)
    assert classifier.score(graphs, words) > 0.83
    probabilities = classifier.predict_proba(graphs)
    assert probabilities.shape == (24, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (classifier.classes_[probabilities.argmax(axis=1)] == classifier.predict(graphs)).all()


CLASSES = {
    "two words": ["one", "two"],
    "three words": ["one", "two", "three"],
    "signs": [-1, 1],
    "far apart": [7, -3, 1000],
    "truth": [False, True],
    "floats": [1.0, 2.0],
}


@pytest.mark.parametrize("names", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("as_objects", [False, True])
def test_classes_of_any_kind(classifier, graphs, names, as_objects):
    codes = np.arange(24) % len(names)
    y = np.array(names)[codes]
    if as_objects:
        y = y.astype(object)
        if not isinstance(names[0], str):  # as scikit-learn has it
            with pytest.raises(ValueError, match="Unknown label type"):
                classifier.fit(graphs, y)
            return
    classifier.set_params(max_epochs=1).fit(graphs, y)
    assert classifier.classes_.tolist() == sorted(names)
    predicted = classifier.predict(graphs)
    assert set(predicted.tolist()) <= set(names)
    assert predicted.dtype == y.dtype


def test_one_class_is_an_error_that_says_so(classifier, graphs):
    with pytest.raises(ValueError, match="one class only"):
        classifier.fit(graphs, np.ones(24))
    half = np.arange(24) % 2
    with pytest.raises(ValueError, match="one class only"):
        classifier.fit(graphs, half, sample_weight=half)


def test_numbers_are_no_classes(classifier, graphs):
    with pytest.raises(ValueError, match=r"Unknown label type: .*continuous"):
        classifier.fit(graphs, np.linspace(0, 1, 24))


# ---------------------------------------------------------------------- weights


def test_class_weights_win(classifier, graphs):
    for n_classes in (2, 3):
        y = np.arange(24) % n_classes
        weights = {0: 1000.0, **dict.fromkeys(range(1, n_classes), 1e-4)}
        model = clone(classifier).set_params(class_weight=weights, max_epochs=20).fit(graphs, y)
        assert (model.predict(graphs) == 0).mean() > 0.87


def test_balanced_classes_are_weighted(classifier, graphs):
    y = np.array([1] * 4 + [0] * 20)
    balanced = clone(classifier).set_params(class_weight="balanced").fit(graphs, y)
    by_hand = clone(classifier).set_params(class_weight={1: 24 / 8, 0: 24 / 40}).fit(graphs, y)
    assert same_bits(balanced.predict_proba(graphs), by_hand.predict_proba(graphs))
    plain = classifier.fit(graphs, y)
    assert balanced.predict_proba(graphs)[:, 1].mean() > plain.predict_proba(graphs)[:, 1].mean()


def test_sample_weights_in_any_container(model, graphs, labels):
    weights = np.linspace(0.5, 2, 24)
    expected = output(clone(model).fit(graphs, labels, sample_weight=weights), graphs)
    for kind in (list, pd.Series, _NotAnArray, lambda w: w[:, None].repeat(2, 1)[:, 0]):
        given = kind(weights.copy())
        before = copy.deepcopy(given)
        assert same_bits(output(clone(model).fit(graphs, labels, sample_weight=given), graphs), expected)
        assert np.array_equal(np.asarray(given), np.asarray(before))


def test_no_weight_is_as_good_as_left_out(model, graphs, labels):
    kept = np.arange(24) % 4 != 0
    weighted = clone(model).fit(graphs, labels, sample_weight=kept.astype(float))
    assert same_bits(output(weighted, graphs), output(clone(model).fit(graphs[kept], labels[kept]), graphs))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(24), "weight.*zero"),
        (np.ones(23), r"sample_weight.shape == \(23,\), expected \(24,\)"),
        (np.ones((24, 2)), "[Ss]ample weights must be 1D"),
        (np.full(24, np.nan), "NaN"),
        (-np.ones(24), "[Nn]egative"),
    ],
)
def test_sample_weights_that_make_no_sense(model, graphs, labels, weights, message):
    with pytest.raises(ValueError, match=message):
        model.fit(graphs, labels, sample_weight=weights)


# ---------------------------------------------------------------------- transformers


def test_fit_transform_is_fit_and_transform(estimator, X, y):
    if hasattr(estimator, "transform"):
        together = clone(estimator).fit_transform(X, y)
        assert len(together) == len(X)
        assert same_bits(together, clone(estimator).fit(X, y).transform(X))


def test_graphs_without_fit(X, graphs):
    assert same_bits(crystalssl.CrystalGraphTransformer().transform(X), graphs)


def test_dtype_of_the_vectors(embedder, X):
    assert embedder.fit(X).transform(X).dtype == np.float32
    for cls in ESTIMATORS:
        tags = cls().__sklearn_tags__().transformer_tags
        assert tags is None or tags.preserves_dtype == []


def test_feature_names(embedder, X):
    vectors = embedder.fit_transform(X)
    names = embedder.get_feature_names_out()
    assert names.dtype == object
    assert names[0] == "pretrainedcrystalembedder0"
    assert len(set(names)) == vectors.shape[1]
    assert (embedder.get_feature_names_out(["structure"]) == names).all()
    assert crystalssl.CrystalGraphTransformer().get_feature_names_out().tolist() == ["crystal_graph"]


def test_feature_names_of_an_unfitted_embedder(embedder):
    with pytest.raises(NotFittedError):
        embedder.get_feature_names_out()


def test_set_output_default(embedder, X):
    expected = clone(embedder).fit_transform(X)
    assert same_bits(embedder.set_output(transform="default").fit_transform(X), expected)


def frames(library, embedder, X):
    """What is made of X where frames are wanted: of the embedder alone, globally, and behind the graphs."""
    yield clone(embedder).set_output(transform=library).fit_transform(X)
    yield clone(embedder).set_output(transform=library).fit(X).transform(X)
    steps = make_pipeline(crystalssl.CrystalGraphTransformer(), clone(embedder)).set_output(transform=library)
    yield steps.fit_transform(X)
    with sklearn.config_context(transform_output=library):
        yield clone(embedder).fit_transform(X)
        assert isinstance(crystalssl.CrystalGraphTransformer().fit_transform(X), crystalssl.CrystalGraphs)


def test_set_output_pandas(embedder, X):
    expected = clone(embedder).fit(X)
    names, vectors = expected.get_feature_names_out(), expected.transform(X)
    for frame in frames("pandas", embedder, X):
        assert isinstance(frame, pd.DataFrame)
        assert frame.columns.tolist() == names.tolist()
        assert same_bits(frame, vectors)
    column = pd.Series(as_column(X), index=range(50, 74))
    if parse_version(sklearn.__version__) < parse_version("1.8"):  # it keeps the index of a DataFrame only
        column = column.to_frame()
    assert clone(embedder).set_output(transform="pandas").fit_transform(column).index.tolist() == [*range(50, 74)]


def test_set_output_polars(embedder, X):
    polars = pytest.importorskip("polars")
    vectors = clone(embedder).fit_transform(X)
    for frame in frames("polars", embedder, X):
        assert isinstance(frame, polars.DataFrame)
        assert same_bits(frame.to_numpy(), vectors)
