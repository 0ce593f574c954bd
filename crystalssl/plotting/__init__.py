"""Pictures of what estimators learnt and predict, in the style of scikit-learn's displays.

A display is made by a class method, ``from_estimator`` or one that takes numbers. It draws on ``ax=`` or on a new
figure, and holds what it has drawn. Estimators may be Pipelines or searches. matplotlib is loaded when something is
drawn.
"""

from crystalssl.plotting._calibration import IntervalCalibrationDisplay
from crystalssl.plotting._contributions import AtomContributionsDisplay
from crystalssl.plotting._deprecated import plot_label_efficiency, plot_learning_curves, plot_predictions
from crystalssl.plotting._embedding import EmbeddingDisplay
from crystalssl.plotting._history import TrainingHistoryDisplay
from crystalssl.plotting._label_efficiency import LabelEfficiencyDisplay
from crystalssl.plotting._map import write_map
from crystalssl.plotting._parity import ParityDisplay
from crystalssl.plotting._periodic_table import PeriodicTableDisplay
from crystalssl.plotting._sparsification import SparsificationDisplay

__all__ = [
    "AtomContributionsDisplay",
    "EmbeddingDisplay",
    "IntervalCalibrationDisplay",
    "LabelEfficiencyDisplay",
    "ParityDisplay",
    "PeriodicTableDisplay",
    "SparsificationDisplay",
    "TrainingHistoryDisplay",
    "plot_label_efficiency",
    "plot_learning_curves",
    "plot_predictions",
    "write_map",
]
