"""The formats of files: how each is known, and what reads it. A new format is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from crystalssl.graphs._reading import CONTENTS, kind_of_name
from crystalssl.io._arrow import read_arrow, read_parquet
from crystalssl.io._ase import ase_text_format, read_database, read_frames, read_trajectory
from crystalssl.io._json import is_ase_database, looks_like_json_lines, read_json, read_json_lines
from crystalssl.io._rows import Row, Unknown, Wanted
from crystalssl.io._single import read_cif_blocks, read_single
from crystalssl.io._source_file import SourceFile, text_of
from crystalssl.io._tables import looks_like_table, read_table

__all__ = ["FORMATS", "Format", "format_of"]


class Format(NamedTuple):
    """A format: its name, whether a file is in it by its first bytes and its name, and its reader."""

    name: str
    matches: Callable[[bytes, str], object]
    read: Callable[[SourceFile, Wanted], Iterator[Row]]


def _starts(*magic: bytes) -> Callable[[bytes, str], bool]:
    return lambda head, name: head.startswith(magic)


# Binary formats first, then text by what it begins with, then what only names tell, then tables.
FORMATS = [
    Format("Parquet", _starts(b"PAR1"), read_parquet),
    Format("Arrow", _starts(b"ARROW1", b"\xff\xff\xff\xff"), read_arrow),
    Format("ASE database", _starts(b"SQLite format 3\0"), read_database),
    Format("ASE trajectory", _starts(b"- of Ulm"), read_trajectory),
    Format("ASE database in JSON", lambda head, name: is_ase_database(_text(head)), read_database),
    Format(
        "JSON lines", lambda head, name: _is_json(head) and looks_like_json_lines(_text(head), name), read_json_lines
    ),
    Format("JSON", lambda head, name: _is_json(head), read_json),
    Format("CIF", lambda head, name: CONTENTS["cif"](text_of(head)), read_cif_blocks),
    Format("frames that ASE reads", ase_text_format, read_frames),
    Format("single by name", lambda head, name: kind_of_name(name) not in (None, "json", "cif", "poscar"), read_single),
    Format("POSCAR", lambda head, name: CONTENTS["poscar"](head), read_single),
    Format("table by name", lambda head, name: name.lower().endswith((".csv", ".tsv", ".tab")), read_table),
    Format("table", lambda head, name: b"\0" not in text_of(head) and looks_like_table(_text(head)), read_table),
    Format("CIF or POSCAR by name", lambda head, name: kind_of_name(name) in ("cif", "poscar"), read_single),
]
"""All formats, in the order that they are tried."""

_TAKEN = (
    "CIF, POSCAR, JSON, CSV, Parquet, Arrow, extended XYZ, an ASE trajectory or database, or a zip or tar archive of "
    "these"
)
_REFUSED = {
    b"\x80": "a pickle, which executes what is in it; write JSON, CIF or extended XYZ",
    b"\x89HDF": "HDF5; read it yourself, and pass a DataFrame or a list of structures",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save it as CSV, or pass what pandas.read_excel returns",
    b"FEA1": "Feather of the first version, which pyarrow gives up; write it anew with pandas' to_feather",
    b"\x93NUMPY": "an array of numpy; pass a DataFrame or a list of structures",
}


def format_of(source: SourceFile) -> Format:
    """Return the format of a file.

    Raises
    ------
    Unknown
        If it is in none.
    """
    head = source.head
    if not head.strip():
        raise ValueError("it is empty")
    for magic, what in _REFUSED.items():
        if head.startswith(magic):
            raise Unknown(f"it is {what}")
    for known in FORMATS:
        if known.matches(head, source.name):
            return known
    raise Unknown(f"neither its content nor its name is that of {_TAKEN}")


def _text(head: bytes) -> str:
    return text_of(head).decode("utf-8", errors="replace")


def _is_json(head: bytes) -> bool:
    return text_of(head).lstrip()[:1] in (b"{", b"[")
