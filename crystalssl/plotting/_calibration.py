"""Whether intervals hold the share of true values that they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from crystalssl.plotting._arguments import check_fitted, check_numbers, check_pair, check_std, known_of, last_step
from crystalssl.plotting._display import Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["IntervalCalibrationDisplay"]

_COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


class IntervalCalibrationDisplay(Display):
    """Share of true values that lie in intervals, against the share that the intervals promise.

    Points below the diagonal are of intervals that are too narrow. The probabilities of a classifier are drawn by
    :class:`sklearn.calibration.CalibrationDisplay`. Made by :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    coverages : ndarray of shape (n_coverages,)
        What is promised, between 0 and 1.
    observed : ndarray of shape (n_coverages,)
        What was found.
    n_crystals : int
        Of how many crystals; the band that chance alone leaves is two standard deviations of so many either way.
    label : str, default=""
        For the legend.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the line.
    figure_ : matplotlib.figure.Figure
        Their figure.
    line_ : matplotlib.lines.Line2D
        What was found.
    band_ : matplotlib.collections.PolyCollection
        What chance leaves of intervals that hold what they say.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from crystalssl.plotting import IntervalCalibrationDisplay
    >>> errors = np.random.default_rng(0).normal(size=500)
    >>> good = IntervalCalibrationDisplay.from_predictions(errors, np.zeros(500), np.ones(500), label="as it is")
    >>> bad = IntervalCalibrationDisplay.from_predictions(errors, np.zeros(500), np.full(500, 0.3), ax=good.ax_)
    >>> bool(abs(good.observed - good.coverages).max() < 0.05), bool(bad.observed[-1] < 0.6)
    (True, True)
    """

    def __init__(self, *, coverages: np.ndarray, observed: np.ndarray, n_crystals: int, label: str = ""):
        self.coverages, self.observed, self.n_crystals, self.label = coverages, observed, n_crystals, label

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        coverages: Any = _COVERAGES,
        target: str | int | None = None,
        label: str = "",
        ax: Axes | None = None,
    ) -> IntervalCalibrationDisplay:
        """Draw the coverage of an estimator's own intervals.

        Parameters
        ----------
        estimator : CrystalSSLRegressor or Pipeline
            Fitted with ``ensemble="cross-validated"``, or anything that has `predict_interval`.
        X : sequence of crystals, or CrystalGraphs
            Crystals that it was not fitted on.
        y : array-like of shape (n_crystals,) or (n_crystals, n_targets)
            True values, NaN where not known. Columns of a frame are found by name.
        coverages : array-like, default=(0.1, 0.2, ..., 0.9, 0.95)
            Between 0 and 1. Few training crystals allow no high ones.
        target : str, int or None, default=None
            Which of several targets, by name or number.
        label : str, default=""
            For the legend.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        IntervalCalibrationDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no intervals.
        ValueError
            If y or `coverages` do not fit, or the estimator was fitted with another ensemble.
        """
        coverages = _check_coverages(coverages)
        check_fitted(estimator)
        known = known_of(estimator, y, target)
        last, seen = last_step(estimator, X)
        if not hasattr(last, "predict_interval"):
            raise TypeError(
                f"{type(last).__name__} has no intervals; draw its standard deviations by "
                "IntervalCalibrationDisplay.from_predictions"
            )
        seen = _graphs_once(last, seen)
        observed = []
        for coverage in coverages:
            low, high = map(known.of, last.predict_interval(seen, coverage=float(coverage)))
            observed.append(np.mean((low <= known.truth) & (known.truth <= high)))
        return cls(coverages=coverages, observed=np.array(observed), n_crystals=len(known.truth), label=label).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        y_std: Any,
        *,
        coverages: Any = _COVERAGES,
        label: str = "",
        ax: Axes | None = None,
    ) -> IntervalCalibrationDisplay:
        """Draw the coverage of the intervals of normal distributions.

        Parameters
        ----------
        y_true, y_pred, y_std : array-like of shape (n_crystals,)
            True values, predictions and their standard deviations.
        coverages : array-like, default=(0.1, 0.2, ..., 0.9, 0.95)
            Between 0 and 1.
        label : str, default=""
            For the legend.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        IntervalCalibrationDisplay

        Raises
        ------
        ValueError
            If shapes differ, values are not finite, or a standard deviation is negative.
        """
        coverages = _check_coverages(coverages)
        y_true, y_pred = check_pair(y_true, y_pred)
        y_std = check_std(y_std, len(y_true))
        reach = norm.ppf(0.5 + coverages / 2)[:, None] * y_std
        observed = (np.abs(y_true - y_pred) <= reach).mean(axis=1)
        return cls(coverages=coverages, observed=observed, n_crystals=len(y_true), label=label).plot(ax)

    def _draw(self, ax: Axes) -> None:
        grid = np.linspace(0, 1, 101)
        if not ax.lines:
            ax.axline((0, 0), (1, 1), color="0.6", linewidth=1, zorder=0)
        (self.line_,) = ax.plot(
            100 * self.coverages, 100 * self.observed, marker="o", markersize=4, label=self.label or None
        )
        chance = 2 * np.sqrt(grid * (1 - grid) / self.n_crystals)
        self.band_ = ax.fill_between(
            100 * grid, 100 * (grid - chance), 100 * (grid + chance), color="0.6", alpha=0.15, linewidth=0, zorder=0
        )
        ax.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
        ax.set(xlabel="coverage of intervals (%)", ylabel="true values inside (%)")
        if self.label:
            ax.legend(loc="upper left")


def _check_coverages(coverages: Any) -> np.ndarray:
    coverages = check_numbers("coverages", coverages)
    if not ((coverages > 0) & (coverages < 1)).all():
        raise ValueError(f"coverages must lie between 0 and 1, such as 0.9; got {coverages.tolist()}")
    return np.sort(coverages)


def _graphs_once(estimator: Any, X: Any) -> Any:
    """Return crystals as the graphs that one of our estimators makes of them, for predicting several times."""
    from crystalssl.estimators._finetuning import FinetunedEstimator

    if not isinstance(estimator, FinetunedEstimator):
        return X
    return estimator._to_graphs(X, estimator.net_.module_.encoder.recipe)
