"""Whether errors are where they are expected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl.plotting._arguments import check_fitted, check_numbers, check_pair, known_of
from crystalssl.plotting._axes import with_unit
from crystalssl.plotting._display import Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SparsificationDisplay"]


class SparsificationDisplay(Display):
    """Error of the crystals that are left when the least certain ones are left out.

    A good uncertainty gives a line that falls towards that of an oracle, which leaves out the largest errors first; a
    useless one stays level. Crystals that are equally certain count with their mean error, so that their order does not
    matter. Made by :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    errors : ndarray of shape (n_crystals,)
        Absolute errors.
    uncertainty : ndarray of shape (n_crystals,)
        Standard deviations, widths of intervals, or any other number that is larger where errors are expected.
    unit : str, default=""
        Of the errors.
    label : str, default=""
        For the legend.

    Attributes
    ----------
    shares : ndarray of shape (n_crystals,)
        Shares of the crystals that are left out.
    kept : ndarray of shape (n_crystals,)
        Mean error of the others.
    oracle : ndarray of shape (n_crystals,)
        The same of an oracle.
    area : float
        Mean difference of the two over that of a useless uncertainty, so 0 is perfect and 1 useless.
    ax_ : matplotlib.axes.Axes
        Axes with the lines.
    figure_ : matplotlib.figure.Figure
        Their figure.
    line_, oracle_line_ : matplotlib.lines.Line2D
        The two lines.

    References
    ----------
    E. Ilg et al., ECCV 2018, doi:10.1007/978-3-030-01234-2_40.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from crystalssl.plotting import SparsificationDisplay
    >>> display = SparsificationDisplay.from_predictions([1.0, 2.0, 4.0], [1.1, 2.5, 2.0], [0.1, 0.2, 1.0])
    >>> display.area
    0.0
    """

    def __init__(self, *, errors: np.ndarray, uncertainty: np.ndarray, unit: str = "", label: str = ""):
        self.errors, self.uncertainty, self.unit, self.label = errors, uncertainty, unit, label
        self.shares = np.arange(len(errors)) / len(errors)
        self.kept, self.oracle = _means_of_least(errors, uncertainty), _means_of_least(errors, errors)
        useless = (errors.mean() - self.oracle).mean()
        differ = useless > 1e-12 * errors.mean()  # else by rounding alone
        self.area = float((self.kept - self.oracle).mean() / useless) if differ else 0.0

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        target: str | int | None = None,
        label: str = "",
        ax: Axes | None = None,
    ) -> SparsificationDisplay:
        """Draw it of the standard deviations of an estimator.

        Parameters
        ----------
        estimator : regressor or Pipeline
            Fitted, with ``predict(X, return_std=True)``.
        X : sequence of crystals, or CrystalGraphs
            Crystals that it was not fitted on.
        y : array-like of shape (n_crystals,) or (n_crystals, n_targets)
            True values, NaN where not known. Columns of a frame are found by name.
        target : str, int or None, default=None
            Which of several targets, by name or number.
        label : str, default=""
            For the legend.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        SparsificationDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If y does not fit.
        """
        check_fitted(estimator)
        known = known_of(estimator, y, target)
        mean, std = map(known.of, estimator.predict(X, return_std=True))
        return cls(errors=np.abs(mean - known.truth), uncertainty=std, unit=known.unit, label=label).plot(ax)

    @classmethod
    def from_predictions(
        cls, y_true: Any, y_pred: Any, y_std: Any, *, unit: str = "", label: str = "", ax: Axes | None = None
    ) -> SparsificationDisplay:
        """Draw it of predictions and any measure of their uncertainty.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_crystals,)
            True and predicted values.
        y_std : array-like of shape (n_crystals,)
            Standard deviations, widths of intervals, distances from training: larger where errors are expected.
        unit : str, default=""
            Of the errors.
        label : str, default=""
            For the legend.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        SparsificationDisplay

        Raises
        ------
        ValueError
            If shapes differ, or values are not finite.
        """
        y_true, y_pred = check_pair(y_true, y_pred)
        uncertainty = check_numbers("y_std", y_std, len(y_true))
        return cls(errors=np.abs(y_pred - y_true), uncertainty=uncertainty, unit=unit, label=label).plot(ax)

    def _draw(self, ax: Axes) -> None:
        percent = 100 * self.shares
        (self.line_,) = ax.plot(percent, self.kept, label=self.label or "least certain first")
        color = self.line_.get_color()
        (self.oracle_line_,) = ax.plot(
            percent, self.oracle, color=color, linestyle="--", linewidth=1, label="largest errors first"
        )
        ax.axhline(self.errors.mean(), color="0.6", linewidth=1, linestyle=":", label="at random")
        ax.set(xlim=(0, 100), ylim=(0, None), xlabel="crystals left out (%)", ylabel=with_unit("MAE", self.unit))
        ax.legend()


def _means_of_least(errors: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return mean errors of all, of all but the one that is largest by a measure, and so on to the smallest alone."""
    # Any order of those that tie would be arbitrary: each has the mean error of all of them.
    _, group = np.unique(by, return_inverse=True)
    ascending = (np.bincount(group, errors) / np.bincount(group))[np.sort(group)]
    return (np.cumsum(ascending) / np.arange(1, len(errors) + 1))[::-1]
