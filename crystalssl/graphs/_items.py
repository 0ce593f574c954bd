"""Collections: what users pass as X becomes a list of items."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, ValuesView
from typing import Any

import numpy as np

from crystalssl.exceptions import NotACrystalError

__all__ = ["as_items"]

_ACCEPTED = (
    "a list, tuple, generator, Series, one-column DataFrame or 1-D object array of pymatgen Structures, ASE or jarvis "
    "Atoms, dicts or paths"
)


def as_items(X: Any) -> list[Any]:
    """Return the items of any accepted container as a list, or raise NotACrystalError.

    A pymatgen Structure is itself a sequence (of sites), so that ``np.array([s1, s2], dtype=object)`` makes a 2-D array
    of sites and a bare Structure looks like many samples. Both are refused here.
    """
    is_series = hasattr(X, "to_list")  # of pandas or polars
    is_frame = hasattr(X, "columns") and hasattr(X, "shape")
    if not (is_series or is_frame) and _is_single(X):  # a label of theirs may be "sites"
        raise NotACrystalError(f"X is a single {type(X).__name__}; expected {_ACCEPTED}. Wrap it in a list: [X].")
    if is_frame:
        if X.shape[1] != 1:
            raise NotACrystalError(
                f"X is a DataFrame with {X.shape[1]} columns; pass the one column that holds the crystals."
            )
        X = X.iloc[:, 0] if hasattr(X, "iloc") else X.to_series()
    if isinstance(X, np.ndarray):
        if X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]
        if X.ndim != 1:
            hint = ""
            if X.dtype == object and X.size and type(X.flat[0]).__name__ == "PeriodicSite":
                hint = " It holds sites: numpy took each Structure for a sequence. Pass a list of structures instead."
                hint += " Within an estimator that makes a table of X, such as bagging, pass a one-column DataFrame."
            raise NotACrystalError(f"X is an array of shape {X.shape}; expected {_ACCEPTED}.{hint}")
        return list(X)
    if is_series or is_frame or isinstance(X, (Sequence, Iterator, ValuesView)):
        return list(X)
    hint = " Pass its values: list(X.values())." if isinstance(X, dict) else " Make it a list: list(X)."
    raise NotACrystalError(f"X is of type {type(X).__name__}; expected {_ACCEPTED}.{hint * hasattr(X, '__iter__')}")


def _is_single(X: Any) -> bool:
    # Duck typing keeps ASE and jarvis optional and spares an import of pymatgen for people who pass paths.
    return (
        isinstance(X, (str, bytes, os.PathLike))
        or any(hasattr(X, name) for name in ("sites", "get_atomic_numbers", "lattice_mat", "read"))
        or (isinstance(X, dict) and not {"sites", "lattice_mat"}.isdisjoint(X))
    )
