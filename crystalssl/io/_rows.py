"""What readers are asked for, and what they hand on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from crystalssl._suggestions import did_you_mean
from crystalssl.exceptions import DatasetError

__all__ = ["File", "Problem", "Row", "Text", "Unknown", "Unusable", "Wanted", "find_name", "split_unit"]


class Unusable(ValueError):
    """A record cannot be used. The message is the reason."""


class Unknown(ValueError):
    """A file holds nothing that is known as crystals, which in a folder of many files is no error."""


class File(NamedTuple):
    """A file with one crystal, which is read when its turn comes, perhaps by another process."""

    path: Path


class Text(NamedTuple):
    """What such a file would hold, and a name that may tell its format."""

    data: bytes
    name: str = ""


class Row(NamedTuple):
    """One record of a file, table or list, or why there is none."""

    item: Any  # the crystal: what check_structures takes, File, Text, a dict, CrystalArrays, or Unusable
    values: Mapping[str, Any]  # what else is known of it, by name
    id: str  # where no column holds ids
    row: int | None = None  # in its file, from 0; None where the file is one crystal
    file: str | None = None


class Problem(NamedTuple):
    """A record, or a whole file, that cannot be used. If it is no `error`, it is told of, but stops nobody."""

    id: str | None
    row: int | None
    file: str | None
    reason: str
    error: bool = True
    cause: BaseException | None = None


@dataclass
class Wanted:
    """What the caller asks for: names of columns, and how many rows at a time.

    Parameters
    ----------
    structure : str or None, default=None
        Column of the crystals; None finds it.
    id : str or None, default=None
        Column of the ids; None finds it.
    columns : list of str
        Columns of the targets, for readers that read only some.
    chunk_size : int, default=1000
        Rows that a reader may hold at once.
    units : dict of str to str
        Where readers put the units that files state.
    """

    structure: str | None = None
    id: str | None = None
    columns: list[str] = field(default_factory=list)
    chunk_size: int = 1000
    units: dict[str, str] = field(default_factory=dict)

    def check(self, names: list[str], file: str) -> None:
        """Raise DatasetError if a table with these columns has not all that are asked for."""
        for name in (self.structure, self.id, *self.columns):
            if name is not None and find_name(name, names) is None:
                shown = ", ".join(map(repr, names[:20])) + ", …" * (len(names) > 20)
                raise DatasetError(f"{file} has no column {name!r}; it has {shown}.{did_you_mean(name, names)}")


def find_name(name: str, names: Any) -> str | None:
    """Return the name among those of a record: itself, with a unit ('gap (eV)'), or the first part of a dotted one."""
    if name in names:
        return name
    with_unit = (known for known in names if split_unit(known)[0] == name)
    outer = name.partition(".")[0]
    return next(with_unit, outer if "." in name and outer in names else None)


def split_unit(name: str) -> tuple[str, str | None]:
    """Return a column's name and the unit in brackets behind it.

    Examples
    --------
    >>> from crystalssl.io._rows import split_unit
    >>> split_unit("exfoliation_en (meV/atom)"), split_unit("gap")
    (('exfoliation_en', 'meV/atom'), ('gap', None))
    """
    if isinstance(name, str) and name.endswith((")", "]")):
        bare, bracket, unit = name[:-1].rpartition("(" if name.endswith(")") else "[")
        if bracket and bare.strip() and unit:
            return bare.strip(), unit
    return name, None
