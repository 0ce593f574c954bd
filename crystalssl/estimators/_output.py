"""Containers of predictions: arrays, or frames of pandas and polars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["PredictionOutput"]


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


class PredictionOutput:
    """Base class of estimators whose predictions may be frames."""

    def set_output(self, *, predict: str | None = None) -> Any:
        """Choose what predictions come in, as scikit-learn's `set_output` does for transformers.

        Parameters
        ----------
        predict : {"default", "pandas", "polars"} or None, default=None
            Whether :meth:`predict` returns arrays, or frames with the columns `target_names_`; frames of pandas have
            the index of X, if that is a series or frame. None leaves the choice as it is. A clone keeps it,
            and so does a stored model.

        Returns
        -------
        self
        """
        if predict is not None:
            if predict not in CONTAINERS:
                raise ValueError(f"predict must be one of {sorted(CONTAINERS)}, got {predict!r}")
            self._sklearn_output_config = {"predict": predict}
        return self

    def _as_output(self, values: np.ndarray, names: Sequence[Any], X: Any) -> Any:
        """Return predictions in the container that `set_output` chose."""
        config = getattr(self, "_sklearn_output_config", {})
        return CONTAINERS[config.get("predict", "default")](values, names, X)
