"""What users give as y: checked, and called by its names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _num_samples

__all__ = ["as_numbers", "check_classes", "check_y", "name_targets", "nameless"]


def check_y(y: Any, n_crystals: int, rows: np.ndarray | None = None) -> np.ndarray:
    """Return y as float64 of shape (n_crystals, n_targets), or raise a ValueError that names the item.

    Of several targets some may be missing, NaN, but not all of one crystal.

    Parameters
    ----------
    y : array-like
        Targets.
    n_crystals : int
        How many crystals there are.
    rows : ndarray of int or None, default=None
        Those that count; None is all. The others are not looked at, and their targets are NaN.
    """
    return _checked(y, n_crystals, rows, _check_numbers, np.nan)


def check_classes(y: Any, n_crystals: int, rows: np.ndarray | None = None) -> np.ndarray:
    """Return y as labels of shape (n_crystals,), or raise a ValueError that says what is wrong.

    Of `rows` that count, or all, as in :func:`check_y`. The others have the label of one of these.
    """
    return _checked(y, n_crystals, rows, _check_labels)


def _checked(
    y: Any, n_crystals: int, rows: np.ndarray | None, check: Callable[..., np.ndarray], other: float | None = None
) -> np.ndarray:
    """Return what `check` makes of the rows that count; all others are `other`, or the first that counts."""
    if y is None:
        raise ValueError("the target y is None; training requires y to be passed")
    if rows is None or len(rows) == n_crystals:
        return check(y, n_crystals, None)
    known = check(_take(y, n_crystals, rows), len(rows), rows)
    values = np.full((n_crystals, *known.shape[1:]), known[0] if other is None else other, dtype=known.dtype)
    values[rows] = known
    return values


def _take(y: Any, n_crystals: int, rows: np.ndarray) -> Any:
    """Return some rows of y, in the container that it is in, or raise a ValueError if there are not `n_crystals`."""
    n_given = _num_samples(y)
    if n_given != n_crystals:
        raise ValueError(f"X holds {n_crystals} crystals but y has {n_given} values; they must be of equal length")
    return _safe_indexing(y, rows)


def _check_numbers(y: Any, n_crystals: int, indices: np.ndarray | None) -> np.ndarray:
    if getattr(getattr(y, "dtype", None), "kind", "") == "c":
        raise ValueError("Complex data not supported: y holds complex numbers")
    values = as_numbers(y, indices)
    if values.ndim not in (1, 2) or 0 in values.shape[1:]:
        raise ValueError(f"y has shape {values.shape}; expected (n_crystals,) or (n_crystals, n_targets)")
    if len(values) != n_crystals:
        raise ValueError(f"X holds {n_crystals} crystals but y has {len(values)} values; they must be of equal length")
    several = values.ndim == 2 and values.shape[1] > 1
    wrong = np.isinf(values) if several else ~np.isfinite(values)
    if wrong.any():
        where = tuple(np.argwhere(wrong)[0].tolist())
        raise ValueError(f"{_name(where, indices)} is {values[where]}; leave out the crystals without a finite value")
    values = values.reshape(n_crystals, -1)
    unknown = np.isnan(values).all(axis=1)
    if unknown.any():
        raise ValueError(
            f"{_name([unknown.argmax()], indices)} is nan for all {values.shape[1]} targets; leave out the crystals of "
            "which none is known"
        )
    return values


def _check_labels(y: Any, n_crystals: int, indices: np.ndarray | None) -> np.ndarray:
    labels = column_or_1d(y, warn=True)
    if len(labels) != n_crystals:
        raise ValueError(f"X holds {n_crystals} crystals but y has {len(labels)} labels; they must be of equal length")
    import pandas as pd

    missing = pd.isna(labels)
    if missing.any():
        first = int(missing.argmax())
        raise ValueError(f"{_name([first], indices)} is {labels[first]}, no class; leave out the crystals without one")
    check_classification_targets(labels)
    return labels


def as_numbers(y: Any, indices: np.ndarray | None = None) -> np.ndarray:
    """Return y as float64, NaN where a value is missing, or raise a ValueError that names what is no number.

    For messages, items have `indices`, or are counted.
    """
    try:
        if hasattr(y, "iloc"):  # pandas, which has a missing value of its own
            return y.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        items = np.asarray(y, dtype=object)
        for place in np.ndindex(items.shape):
            try:
                np.asarray(items[place], dtype=np.float64)
            except (TypeError, ValueError):
                raise ValueError(f"{_name(place, indices)} is {items[place]!r}, not a number") from error
        raise ValueError(f"y is not numeric: {error}") from error


def _name(place: Sequence[int], indices: np.ndarray | None) -> str:
    """Return what a message calls an item of y, of which some rows with `indices` were taken, or all."""
    row, *columns = place
    return f"y[{', '.join(map(str, [row if indices is None else indices[row], *columns]))}]"


def name_targets(y: Any, n_targets: int) -> tuple[list[str], list[str | None]]:
    """Return names and units of targets.

    Parameters
    ----------
    y : array-like
        Names are those of the columns of a frame, or of a series, if they are texts; else "y", or "y0", "y1" and so on.
        Units are what ``y.attrs["unit"]`` says: a text, or a mapping from names to texts.
    n_targets : int
        Number of columns.
    """
    names: list[Any] = [getattr(y, "name", None)] if n_targets == 1 else []
    names = [*getattr(y, "columns", names)]
    if len(names) != n_targets or not all(isinstance(name, str) and name for name in names):
        names = nameless(n_targets)
    attrs = getattr(y, "attrs", None)
    unit = attrs.get("unit") if isinstance(attrs, Mapping) else None
    units = [unit.get(name) if isinstance(unit, Mapping) else unit for name in names]
    return names, [None if unit is None else str(unit) for unit in units]


def nameless(n_targets: int) -> list[str]:
    """Return what targets are called that have no names."""
    return ["y"] if n_targets == 1 else [f"y{target}" for target in range(n_targets)]
