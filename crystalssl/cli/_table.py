"""Tables that are written row by row: CSV, TSV, JSON lines or Parquet, to a file or to stdout."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import click

__all__ = ["Table", "open_table"]

_FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}


class Table:
    """What rows are written to."""

    def __init__(self, columns: Sequence[str]):
        self.columns = columns

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows, each of one value per column."""
        raise NotImplementedError

    def close(self) -> None:
        """Write what is left."""


class _Text(Table):
    def __init__(self, file: IO[str], columns: Sequence[str], delimiter: str):
        super().__init__(columns)
        self._file, self._writer = file, csv.writer(file, delimiter=delimiter, lineterminator="\n")
        self._writer.writerow(columns)

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        self._writer.writerows(rows)
        self._file.flush()


class _Lines(Table):
    def __init__(self, file: IO[str], columns: Sequence[str]):
        super().__init__(columns)
        self._file = file

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        for row in rows:
            self._file.write(json.dumps(dict(zip(self.columns, row, strict=True))) + "\n")
        self._file.flush()


class _Parquet(Table):
    def __init__(self, path: Path, columns: Sequence[str]):
        super().__init__(columns)
        try:
            import pyarrow  # noqa: F401  (before anything is computed)
        except ImportError as error:
            raise ImportError(
                "writing Parquet takes pyarrow: pip install 'crystalssl[parquet]', or write .csv"
            ) from error
        self._path = path
        self._writer: Any = None

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not rows:
            return
        table = pa.table(
            {name: list(values) for name, values in zip(self.columns, zip(*rows, strict=True), strict=True)}
        )
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._writer is None:
            pq.write_table(pa.table({name: pa.array([], pa.string()) for name in self.columns}), self._path)
        else:
            self._writer.close()


@contextlib.contextmanager
def open_table(output: str | None, columns: Sequence[str]) -> Iterator[Table]:
    """Open a table, which takes its place when all is written; rows to stdout appear as they come.

    Parameters
    ----------
    output : str or None
        A path, whose ending says the format; "-" or None is CSV on stdout.
    columns : sequence of str
        Names of the columns.
    """
    if output in (None, "-"):
        yield _Text(sys.stdout, columns, ",")
        return
    path = Path(str(output))
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise click.BadParameter(f"{path} must end in {', '.join(_FORMATS)}", param_hint="--output")
    if path.is_dir():
        raise click.BadParameter(f"{path} is a folder; name a file", param_hint="--output")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:40]}-{secrets.token_hex(8)}")
    try:
        with contextlib.ExitStack() as stack:
            if kind == "parquet":
                table: Table = _Parquet(partial, columns)
            else:
                file = stack.enter_context(partial.open("x", encoding="utf-8", newline=""))
                table = (
                    _Lines(file, columns) if kind == "jsonl" else _Text(file, columns, "\t" if kind == "tsv" else ",")
                )
            yield table
            table.close()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
