"""A table of targets beside the crystals, such as CGCNN's id_prop.csv."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from crystalssl.exceptions import DatasetError
from crystalssl.io._records import IDS
from crystalssl.io._rows import Problem, Unusable, find_name, split_unit
from crystalssl.io._source_file import SourceFile, id_of
from crystalssl.io._tables import cells_of
from crystalssl.io._targets import number_or_text

__all__ = ["TargetTable", "find_table"]

_TABLES = (".csv", ".tsv", ".tab", ".txt", ".dat")
_FILES = ("file", "filename", "file_name", "path", "cif_file", "structure_file", "cif", "structure", "poscar", "name")


def find_table(
    target: Any, folder: Path | None, label: str, names: Sequence[str] | None
) -> tuple[Path, Sequence[str] | None] | None:
    """Return the table that targets come from, if they do not come with the crystals, and its columns.

    Parameters
    ----------
    target : str, path or sequence
        As the caller gave it: a path, or names of columns.
    folder : Path or None
        Where a path, and an ``id_prop.csv``, are looked for first.
    label : str
        What users call the folder.
    names : sequence of str or None
        The columns, where `target` is no path.
    """
    if names is None:
        path = Path(os.path.expanduser(os.fsdecode(target)))
        places = [path] if folder is None else [folder / path, path]
        if found := next((place for place in places if place.is_file()), None):
            return found, None
        raise DatasetError(f"There is no table of targets {os.fsdecode(target)} in {label} or in the working folder.")
    beside = None if folder is None else folder / "id_prop.csv"
    if beside is not None and beside.is_file():
        columns, _ = cells_of(SourceFile(beside, str(beside), "id_prop"))
        if all(find_name(name, columns) is not None for name in names):
            return beside, names
    return None


def is_table(target: Any) -> bool:
    """Whether a target is the path of a table, and not the name of a column."""
    if isinstance(target, os.PathLike):
        return True
    return isinstance(target, str) and id_of(target) != target and Path(id_ending(target)).suffix.lower() in _TABLES


def id_ending(target: str) -> str:
    """Return a path without the ending of a compressed file."""
    return target[: -len(suffix)] if (suffix := Path(target).suffix.lower()) in (".gz", ".bz2", ".xz") else target


class TargetTable:
    """The targets by id.

    Parameters
    ----------
    path : Path
        A table with a column of ids or names of files.
    names : sequence of str or None
        The columns to read; None takes all that hold numbers, or the only other one.
    id : str or None
        The column of the ids; None finds it.
    """

    def __init__(self, path: Path, names: Sequence[str] | None, id: str | None):
        self.path, self.label = path, str(path)
        try:
            columns, rows = cells_of(SourceFile(path, self.label, path.name))
            found = list(rows)
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path} cannot be read: {error}.") from error
        key = self._key(columns, id)
        cells = [row for _, row in found if isinstance(row, list)]
        self.names = list(names) if names is not None else self._values(columns, key, cells)
        places = [columns.index(find_name(name, columns)) for name in self.names]  # type: ignore[arg-type]
        units = ((name, split_unit(columns[place])[1]) for name, place in zip(self.names, places, strict=True))
        self.units = {name: unit for name, unit in units if unit}
        self.values: dict[str, list[Any]] = {}
        self.problems: list[Problem] = []
        self._rows: dict[str, int] = {}
        for number, row in found:
            name = row[key].strip() if isinstance(row, list) else ""
            if isinstance(row, Unusable) or not name:
                reason = str(row) if isinstance(row, Unusable) else "it has no id"
                self.problems.append(Problem(None, number, self.label, reason))
            elif name in self.values:
                self.problems.append(Problem(name, number, self.label, f"the table lists {name!r} before"))
            else:
                self.values[name] = [row[place] for place in places]
                self._rows[name] = number
        self._used: set[str] = set()

    def has(self, names: Iterable[str]) -> bool:
        """Whether one of the names is listed."""
        return any(name in self.values for name in names)

    def take(self, names: Iterable[str]) -> list[Any] | None:
        """Return the values of the first of the names that is listed, and note that they are used."""
        name = next((name for name in names if name in self.values), None)
        if name is None:
            return None
        if name in self._used:
            raise Unusable(f"{self.label} lists {name!r} once, and another file has that name too")
        self._used.add(name)
        return self.values[name]

    def left(self) -> list[Problem]:
        """Return what the table lists and nothing was found for."""
        return [
            Problem(name, self._rows[name], self.label, f"there is no crystal of the name {name!r}")
            for name in self.values
            if name not in self._used
        ]

    def _key(self, columns: list[str], id: str | None) -> int:
        if id is not None:
            if id not in columns:
                raise DatasetError(f"{self.label} has no column {id!r}; it has {', '.join(map(repr, columns))}.")
            return columns.index(id)
        known = [name for name in (*IDS, *_FILES) if name in columns]
        return columns.index(known[0]) if known else 0

    def _values(self, columns: list[str], key: int, rows: list[list[str]]) -> list[str]:
        others = [place for place in range(len(columns)) if place != key]

        def is_number(place: int) -> bool:
            kinds = [type(number_or_text(row[place])) for row in rows[:100] if row[place].strip().lower() != "inf"]
            return bool(kinds) and kinds.count(float) * 2 > len([kind for kind in kinds if kind is not type(None)])

        numeric = [place for place in others if is_number(place)]
        chosen = numeric or (others if len(others) == 1 else [])
        if not chosen:
            raise DatasetError(
                f"{self.label} has no column of numbers beside {columns[key]!r}; call it id_prop.csv, and give "
                "the names of the targets as target="
            )
        return [columns[place] for place in chosen]
