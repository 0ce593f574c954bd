"""Tables in memory: pandas and polars DataFrames and Series."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crystalssl.io._records import IDS, Records
from crystalssl.io._rows import Row, Wanted

__all__ = ["is_frame", "read_frame"]

_PEEKED = 20


def is_frame(source: Any) -> bool:
    """Whether something is a DataFrame of pandas or polars, lazy or not."""
    is_lazy = hasattr(source, "collect") and hasattr(source, "with_columns")
    return is_lazy or (any(hasattr(source, name) for name in ("iloc", "iter_rows")) and hasattr(source, "columns"))


def read_frame(frame: Any, wanted: Wanted) -> Iterator[Row]:
    """Read the rows of a DataFrame, a part at a time. The index of pandas gives the ids where no column does."""
    names = list(frame.columns)
    wanted.check(names, "the DataFrame")
    records = Records(wanted, None)
    has_ids = wanted.id is not None or any(name in names for name in IDS)
    for start in range(0, len(frame), wanted.chunk_size):
        if hasattr(frame, "iloc"):
            part = frame.iloc[start : start + wanted.chunk_size]
            columns = [part.iloc[:, number].tolist() for number in range(len(names))]
            labels = part.index.tolist()
        else:
            part = frame[start : start + wanted.chunk_size]
            columns = [part[name].to_list() for name in names]
            labels = list(range(start, start + len(part)))
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        if not start:
            records.choose(rows[:_PEEKED])
        for number, (row, label) in enumerate(zip(rows, labels, strict=True), start):
            yield records.row(row, number, None if has_ids else str(label))
