"""Losses by epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from crystalssl._steps import split
from crystalssl.plotting._display import Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["TrainingHistoryDisplay"]

_LABELS = {"train_loss": "training", "valid_loss": "validation"}


class TrainingHistoryDisplay(Display):
    """Training loss, and validation loss where there is one, by epoch.

    Made by :meth:`from_estimator` or :meth:`from_history`.

    Parameters
    ----------
    histories : list of list of dict
        Epochs of each network of an ensemble, with the keys "epoch", "train_loss" and maybe "valid_loss".

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the lines.
    figure_ : matplotlib.figure.Figure
        Their figure.
    lines_ : list of matplotlib.lines.Line2D
        One for each loss of each network.
    """

    def __init__(self, *, histories: list[list[Mapping[str, Any]]]):
        self.histories = histories

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Axes | None = None) -> TrainingHistoryDisplay:
        """Draw the training of an estimator.

        Parameters
        ----------
        estimator : CrystalSSLRegressor, CrystalSSLClassifier, PretrainedCrystalEmbedder or Pipeline
            Fitted. Of a Pipeline the last step that was trained by epochs.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        TrainingHistoryDisplay

        Raises
        ------
        TypeError
            If nothing in the estimator has epochs, or is fitted.
        ValueError
            If nothing was trained, as when an embedder only loads weights.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("Agg")
        >>> from crystalssl import CrystalSSLRegressor
        >>> from crystalssl.datasets import load_prototypes
        >>> from crystalssl.plotting import TrainingHistoryDisplay
        >>> X, y = load_prototypes(return_X_y=True)
        >>> model = CrystalSSLRegressor(pretrain=None, max_epochs=3, early_stopping=True, random_state=0)
        >>> display = TrainingHistoryDisplay.from_estimator(model.fit(X[:40], y[:40]))
        >>> [line.get_label() for line in display.lines_]
        ['training', 'validation']
        """
        steps, last = split(estimator)
        trained = [step for step in (*steps, last) if hasattr(step, "history_")]
        if not trained:
            raise TypeError(f"{type(last).__name__} has no history_; give a fitted estimator that trains by epochs")
        networks = [list(net.history) for net in getattr(trained[-1], "nets_", []) if getattr(net, "history", None)]
        return cls._checked(networks if len(networks) > 1 else [trained[-1].history_], ax)

    @classmethod
    def from_history(cls, history: Iterable[Mapping[str, Any]], *, ax: Axes | None = None) -> TrainingHistoryDisplay:
        """Draw a history.

        Parameters
        ----------
        history : iterable of dict
            An estimator's ``history_``.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        TrainingHistoryDisplay

        Raises
        ------
        ValueError
            If there is no epoch, or an epoch has no loss.
        """
        return cls._checked([list(history)], ax)

    @classmethod
    def _checked(cls, histories: list[list[Any]], ax: Axes | None) -> TrainingHistoryDisplay:
        for history in histories:
            if not history:
                raise ValueError(
                    "there is no epoch to plot: history_ is empty where weights were loaded and nothing trained"
                )
            for epoch in history:
                if "epoch" not in epoch or "train_loss" not in epoch:
                    raise ValueError(f"an epoch must have 'epoch' and 'train_loss'; this one has {sorted(epoch)}")
        return cls(histories=histories).plot(ax)

    def _draw(self, ax: Axes) -> None:
        self.lines_ = []
        alpha = 1.0 if len(self.histories) == 1 else 0.6
        for member, history in enumerate(self.histories):
            for color, (key, label) in zip(("C0", "C1"), _LABELS.items(), strict=True):
                points = [(epoch["epoch"], epoch[key]) for epoch in history if key in epoch]
                if not points:
                    continue
                # A single epoch has no line, so it gets a marker.
                marker = "o" if len(points) == 1 else ""
                # One entry in the legend for all networks of an ensemble.
                label = label if member == 0 else f"_{label}"
                x, y = zip(*points, strict=True)
                self.lines_ += ax.plot(x, y, color=color, label=label, marker=marker, alpha=alpha)
        ax.set(xlabel="epoch", ylabel="loss")
        ax.locator_params(axis="x", integer=True)
        ax.legend()
