"""What scikit-learn and NumPy users put into square brackets."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["rows_of"]


def rows_of(key: Any, n_rows: int) -> int | slice | np.ndarray:
    """Return the rows that an index means, counted from the start.

    Parameters
    ----------
    key : int, slice, index array, boolean mask, or a tuple of one of these and an ellipsis
        As scikit-learn and NumPy index arrays.
    n_rows : int
        How many there are.

    Returns
    -------
    int, slice with a step of 1, or ndarray of int
    """
    if isinstance(key, tuple):  # scikit-learn indexes arrays with (rows, ...)
        if len(key) != 2 or key[1] is not Ellipsis:
            raise IndexError("CrystalGraphs has one axis, the crystals")
        key = key[0]
    if isinstance(key, (int, np.integer)):
        return range(n_rows)[key]
    if isinstance(key, slice):
        start, stop, step = key.indices(n_rows)
        if step == 1:
            return slice(start, max(start, stop))
        key = np.arange(start, stop, step)
    key = np.asarray(key)
    if key.dtype == bool:
        if key.shape != (n_rows,):
            raise IndexError(f"the boolean mask has shape {key.shape}, but there are {n_rows} crystals")
        key = np.flatnonzero(key)
    elif key.size == 0:
        key = key.astype(np.int64)
    if key.ndim != 1 or not np.issubdtype(key.dtype, np.integer):
        raise IndexError("index CrystalGraphs with an integer, a slice, a 1-D integer array or a boolean mask")
    key = key.astype(np.int64, copy=False)  # into few bits negative ones and large numbers of crystals do not fit
    out_of_range = (key < -n_rows) | (key >= n_rows)
    if out_of_range.any():
        raise IndexError(f"index {key[out_of_range][0]} is out of range for {n_rows} crystals")
    return np.where(key < 0, key + n_rows, key)
