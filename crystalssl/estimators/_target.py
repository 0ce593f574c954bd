"""Targets, brought to numbers that a network can learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

__all__ = ["ClassCodes", "TargetScaler", "check_classes", "check_y"]


def check_y(y: Any, n_crystals: int) -> np.ndarray:
    """Return y as float64 of shape (n_crystals, n_targets), or raise a ValueError that names the item."""
    if y is None:
        raise ValueError("the target y is None; training requires y to be passed")
    if getattr(getattr(y, "dtype", None), "kind", "") == "c":
        raise ValueError("Complex data not supported: y holds complex numbers")
    try:
        values = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        items = np.asarray(y, dtype=object)
        for place in np.ndindex(items.shape):
            try:
                np.asarray(items[place], dtype=np.float64)
            except (TypeError, ValueError):
                raise ValueError(f"y[{', '.join(map(str, place))}] is {items[place]!r}, not a number") from error
        raise ValueError(f"y is not numeric: {error}") from error
    if values.ndim not in (1, 2) or 0 in values.shape[1:]:
        raise ValueError(f"y has shape {values.shape}; expected (n_crystals,) or (n_crystals, n_targets)")
    if len(values) != n_crystals:
        raise ValueError(f"X holds {n_crystals} crystals but y has {len(values)} values; they must be of equal length")
    if not np.isfinite(values).all():
        where = tuple(np.argwhere(~np.isfinite(values))[0].tolist())
        raise ValueError(
            f"y[{', '.join(map(str, where))}] is {values[where]}; leave out the crystals without a finite value"
        )
    return values.reshape(n_crystals, -1)


class TargetScaler:
    """Standardise each target, after taking its logarithm if that is asked for.

    Parameters
    ----------
    transform : {"auto", "log", None}
        "auto" takes the logarithm of a target whose values are all positive and span more than a decade between their
        5th and 95th percentiles.
    """

    def __init__(self, transform: str | None):
        self.transform = transform

    def fit(self, y: np.ndarray, rows: np.ndarray | slice = slice(None)) -> TargetScaler:
        """Learn the scale from the training rows of targets of shape (n_crystals, n_targets).

        Of the other rows, which are held out, no more is asked than whether they have a logarithm.
        """
        if self.transform == "log":
            self._check_positive(y, np.ones(y.shape[1], dtype=bool))
        positive = (y > 0).all(axis=0)
        y = y[rows]
        if self.transform == "auto":
            low, high = np.quantile(y, [0.05, 0.95], axis=0)
            self.log_ = positive & (high > 10 * low)
        else:
            self.log_ = np.full(y.shape[1], self.transform == "log")
        logged = self._log(y)
        self.mean_ = logged.mean(axis=0)
        scale = logged.std(axis=0)
        # A constant target is its mean; dividing by zero would make it NaN.
        self.scale_ = np.where(scale > 1e-12 * abs(logged).max(axis=0), scale, 1.0)
        self.n_outputs_ = y.shape[1]
        return self

    @staticmethod
    def _check_positive(y: np.ndarray, logged: np.ndarray) -> None:
        wrong = (y <= 0) & logged
        if wrong.any():
            index, target = np.argwhere(wrong)[0].tolist()
            name = f"y[{index}]" if y.shape[1] == 1 else f"y[{index}, {target}]"
            raise ValueError(
                f"{name} is {y[index, target]}, which has no logarithm; leave it out or learn without, with "
                "target_transform=None"
            )

    def _log(self, y: np.ndarray) -> np.ndarray:
        return np.where(self.log_, np.log(np.where(self.log_, y, 1.0)), y)

    def scale(self, y: np.ndarray) -> np.ndarray:
        """Return what the network learns, float32; a ValueError names a target that has no logarithm but needs it."""
        if y.shape[1] != self.n_outputs_:
            raise ValueError(
                f"y has {y.shape[1]} targets but the last fit had {self.n_outputs_}; warm_start=True goes on with "
                "the same targets"
            )
        self._check_positive(y, self.log_)
        return ((self._log(y) - self.mean_) / self.scale_).astype(np.float32)

    def restore(self, scaled: np.ndarray) -> np.ndarray:
        """Return what the user knows, float64."""
        y = scaled.astype(np.float64) * self.scale_ + self.mean_
        return np.where(self.log_, np.exp(np.where(self.log_, y, 0.0)), y)


def check_classes(y: Any, n_crystals: int) -> np.ndarray:
    """Return y as labels of shape (n_crystals,), or raise a ValueError that says what is wrong."""
    if y is None:
        raise ValueError("the target y is None; training requires y to be passed")
    labels = column_or_1d(y, warn=True)
    if len(labels) != n_crystals:
        raise ValueError(f"X holds {n_crystals} crystals but y has {len(labels)} labels; they must be of equal length")
    missing = [i for i, label in enumerate(labels) if label is None or label != label]
    if missing:
        raise ValueError(f"y[{missing[0]}] is {labels[missing[0]]}, no class; leave out the crystals without one")
    check_classification_targets(labels)
    return labels


class ClassCodes:
    """Classes as numbers from 0, and outputs of a network as their probabilities."""

    def fit(self, y: np.ndarray, rows: np.ndarray | slice = slice(None)) -> ClassCodes:
        """Learn which classes there are, the held-out crystals' among them."""
        self.encoder_ = LabelEncoder().fit(y)
        self.n_outputs_ = len(self.encoder_.classes_)
        present = np.unique(y[rows]).tolist()
        if len(present) < 2:
            raise ValueError(f"y holds one class only, {present[0]!r}; a classifier needs at least two to train on")
        return self

    def scale(self, y: np.ndarray) -> np.ndarray:
        """Return the codes of the classes, int64, of shape (n_crystals,)."""
        unknown = np.setdiff1d(y, self.encoder_.classes_)
        if len(unknown):
            raise ValueError(
                f"y holds {unknown.tolist()[0]!r}, which the last fit has not seen; warm_start=True goes on with the "
                "same classes"
            )
        return self.encoder_.transform(y).astype(np.int64)

    def restore(self, outputs: np.ndarray) -> np.ndarray:
        """Return probabilities, float64, of shape (n_crystals, n_classes)."""
        return softmax(outputs.astype(np.float64), axis=1)
