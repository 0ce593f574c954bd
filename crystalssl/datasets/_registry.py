"""The table of known data sets: addresses, hashes, targets and units."""

from __future__ import annotations

import csv
import functools
from collections.abc import Collection
from dataclasses import dataclass
from importlib.resources import files

from crystalssl._suggestions import did_you_mean

# Matbench v0.1 has 13 tasks; these four give compositions only, so no crystal graph can be built from them.
_COMPOSITION_TASKS = ("matbench_steels", "matbench_glass", "matbench_expt_gap", "matbench_expt_is_metal")


@dataclass(frozen=True)
class RebuiltCopy:
    """A file with the published content in other bytes, accepted under its own name and hash."""

    filename: str
    sha256: str
    description: str


@dataclass(frozen=True)
class DatasetEntry:
    """One row of the registry.

    ``sha256`` is the hash of the published file; ``rebuilt`` lists further copies whose content was verified.
    """

    name: str
    rows: int
    target: str
    unit: str
    file_type: str
    sha256: str
    url: str
    summary: str
    doi: str
    rebuilt: tuple[RebuiltCopy, ...] = ()

    @property
    def filename(self) -> str:
        """Name under which the published file is kept in the data home."""
        return f"{self.name}.{self.file_type}"

    @property
    def is_matbench(self) -> bool:
        """Whether the data set is a task of Matbench v0.1."""
        return self.name.startswith("matbench_")


def read_table(filename: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file of this folder."""
    text = files("crystalssl.datasets").joinpath(filename).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@functools.cache
def load_registry() -> dict[str, DatasetEntry]:
    """Read the registry that ships with the package.

    Returns
    -------
    dict of str to DatasetEntry
        Every known data set by name, in the order of the table.

    Examples
    --------
    >>> from crystalssl.datasets._registry import load_registry
    >>> entry = load_registry()["matbench_phonons"]
    >>> entry.rows, entry.target, entry.unit, entry.filename
    (1265, 'last phdos peak', '1/cm', 'matbench_phonons.json.gz')
    """
    rebuilt: dict[str, list[RebuiltCopy]] = {}
    for row in read_table("rebuilt.csv"):
        rebuilt.setdefault(row.pop("name"), []).append(RebuiltCopy(**row))
    return {
        row["name"]: DatasetEntry(rows=int(row.pop("rows")), rebuilt=tuple(rebuilt.get(row["name"], ())), **row)
        for row in read_table("registry.csv")
    }


def check_name(name: str, known: Collection[str], what: str) -> str:
    """Return `name` when it is known, else say what it could have been.

    Parameters
    ----------
    name : str
        What the user wrote.
    known : collection of str
        The names that exist.
    what : str
        What the names stand for, for the message.

    Returns
    -------
    str
        `name`, unchanged.
    """
    if name in known:
        return name
    if name in _COMPOSITION_TASKS:
        raise ValueError(f"{name!r} gives compositions, not structures; {what}s with structures: {', '.join(known)}.")
    raise ValueError(f"Unknown {what} {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}.")
