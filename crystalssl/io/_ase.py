"""What ASE reads: extended XYZ and other text of many frames, trajectories, databases. Nothing in them is executed."""

from __future__ import annotations

import contextlib
import importlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crystalssl.io._records import Records
from crystalssl.io._rows import Row, Unusable, Wanted
from crystalssl.io._source_file import SourceFile

__all__ = ["ase_text_format", "read_database", "read_frames", "read_trajectory"]

_ENERGIES = ("energy", "free_energy", "magmom", "charge", "mass", "volume", "natoms", "fmax", "smax")


def ase_text_format(head: bytes, name: str) -> str | None:
    """Return ASE's name of a text format that may hold many frames, by content and, for a few, by the file's name."""
    lines = head[:4096].decode(errors="replace").split("\n", 9)
    lower = name.lower()
    if lines[0].strip().isdigit() and len(lines) > 2 and ("Lattice=" in lines[1] or lower.endswith(("xyz",))):
        return "extxyz"
    if any(line.lstrip().startswith("Direct configuration=") for line in lines):
        return "vasp-xdatcar"
    if "<modeling>" in "".join(lines[:3]):
        return "vasp-xml"
    return "aims" if any(line.startswith("lattice_vector") for line in lines) else None


def read_frames(source: SourceFile, wanted: Wanted) -> Iterator[Row]:
    """Read the frames of a text file."""
    kind = ase_text_format(source.head, source.name)
    read = _ase("io")
    records = Records.of(source, wanted)
    with source.local() as path:
        # The number of frames behind an @ is for names that people type.
        frames = read.iread(path, index=":", format=kind, do_not_split_by_at_sign=True)
        for number, atoms in enumerate(frames):
            yield records.ready(atoms, _values(atoms), number)


def read_trajectory(source: SourceFile, wanted: Wanted) -> Iterator[Row]:
    """Read the frames of an ASE trajectory. Constraints, which would be built from what the file says, are left out."""
    trajectory = _ase("io.trajectory")
    records = Records.of(source, wanted)
    with source.local() as path, trajectory.TrajectoryReader(path) as frames:
        frames.constraints = "[]"
        for number in range(len(frames)):
            try:
                atoms = frames[number]
            except Exception as error:  # whatever ASE makes of a damaged frame; the next may be whole
                yield records.ready(Unusable(f"its frame cannot be read ({error})"), {}, number)
                continue
            yield records.ready(atoms, _values(atoms), number)


def read_database(source: SourceFile, wanted: Wanted) -> Iterator[Row]:
    """Read the rows of an ASE database, SQLite or JSON, which is not written to."""
    core = _ase("db.core")
    records = Records.of(source, wanted)
    with source.local() as path:
        if source.head.startswith(b"SQLite"):
            database: Any = _read_only(path)
        else:
            database = core.connect(path, type="json", use_lock_file=False)
        for number, row in enumerate(database.select()):
            try:
                # Not row.toatoms(), which would build the constraints and calculators that the row names.
                atoms: Any = _ase("").Atoms(row.numbers, row.positions, cell=row.cell, pbc=row.pbc)
                values = _Fields(row)
            except Exception as error:  # as above
                yield records.ready(Unusable(f"its row cannot be read ({error})"), {}, number)
                continue
            yield records.ready(atoms, values, number, f"{records.prefix}{row.id}")


class _Fields(Mapping):
    """What a row of a database holds besides its atoms: key-value pairs, results, and data, decoded when asked for."""

    def __init__(self, row: Any):
        self._row = row
        self._pairs = dict(row.key_value_pairs)

    def __getitem__(self, name: str) -> Any:
        if name in self._pairs:
            return self._pairs[name]
        if name in _ENERGIES and (value := self._row.get(name)) is not None:
            return value
        if name == "data":
            return self._row.data
        if name in self._row.data:
            return self._row.data[name]
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        try:
            self[name]  # type: ignore[index]
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        yield from self._pairs
        yield from (name for name in _ENERGIES[:2] if name not in self._pairs and self._row.get(name) is not None)
        yield from (name for name in self._row.data if name not in self._pairs)

    def __len__(self) -> int:
        return len(list(iter(self)))


def _read_only(path: Path) -> Any:
    """Open a database of ASE so that nothing is written to it: ASE makes its tables in any that has none."""
    address = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    if "systems" not in tables:
        raise ValueError("it is a database of SQLite, but none that ASE wrote (it has no table 'systems')")
    database = _ase("db.sqlite").SQLite3Database(str(path), use_lock_file=False)
    database._connect = lambda: sqlite3.connect(address, uri=True, timeout=20)
    return database


def _values(atoms: Any) -> dict[str, Any]:
    """Return what stands beside the atoms of a frame: its own values, and results such as the energy."""
    results = getattr(atoms.calc, "results", None) or {}
    return {**results, **atoms.info}


def _ase(module: str) -> Any:
    try:
        return importlib.import_module(f"ase.{module}".rstrip("."))
    except ImportError as error:
        raise ImportError(
            "Reading extended XYZ, trajectories and databases needs ASE: pip install crystalssl[ase]"
        ) from error
