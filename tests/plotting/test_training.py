"""Losses by epoch, and errors by the number of labels."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import ShuffleSplit, learning_curve
from sklearn.pipeline import Pipeline, make_pipeline

from crystalssl import CrystalGraphTransformer, CrystalSSLClassifier, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.plotting import LabelEfficiencyDisplay, TrainingHistoryDisplay
from crystalssl.plotting._label_efficiency import without_pretraining

pytestmark = pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")

HISTORY = [
    {"epoch": 1, "train_loss": 0.9, "valid_loss": 1.0, "dur": 0.1},
    {"epoch": 2, "train_loss": 0.5, "valid_loss": 0.8, "dur": 0.1},
    {"epoch": 3, "train_loss": 0.3, "valid_loss": 0.7, "dur": 0.1},
]


class Trained:
    history_ = HISTORY


@pytest.mark.parametrize(
    "display",
    [
        lambda: TrainingHistoryDisplay.from_history(iter(HISTORY)),
        lambda: TrainingHistoryDisplay.from_estimator(Trained()),
    ],
)
def test_history_shows_both_losses(display):
    display = display()
    train, valid = display.lines_
    np.testing.assert_array_equal(train.get_xydata(), [[1, 0.9], [2, 0.5], [3, 0.3]])
    np.testing.assert_array_equal(valid.get_ydata(), [1.0, 0.8, 0.7])
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["training", "validation"]
    assert display.ax_.get_xlabel() == "epoch"


def test_history_of_every_network_of_a_pipeline(model):
    display = TrainingHistoryDisplay.from_estimator(model)
    nets = model[-1].nets_
    assert len(display.lines_) == 2 * len(nets)
    for net, line in zip(nets, display.lines_[::2], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), net.history[:, "train_loss"])
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["training", "validation"]


def test_history_of_a_model_that_was_saved(model, tmp_path):
    from crystalssl import load

    model[-1].save(tmp_path / "model")
    display = TrainingHistoryDisplay.from_estimator(load(tmp_path / "model"))
    np.testing.assert_allclose(display.lines_[0].get_ydata(), [epoch["train_loss"] for epoch in model[-1].history_])


def test_history_without_validation_is_one_line():
    history = [{key: epoch[key] for key in ("epoch", "train_loss")} for epoch in HISTORY]
    assert [line.get_label() for line in TrainingHistoryDisplay.from_history(history).lines_] == ["training"]


def test_a_single_epoch_is_visible():
    assert TrainingHistoryDisplay.from_history(HISTORY[:1]).lines_[0].get_marker() == "o"
    assert TrainingHistoryDisplay.from_history(HISTORY).lines_[0].get_marker() == ""


def test_nothing_trained_is_an_error(crystals):
    with pytest.raises(ValueError, match="nothing trained"):
        TrainingHistoryDisplay.from_history([])
    with pytest.raises(ValueError, match="nothing trained"):
        TrainingHistoryDisplay.from_estimator(PretrainedCrystalEmbedder().fit(crystals[0]))
    with pytest.raises(ValueError, match=r"must have 'epoch' and 'train_loss'; this one has \['loss'\]"):
        TrainingHistoryDisplay.from_history([{"loss": 1.0}])


def test_label_efficiency_shows_means_and_deviations():
    frame = pd.DataFrame(
        [("scratch", 20, 2.0), ("scratch", 10, 3.0), ("scratch", 10, 5.0), ("barlow", 10, 2.5)],
        columns=["method", "n_labels", "mae"],
    )
    display = LabelEfficiencyDisplay.from_results(frame, unit="1/cm")
    scratch, barlow = display.errorbars_
    np.testing.assert_array_equal(scratch.lines[0].get_xydata(), [[10, 4.0], [20, 2.0]])
    np.testing.assert_array_equal(barlow.lines[0].get_xydata(), [[10, 2.5]])
    bars = [segment[:, 1] for segment in scratch.lines[2][0].get_segments()]
    np.testing.assert_allclose(bars, [[4 - np.sqrt(2), 4 + np.sqrt(2)], [2, 2]])
    assert [scratch.get_label(), barlow.get_label()] == ["scratch", "barlow"]
    assert display.ax_.get_ylabel() == "MAE (1/cm)"


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_label_efficiency_draws_methods_three_points_apart(scale):
    frame = pd.DataFrame(
        [(method, n, mae) for method in "abc" for n, mae in [(10, 2.0), (10, 4.0), (800, 1.0)]],
        columns=["method", "n_labels", "mae"],
    )
    ax = LabelEfficiencyDisplay.from_results(frame).ax_
    ax.set_xscale(scale)
    low, high = ax.dataLim.get_points()
    np.testing.assert_allclose([low, high], [[10, 1], [800, 3 + np.sqrt(2)]])
    assert ax.get_xlim()[0] <= 10
    assert ax.get_xlim()[1] >= 800
    for n in (10, 800):
        places = [bars.lines[0].get_transform().transform((n, 1))[0] for bars in ax.containers]
        np.testing.assert_allclose(np.diff(places), 3 * ax.figure.dpi / 72)


def test_label_efficiency_names_what_is_missing():
    with pytest.raises(ValueError, match="n_labels"):
        LabelEfficiencyDisplay.from_results(pd.DataFrame({"method": [], "mae": []}))
    with pytest.raises(ValueError, match="no rows"):
        LabelEfficiencyDisplay.from_results(pd.DataFrame({"method": [], "n_labels": [], "mae": []}))
    with pytest.raises(TypeError, match="a dict of estimators by name"):
        LabelEfficiencyDisplay.from_estimators([Ridge()], [[1.0]], [1.0])


def test_label_efficiency_with_and_without_pretraining(crystals):
    X, y = crystals
    graphs = CrystalGraphTransformer("cgcnn").transform(X)
    model = Pipeline([("model", CrystalSSLRegressor("barlow", max_epochs=1, head_dim=8, random_state=0))])
    splits = ShuffleSplit(2, train_size=20, test_size=10, random_state=1)
    display = LabelEfficiencyDisplay.from_estimator(model, graphs, y, train_sizes=[10, 20], cv=splits)
    assert [bars.get_label() for bars in display.errorbars_] == ["from scratch", "pretrained"]
    expected = learning_curve(
        model,
        graphs,
        y,
        train_sizes=[10, 20],
        cv=splits,
        scoring="neg_mean_absolute_error",
        shuffle=True,
        random_state=0,
    )
    drawn = display.errorbars_[1].lines[0].get_xydata()
    np.testing.assert_allclose(drawn, np.column_stack([[10, 20], -expected[2].mean(axis=1)]))
    scratch = display.results.query("method == 'from scratch'").mae
    assert not np.allclose(scratch, display.results.query("method == 'pretrained'").mae)


def test_label_efficiency_of_classes(crystals):
    X, y = crystals
    graphs = CrystalGraphTransformer("cgcnn").transform(X)
    model = CrystalSSLClassifier("barlow", max_epochs=1, head_dim=8, random_state=0)
    display = LabelEfficiencyDisplay.from_estimator(model, graphs, y > 4, train_sizes=[20], cv=2)
    assert display.results.accuracy.between(0, 1).all()
    assert display.ax_.get_ylabel() == "accuracy"


def test_the_same_encoder_without_pretraining():
    pipe = make_pipeline(CrystalGraphTransformer(), CrystalSSLRegressor("barlow", head_dim=8))
    scratch = without_pretraining(pipe)
    assert scratch[-1].pretrain is None
    assert scratch[-1].encoder.name == "cgcnn"
    assert scratch[-1].head_dim == 8
    assert pipe[-1].pretrain == "barlow"
    # What it had learnt to predict is gone, too.
    assert without_pretraining(CrystalSSLRegressor("joint")).encoder.n_properties == 0


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        (CrystalSSLRegressor(None), ValueError, "pretrain is None"),
        (CrystalSSLRegressor(PretrainedCrystalEmbedder(weights=None)), ValueError, "would pretrain anew"),
        (make_pipeline(PretrainedCrystalEmbedder(), Ridge()), TypeError, "Ridge is not finetuned"),
    ],
)
def test_no_pretraining_to_leave_out(estimator, error, message):
    with pytest.raises(error, match=message):
        LabelEfficiencyDisplay.from_estimator(estimator, [], [])
