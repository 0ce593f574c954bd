"""Parity plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl.plotting._axes import axes_or_new, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_predictions(y_true: Any, y_pred: Any, ax: Axes | None = None, unit: str = "", *, log: bool = False) -> Axes:
    """Plot predictions against true values, with the mean absolute error in the title.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_crystals,)
        True and predicted values.
    ax : matplotlib.axes.Axes or None, default=None
        Where to draw; None makes a new figure. A title that it has already is kept in front of the error.
    unit : str, default=""
        Unit of both, for the labels.
    log : bool, default=False
        Logarithmic scales, for positive values.

    Returns
    -------
    matplotlib.axes.Axes
        With one point for each crystal.

    Raises
    ------
    ValueError
        If the shapes differ, there is more than one target, or ``log=True`` and not all values are positive.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from crystalssl.plotting import plot_predictions
    >>> plot_predictions([1.0, 2.0, 4.0], [1.5, 2.0, 3.0], unit="eV").get_title()
    'MAE 0.5 eV'
    """
    y_true, y_pred = np.asarray(y_true, dtype=float), np.asarray(y_pred, dtype=float)
    if y_true.shape != y_pred.shape or y_true.ndim != 1 or y_true.size == 0:
        raise ValueError(
            f"y_true has shape {y_true.shape} and y_pred {y_pred.shape}; expected two vectors of equal length, so plot "
            "one target at a time"
        )
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
    ax.scatter(y_true, y_pred, s=14, alpha=0.6, edgecolors="none")
    ax.axline((limits[0], limits[0]), (limits[1], limits[1]), color="0.6", linewidth=1, zorder=0)
    # One scale on both axes, so that the diagonal is where it is expected.
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    ax.set(xlabel=with_unit("true", unit), ylabel=with_unit("predicted", unit))
    error = f"MAE {np.abs(y_true - y_pred).mean():.3g} {unit}".rstrip()
    ax.set_title(f"{ax.get_title()}: {error}" if ax.get_title() else error)
    return ax
