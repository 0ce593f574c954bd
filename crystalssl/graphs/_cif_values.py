"""The tags and values of a CIF file, cut out by gemmi where pymatgen would cut the same."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, TypeAlias

__all__ = ["NotPlainError", "Values", "column", "number", "single", "text", "values_of"]

_PLAIN_BYTES = bytes(range(32, 127)) + b"\t\n"
_BLOCK = re.compile(rb"^\s*data_", re.MULTILINE)
# Magnetic cells, hydrogens without a site and powder patterns change what pymatgen makes of a file, _eof ends it, and
# stop_ ends a loop for gemmi only.
_NOT_PLAIN = (b"_magn", b"_moment", b"_attached_hydrogens", b"powder_pattern", b"_eof", b"stop_")


class NotPlainError(Exception):
    """The file is not of the plain kind that is read here; pymatgen decides what it means."""


class Column(NamedTuple):
    """One column of a loop, cut out when it is needed."""

    cells: list[str]  # of all columns, row by row
    number: int
    width: int


Values: TypeAlias = "dict[str, str | Column]"
"""Tags as they are spelt, for pymatgen heeds their case; values with their quotes."""


def values_of(data: bytes) -> Values:
    """Return the tags and values of a file of one block.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    dict of str to str or Column
        What CifParser would hold after reading, but for the quotes.

    Raises
    ------
    NotPlainError
        If gemmi cannot read the file, or pymatgen might cut it differently: pymatgen drops comments before it looks
        for quotes, drops characters other than ASCII, and finds keywords in text fields.
    """
    from gemmi import cif

    data = _check_text(data)
    try:
        document = cif.read_string(data)
    except (ValueError, RuntimeError) as error:  # bad syntax, a tag that comes twice, a tag without a value
        raise NotPlainError(f"gemmi: {error}") from error
    if len(document) != 1 or not document[0].name:  # global_ has no name
        raise NotPlainError("no data block, or several")
    values: Values = {}
    n_loops = 0
    for item in document[0]:
        pair: Any = item.pair
        if pair is not None:
            values[pair[0]] = pair[1]
            continue
        loop = item.loop
        if loop is None:
            raise NotPlainError("a save frame")
        n_loops += 1
        tags, cells = loop.tags, loop.values
        if not cells:  # pymatgen stumbles over it
            raise NotPlainError("a loop without rows")
        for position, tag in enumerate(tags):
            values[tag] = Column(cells, position, len(tags))
    if data.count(b"loop_") != n_loops:
        raise NotPlainError("loop_ within a word or a text")
    return values


def _check_text(data: bytes) -> bytes:
    """Return the text with newlines as Python reads them, if both parsers cut it into the same words."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    if data.translate(None, _PLAIN_BYTES):
        raise NotPlainError("characters other than printable ASCII")
    lower = data.lower()
    for word in _NOT_PLAIN:
        if word in lower:
            raise NotPlainError(f"holds {word.decode()}")
    n_blocks = data.count(b"data_")
    if lower.count(b"data_") != n_blocks or lower.count(b"loop_") != data.count(b"loop_"):
        raise NotPlainError("keywords in upper case")
    if n_blocks != 1 and len(_BLOCK.findall(data)) != 1:
        raise NotPlainError("no data block, or several")
    position = data.find(b"#")
    while position >= 0:
        before = data[data.rfind(b"\n", 0, position) + 1 : position]
        if before and not before.isspace():
            raise NotPlainError("a # within a line")
        end = data.find(b"\n", position)
        position = data.find(b"#", end) if end >= 0 else -1
    return data


def text(value: str) -> str:
    """Return a value without its quotes."""
    if value[0] in "'\"":
        return value[1:-1].strip()
    if value[0] == ";":
        raise NotPlainError("a text field where a short value belongs")
    return value


def number(value: str) -> float:
    """Read a number as pymatgen's str2float does: without its uncertainty; a lone dot is zero."""
    try:
        return float(value)
    except ValueError:
        value = re.sub(r"\(.+\)*", "", text(value))
        try:
            return 0.0 if value == "." else float(value)
        except ValueError:
            raise NotPlainError(f"{value!r} is not a number") from None


def single(values: Values, tag: str) -> str:
    """Return the value of a tag that stands by itself."""
    value = values.get(tag)
    if not isinstance(value, str):
        raise NotPlainError(f"{tag} is missing, or in a loop")
    return value


def column(values: Values, tag: str) -> list[str]:
    """Return the values of a tag in a loop."""
    value = values.get(tag)
    if not isinstance(value, Column):
        raise NotPlainError(f"{tag} is missing, or not in a loop")
    return value.cells[value.number :: value.width]
