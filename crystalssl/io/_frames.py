"""Tables in memory: pandas and polars DataFrames and Series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from crystalssl.exceptions import DatasetError
from crystalssl.io._records import IDS, Records
from crystalssl.io._rows import Row, Wanted

__all__ = ["columns_of", "is_frame", "read_frame"]

_PEEKED = 20


def is_frame(source: Any) -> bool:
    """Whether something is a DataFrame of pandas or polars, lazy or not."""
    is_lazy = hasattr(source, "collect") and hasattr(source, "with_columns")
    return is_lazy or (any(hasattr(source, name) for name in ("iloc", "iter_rows")) and hasattr(source, "columns"))


def read_frame(frame: Any, wanted: Wanted) -> Iterator[Row]:
    """Read the rows of a DataFrame, a part at a time. The index of pandas gives the ids where no column does."""
    names = [str(name) for name in frame.columns]
    for name, count in Counter(names).items():
        if count > 1:
            raise DatasetError(f"{count} columns of the DataFrame are called {name!r}; give each its own name.")
    wanted.check(names, "the DataFrame")
    records = Records(wanted, None)
    has_ids = wanted.id is not None or any(name in names for name in IDS)
    for start in range(0, len(frame), wanted.chunk_size):
        stop = start + wanted.chunk_size
        part = frame.iloc[start:stop] if hasattr(frame, "iloc") else frame[start:stop]
        labels = part.index.tolist() if hasattr(frame, "iloc") else list(range(start, start + len(part)))
        rows = [dict(zip(names, row, strict=True)) for row in zip(*(x for _, x in columns_of(part)), strict=True)]
        if not start:
            records.choose(rows[:_PEEKED])
        for number, (row, label) in enumerate(zip(rows, labels, strict=True), start):
            yield records.row(row, number, None if has_ids else str(label))


def columns_of(frame: Any) -> list[tuple[Any, list[Any]]]:
    """Return the columns of a DataFrame: their names and values."""
    if hasattr(frame, "iloc"):
        return [(name, frame.iloc[:, number].tolist()) for number, name in enumerate(frame.columns)]
    return [(name, frame[name].to_list()) for name in frame.columns]
