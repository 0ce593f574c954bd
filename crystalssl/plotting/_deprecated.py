"""Functions that displays have taken the place of."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from crystalssl.plotting._history import TrainingHistoryDisplay
from crystalssl.plotting._label_efficiency import LabelEfficiencyDisplay
from crystalssl.plotting._parity import ParityDisplay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_label_efficiency", "plot_learning_curves", "plot_predictions"]


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} will be removed in 0.4; use {new}, which returns a display", FutureWarning, stacklevel=3)


def plot_predictions(y_true: Any, y_pred: Any, ax: Axes | None = None, unit: str = "", *, log: bool = False) -> Axes:
    """Plot predictions against true values; use :class:`ParityDisplay` instead.

    .. deprecated:: 0.2

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_crystals,)
        True and predicted values.
    ax : matplotlib.axes.Axes or None, default=None
        Where to draw; None makes a new figure.
    unit : str, default=""
        Unit of both, for the labels.
    log : bool, default=False
        Logarithmic scales, for positive values.

    Returns
    -------
    matplotlib.axes.Axes
    """
    _warn("plot_predictions", "ParityDisplay.from_predictions")
    return ParityDisplay.from_predictions(y_true, y_pred, unit=unit, log=log, histogram=False, ax=ax).ax_


def plot_learning_curves(history: Iterable[Mapping[str, Any]] | Any, ax: Axes | None = None) -> Axes:
    """Plot losses by epoch; use :class:`TrainingHistoryDisplay` instead.

    .. deprecated:: 0.2

    Parameters
    ----------
    history : estimator or iterable of dict
        A fitted estimator, or its ``history_``.
    ax : matplotlib.axes.Axes or None, default=None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes
    """
    _warn("plot_learning_curves", "TrainingHistoryDisplay.from_estimator")
    return TrainingHistoryDisplay.from_history(getattr(history, "history_", history), ax=ax).ax_


def plot_label_efficiency(frame: Any, ax: Axes | None = None, unit: str = "") -> Axes:
    """Plot the error against the number of labelled crystals; use :class:`LabelEfficiencyDisplay` instead.

    .. deprecated:: 0.2

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per method, number of labels and repetition, with the columns ``"method"``, ``"n_labels"`` and
        ``"mae"``.
    ax : matplotlib.axes.Axes or None, default=None
        Where to draw; None makes a new figure.
    unit : str, default=""
        Unit of the error, for the label.

    Returns
    -------
    matplotlib.axes.Axes
    """
    _warn("plot_label_efficiency", "LabelEfficiencyDisplay.from_results")
    return LabelEfficiencyDisplay.from_results(frame, unit=unit, ax=ax).ax_
