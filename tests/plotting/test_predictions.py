"""Parity, intervals, sparsification and the periodic table: the data that are drawn."""

import numpy as np
import pytest
from matplotlib import pyplot
from sklearn.model_selection import GridSearchCV

from crystalssl.plotting import (
    IntervalCalibrationDisplay,
    ParityDisplay,
    PeriodicTableDisplay,
    SparsificationDisplay,
)

from .conftest import TINY

pytestmark = pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")


def test_parity_shows_points_diagonal_error_and_histogram():
    y_true, y_pred = np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 3.0])
    display = ParityDisplay.from_predictions(y_true, y_pred, unit="eV", name="gap")
    ax = display.ax_
    np.testing.assert_array_equal(display.scatter_.get_offsets(), np.column_stack([y_true, y_pred]))
    (x1, y1), (x2, y2) = ax.lines[0].get_xy1(), ax.lines[0].get_xy2()
    assert x1 == y1 < x2 == y2
    assert ax.get_title() == "MAE 0.5 eV"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("true gap (eV)", "predicted gap (eV)")
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in display.histogram_ax_.patches if bar.get_height()]
    assert len(bars) == 3  # an error each
    for error, (low, high) in zip([-1.0, 0.0, 0.5], bars, strict=True):
        assert low <= error <= high
    assert display.intervals_ is None


def test_parity_without_histogram():
    display = ParityDisplay.from_predictions([1.0, 2.0], [1.0, 3.0], histogram=False)
    assert display.histogram_ax_ is None
    assert not display.ax_.child_axes


def test_parity_draws_intervals():
    by_std = ParityDisplay.from_predictions([1.0, 2.0], [1.5, 2.0], y_std=[0.5, 0.0])
    given = ParityDisplay.from_predictions([1.0, 2.0], [1.5, 2.0], interval=([1.0, 2.0], [2.0, 2.0]))
    for display in (by_std, given):
        segments = np.array(display.intervals_.get_segments())
        np.testing.assert_allclose(segments, [[[1, 1], [1, 2]], [[2, 2], [2, 2]]])


def test_parity_of_a_pipeline_is_that_of_its_predictions(model, crystals):
    X, y = crystals
    truth = np.where(np.arange(20) == 3, np.nan, y[:20])
    display = ParityDisplay.from_estimator(model, X[:20], truth, coverage=0.8)
    known = np.arange(20) != 3
    np.testing.assert_array_equal(display.scatter_.get_offsets()[:, 1], model.predict(X[:20])[known])
    ends = model[-1].predict_interval(model[:-1].transform(X[:20]), coverage=0.8)
    np.testing.assert_array_equal(display.interval, np.array(ends)[:, known])
    assert display.ax_.get_xlabel() == "true density (g/cm³)"


def test_parity_of_a_search(model, crystals):
    X, y = crystals
    from crystalssl import CrystalSSLRegressor

    regressor = CrystalSSLRegressor(**{**TINY, "max_epochs": 1})
    search = GridSearchCV(regressor, {"head_dim": [4, 8]}, cv=2).fit(X[:24], y[:24])
    display = ParityDisplay.from_estimator(search, X[:5], y[:5])
    np.testing.assert_array_equal(display.y_pred, search.predict(X[:5]))


def test_parity_has_one_scale_on_both_axes():
    ax = ParityDisplay.from_predictions([0.0, 1.0], [5.0, 6.0]).ax_
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_xlim()[0] < 0 < 6 < ax.get_xlim()[1]
    assert ax.get_aspect() == 1


def test_parity_on_logarithmic_scales():
    ax = ParityDisplay.from_predictions([1.0, 10.0, 100.0], [2.0, 8.0, 90.0], log=True).ax_
    ax.figure.canvas.draw()
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlim() == ax.get_ylim() == pytest.approx((100**-0.04, 100**1.04))
    with pytest.raises(ValueError, match="the lowest is -1"):
        ParityDisplay.from_predictions([1.0, 10.0], [-1.0, 9.0], log=True)


@pytest.mark.parametrize("log", [False, True])
def test_one_perfect_prediction_has_limits_around_it(log):
    low, high = ParityDisplay.from_predictions([3.0], [3.0], log=log).ax_.get_xlim()
    assert low < 3 < high


def test_parity_keeps_a_title():
    _, ax = pyplot.subplots()
    ax.set_title("barlow")
    ParityDisplay.from_predictions([1.0, 2.0], [1.0, 3.0], unit="eV", ax=ax)
    assert ax.get_title() == "barlow: MAE 0.5 eV"


@pytest.mark.parametrize(("y_true", "y_pred"), [([1, 2], [1]), ([[1], [2]], [[1], [2]]), ([], [])])
@pytest.mark.parametrize(
    "draw", [ParityDisplay.from_predictions, lambda *y: SparsificationDisplay.from_predictions(*y, [1.0, 2.0])]
)
def test_predictions_of_other_shapes_are_an_error(draw, y_true, y_pred):
    with pytest.raises(ValueError, match="two vectors of equal length"):
        draw(y_true, y_pred)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y_std": [1.0]}, "y_std has 1 values, expected 2"),
        ({"y_std": [1.0, -1.0]}, "y_std is negative, -1 at position 1"),
        ({"y_std": [1.0, np.nan]}, "y_std is nan at position 1"),
        ({"y_std": ["a", "b"]}, "y_std must be a vector of numbers"),
        ({"interval": [[1.0, 2.0]]}, "interval has 1 parts"),
        ({"interval": ([1.0, 2.0], [1.0])}, "upper ends has 1 values"),
        ({"interval": ([1.0, 2.0], [1.0, 2.0]), "y_std": [1, 1]}, "give one of them"),
    ],
)
def test_intervals_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        ParityDisplay.from_predictions([1.0, 2.0], [1.0, 2.0], **options)


def test_values_that_are_not_finite_are_named():
    with pytest.raises(ValueError, match="y_pred is inf at position 1"):
        ParityDisplay.from_predictions([1.0, 2.0], [1.0, np.inf])


def test_coverage_of_normal_distributions():
    errors = np.array([0.1, 0.5, 1.0, 3.0])
    display = IntervalCalibrationDisplay.from_predictions(errors, np.zeros(4), np.ones(4), coverages=[0.9, 0.5])
    # Half of a normal distribution lies within 0.674, nine tenths within 1.645.
    np.testing.assert_array_equal(display.line_.get_xydata(), [[50, 50], [90, 75]])
    lower, upper = display.band_.get_paths()[0].get_extents().get_points()[:, 1]
    assert lower < 0
    assert upper > 100
    assert display.ax_.get_legend() is None


def test_coverage_of_an_estimator(model, crystals):
    X, y = crystals
    coverages = [0.3, 0.9]
    display = IntervalCalibrationDisplay.from_estimator(model, X[:30], y[:30], coverages=coverages, label="ours")
    for coverage, (x, observed) in zip(coverages, display.line_.get_xydata(), strict=True):
        low, high = model[-1].predict_interval(model[:-1].transform(X[:30]), coverage)
        assert (x, observed) == (100 * coverage, 100 * np.mean((low <= y[:30]) & (y[:30] <= high)))
    both = IntervalCalibrationDisplay.from_predictions([1.0], [1.0], [1.0], label="other", ax=display.ax_)
    assert [text.get_text() for text in both.ax_.get_legend().get_texts()] == ["ours", "other"]


def test_coverages_that_are_none(model, crystals):
    X, y = crystals
    for coverages in ([0.0], [1.0], [90]):
        with pytest.raises(ValueError, match="coverages must lie between 0 and 1"):
            IntervalCalibrationDisplay.from_estimator(model, X, y, coverages=coverages)


def test_sparsification_is_the_mean_of_what_is_left():
    display = SparsificationDisplay.from_predictions([0, 0, 0, 0], [1.0, -4.0, 2.0, 3.0], [1, 2, 3, 4], unit="eV")
    # Certain to uncertain, the errors are 1, 4, 2, 3; the last one goes first.
    np.testing.assert_allclose(display.line_.get_xydata(), [[0, 2.5], [25, 7 / 3], [50, 2.5], [75, 1]])
    np.testing.assert_allclose(display.oracle_line_.get_ydata(), [2.5, 2, 1.5, 1])
    assert display.area == pytest.approx((1 / 3 + 1) / (0.5 + 1 + 1.5))
    assert display.ax_.get_ylabel() == "MAE (eV)"


def test_sparsification_of_perfect_and_equal_errors():
    assert SparsificationDisplay.from_predictions([0, 0], [1, 2], [1, 2]).area == 0
    assert SparsificationDisplay.from_predictions([0, 0], [2, 2], [1, 2]).area == 0


def test_sparsification_does_not_depend_on_the_order_of_those_that_tie():
    errors, tied = np.array([1.0, 2.0, 4.0, 5.0]), np.array([1.0, 1.0, 2.0, 2.0])
    for rows in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]):
        constant = SparsificationDisplay.from_predictions(np.zeros(4), errors[rows], np.full(4, 0.3))
        assert constant.area == pytest.approx(1)
        pairs = SparsificationDisplay.from_predictions(np.zeros(4), errors[rows], tied[rows])
        np.testing.assert_allclose(pairs.kept, [3, 7.5 / 3, 1.5, 1.5])
        np.testing.assert_allclose(pairs.oracle, [3, 7 / 3, 1.5, 1])


def test_sparsification_of_errors_that_differ_by_rounding_alone():
    errors = np.full(7, 0.1)
    assert SparsificationDisplay.from_predictions(np.zeros(7), errors, np.arange(7)).area == 0


def test_sparsification_of_an_estimator(model, crystals):
    X, y = crystals
    mean, std = model.predict(X, return_std=True)
    display = SparsificationDisplay.from_estimator(model, X, y)
    by_hand = SparsificationDisplay.from_predictions(y, mean, std)
    np.testing.assert_array_equal(display.line_.get_ydata(), by_hand.line_.get_ydata())


def test_periodic_table_has_the_error_of_crystals_with_an_element(model, crystals):
    X, y = crystals
    display = PeriodicTableDisplay.from_estimator(model, X, y)
    errors = np.abs(model.predict(X) - y)
    for symbol, value in display.values.items():
        held = [symbol in crystal.symbol_set for crystal in X]
        assert value == pytest.approx(errors[held].mean())
        assert display.counts[symbol] == sum(held)
    assert set(display.values) == set.union(*(set(crystal.symbol_set) for crystal in X))
    np.testing.assert_array_equal(display.boxes_.get_array(), [*display.values.values()])
    assert display.colorbar_.ax.get_xlabel() == "mean absolute error of density (g/cm³)"
    of_graphs = PeriodicTableDisplay.from_predictions(model[:-1].transform(X), y, model.predict(X))
    assert of_graphs.values == pytest.approx(display.values)


def test_periodic_table_has_every_element_in_a_box_of_its_own():
    display = PeriodicTableDisplay.from_values({"H": 1.0, "Og": 2.0, "La": 3.0})
    places = {text.get_text(): text.get_position() for text in display.ax_.texts}
    assert len(set(places.values())) == len(places) == 118 + 3
    (x, y), (x2, y2) = places["Fe"], places["Co"]
    assert (x2 - x, y2) == (1, y)
    assert places["Ti"][1] == places["Fe"][1] < places["La"][1] < places["Ac"][1]


@pytest.mark.parametrize(
    ("values", "message"),
    [({}, "values is empty"), ({"Xx": 1.0}, "no element 'Xx'"), ({"H": np.nan}, "the value of H is nan")],
)
def test_periodic_table_of_wrong_values(values, message):
    with pytest.raises(ValueError, match=message):
        PeriodicTableDisplay.from_values(values)


def test_periodic_table_of_other_lengths(crystals):
    with pytest.raises(ValueError, match="X holds 2 crystals, y_true 3 values"):
        PeriodicTableDisplay.from_predictions(crystals[0][:2], [1.0] * 3, [1.0] * 3)
