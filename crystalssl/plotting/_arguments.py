"""What pictures are made of, checked: vectors of numbers, and estimators, which may be at the end of a Pipeline."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted

from crystalssl._steps import split
from crystalssl.graphs import CrystalCorpus, CrystalGraphs
from crystalssl.graphs._arrays import CrystalArrays
from crystalssl.graphs._given import as_graphs
from crystalssl.graphs._structures import crystal_arrays

__all__ = [
    "Known",
    "check_fitted",
    "check_numbers",
    "check_pair",
    "check_std",
    "crystals_of",
    "elements_of_each",
    "known_of",
    "last_step",
    "target_of",
]


def check_numbers(name: str, values: Any, n: int | None = None) -> np.ndarray:
    """Return a vector of finite numbers, of length `n` if that is given, or raise a ValueError that says the name."""
    try:
        numbers = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a vector of numbers; got a {type(values).__name__}: {error}") from error
    if numbers.ndim == 2 and numbers.shape[1] == 1:
        numbers = numbers[:, 0]
    if numbers.ndim != 1 or numbers.size == 0:
        raise ValueError(f"{name} has shape {numbers.shape}; expected a vector, so draw one target at a time")
    if n is not None and len(numbers) != n:
        raise ValueError(f"{name} has {len(numbers)} values, expected {n}, one for each crystal")
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise ValueError(f"{name} is {numbers[row]} at position {row}; leave out what is not known")
    return numbers


def check_pair(y_true: Any, y_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return true and predicted values, two vectors of equal length."""
    y_true, y_pred = np.asarray(y_true, dtype=float), np.asarray(y_pred, dtype=float)
    if y_true.shape != y_pred.shape or y_true.ndim != 1 or y_true.size == 0:
        raise ValueError(
            f"y_true has shape {y_true.shape} and y_pred {y_pred.shape}; expected two vectors of equal length, so plot "
            "one target at a time"
        )
    return check_numbers("y_true", y_true), check_numbers("y_pred", y_pred)


def check_std(y_std: Any, n: int) -> np.ndarray:
    """Return standard deviations, a vector of `n` numbers that are not negative."""
    y_std = check_numbers("y_std", y_std, n)
    if (y_std < 0).any():
        raise ValueError(f"y_std is negative, {y_std.min():.3g} at position {int(y_std.argmin())}")
    return y_std


def last_step(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Return the last step of a Pipeline, and X as the steps before make it."""
    steps, last = split(estimator)
    check_fitted(last)
    for step in steps:
        X = step.transform(X)
    return last, X


def check_fitted(estimator: Any) -> None:
    """Raise TypeError for what is no estimator, NotFittedError for one that is not fitted."""
    if not hasattr(estimator, "fit"):
        raise TypeError(f"expected a fitted estimator or a Pipeline that ends in one; got a {type(estimator).__name__}")
    check_is_fitted(split(estimator)[1])


class Known(NamedTuple):
    """One target of some crystals, of those whose true value is known."""

    name: str  # empty for a target without a name
    unit: str
    truth: np.ndarray
    rows: np.ndarray
    column: int
    shape: tuple[int, ...]

    def of(self, predicted: Any) -> np.ndarray:
        """Return the same of predictions, or of what belongs to them."""
        array = _two_axes(predicted)
        if array.shape != self.shape:
            raise ValueError(f"y has shape {self.shape}, but predictions have {array.shape}; is y that of X?")
        return array[self.rows, self.column]


def known_of(estimator: Any, y: Any, target: str | int | None) -> Known:
    """Return the true values of one target.

    Parameters
    ----------
    estimator : estimator
        Whose targets have names.
    y : array-like of shape (n_crystals,) or (n_crystals, n_targets)
        True values, NaN where not known. Columns of a frame are found by name, if the estimator knows names.
    target : str, int or None
        Name or number of a target; None where there is one.
    """
    if y is None:
        raise ValueError("y is None; true values are needed to compare predictions with")
    last = split(estimator)[1]
    values = _in_order(y, getattr(last, "target_names_", None))
    names = list(getattr(last, "target_names_", ["y"] if values.shape[1] == 1 else map(str, range(values.shape[1]))))
    if len(names) != values.shape[1]:
        raise ValueError(f"y has {values.shape[1]} targets, the estimator {len(names)}: {', '.join(names)}")
    column, name, unit = target_of(last, names, target)
    rows = np.flatnonzero(~np.isnan(values[:, column]))
    if not len(rows):
        raise ValueError(f"of the target {names[column]!r} no value is known")
    return Known(name, unit, values[rows, column], rows, column, values.shape)


def target_of(last: Any, names: list[Any], target: Any) -> tuple[int, str, str]:
    """Return the number of a target of an estimator, its name, empty if it has none of its own, and its unit."""
    column = _column_of(target, names)
    name = names[column]
    units = dict(zip(getattr(last, "target_names_", []), getattr(last, "target_units_", []), strict=True))
    return column, "" if name == "y" else str(name), units.get(name) or ""


def _in_order(y: Any, targets: list[str] | None) -> np.ndarray:
    """Return true values, columns of a frame in the order of an estimator's targets, which None does not name."""
    values = _two_axes(y)
    if targets is None or not hasattr(y, "columns"):
        return values
    from crystalssl.estimators._y import name_targets, nameless

    columns, _ = name_targets(y, values.shape[1])
    if sorted(columns) == sorted(targets):
        return values if columns == targets else values[:, [columns.index(name) for name in targets]]
    # An estimator that was fitted on an array, or a frame without names, has nothing to compare.
    if nameless(len(targets)) != targets and nameless(len(columns)) != columns:
        raise ValueError(
            f"the columns of y are {columns}, the targets of the estimator {targets}; give y these columns"
        )
    return values


def _two_axes(values: Any) -> np.ndarray:
    numbers = np.asarray(values, dtype=float)
    return numbers.reshape(len(numbers), -1) if numbers.ndim == 1 else numbers


def _column_of(target: Any, names: list[Any]) -> int:
    if target is None and len(names) == 1:
        return 0
    if target in names:  # before numbers of columns, for classes may be numbers themselves
        return names.index(target)
    if isinstance(target, int) and not isinstance(target, bool) and 0 <= target < len(names):
        return target
    said = "there are several targets" if target is None else f"there is no target {target!r}"
    raise ValueError(f"{said}; set target to one of {', '.join(map(repr, names))}")


def crystals_of(X: Any) -> list[CrystalArrays]:
    """Return atomic numbers, positions and lattice of each crystal."""
    X = as_graphs(X)
    if isinstance(X, CrystalCorpus):
        X = X.to_graphs()
    if not isinstance(X, CrystalGraphs):
        return [crystal_arrays(item, index) for index, item in enumerate(X)]
    ends = X.atom_offsets[1:-1]
    atoms, positions = np.split(X.atomic_numbers, ends), np.split(X.positions, ends)
    return [CrystalArrays(*arrays) for arrays in zip(atoms, positions, X.lattice, strict=True)]


def elements_of_each(X: Any) -> list[np.ndarray]:
    """Return the atomic numbers that each crystal holds."""
    return [np.unique(crystal.atomic_numbers) for crystal in crystals_of(X)]
