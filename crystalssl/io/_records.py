"""Where the crystal of a record is, and what is known of it besides."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crystalssl._limits import LIMITS
from crystalssl._optimade import LAYOUT
from crystalssl.io._rows import File, Row, Text, Unknown, Unusable, Wanted, find_name
from crystalssl.io._source_file import SourceFile, id_of

__all__ = ["IDS", "Records", "is_crystal", "is_missing", "known_names", "lookup"]

_CRYSTALS = (
    "structure", "atoms", "crystal", "final_structure", "cif", "poscar", "structures", "cif_string", "structure_cif",
    "initial_structure", "material", "file", "filename", "file_name", "path", "cif_file", "structure_file",
)  # fmt: skip
IDS = (
    "immutable_id", "material_id", "mp_id", "mpid", "jid", "id", "_id", "matbench_id", "entry_id", "structure_id",
    "mat_id", "cif_id", "uid", "unique_id", "cod_id", "icsd_id", "auid", "oqmd_id",
)  # fmt: skip
_NAMED = frozenset(_CRYSTALS)
_LAYOUTS = (
    {"lattice", "sites"},  # pymatgen
    {"lattice_mat", "coords", "elements"},  # jarvis
    {*LAYOUT},  # OPTIMADE
    {"numbers", "positions", "cell"},  # ASE
)


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NA, NaT or an empty text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    return type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)


def is_crystal(value: Any) -> bool:
    """Return whether a value is a crystal in itself: an object, or a dict with the keys of one."""
    if isinstance(value, Mapping):
        return any(layout <= value.keys() for layout in _LAYOUTS)
    return any(hasattr(value, name) for name in ("sites", "get_atomic_numbers", "lattice_mat"))


class Records:
    """Turns the records of one file or table into rows.

    Parameters
    ----------
    wanted : Wanted
        Names of the columns, where the caller gave them.
    folder : Path or None
        Where file names lead to, and not out of. None takes them as they are, which is for tables of the caller's own.
    label : str or None
        Name of the file.
    prefix : str
        Begins the ids where no column holds ids.
    """

    def __init__(self, wanted: Wanted, folder: Path | None, label: str | None = None, prefix: str = ""):
        self.wanted, self.folder, self.label, self.prefix = wanted, folder, label, prefix
        self._column: str | None = wanted.structure
        self._endings: dict[str, Path] | None = None

    @classmethod
    def of(cls, source: SourceFile, wanted: Wanted) -> Records:
        """Return that of a file."""
        return cls(wanted, source.folder, source.label, f"{source.id}:")

    def choose(self, rows: Sequence[Mapping[str, Any]]) -> str | None:
        """Find the column that holds crystals by the first rows of a table, and keep to it.

        Raises
        ------
        Unknown
            If none does.
        """
        if self._column is None and rows and not any(is_crystal(_attributes(row)) for row in rows):
            scores = {name: sum(self._is_like(row.get(name)) for row in rows) for name in rows[0]}
            best = max(scores, key=lambda name: (scores[name], -_rank(name)))
            self._column = best if scores[best] else next(iter(sorted(_NAMED & {*rows[0]}, key=_rank)), None)
            if self._column is None:
                names = ", ".join(map(repr, list(rows[0])[:20]))
                raise Unknown(f"none of its columns holds crystals or their files ({names}); name it by structure=")
        return self._column

    def row(self, values: Any, number: int | None, id: str | None = None) -> Row:
        """Return a row for a record: a mapping with the crystal in it, or a crystal alone."""
        default = f"{self.prefix}{number}" if id is None else id
        if not isinstance(values, Mapping) and is_crystal(getattr(values, "structure", None)):
            return self.ready(values.structure, _Attributes(values), number, default)
        if not isinstance(values, Mapping):
            try:
                return Row(self._item(values), {}, default, number, self.label)
            except Unusable as error:
                return Row(error, {}, default, number, self.label)
        values = _attributes(values)
        try:
            item: Any = self._crystal(values)
        except Unusable as error:
            item = error
        if id is None and isinstance(item, File) and self.folder is not None:
            default = id_of(os.path.relpath(item.path, self.folder))
        return self.ready(item, values, number, default)

    def ready(self, item: Any, values: Mapping[str, Any], number: int | None, default: str | None = None) -> Row:
        """Return a row for a crystal, or the reason why there is none, and what else the record holds."""
        default = f"{self.prefix}{number}" if default is None else default
        try:
            name = self.id_of(values)
        except Unusable as error:
            return Row(error, values, default, number, self.label)
        return Row(item, values, default if name is None else name, number, self.label)

    def id_of(self, values: Mapping[str, Any]) -> str | None:
        """Return the id that a column holds, if one does."""
        name = self.wanted.id or next((name for name in IDS if name in values), None)
        value = None if name is None else values.get(name)
        if isinstance(value, Mapping):  # MongoDB's {"$oid": …}
            value = value.get("$oid")
        if is_missing(value):
            if self.wanted.id:
                raise Unusable(f"it has no id (column {name!r})")
            return None
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()

    def _crystal(self, values: Mapping[str, Any]) -> Any:
        if self.wanted.structure is None and is_crystal(values):
            return values
        for name in [self._column] if self._column else sorted(_NAMED & values.keys(), key=_rank):
            if not is_missing(value := values.get(name)):
                return self._item(value)
            if self._column:
                raise Unusable(f"its crystal is missing (column {name!r})")
        for value in values.values():
            if self._is_like(value):
                return self._item(value)
        names = ", ".join(map(repr, list(values)[:10]))
        raise Unusable(f"none of its values is a crystal ({names}); if one is, name it by structure=")

    def _is_like(self, value: Any) -> bool:
        if isinstance(value, str) and not ("\n" in value or value.count("\\n") > 2 or value.lstrip()[:1] == "{"):
            name = _slashes(value)
            return bool(name) and (os.path.isfile(name) if self.folder is None else self._find(name) is not None)
        if isinstance(value, (str, bytes)):
            return True
        return is_crystal(value) or is_crystal(getattr(value, "structure", None))

    def _item(self, value: Any) -> Any:
        """Return the crystal that a value is, describes, or names a file of."""
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, bytes):
            return Text(value)
        if isinstance(value, str):
            text = value.strip()
            if text[:1] == "{":
                return _decoded(text)
            # Tables that cannot hold lines write them as \n.
            if "\n" not in text and text.count("\\n") > 2:
                value = value.replace("\\n", "\n")
            if "\n" in value.strip("\r\n"):
                return Text(value.encode())
            return self._file(_slashes(text))
        if is_crystal(value):
            return value
        if is_crystal(inner := getattr(value, "structure", None)):  # pymatgen's entries
            return inner
        if isinstance(value, Mapping) and is_crystal(inner := _attributes(value)):
            return inner
        if isinstance(value, Mapping):
            found = next((value[name] for name in sorted(_NAMED & value.keys(), key=_rank)), None)
            if is_crystal(found):  # a document within a document
                return found
        raise Unusable(f"{type(value).__name__} is not a crystal")

    def _file(self, name: str) -> File:
        if self.folder is None:
            return File(Path(name))
        if "\0" in name or not self._is_inside(name):
            raise Unusable(f"it names {name!r}, a file outside of the folder {self.folder}; nothing is read from there")
        found = self._find(name)
        if found is None:
            raise Unusable(f"there is no file {name!r} in {self.folder}")
        return File(found)

    def _is_inside(self, name: str) -> bool:
        folder = os.path.realpath(self.folder or "")
        return os.path.realpath(os.path.join(folder, name)).startswith(os.path.join(folder, ""))

    def _find(self, name: str) -> Path | None:
        """Return the file of a name with or without its ending, inside of the folder."""
        if self.folder is None or len(name) > 1000 or "\0" in name or not self._is_inside(name):
            return None
        if os.path.isfile(path := self.folder / name):
            return path
        if self._endings is None:
            tables = (".csv", ".tsv", ".txt", ".xlsx")
            paths = (path for path in sorted(self.folder.iterdir()) if path.suffix.lower() not in tables)
            self._endings = {id_of(path.name): path for path in paths if path.is_file()}
        found = self._endings.get(name)
        return found if found is not None and self._is_inside(found.name) else None


class _Attributes(Mapping):
    """What an object with a structure has besides: an entry of pymatgen, a document of the Materials Project."""

    def __init__(self, item: Any):
        self._item = item

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return getattr(self._item, name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name[:1] != "_" and not callable(getattr(self._item, name, len))

    def __iter__(self) -> Iterator[str]:
        return filter(self.__contains__, vars(self._item))

    def __len__(self) -> int:
        return len(list(iter(self)))


def _attributes(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of a record; those of OPTIMADE's JSON are a level deeper than its id."""
    inner = values.get("attributes")
    return {**inner, "id": values.get("id")} if isinstance(inner, Mapping) and "id" in values else values


def _slashes(name: str) -> str:
    """Return a file's name as written on Windows in the way that all systems know."""
    return name.strip().replace("\\", "/")


def _rank(name: str) -> int:
    return _CRYSTALS.index(name) if name in _NAMED else len(_CRYSTALS)


def _decoded(text: str) -> Any:
    """Return a dict that is written as JSON, or as Python prints it."""
    if len(text) > LIMITS.bytes:
        raise Unusable(f"it holds more than {LIMITS.bytes:,} bytes, the crystalssl.LIMITS.bytes")
    try:
        value = json.loads(text)
    except ValueError as error:
        try:
            value = ast.literal_eval(text)  # which makes values, and runs nothing
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise Unusable(f"its text is not complete JSON ({error})") from error
    except RecursionError as error:
        raise Unusable("its lists are nested deeper than those of any crystal") from error
    if isinstance(value, Mapping) and is_crystal(value):
        return value
    inner = value.get("structure") if isinstance(value, Mapping) else None
    if is_crystal(inner):
        return inner
    raise Unusable("its JSON has not the keys of a crystal: those of pymatgen, jarvis, OPTIMADE or ASE")


def lookup(values: Mapping[str, Any], name: str) -> Any:
    """Return a value by its name, which may leave out the unit ('gap' for 'gap (eV)') or go deeper ('data.gap')."""
    if name in values:
        return values[name]
    found = find_name(name, values)
    if found is None or found.partition(".")[0] != name.partition(".")[0] or "." not in name:
        return None if found is None else values[found]
    value: Any = values
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def known_names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names that occur in some records, in order."""
    return list(dict.fromkeys(str(name) for values in rows for name in values))
