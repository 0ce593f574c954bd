"""What all displays have in common, and the functions before them."""

import copy
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge

import crystalssl.plotting
from crystalssl import CrystalSSLRegressor
from crystalssl.plotting import (
    AtomContributionsDisplay,
    EmbeddingDisplay,
    IntervalCalibrationDisplay,
    LabelEfficiencyDisplay,
    ParityDisplay,
    PeriodicTableDisplay,
    SparsificationDisplay,
    TrainingHistoryDisplay,
    plot_label_efficiency,
    plot_learning_curves,
    plot_predictions,
)

HISTORY = [{"epoch": 1, "train_loss": 0.9}]
RUNS = pd.DataFrame({"method": ["a"], "n_labels": [1], "mae": [1.0]})
SALT = {"lattice": [[2, 2, 0], [2, 0, 2], [0, 2, 2]], "species": ["Na", "Cl"], "coords": [[0, 0, 0], [0.5, 0.5, 0.5]]}


def salt():
    from pymatgen.core import Structure

    return Structure(**SALT)


DRAW = {
    "ParityDisplay": lambda **options: ParityDisplay.from_predictions([1.0, 2.0], [2.0, 1.0], **options),
    "TrainingHistoryDisplay": lambda **options: TrainingHistoryDisplay.from_history(HISTORY, **options),
    "LabelEfficiencyDisplay": lambda **options: LabelEfficiencyDisplay.from_results(RUNS, **options),
    "EmbeddingDisplay": lambda **options: EmbeddingDisplay.from_vectors(np.eye(4), **options),
    "IntervalCalibrationDisplay": lambda **options: IntervalCalibrationDisplay.from_predictions(
        [1.0, 2.0], [1.0, 2.5], [0.1, 0.2], **options
    ),
    "SparsificationDisplay": lambda **options: SparsificationDisplay.from_predictions(
        [1.0, 2.0], [1.0, 2.5], [0.1, 0.2], **options
    ),
    "PeriodicTableDisplay": lambda **options: PeriodicTableDisplay.from_values({"H": 1.0, "O": 2.0}, **options),
    "AtomContributionsDisplay": lambda **options: AtomContributionsDisplay.from_values(salt(), [0.1, 0.2], **options),
}


def test_every_display_is_tested_here():
    assert set(DRAW) == {name for name in crystalssl.plotting.__all__ if name.endswith("Display")}


@pytest.mark.parametrize("name", DRAW)
def test_draws_where_it_is_told_and_holds_it(name):
    figure, ax = pyplot.subplots()
    display = DRAW[name](ax=ax)
    assert isinstance(display, getattr(crystalssl.plotting, name))
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert pyplot.get_fignums() == [1]
    figure.canvas.draw()
    again = display.plot()
    assert again is display
    assert display.ax_ is not ax


@pytest.mark.parametrize("name", DRAW)
def test_axes_that_are_none(name):
    with pytest.raises(TypeError, match=r"ax is a ndarray of shape \(2,\); expected matplotlib axes"):
        DRAW[name](ax=np.array([0.1, 0.2]))


def test_matplotlib_is_loaded_when_something_is_drawn():
    code = "import sys, crystalssl.plotting; sys.exit('matplotlib' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", DRAW)
def test_without_matplotlib_the_error_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"crystalssl\[plot\]"):
        DRAW[name]()


FROM_ESTIMATOR = [ParityDisplay, IntervalCalibrationDisplay, SparsificationDisplay, PeriodicTableDisplay]


@pytest.mark.parametrize("display", FROM_ESTIMATOR)
def test_estimators_that_are_not_fitted_or_none(display, crystals):
    with pytest.raises(NotFittedError):
        display.from_estimator(CrystalSSLRegressor(), *crystals)
    with pytest.raises(TypeError, match="a Pipeline that ends in one; got a list"):
        display.from_estimator([1, 2], *crystals)


@pytest.mark.parametrize("display", FROM_ESTIMATOR)
def test_true_values_that_do_not_fit(display, model, crystals):
    X, y = crystals
    with pytest.raises(ValueError, match="y is None"):
        display.from_estimator(model, X[:5], None)
    with pytest.raises(ValueError, match=r"y has shape \(40, 1\), but predictions have \(2, 1\)"):
        display.from_estimator(model, X[:2], y)
    with pytest.raises(ValueError, match="no value is known"):
        display.from_estimator(model, X[:5], [np.nan] * 5)


@pytest.mark.parametrize("display", [ParityDisplay, PeriodicTableDisplay])
def test_one_of_several_targets(display, several, crystals):
    estimator, frame = several
    X, _ = crystals
    with pytest.raises(ValueError, match="set target to one of 'density', 'minus'"):
        display.from_estimator(estimator, X, frame)
    with pytest.raises(ValueError, match="no target 'mass'; set target"):
        display.from_estimator(estimator, X, frame, target="mass")
    by_name, by_number = (display.from_estimator(estimator, X, frame, target=target) for target in ("minus", 1))
    attribute = "y_pred" if display is ParityDisplay else "values"
    first, second = getattr(by_name, attribute), getattr(by_number, attribute)
    np.testing.assert_equal(first, second)


@pytest.mark.parametrize("display", [ParityDisplay, PeriodicTableDisplay])
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_of_a_frame_are_found_by_name(display, library, several, crystals):
    estimator, frame = several
    make = pytest.importorskip(library).DataFrame
    expected, swapped = (
        display.from_estimator(estimator, crystals[0], make({name: [*frame[name]] for name in names}), target="minus")
        for names in (["density", "minus"], ["minus", "density"])
    )
    attribute = "y_true" if display is ParityDisplay else "values"
    np.testing.assert_equal(getattr(swapped, attribute), getattr(expected, attribute))


def test_columns_that_the_estimator_does_not_know(several, crystals):
    estimator, frame = several
    X, _ = crystals
    message = r"columns of y are \['density', 'mass'\], the targets of the estimator \['density', 'minus'\]"
    with pytest.raises(ValueError, match=message):
        ParityDisplay.from_estimator(estimator, X, frame.rename(columns={"minus": "mass"}), target="density")
    # Numbers are no names, and an estimator that was fitted on an array has none.
    unnamed = copy.copy(estimator)
    unnamed.target_names_ = ["y0", "y1"]
    for model, y in ((estimator, frame.set_axis([0, 1], axis=1)), (unnamed, frame)):
        found = ParityDisplay.from_estimator(model, X, y, target=1)
        np.testing.assert_array_equal(found.y_true, frame["minus"].dropna())
    found = ParityDisplay.from_estimator(unnamed, X, frame.set_axis(["y1", "y0"], axis=1), target="y0")
    np.testing.assert_array_equal(found.y_true, frame["minus"].dropna())


def test_old_functions_draw_the_same_and_warn():
    with pytest.warns(FutureWarning, match=r"ParityDisplay\.from_predictions"):
        ax = plot_predictions([1.0, 2.0], [1.0, 3.0], unit="eV")
    assert ax.get_title() == "MAE 0.5 eV"
    with pytest.warns(FutureWarning, match="TrainingHistoryDisplay"):
        (line,) = plot_learning_curves(HISTORY).lines
    np.testing.assert_array_equal(line.get_xydata(), [[1, 0.9]])
    with pytest.warns(FutureWarning, match="LabelEfficiencyDisplay"):
        (bars,) = plot_label_efficiency(RUNS).containers
    np.testing.assert_array_equal(bars.lines[0].get_xydata(), [[1, 1.0]])
    with pytest.warns(FutureWarning), pytest.raises(TypeError, match="are given by name"):
        plot_predictions(np.ones(3), np.ones(3), np.ones(3))


def test_estimators_of_others(crystals):
    ridge = Ridge().fit(np.arange(10.0)[:, None], np.arange(10.0) * 2)
    display = ParityDisplay.from_estimator(ridge, np.arange(4.0)[:, None], np.arange(4.0))
    np.testing.assert_allclose(display.y_pred, ridge.predict(np.arange(4.0)[:, None]))
    with pytest.raises(TypeError, match="Ridge has no intervals"):
        IntervalCalibrationDisplay.from_estimator(ridge, np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(TypeError, match="a Ridge makes no vectors of crystals"):
        EmbeddingDisplay.from_estimator(ridge, crystals[0])
    with pytest.raises(TypeError, match="Ridge has no history_"):
        TrainingHistoryDisplay.from_estimator(ridge)
