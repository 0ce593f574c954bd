"""Records as mappings, in the form that readers take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["without_arrays"]


def without_arrays(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a record with lists where it has arrays of anything, which ``pandas.read_parquet`` makes of lists.

    Examples
    --------
    >>> import numpy as np
    >>> from crystalssl._mappings import without_arrays
    >>> sites = np.array([{"abc": np.array([0.0, 0.5, 0.5])}], dtype=object)
    >>> without_arrays({"sites": sites})
    {'sites': [{'abc': [0.0, 0.5, 0.5]}]}
    """
    if not any(isinstance(value, np.ndarray) and value.dtype == object for value in record.values()):
        return record
    return {name: _lists(value) for name, value in record.items()}


def _lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _lists(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return [_lists(inner) for inner in value] if isinstance(value, list) else value
