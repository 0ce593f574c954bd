"""Targets, brought to numbers that a network can learn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from scipy.special import softmax
from sklearn.preprocessing import LabelEncoder

from crystalssl.estimators._target_per import sizes_of
from crystalssl.exceptions import NonFiniteError
from crystalssl.graphs import CrystalCorpus, CrystalGraphs

__all__ = ["ClassCodes", "TargetScaler"]

Rows: TypeAlias = np.ndarray | slice
EVERY = slice(None)
_MAX_LABEL = 9999  # characters of a class in a model folder
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


def _is_constant(y: np.ndarray) -> np.ndarray:
    """Return which targets vary by rounding alone."""
    return np.nanmax(y, axis=0) - np.nanmin(y, axis=0) <= 1e-12 * np.nanmax(abs(y), axis=0)


class TargetScaler:
    """Standardise each target, after taking its logarithm if that is asked for. Missing values, NaN, stay missing.

    Parameters
    ----------
    transform : {"auto", "log", None}
        "auto" takes the logarithm of a target whose values are all positive and span more than a decade between their
        5th and 95th percentiles.
    names : sequence of str, default=()
        Names of the targets, for messages.
    per : {"atom", "area", "volume"} or None, default=None
        What targets are divided by before.
    """

    names: Sequence[str] = ()  # of what was pickled before there were these parameters
    per: str | None = None

    def __init__(self, transform: str | None, names: Sequence[str] = (), per: str | None = None):
        self.transform = transform
        self.names = names
        self.per = per

    def sizes(self, graphs: CrystalGraphs | CrystalCorpus, indices: np.ndarray) -> np.ndarray:
        """Return what targets are divided by, of shape (n_crystals, 1); for messages, the crystals have `indices`."""
        return sizes_of(graphs, self.per, indices)

    def divide(self, y: np.ndarray, graphs: CrystalGraphs | CrystalCorpus, rows: np.ndarray) -> np.ndarray:
        """Return targets divided by the sizes of the crystals, in some rows; in the others they are as they were."""
        if self.per is None:
            return y
        y = y.copy()
        y[rows] /= self.sizes(graphs[rows], rows)
        return y

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
        _check(y, rows, ~(abs(y) > LARGEST), f"is too large; give targets in a unit in which none exceeds {LARGEST:g}")
        if self.transform == "log":
            self._check_positive(y, rows, np.ones(y.shape[1], dtype=bool))
        positive, y = ~(y[rows] <= 0).any(axis=0), y[train_rows]
        self._check_known(y)
        size = np.nanmax(abs(y), axis=0)
        constant = _is_constant(y)  # which is predicted as it is, and has no logarithm to learn
        tiny = ~constant & (size < 1 / LARGEST)
        if tiny.any():
            raise ValueError(f"targets are at most {size[tiny][0]:g}; give them in a smaller unit")
        if self.transform == "auto":
            low, high = np.nanquantile(y, [0.05, 0.95], axis=0)
            self.log_ = positive & (high > 10 * low)
        else:
            self.log_ = np.full(y.shape[1], self.transform == "log")
        self.log_ &= ~constant
        return self._measure(y, constant)

    def of_rows(self, y: np.ndarray, train_rows: Rows) -> TargetScaler:
        """Return the scale of some rows, with the logarithms that this one takes."""
        new = TargetScaler(self.transform, self.names, self.per)
        new.log_ = self.log_
        self._check_known(y[train_rows])
        return new._measure(y[train_rows], _is_constant(y[train_rows]))

    def _measure(self, y: np.ndarray, constant: np.ndarray) -> TargetScaler:
        """Learn means and deviations of targets, of their logarithms where these are taken."""
        logged = self._log(y)
        # In a unit of about their size, a power of two, squares neither overflow nor vanish, and nothing is rounded.
        unit = np.ldexp(1.0, np.frexp(np.nanmax(abs(logged), axis=0))[1])
        first = logged[np.isnan(y).argmin(axis=0), np.arange(y.shape[1])]
        self.mean_ = np.where(constant, first, unit * np.nanmean(logged / unit, axis=0))
        self.scale_ = np.where(constant, 0.0, unit * np.nanstd(logged / unit, axis=0))
        self.n_outputs_ = y.shape[1]
        return self

    def to_config(self) -> dict[str, Any]:
        """Return what was learnt as JSON values."""
        learnt = {name: getattr(self, name + "_").tolist() for name in ("log", "mean", "scale")}
        return {"transform": self.transform, "names": [*self.names], "per": self.per, **learnt}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TargetScaler:
        """Return what :meth:`to_config` describes."""
        scaler = cls(config["transform"], config["names"], config["per"])
        scaler.log_ = np.array(config["log"], dtype=bool)
        scaler.mean_, scaler.scale_ = (np.array(config[name], dtype=np.float64) for name in ("mean", "scale"))
        scaler.n_outputs_ = len(scaler.log_)
        if not (scaler.log_.ndim == 1 and scaler.log_.shape == scaler.mean_.shape == scaler.scale_.shape):
            raise ValueError(f"the scale of the targets is not one number for each: {config}")
        return scaler

    def describe(self, y: np.ndarray) -> dict[str, Any]:
        """Return how many values of each target there are, and their range, as JSON values."""
        known = [column[~np.isnan(column)] for column in y.T]
        return {
            "n_known": [len(values) for values in known],
            "range": [[float(values.min()), float(values.max())] for values in known],
        }

    def go_on(self, y: np.ndarray, train_rows: Rows, rows: Rows) -> TargetScaler:
        """Return the scale for a warm start: the one that was learnt, but for targets that were constant until now."""
        if y.shape[1] != self.n_outputs_:
            raise ValueError(
                f"y has {y.shape[1]} targets but the last fit had {self.n_outputs_}; warm_start=True goes on with "
                "the same targets"
            )
        self._check_known(y[train_rows])
        if (self.scale_ > 0).all():
            return self
        new = TargetScaler(self.transform, self.names, self.per).fit(y, train_rows, rows)
        for name in ("log_", "mean_", "scale_"):
            setattr(new, name, np.where(self.scale_ > 0, getattr(self, name), getattr(new, name)))
        return new

    def _check_known(self, y: np.ndarray) -> None:
        unknown = np.isnan(y).all(axis=0)
        if unknown.any():
            target = int(unknown.argmax())
            name = f"the target {self.names[target]!r}, " if self.names else ""
            raise ValueError(
                f"{name}y[:, {target}], is nan for all {len(y)} crystals to train on; leave it out, or add crystals of "
                "which it is known"
            )

    @staticmethod
    def _check_positive(y: np.ndarray, rows: Rows, logged: np.ndarray) -> None:
        _check(
            y, rows, ~(y <= 0) | ~logged, "has no logarithm; leave it out or learn without, with target_transform=None"
        )

    def _log(self, y: np.ndarray) -> np.ndarray:
        return np.where(self.log_, np.log(np.where(self.log_, y, 1.0)), y)

    def scale(self, y: np.ndarray, rows: Rows = EVERY) -> np.ndarray:
        """Return what the network learns, float32, and NaN where a target is missing and in all but some rows.

        A ValueError names a target that has no logarithm but needs it.
        """
        self._check_positive(y, rows, self.log_)
        scaled = np.full(y.shape, np.nan, np.float32)
        varies = self.scale_ > 0
        deviations = (self._log(y[rows]) - self.mean_) / np.where(varies, self.scale_, 1.0)
        with np.errstate(over="ignore"):
            scaled[rows] = np.where(varies | np.isnan(deviations), deviations, 0.0)
        _check(y, rows, ~np.isinf(scaled), "is too far from what the last fit learnt; fit with warm_start=False")
        return scaled

    def learnt(self, y: np.ndarray) -> np.ndarray:
        """Return targets that were divided by sizes on the scale that is learnt, before it is standardised."""
        return self._log(y)

    def unscale(self, scaled: np.ndarray) -> np.ndarray:
        """Return outputs of a network, float64, no longer standardised but still divided and in logarithm."""
        return scaled.astype(np.float64) * self.scale_ + self.mean_

    def to_unit(self, y: np.ndarray, sizes: np.ndarray | float = 1.0) -> np.ndarray:
        """Return what :meth:`unscale` returned in the user's unit.

        A NonFiniteError names a prediction that is too large to be a number.
        """
        with np.errstate(over="ignore"):
            y = np.where(self.log_, np.exp(np.where(self.log_, y, 0.0)), y) * sizes
        finite = np.isfinite(y).all(axis=1)
        if not finite.all():
            raise NonFiniteError(
                f"the prediction for item {finite.argmin()} exceeds what float64 holds; the crystal is unlike those of "
                "training, or training diverged: train again, with a lower learning_rate or target_transform=None"
            )
        return y


class ClassCodes:
    """Classes as numbers from 0, and outputs of a network as their probabilities. A class has no size."""

    temperature = 1.0
    """What outputs are divided by."""

    def sizes(self, graphs: CrystalGraphs | CrystalCorpus, indices: np.ndarray) -> np.ndarray:
        """Return 1 for each crystal."""
        return sizes_of(graphs, None, indices)

    def divide(self, y: np.ndarray, graphs: CrystalGraphs | CrystalCorpus, rows: np.ndarray) -> np.ndarray:
        """Return the classes."""
        return y

    def fit(self, y: np.ndarray, train_rows: Rows = EVERY, rows: Rows = EVERY) -> ClassCodes:
        """Learn which classes there are in `rows`; at least two must be in those to train on."""
        self.encoder_ = LabelEncoder().fit(y[rows])
        self.n_outputs_ = len(self.encoder_.classes_)
        present = np.unique(y[train_rows]).tolist()
        if len(present) < 2:
            raise ValueError(f"y holds one class only, {present[0]!r}; a classifier needs at least two to train on")
        return self

    def to_config(self) -> dict[str, Any]:
        """Return the classes as JSON values."""
        classes = self.encoder_.classes_
        if classes.dtype.kind not in "biufUO" or not all(
            isinstance(x, (bool, int, float, str)) for x in classes.tolist()
        ):
            raise ValueError(f"classes of the type {classes.dtype} cannot be stored; use texts or numbers")
        return {"dtype": classes.dtype.str, "classes": classes.tolist(), "temperature": self.temperature}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ClassCodes:
        """Return what :meth:`to_config` describes."""
        classes, dtype = config["classes"], config["dtype"]
        longest = max((len(label) for label in classes if isinstance(label, str)), default=0)
        if not re.fullmatch(r"[<>|=]?(b1|[iu][1248]|f[248]|O|U\d{1,4})", dtype) or longest > _MAX_LABEL:
            raise ValueError(f"{dtype!r} is no type of classes that could be stored")
        codes = cls()
        codes.encoder_ = LabelEncoder()
        codes.encoder_.classes_ = np.array(classes, dtype=dtype)
        codes.n_outputs_ = len(classes)
        codes.temperature = config.get("temperature", 1.0)  # files of earlier versions do not say
        if codes.encoder_.classes_.tolist() != classes:
            raise ValueError(f"the classes {classes} are not of the type {dtype!r}")
        return codes

    def describe(self, y: np.ndarray) -> dict[str, Any]:
        """Return how many crystals of each class there are, as JSON values."""
        classes, counts = np.unique(y, return_counts=True)
        return {"n_of_class": [[label, count] for label, count in zip(classes.tolist(), counts.tolist(), strict=True)]}

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

    def of_rows(self, y: np.ndarray, train_rows: Rows) -> ClassCodes:
        """Return the codes for some rows, the same; at least two classes must be in them."""
        if len(np.unique(y[train_rows])) < 2:
            raise ValueError(
                "a part of the crystals that is left out holds all of a class, which leaves one class to train on; add "
                "crystals of it, leave it out, or set ensemble='seeds'"
            )
        return self

    def learnt(self, y: np.ndarray) -> np.ndarray:
        """Return the codes of the classes."""
        return self.encoder_.transform(y)

    def unscale(self, outputs: np.ndarray) -> np.ndarray:
        """Return outputs of a network as float64."""
        return outputs.astype(np.float64)

    def to_unit(self, outputs: np.ndarray, sizes: np.ndarray | float = 1.0) -> np.ndarray:
        """Return probabilities, float64, of shape (n_crystals, n_classes)."""
        return softmax(outputs / self.temperature, axis=1)
