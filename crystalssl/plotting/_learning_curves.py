"""Losses by epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from crystalssl.plotting._axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELS = {"train_loss": "training", "valid_loss": "validation"}


def plot_learning_curves(history: Iterable[Mapping[str, Any]] | Any, ax: Axes | None = None) -> Axes:
    """Plot the training loss, and the validation loss where there is one, against the epoch.

    Parameters
    ----------
    history : estimator or iterable of dict
        A fitted :class:`~crystalssl.CrystalSSLRegressor` or :class:`~crystalssl.PretrainedCrystalEmbedder`, or its
        ``history_``.
    ax : matplotlib.axes.Axes or None, default=None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With a line for each loss.

    Raises
    ------
    ValueError
        If nothing was trained, as when an embedder only loads weights.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from crystalssl import CrystalSSLRegressor
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.plotting import plot_learning_curves
    >>> X, y = load_prototypes(return_X_y=True)
    >>> model = CrystalSSLRegressor(pretrain=None, max_epochs=3, early_stopping=True, random_state=0)
    >>> ax = plot_learning_curves(model.fit(X[:40], y[:40]))
    >>> [line.get_label() for line in ax.lines]
    ['training', 'validation']
    """
    epochs = list(getattr(history, "history_", history))
    if not epochs:
        raise ValueError("there is no epoch to plot: history_ is empty where weights were loaded and nothing trained")
    ax = axes_or_new(ax)
    for key, label in _LABELS.items():
        points = [(epoch["epoch"], epoch[key]) for epoch in epochs if key in epoch]
        if points:
            # A single epoch has no line, so it gets a marker.
            ax.plot(*zip(*points, strict=True), label=label, marker="o" if len(points) == 1 else "")
    ax.set(xlabel="epoch", ylabel="loss")
    ax.locator_params(axis="x", integer=True)
    ax.legend()
    return ax
