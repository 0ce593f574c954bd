"""Rows of different lengths, end to end in one array."""

from __future__ import annotations

import numpy as np

__all__ = ["concatenate_ranges", "offsets_of"]


def concatenate_ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return ``[s, s+1, …, s+l-1]`` for every (s, l), end to end, without a Python loop."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - lengths), lengths)


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Return where each row starts, and at the end where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
