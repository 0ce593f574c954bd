"""Containers of predictions: arrays, or frames of pandas and polars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["CONTAINERS"]


def _as_array(values: np.ndarray, names: Sequence[Any], X: Any) -> np.ndarray:
    return values


def _as_pandas(values: np.ndarray, names: Sequence[Any], X: Any) -> Any:
    import pandas as pd

    index = X.index if hasattr(X, "iloc") else None  # a list has an index too, which is a method
    return pd.DataFrame(values.reshape(len(values), -1), columns=[*names], index=index)


def _as_polars(values: np.ndarray, names: Sequence[Any], X: Any) -> Any:
    import polars as pl

    columns = values.reshape(len(values), -1).T
    return pl.DataFrame({str(name): column.tolist() for name, column in zip(names, columns, strict=True)})


CONTAINERS: dict[str, Callable[[np.ndarray, Sequence[Any], Any], Any]] = {
    "default": _as_array,
    "pandas": _as_pandas,
    "polars": _as_polars,
}
"""By the names of scikit-learn's `set_output`: functions of predictions, names of their columns, and X."""
