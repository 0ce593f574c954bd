"""Predictions against true values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl.plotting._arguments import check_fitted, check_numbers, check_pair, check_std, known_of, last_step
from crystalssl.plotting._axes import axes_or_new, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ParityDisplay"]


class ParityDisplay:
    """Predictions against true values, with their intervals and a histogram of their errors.

    Made by :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    y_true, y_pred : ndarray of shape (n_crystals,)
        True and predicted values.
    interval : ndarray of shape (2, n_crystals) or None, default=None
        Lower and upper ends of intervals around the predictions.
    name : str, default=""
        Of the target, for the labels.
    unit : str, default=""
        Of the values, for the labels.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the points.
    figure_ : matplotlib.figure.Figure
        Their figure.
    scatter_ : matplotlib.collections.PathCollection
        The points.
    intervals_ : matplotlib.collections.LineCollection or None
        The intervals, vertical lines.
    histogram_ax_ : matplotlib.axes.Axes or None
        Axes of the histogram of predicted minus true values.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from crystalssl.plotting import ParityDisplay
    >>> display = ParityDisplay.from_predictions([1.0, 2.0, 4.0], [1.5, 2.0, 3.0], y_std=[0.5, 0.1, 1.0], unit="eV")
    >>> display.ax_.get_title()
    'MAE 0.5 eV'
    """

    def __init__(
        self,
        *,
        y_true: np.ndarray,
        y_pred: np.ndarray,
        interval: np.ndarray | None = None,
        name: str = "",
        unit: str = "",
    ):
        self.y_true, self.y_pred, self.interval, self.name, self.unit = y_true, y_pred, interval, name, unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        coverage: float | None = None,
        target: str | int | None = None,
        log: bool = False,
        histogram: bool = True,
        ax: Axes | None = None,
    ) -> ParityDisplay:
        """Draw what an estimator predicts.

        Parameters
        ----------
        estimator : regressor or Pipeline
            Fitted.
        X : sequence of crystals, or CrystalGraphs
            As for its `predict`; not those that it was fitted on.
        y : array-like of shape (n_crystals,) or (n_crystals, n_targets)
            True values. Crystals whose value is missing, NaN, are not drawn. Columns of a frame are found by name.
        coverage : float or None, default=None
            Draw the estimator's intervals of this coverage, such as 0.9; see
            :meth:`crystalssl.CrystalSSLRegressor.predict_interval`.
        target : str, int or None, default=None
            Which of several targets to draw, by name or number.
        log : bool, default=False
            Logarithmic scales, for positive values.
        histogram : bool, default=True
            Draw the histogram of errors.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ParityDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If y does not fit, or there are several targets and none is named.
        TypeError
            If intervals are asked of an estimator that has none.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("Agg")
        >>> from crystalssl import CrystalSSLRegressor
        >>> from crystalssl.datasets import load_prototypes
        >>> from crystalssl.plotting import ParityDisplay
        >>> X, y = load_prototypes(return_X_y=True)
        >>> model = CrystalSSLRegressor(max_epochs=1, random_state=0).fit(X[:60], y[:60])
        >>> ParityDisplay.from_estimator(model, X[20:50], y[20:50]).y_pred.shape
        (30,)
        """
        check_fitted(estimator)
        known = known_of(estimator, y, target)
        interval = None
        if coverage is not None:
            last, seen = last_step(estimator, X)
            if not hasattr(last, "predict_interval"):
                raise TypeError(f"{type(last).__name__} has no intervals; leave coverage=None")
            interval = np.array([known.of(end) for end in last.predict_interval(seen, coverage=coverage)])
        y_pred = known.of(estimator.predict(X))
        display = cls(y_true=known.truth, y_pred=y_pred, interval=interval, name=known.name, unit=known.unit)
        return display.plot(ax, log=log, histogram=histogram)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        y_std: Any = None,
        interval: Any = None,
        name: str = "",
        unit: str = "",
        log: bool = False,
        histogram: bool = True,
        ax: Axes | None = None,
    ) -> ParityDisplay:
        """Draw predictions.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_crystals,)
            True and predicted values.
        y_std : array-like of shape (n_crystals,) or None, default=None
            Standard deviations, drawn as intervals of one either way.
        interval : tuple of two array-likes of shape (n_crystals,), or None, default=None
            Lower and upper ends of intervals, instead.
        name, unit : str, default=""
            Name of the target, and unit of the values, for the labels.
        log : bool, default=False
            Logarithmic scales, for positive values.
        histogram : bool, default=True
            Draw the histogram of errors.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure. A title that it has already is kept in front of the error.

        Returns
        -------
        ParityDisplay

        Raises
        ------
        ValueError
            If shapes differ, values are not finite, there is more than one target, or ``log=True`` and not all values
            are positive.
        """
        y_true, y_pred = check_pair(y_true, y_pred)
        if y_std is not None and interval is not None:
            raise ValueError("y_std and interval are both given; give one of them")
        if y_std is not None:
            y_std = check_std(y_std, len(y_true))
            interval = y_pred - y_std, y_pred + y_std
        if interval is not None:
            if len(interval) != 2:
                raise ValueError(f"interval has {len(interval)} parts; expected two vectors, lower and upper ends")
            ends = zip(("lower ends", "upper ends"), interval, strict=True)
            interval = np.array([check_numbers(title, end, len(y_true)) for title, end in ends])
        display = cls(y_true=y_true, y_pred=y_pred, interval=interval, name=name, unit=unit)
        return display.plot(ax, log=log, histogram=histogram)

    def plot(self, ax: Axes | None = None, *, log: bool = False, histogram: bool = True) -> ParityDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.
        log : bool, default=False
            Logarithmic scales, for positive values.
        histogram : bool, default=True
            Draw the histogram of errors.

        Returns
        -------
        ParityDisplay
            Itself, with the attributes of what was drawn.
        """
        y_true, y_pred = self.y_true, self.y_pred
        low, high = min(y_true.min(), y_pred.min()), max(y_true.max(), y_pred.max())
        if log and low <= 0:
            raise ValueError(f"a logarithmic scale takes positive values, the lowest is {low:.3g}; set log=False")
        ax = axes_or_new(ax)
        if log:
            ax.set(xscale="log", yscale="log")
            factor = (high / low) ** 0.04 if low < high else 2.0
            limits = (low / factor, high * factor)
        else:
            margin = 0.04 * (high - low) or 1.0
            limits = (low - margin, high + margin)
        self.intervals_ = None
        if self.interval is not None:
            self.intervals_ = ax.vlines(y_true, *self.interval, color="C0", linewidth=0.8, alpha=0.35, zorder=1)
        self.scatter_ = ax.scatter(y_true, y_pred, s=14, alpha=0.6, edgecolors="none", zorder=2)
        ax.axline((limits[0], limits[0]), (limits[1], limits[1]), color="0.6", linewidth=1, zorder=0)
        # One scale on both axes, so that the diagonal is where it is expected.
        ax.set(xlim=limits, ylim=limits, aspect="equal")
        name = f" {self.name}" if self.name else ""
        ax.set(xlabel=with_unit(f"true{name}", self.unit), ylabel=with_unit(f"predicted{name}", self.unit))
        error = f"MAE {np.abs(y_true - y_pred).mean():.3g} {self.unit}".rstrip()
        ax.set_title(f"{ax.get_title()}: {error}" if ax.get_title() else error)
        self.histogram_ax_ = self._draw_histogram(ax) if histogram else None
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_histogram(self, ax: Axes) -> Axes:
        """Draw errors in the lower right corner, where there are no points of a model that is any good."""
        inset = ax.inset_axes((0.64, 0.13, 0.33, 0.2))
        errors = self.y_pred - self.y_true
        # A few wild predictions would leave one bar of all others.
        reach = np.quantile(np.abs(errors), 0.98) * 1.25 or 1.0
        inset.hist(errors.clip(-reach, reach), bins=31, range=(-reach, reach), color="C0", alpha=0.8)
        inset.axvline(0, color="0.6", linewidth=1)
        inset.set_title(with_unit("predicted − true", self.unit), fontsize="small")
        inset.tick_params(labelsize="x-small")
        inset.set(yticks=[], facecolor=(1, 1, 1, 0.7))
        inset.locator_params(axis="x", nbins=3)
        for side in ("left", "right", "top"):
            inset.spines[side].set_visible(False)
        return inset
