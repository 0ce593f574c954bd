"""Targets, brought to numbers that a network can learn."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from scipy.special import softmax
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from crystalssl.exceptions import NonFiniteError

__all__ = ["ClassCodes", "TargetScaler", "check_classes", "check_y"]

Rows: TypeAlias = np.ndarray | slice
EVERY = slice(None)
LARGEST = 1e300
"""Of a target's magnitude; its inverse is the smallest for targets that vary. Differences and means are finite."""


def _check(y: np.ndarray, rows: Rows, good: np.ndarray, message: str) -> None:
    """Raise a ValueError that names the first target among some rows that is not good."""
    counted = np.zeros(len(y), dtype=bool)
    counted[rows] = True
    wrong = np.argwhere(~good & counted[:, None])
    if len(wrong):
        index, target = wrong[0].tolist()
        name = f"y[{index}]" if y.shape[1] == 1 else f"y[{index}, {target}]"
        raise ValueError(f"{name} is {y[index, target]}, which {message}")


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

    def fit(self, y: np.ndarray, train_rows: Rows = EVERY, rows: Rows = EVERY) -> TargetScaler:
        """Learn the scale of targets of shape (n_crystals, n_targets).

        Parameters
        ----------
        y : ndarray
            Targets.
        train_rows : ndarray of int or slice, default=slice(None)
            Those of which the scale is taken.
        rows : ndarray of int or slice, default=slice(None)
            Those that count. Of one that is held out, no more is asked than whether it has a logarithm.
        """
        _check(y, rows, abs(y) <= LARGEST, f"is too large; give targets in a unit in which none exceeds {LARGEST:g}")
        if self.transform == "log":
            self._check_positive(y, rows, np.ones(y.shape[1], dtype=bool))
        positive, y = (y[rows] > 0).all(axis=0), y[train_rows]
        size = abs(y).max(axis=0)
        # What varies by rounding alone is constant; it is predicted as it is, and has no logarithm to learn.
        constant = np.ptp(y, axis=0) <= 1e-12 * size
        tiny = ~constant & (size < 1 / LARGEST)
        if tiny.any():
            raise ValueError(f"targets are at most {size[tiny][0]:g}; give them in a smaller unit")
        if self.transform == "auto":
            low, high = np.quantile(y, [0.05, 0.95], axis=0)
            self.log_ = positive & (high > 10 * low)
        else:
            self.log_ = np.full(y.shape[1], self.transform == "log")
        self.log_ &= ~constant
        logged = self._log(y)
        # In a unit of about their size, a power of two, squares neither overflow nor vanish, and nothing is rounded.
        unit = np.ldexp(1.0, np.frexp(abs(logged).max(axis=0))[1])
        self.mean_ = np.where(constant, y[0], unit * (logged / unit).mean(axis=0))
        self.scale_ = np.where(constant, 0.0, unit * (logged / unit).std(axis=0))
        self.n_outputs_ = y.shape[1]
        return self

    def go_on(self, y: np.ndarray, train_rows: Rows, rows: Rows) -> TargetScaler:
        """Return the scale for a warm start: the one that was learnt, but for targets that were constant until now."""
        if (self.scale_ > 0).all() or y.shape[1] != self.n_outputs_:
            return self
        new = TargetScaler(self.transform).fit(y, train_rows, rows)
        for name in ("log_", "mean_", "scale_"):
            setattr(new, name, np.where(self.scale_ > 0, getattr(self, name), getattr(new, name)))
        return new

    @staticmethod
    def _check_positive(y: np.ndarray, rows: Rows, logged: np.ndarray) -> None:
        _check(
            y, rows, (y > 0) | ~logged, "has no logarithm; leave it out or learn without, with target_transform=None"
        )

    def _log(self, y: np.ndarray) -> np.ndarray:
        return np.where(self.log_, np.log(np.where(self.log_, y, 1.0)), y)

    def scale(self, y: np.ndarray, rows: Rows = EVERY) -> np.ndarray:
        """Return what the network learns, float32, and NaN in all but some rows.

        A ValueError names a target that has no logarithm but needs it.
        """
        if y.shape[1] != self.n_outputs_:
            raise ValueError(
                f"y has {y.shape[1]} targets but the last fit had {self.n_outputs_}; warm_start=True goes on with "
                "the same targets"
            )
        self._check_positive(y, rows, self.log_)
        scaled = np.full(y.shape, np.nan, np.float32)
        varies = self.scale_ > 0
        deviations = (self._log(y[rows]) - self.mean_) / np.where(varies, self.scale_, 1.0)
        with np.errstate(over="ignore"):
            scaled[rows] = np.where(varies, deviations, 0.0)
        _check(y, rows, ~np.isinf(scaled), "is too far from what the last fit learnt; fit with warm_start=False")
        return scaled

    def restore(self, scaled: np.ndarray) -> np.ndarray:
        """Return what the user knows, float64; a NonFiniteError names a prediction that is too large to be a number."""
        y = scaled.astype(np.float64) * self.scale_ + self.mean_
        with np.errstate(over="ignore"):
            y = np.where(self.log_, np.exp(np.where(self.log_, y, 0.0)), y)
        finite = np.isfinite(y).all(axis=1)
        if not finite.all():
            raise NonFiniteError(
                f"the prediction for item {finite.argmin()} exceeds what float64 holds; the crystal is unlike those of "
                "training, or training diverged: train again, with a lower learning_rate or target_transform=None"
            )
        return y


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

    def fit(self, y: np.ndarray, train_rows: Rows = EVERY, rows: Rows = EVERY) -> ClassCodes:
        """Learn which classes there are in `rows`; at least two must be in those to train on."""
        self.encoder_ = LabelEncoder().fit(y[rows])
        self.n_outputs_ = len(self.encoder_.classes_)
        present = np.unique(y[train_rows]).tolist()
        if len(present) < 2:
            raise ValueError(f"y holds one class only, {present[0]!r}; a classifier needs at least two to train on")
        return self

    def go_on(self, y: np.ndarray, train_rows: Rows, rows: Rows) -> ClassCodes:
        """Return the codes for a warm start: the same."""
        return self

    def scale(self, y: np.ndarray, rows: Rows = EVERY) -> np.ndarray:
        """Return the codes of the classes, int64, of shape (n_crystals,); -1 in all but some rows."""
        unknown = np.setdiff1d(y[rows], self.encoder_.classes_)
        if len(unknown):
            raise ValueError(
                f"y holds {unknown.tolist()[0]!r}, which the last fit has not seen; warm_start=True goes on with the "
                "same classes"
            )
        codes = np.full(len(y), -1)
        codes[rows] = self.encoder_.transform(y[rows])
        return codes

    def restore(self, outputs: np.ndarray) -> np.ndarray:
        """Return probabilities, float64, of shape (n_crystals, n_classes)."""
        return softmax(outputs.astype(np.float64), axis=1)
