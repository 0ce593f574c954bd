"""Tables of text: comma, semicolon or tab between the cells, with a header or, as CGCNN's, without."""

from __future__ import annotations

import csv
import io
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from crystalssl._limits import LIMITS
from crystalssl.io._records import Records
from crystalssl.io._rows import Row, Unusable, Wanted
from crystalssl.io._source_file import SourceFile

__all__ = ["cells_of", "looks_like_table", "read_table"]

_DELIMITERS = "\t;,|"
_QUOTED = re.compile(r'"[^"]*"?')
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf(inity)?)", re.IGNORECASE)
_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+),\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+")
_ENDINGS = ("", ".cif", ".vasp", ".json", ".xyz")
_PEEKED = 20  # rows that the column of the crystals is found by


def looks_like_table(text: str) -> bool:
    """Return whether a text begins with lines of the same number of cells, two or more."""
    try:
        head = list(itertools.islice(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)), 3))
    except csv.Error:
        return False
    return len(head) > 1 and len(head[0]) > 1 and len(head[0]) == len(head[1]) and all(map(str.isprintable, head[0]))


def read_table(source: SourceFile, wanted: Wanted) -> Iterator[Row]:
    """Read the rows of a table, one crystal each: its text, or the name of its file."""
    names, cells = cells_of(source)
    wanted.check(names, source.label)
    records = Records.of(source, wanted)
    first = list(itertools.islice(cells, _PEEKED))
    rows = (dict(zip(names, row, strict=False)) for _, row in first if isinstance(row, list))
    records.choose(list(rows))
    for number, row in itertools.chain(first, cells):
        if isinstance(row, Unusable):
            yield Row(row, {}, f"{source.id}:{number}", number, source.label)
        else:
            yield records.row(dict(zip(names, row, strict=True)), number)


def cells_of(source: SourceFile) -> tuple[list[str], Iterator[tuple[int, list[str] | Unusable]]]:
    """Return the names of the columns, and the rows with their numbers.

    Without a header, the columns are "id" and "target", or "target_1", "target_2", …
    """
    rows = _rows(source)
    first = next(rows, None)
    if first is None:
        raise ValueError("it is empty")
    if isinstance(first[1], Unusable):
        raise first[1]
    names = [name.strip() for name in first[1]]
    if _is_header(names) and not any(_names_file(source.folder, name) for name in names):
        if twice := next((name for name in names if name and names.count(name) > 1), None):
            raise ValueError(f"two of its columns are called {twice!r}")
        first = None
    else:
        targets = len(names) - 1
        names = ["id", *(["target"] if targets == 1 else [f"target_{number + 1}" for number in range(targets)])]

    def numbered() -> Iterator[tuple[int, list[str] | Unusable]]:
        for number, (_, row) in enumerate(rows if first is None else itertools.chain([first], rows)):
            if isinstance(row, list) and len(row) != len(names):
                yield number, Unusable(f"it has {len(row)} cells, where the table has {len(names)} columns")
            else:
                yield number, row

    return names, numbered()


def _rows(source: SourceFile) -> Iterator[tuple[int, list[str] | Unusable]]:
    # The limit holds for all of Python, so that it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), LIMITS.bytes))
    with source.open_text() as file:
        beginning = file.read(2**14)
        if beginning.startswith("sep=") and beginning[4:5] and beginning[5:6] in "\r\n":  # for Excel
            delimiter, beginning = beginning[4], beginning[5:].lstrip("\r\n")
        else:
            delimiter = _delimiter(beginning)
        reader = csv.reader(_lines(beginning, file), delimiter=delimiter, strict=True)
        number = 0
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:  # where the next row begins is not known then
                yield number, Unusable(f"it and all after it cannot be read ({error})")
                return
            if any(map(str.strip, row)):
                yield number, row if delimiter == "," else [_point(cell, delimiter) for cell in row]
                number += 1


def _lines(beginning: str, file: IO[str]) -> Iterator[str]:
    """Yield the lines of a file whose beginning is read already."""
    head = io.StringIO(beginning, newline="")
    line = ""
    for line in head:
        if line.endswith("\n"):
            yield line
            line = ""
    rest = iter(file)
    if line:
        yield line + next(rest, "")
    yield from rest


def _delimiter(text: str) -> str:
    first = _QUOTED.sub("", text.lstrip("\r\n").split("\n", 1)[0])
    counts = {delimiter: first.count(delimiter) for delimiter in _DELIMITERS}
    # Of as many commas as semicolons the commas are those of numbers: mp-1;1,5;2,5
    best = max(counts, key=lambda delimiter: (counts[delimiter], -_DELIMITERS.index(delimiter)))
    return best if counts[best] else ","


def _is_header(cells: Sequence[str]) -> bool:
    """Return whether the first row names columns: none of its cells is a number or holds a crystal."""
    return not any(_NUMBER.fullmatch(cell) or "\n" in cell or cell[:1] == "{" for cell in cells) and len(cells) > 0


def _names_file(folder: Path, cell: str) -> bool:
    return bool(cell) and any(os.path.isfile(folder / f"{cell}{ending}") for ending in _ENDINGS)


def _point(cell: str, delimiter: str) -> str:
    """Return a number that is written with a decimal comma with a point.

    Semicolons are there because commas are decimal. Behind a tab 1,234 may be a thousand, and is left for a refusal.
    """
    text = cell.strip()
    if delimiter != ";" and _THOUSANDS.fullmatch(text):
        return cell
    return text.replace(".", "").replace(",", ".") if _COMMA.fullmatch(text) else cell
