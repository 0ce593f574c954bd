"""Records that commands read: crystals with their ids, and those that cannot be used."""

from __future__ import annotations

import contextlib
import csv
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from crystalssl.cli._failures import FAILED_RECORDS
from crystalssl.cli._table import Table, open_table

__all__ = ["Failures", "Part", "ids_beside", "parts", "read", "source_of", "write_values"]

_COLUMNS = ("id", "row", "file", "reason")
_AT_A_TIME = 1024
"""Crystals of a part."""


class Part(NamedTuple):
    """Some crystals of a source, in their order."""

    ids: list[str]
    rows: list[int | None]
    files: list[str | None]
    graphs: Any
    problems: list[tuple[Any, ...]]  # id, row, file and reason of each record before the next part that has no graph


def source_of(paths: tuple[str, ...]) -> Any:
    """Return what the readers take for the arguments of a command: one source, stdin, or a list of files."""
    if paths == ("-",):
        return sys.stdin.buffer
    if "-" in paths:
        raise click.BadParameter("`-` is stdin, and stands alone", param_hint="SOURCE")
    if len(paths) == 1:
        return paths[0]
    folders = [path for path in paths if os.path.isdir(path)]
    if folders:
        raise click.BadParameter(
            f"{folders[0]} is a folder: name one folder, or any number of files", param_hint="SOURCE"
        )
    return list(paths)


def parts(paths: tuple[str, ...], encoder: Any, start: int = 0, **options: Any) -> Iterator[Part]:
    """Yield the crystals of a source, some at a time.

    Parameters
    ----------
    paths : tuple of str
        What the user named.
    encoder : object
        Whose graphs are made, as of :func:`crystalssl.io.iter_crystals`.
    start : int, default=0
        Number of the first part; those before are passed over.
    **options
        id, structure, n_jobs, verbose, and known_ids.
    """
    if _holds_graphs(paths):
        yield from _stored(Path(paths[0]), bool(options["verbose"]), start)
        return
    from crystalssl.io import iter_crystals

    options |= {"chunk_size": _AT_A_TIME, "chunks": slice(start, None)}
    for chunk in iter_crystals(source_of(paths), on_error="report", as_graphs=True, encoder=encoder, **options):
        problems = [tuple(problem[:4]) for _, problem in chunk.problems]
        yield Part(chunk.ids, chunk.rows, chunk.files, chunk.data, problems)


def ids_beside(folder: Path) -> Path:
    """Return the file with the ids of a folder of graphs."""
    return folder.with_name(folder.name + ".ids.csv")


def _holds_graphs(paths: tuple[str, ...]) -> bool:
    from crystalssl.graphs._manifest import is_corpus
    from crystalssl.graphs._storage import is_stored

    return len(paths) == 1 and (is_corpus(paths[0]) or is_stored(paths[0]))


def _stored(folder: Path, verbose: bool, first: int) -> Iterator[Part]:
    from tqdm import tqdm

    from crystalssl import CrystalGraphs
    from crystalssl.graphs._given import as_graphs

    graphs: Any = as_graphs(folder)
    ids = [str(row) for row in range(len(graphs))]
    if isinstance(graphs, CrystalGraphs) and ids_beside(folder).is_file():
        with ids_beside(folder).open(encoding="utf-8", newline="") as file:
            ids = [row["id"] for row in csv.DictReader(file)]
        if len(ids) != len(graphs):
            raise ValueError(
                f"{ids_beside(folder)} has {len(ids)} ids, {folder} has {len(graphs)} graphs; make both anew"
            )
    with tqdm(total=len(graphs), unit="crystal", disable=not verbose, delay=3.0) as bar:
        for start in range(first * _AT_A_TIME, len(graphs), _AT_A_TIME):
            part = graphs[start : start + _AT_A_TIME]
            rows: list[int | None] = [*range(start, start + len(part))]
            names = ids[start : start + len(part)]
            if not isinstance(part, CrystalGraphs):  # of a corpus
                names, part = part.ids.tolist(), part.to_graphs()
            yield Part(names, rows, [str(folder)] * len(part), part, [])
            bar.update(len(part))


class Failures(contextlib.AbstractContextManager):
    """Records that cannot be used: a table of them beside the output, which is made when there is one.

    Parameters
    ----------
    output : str or None
        Where the other records go; those of stdout are listed on stderr.
    """

    def __init__(self, output: str | None):
        self.path = None if output in (None, "-") else _failed_path(str(output))
        self.count = 0
        self._table: Table | None = None
        self._stack = contextlib.ExitStack()

    def add(self, problems: list[tuple[Any, ...]]) -> None:
        """Take records: id, row, file and reason of each."""
        if not problems:
            return
        self.count += len(problems)
        if self.path is None:
            for name, row, file, reason in problems:
                place = ", ".join(
                    str(part) for part in (file, None if row is None else f"row {row}") if part is not None
                )
                click.echo(f"Failed: {name} ({place}): {' '.join(str(reason).split())}", err=True)
            return
        if self._table is None:
            self._table = self._stack.enter_context(open_table(str(self.path), _COLUMNS))
        self._table.write([[_plain(value) for value in problem] for problem in problems])

    def add_report(self, report: Any) -> None:
        """Take a frame of such records."""
        self.add(report.astype(object).where(report.notna(), None).to_numpy().tolist())

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        if self.path is not None and not self.count and error[0] is None:
            _remove_former(self.path)

    def exit(self, ctx: click.Context, status: int = FAILED_RECORDS) -> None:
        """End the command with a status that tells of failed records, if there are any."""
        if not self.count:
            return
        where = "" if self.path is None else f"; see {self.path}"
        records = "1 record" if self.count == 1 else f"{self.count} records"
        click.echo(f"{records} could not be used{where}", err=True)
        ctx.exit(status)


def _failed_path(output: str) -> Path:
    path = Path(output)
    stem = path.stem if path.suffix in (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".html") else path.name
    return path.with_name(f"{stem}.failed.csv")


def _remove_former(path: Path) -> None:
    """Delete the table of an earlier run, which would be taken for this one's."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        with path.open(encoding="utf-8") as file:
            ours = file.readline().rstrip("\n") == ",".join(_COLUMNS)
        if ours:
            path.unlink()


def _plain(value: Any) -> Any:
    """Return a cell: nothing for what is missing, and a text on one line."""
    return "" if value is None else " ".join(str(value).split())


def read(paths: tuple[str, ...], targets: tuple[str, ...], **options: Any) -> Any:
    """Return all crystals of a source as graphs, with targets that know their names and units.

    Parameters
    ----------
    paths, targets : tuple of str
        What the user named.
    **options
        Of :func:`crystalssl.io.read_crystals`.
    """
    import pandas as pd

    from crystalssl.io import read_crystals
    from crystalssl.io._rows import split_unit

    if _holds_graphs(paths):
        return _read_graphs(paths[0], targets)
    target: Any = None
    if targets:
        target = targets[0] if len(targets) == 1 else list(targets)
    try:
        data: Any = read_crystals(source_of(paths), target, as_graphs=True, **options)
    except ValueError as error:
        # What the readers say of their argument is said of the option.
        raise ValueError(str(error).replace("on_error='report'", "--on-error report")) from error
    if data.target is not None:
        values, units = data.target, data.unit if isinstance(data.unit, list) else [data.unit]
        names = [split_unit(name)[0] for name in data.target_names]  # of a column "gap (eV)"
        data.target = pd.Series(values, name=names[0]) if values.ndim == 1 else pd.DataFrame(values, columns=[*names])
        data.target.attrs["unit"] = dict(zip(names, units, strict=True))
    return data


def _read_graphs(folder: str, targets: tuple[str, ...]) -> Any:
    """Return graphs, or a corpus, that were made before; they have no targets."""
    from sklearn.utils import Bunch

    from crystalssl.graphs._given import as_graphs
    from crystalssl.io._chunk import report_of

    if targets:
        raise ValueError(
            f"{folder} holds graphs without targets: name the source that they were made of, or, in Python, give their "
            "targets to fit(folder, y)"
        )
    return Bunch(data=as_graphs(folder), target=None, report=report_of([]))


def write_values(
    paths: tuple[str, ...],
    output: str | None,
    columns: list[str],
    function: Callable[[Any], Any],
    encoder: Any,
    **options: Any,
) -> Failures:
    """Write a table with the id of each crystal, and what a function makes of it, in the order of the source.

    Parameters
    ----------
    paths : tuple of str
        What the user named.
    output : str or None
        Where to write.
    columns : list of str
        Names of the function's columns.
    function : callable
        Of graphs; see :func:`crystalssl.cli._applying.apply`.
    encoder : Encoder
        Whose graphs are made.
    **options
        Of :func:`parts`.

    Returns
    -------
    Failures
        The records that have no values.
    """
    from crystalssl.cli._applying import apply

    with Failures(output) as failures, open_table(output, ["id", *columns]) as table:
        for part in parts(paths, type(encoder), **options):
            applied = apply(function, part.graphs)
            failures.add(part.problems + applied.problems_of(part))
            ids = [part.ids[row] for row in applied.rows]
            table.write([*zip(ids, *(column.tolist() for column in applied.values), strict=True)])
    return failures
