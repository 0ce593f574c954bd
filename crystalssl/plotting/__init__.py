"""Figures of what the estimators learnt. matplotlib is loaded when a function is called."""

from crystalssl.plotting._label_efficiency import plot_label_efficiency
from crystalssl.plotting._learning_curves import plot_learning_curves
from crystalssl.plotting._predictions import plot_predictions

__all__ = ["plot_label_efficiency", "plot_learning_curves", "plot_predictions"]
