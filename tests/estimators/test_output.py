"""Names and units of targets, and frames of predictions."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from crystalssl import CrystalGraphTransformer


def named(frame, unit):
    frame.attrs["unit"] = unit
    return frame


NAMES = {
    "array": (lambda v: v, ["y"], [None]),
    "column": (lambda v: v[:, None], ["y"], [None]),
    "two columns": (lambda v: np.c_[v, v], ["y0", "y1"], [None, None]),
    "series": (lambda v: pd.Series(v, name="gap"), ["gap"], [None]),
    "series without a name": (lambda v: pd.Series(v), ["y"], [None]),
    "series of a column that is a number": (lambda v: pd.Series(v, name=3), ["y"], [None]),
    "series with a unit": (lambda v: named(pd.Series(v, name="gap"), "eV"), ["gap"], ["eV"]),
    "series with a unit by name": (lambda v: named(pd.Series(v, name="gap"), {"gap": "eV"}), ["gap"], ["eV"]),
    "frame": (lambda v: pd.DataFrame({"gap": v, "bulk": v}), ["gap", "bulk"], [None, None]),
    "frame without names": (lambda v: pd.DataFrame(np.c_[v, v]), ["y0", "y1"], [None, None]),
    "frame with units": (
        lambda v: named(pd.DataFrame({"gap": v, "bulk": v}), {"bulk": "GPa"}),
        ["gap", "bulk"],
        [None, "GPa"],
    ),
    "frame with one unit": (lambda v: named(pd.DataFrame({"a": v, "b": v}), "eV"), ["a", "b"], ["eV", "eV"]),
}


@pytest.mark.parametrize(("container", "names", "units"), NAMES.values(), ids=NAMES)
def test_names_and_units(tiny_regressor, graphs, y, container, names, units):
    model = tiny_regressor(max_epochs=1).fit(graphs, container(y))
    assert model.target_names_ == names
    assert model.target_units_ == units


def test_names_of_classes(tiny_classifier, graphs, y):
    model = tiny_classifier(max_epochs=1).fit(graphs, pd.Series(np.where(y > 5, "heavy", "light"), name="weight"))
    assert model.target_names_ == ["weight"]


def test_frames_of_pandas(tiny_regressor, X, graphs, y):
    index = [f"mp-{i}" for i in range(len(X))]
    model = tiny_regressor(max_epochs=1, ensemble_size=2).fit(graphs, pd.DataFrame({"gap": y, "bulk": -y}))
    expected, deviations = model.predict(graphs, return_std=True)
    assert model.set_output(predict="pandas") is model
    found = model.predict(pd.Series(X, index=index, dtype=object))
    assert found.columns.tolist() == ["gap", "bulk"]
    assert found.index.tolist() == index
    np.testing.assert_array_equal(found.to_numpy(), expected)
    mean, std = model.predict(graphs, return_std=True)
    np.testing.assert_array_equal(mean.to_numpy(), expected)
    np.testing.assert_array_equal(std.to_numpy(), deviations)
    assert std.columns.tolist() == ["gap", "bulk"]
    assert mean.index.tolist() == list(range(len(X)))
    assert model.predict(X).index.tolist() == list(range(len(X)))  # a list has a method `index`
    assert isinstance(model.set_output().predict(graphs), pd.DataFrame)
    assert isinstance(model.set_output(predict="default").predict(graphs), np.ndarray)


def test_frame_of_a_single_target(tiny_regressor, graphs, y):
    model = tiny_regressor(max_epochs=1).fit(graphs, pd.Series(y, name="gap")).set_output(predict="pandas")
    assert model.predict(graphs).shape == (len(y), 1)
    assert model.predict(graphs).columns.tolist() == ["gap"]
    assert model.score(graphs, y) == r2_score(y, model.predict(graphs))


def test_frames_of_polars(tiny_regressor, tiny_classifier, graphs, y):
    pl = pytest.importorskip("polars")
    model = tiny_regressor(max_epochs=1).fit(graphs, pd.DataFrame({"gap": y, "bulk": -y}))
    expected = model.predict(graphs)
    found = model.set_output(predict="polars").predict(graphs)
    assert isinstance(found, pl.DataFrame)
    assert found.columns == ["gap", "bulk"]
    np.testing.assert_array_equal(found.to_numpy(), expected)
    classes = tiny_classifier(max_epochs=1).fit(graphs, y > 5).set_output(predict="polars").predict(graphs)
    assert classes.dtypes == [pl.Boolean]


def test_frames_of_a_classifier(tiny_classifier, graphs, y):
    labels = pd.Series(np.where(y > 5, "heavy", "light"), name="weight")
    model = tiny_classifier(max_epochs=1).fit(graphs, labels)
    expected, probabilities = model.predict(graphs), model.predict_proba(graphs)
    model.set_output(predict="pandas")
    assert model.predict(graphs).columns.tolist() == ["weight"]
    assert model.predict(graphs)["weight"].tolist() == expected.tolist()
    assert model.predict_proba(graphs).columns.tolist() == ["heavy", "light"]
    np.testing.assert_array_equal(model.predict_proba(graphs).to_numpy(), probabilities)


def test_choice_is_kept(tiny_regressor, graphs, y):
    model = tiny_regressor(max_epochs=1).set_output(predict="pandas").fit(graphs, y)
    for again in (clone(model).fit(graphs, y), pickle.loads(pickle.dumps(model))):
        assert isinstance(again.predict(graphs), pd.DataFrame)


@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
def test_in_a_pipeline_and_in_cross_validation(tiny_regressor, X, y):
    last = tiny_regressor(max_epochs=1).set_output(predict="pandas")
    model = make_pipeline(CrystalGraphTransformer(), last).set_output(transform="pandas")
    predicted = model.fit(X, pd.Series(y, name="density")).predict(X)
    assert predicted.columns.tolist() == ["density"]
    assert np.isfinite(cross_val_score(model, X, y, cv=2, scoring="neg_mean_absolute_error")).all()


def test_unknown_container(tiny_regressor):
    with pytest.raises(ValueError, match=r"predict must be one of \['default', 'pandas', 'polars'\], got 'excel'"):
        tiny_regressor().set_output(predict="excel")


def test_warm_start_wants_the_same_columns(tiny_regressor, graphs, y):
    frame = pd.DataFrame({"gap": y, "bulk": -y})
    model = tiny_regressor(max_epochs=1, warm_start=True).fit(graphs, frame)
    with pytest.raises(
        ValueError, match=r"columns of y are \['bulk', 'gap'\], those of the last fit are \['gap', 'bulk'\]"
    ):
        model.fit(graphs, frame[["bulk", "gap"]])
    model.fit(graphs, frame.to_numpy())  # nothing is said of names
