import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from crystalssl.plotting import plot_label_efficiency, plot_learning_curves, plot_predictions

HISTORY = [
    {"epoch": 1, "train_loss": 0.9, "valid_loss": 1.0, "dur": 0.1},
    {"epoch": 2, "train_loss": 0.5, "valid_loss": 0.8, "dur": 0.1},
    {"epoch": 3, "train_loss": 0.3, "valid_loss": 0.7, "dur": 0.1},
]


class Fitted:
    history_ = HISTORY


@pytest.mark.parametrize("history", [HISTORY, Fitted(), iter(HISTORY)])
def test_learning_curves_show_both_losses(history):
    ax = plot_learning_curves(history)
    train, valid = ax.lines
    np.testing.assert_array_equal(train.get_xydata(), [[1, 0.9], [2, 0.5], [3, 0.3]])
    np.testing.assert_array_equal(valid.get_ydata(), [1.0, 0.8, 0.7])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["training", "validation"]
    assert ax.get_xlabel() == "epoch"


def test_learning_curve_without_validation_is_one_line():
    history = [{key: epoch[key] for key in ("epoch", "train_loss")} for epoch in HISTORY]
    assert [line.get_label() for line in plot_learning_curves(history).lines] == ["training"]


def test_a_single_epoch_is_visible():
    assert plot_learning_curves(HISTORY[:1]).lines[0].get_marker() == "o"
    assert plot_learning_curves(HISTORY).lines[0].get_marker() == ""


def test_empty_history_is_an_error():
    with pytest.raises(ValueError, match="nothing trained"):
        plot_learning_curves([])


def test_predictions_show_points_diagonal_and_error():
    y_true, y_pred = np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 3.0])
    ax = plot_predictions(y_true, y_pred, unit="eV")
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), np.column_stack([y_true, y_pred]))
    (x1, y1), (x2, y2) = ax.lines[0].get_xy1(), ax.lines[0].get_xy2()
    assert x1 == y1 < x2 == y2
    assert ax.get_title() == "MAE 0.5 eV"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("true (eV)", "predicted (eV)")


def test_predictions_have_the_same_scale_on_both_axes():
    ax = plot_predictions([0.0, 1.0], [5.0, 6.0])
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_xlim()[0] < 0 < 6 < ax.get_xlim()[1]
    assert ax.get_aspect() == 1


def test_predictions_without_unit_have_no_brackets():
    ax = plot_predictions([1.0], [3.0])
    assert (ax.get_title(), ax.get_xlabel()) == ("MAE 2", "true")


def test_predictions_on_logarithmic_scales():
    ax = plot_predictions([1.0, 10.0, 100.0], [2.0, 8.0, 90.0], log=True)
    ax.figure.canvas.draw()
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlim() == ax.get_ylim() == pytest.approx((100**-0.04, 100**1.04))
    with pytest.raises(ValueError, match="the lowest is -1"):
        plot_predictions([1.0, 10.0], [-1.0, 9.0], log=True)


@pytest.mark.parametrize("log", [False, True])
def test_one_perfect_prediction_has_limits_around_it(log):
    low, high = plot_predictions([3.0], [3.0], log=log).get_xlim()
    assert low < 3 < high


def test_predictions_keep_a_title():
    _, ax = pyplot.subplots()
    ax.set_title("barlow")
    assert plot_predictions([1.0, 2.0], [1.0, 3.0], ax, "eV").get_title() == "barlow: MAE 0.5 eV"


@pytest.mark.parametrize(("y_true", "y_pred"), [([1, 2], [1]), ([[1], [2]], [[1], [2]]), ([], [])])
def test_predictions_of_other_shapes_are_an_error(y_true, y_pred):
    with pytest.raises(ValueError, match="two vectors of equal length"):
        plot_predictions(y_true, y_pred)


def test_label_efficiency_shows_means_and_deviations():
    frame = pd.DataFrame(
        [("scratch", 20, 2.0), ("scratch", 10, 3.0), ("scratch", 10, 5.0), ("barlow", 10, 2.5)],
        columns=["method", "n_labels", "mae"],
    )
    ax = plot_label_efficiency(frame, unit="1/cm")
    scratch, barlow = ax.containers
    np.testing.assert_array_equal(scratch.lines[0].get_xydata(), [[10, 4.0], [20, 2.0]])
    np.testing.assert_array_equal(barlow.lines[0].get_xydata(), [[10, 2.5]])
    bars = [segment[:, 1] for segment in scratch.lines[2][0].get_segments()]
    np.testing.assert_allclose(bars, [[4 - np.sqrt(2), 4 + np.sqrt(2)], [2, 2]])
    assert [scratch.get_label(), barlow.get_label()] == ["scratch", "barlow"]
    assert ax.get_ylabel() == "MAE (1/cm)"


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_label_efficiency_draws_methods_three_points_apart(scale):
    frame = pd.DataFrame(
        [(method, n, mae) for method in "abc" for n, mae in [(10, 2.0), (10, 4.0), (800, 1.0)]],
        columns=["method", "n_labels", "mae"],
    )
    ax = plot_label_efficiency(frame)
    ax.set_xscale(scale)
    low, high = ax.dataLim.get_points()
    np.testing.assert_allclose([low, high], [[10, 1], [800, 3 + np.sqrt(2)]])
    assert ax.get_xlim()[0] <= 10
    assert ax.get_xlim()[1] >= 800
    for n in (10, 800):
        places = [bars.lines[0].get_transform().transform((n, 1))[0] for bars in ax.containers]
        np.testing.assert_allclose(np.diff(places), 3 * ax.figure.dpi / 72)


def test_label_efficiency_names_missing_columns():
    with pytest.raises(ValueError, match="n_labels"):
        plot_label_efficiency(pd.DataFrame({"method": [], "mae": []}))


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plot_learning_curves(HISTORY, ax),
        lambda ax: plot_predictions([1.0, 2.0], [2.0, 1.0], ax),
        lambda ax: plot_label_efficiency(pd.DataFrame({"method": ["a"], "n_labels": [1], "mae": [1.0]}), ax),
    ],
)
def test_draws_where_it_is_told(draw):
    _, ax = pyplot.subplots()
    assert draw(ax) is ax
    assert pyplot.get_fignums() == [1]


def test_matplotlib_is_loaded_by_the_functions_only():
    code = "import sys, crystalssl.plotting; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"crystalssl\[plot\]"):
        plot_predictions([1.0], [1.0])
