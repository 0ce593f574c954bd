"""The scores of one fold, by the formulae of the package ``matbench`` 0.6."""

from __future__ import annotations

import math

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    max_error,
    mean_absolute_error,
    mean_squared_error,
    roc_auc_score,
)

# Targets closer to zero than this are left out of the relative error.
_MAPE_THRESHOLD = 1e-5
# A probability must be above, not at it, to count as true.
_CLASS_THRESHOLD = 0.5


def regression_scores(y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, float]:
    """Return the scores of predicted values.

    Parameters
    ----------
    y_true, y_pred : ndarray of shape (n_crystals,)
        True and predicted values.

    Returns
    -------
    dict of str to float
        ``"mae"``, ``"rmse"``, ``"max_error"`` in the unit of the target; ``"mape"`` is a fraction, over targets whose
        magnitude is above 1e-5.

    Examples
    --------
    >>> import numpy as np
    >>> from crystalssl.matbench._scores import regression_scores
    >>> regression_scores(np.array([0.0, 2.0]), np.array([1.0, 3.0]))
    {'mae': 1.0, 'rmse': 1.0, 'mape': 0.5, 'max_error': 1.0}
    """
    known = np.abs(y_true) > _MAPE_THRESHOLD
    return {
        "mae": float(mean_absolute_error(y_true, y_pred)),
        "rmse": math.sqrt(mean_squared_error(y_true, y_pred)),
        "mape": float(np.mean(np.abs((y_true[known] - y_pred[known]) / y_true[known]))),
        "max_error": float(max_error(y_true, y_pred)),
    }


def classification_scores(y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, float]:
    """Return the scores of predicted classes, or of probabilities of the class True.

    Parameters
    ----------
    y_true : ndarray of shape (n_crystals,), bool
        True classes.
    y_pred : ndarray of shape (n_crystals,), bool or float
        Predicted classes, or probabilities of the class True.

    Returns
    -------
    dict of str to float
        ``"accuracy"``, ``"balanced_accuracy"``, ``"f1"``, ``"rocauc"``.

    Notes
    -----
    Matbench turns probabilities into classes before the first score, and then takes the area under the curve of these
    classes too. So ``"rocauc"`` is not that of the probabilities but equals the balanced accuracy, here as in every
    published result.

    Examples
    --------
    >>> import numpy as np
    >>> from crystalssl.matbench._scores import classification_scores
    >>> classification_scores(np.array([False, True, True]), np.array([0.1, 0.9, 0.5]))["rocauc"]
    0.75
    """
    classes = y_pred if y_pred.dtype == bool else y_pred > _CLASS_THRESHOLD
    return {
        "accuracy": float(accuracy_score(y_true, classes)),
        "balanced_accuracy": float(balanced_accuracy_score(y_true, classes)),
        "f1": float(f1_score(y_true, classes)),
        "rocauc": float(roc_auc_score(y_true, classes)),
    }
