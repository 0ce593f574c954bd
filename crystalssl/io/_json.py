"""JSON: crystals, documents that hold one, lists of these, and the layouts of pandas, OPTIMADE and Alexandria."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from crystalssl._limits import LIMITS
from crystalssl.io._json_stream import JsonStream
from crystalssl.io._records import Records, is_crystal
from crystalssl.io._rows import Row, Unknown, Unusable, Wanted
from crystalssl.io._source_file import SourceFile

__all__ = ["is_ase_database", "looks_like_json_lines", "read_json", "read_json_lines"]

_LISTS = ("data", "entries", "structures", "records", "results", "rows", "response")
_FIELDS = ("structure", "atoms", "crystal", "attributes")


def read_json(source: SourceFile, wanted: Wanted) -> Iterator[Row]:
    """Read the crystals of a JSON file, record by record."""
    records = Records.of(source, wanted)
    with source.open_text() as file:
        stream = JsonStream(file)
        number = 0
        while first := stream.peek():
            if first not in "[{":
                raise ValueError("it is JSON, but neither an object nor a list")
            rows = _list(stream, records, source) if first == "[" else _object(stream, records, source)
            for row in rows:  # of further values, in a file of several, the rows count on
                yield row if row.row is None else row._replace(row=number)
                number += 1


def read_json_lines(source: SourceFile, wanted: Wanted) -> Iterator[Row]:
    """Read a file of one JSON value a line; a line that is damaged costs no other."""
    records = Records.of(source, wanted)
    number = 0
    with source.open_text() as file:
        while line := file.readline(LIMITS.bytes):
            if not line.strip():
                continue
            try:
                yield records.row(json.loads(line), number)
            except (ValueError, RecursionError) as error:
                if not line.endswith("\n") and len(line) >= LIMITS.bytes:
                    raise ValueError(
                        f"line {number} is longer than {LIMITS.bytes:,} bytes, the crystalssl.LIMITS.bytes"
                    ) from error
                reason = Unusable(f"its line is not complete JSON ({error})")
                yield Row(reason, {}, f"{records.prefix}{number}", number, source.label)
            number += 1


def looks_like_json_lines(text: str, name: str) -> bool:
    """Return whether the first line is a whole JSON object and another begins in the next, or the name says so."""
    if name.lower().endswith((".jsonl", ".ndjson")):
        return True
    first, _, rest = text.lstrip().partition("\n")
    if rest.lstrip()[:1] != "{":
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def is_ase_database(text: str) -> bool:
    """Return whether a text begins as ASE's databases in JSON do."""
    return text.lstrip().startswith('{"1": {') and '"numbers"' in text and '"unique_id"' in text


def _list(stream: JsonStream, records: Records, source: SourceFile) -> Iterator[Row]:
    for number, value in enumerate(stream.items()):
        yield records.row(value, number)


def _object(stream: JsonStream, records: Records, source: SourceFile) -> Iterator[Row]:
    """Read an object: one record, a table, or records by their ids."""
    fields: dict[str, Any] = {}
    columns: list[str] | None = None
    index: list[Any] = []
    n_rows, kept = 0, 0
    for key in stream.members():
        if stream.peek() == "[" and key in _LISTS and not is_crystal(fields.get("structure")):
            columns = columns or fields.get("columns") or _later(source, "columns")
            for value in stream.items():
                yield _listed(value, columns, index, n_rows, records)
                n_rows += 1
        elif stream.peek() == "[" and key == "index":
            index = list(stream.items())
        elif n_rows:
            stream.skip()
        else:
            value = stream.large()
            # Records by id. A dict named as a field is part of one record, or a column.
            if key not in _FIELDS and isinstance(value, dict) and _is_record(value) and len(fields) == kept:
                yield records.row(value, kept, key)
                kept += 1
                fields[key] = None
            elif kept:
                yield records.row(value, kept, key)
                kept += 1
            else:
                fields[key] = value
    if n_rows or kept:
        return
    if isinstance(columns := fields.get("columns"), list) and "data" in fields:
        raise ValueError('it looks like a table in the "split" layout of pandas, but its "data" are no list')
    if fields and all(isinstance(value, dict) for value in fields.values()) and not is_crystal(fields):
        table = {name: value for name, value in fields.items() if name not in ("@module", "@class")}
        if not any(is_crystal(value) for value in table.values()):  # pandas' "columns" layout
            for number, row in enumerate(dict.fromkeys(row for column in table.values() for row in column)):
                yield records.row({name: column.get(row) for name, column in table.items()}, number, row)
            return
    if fields and not _is_record(fields) and records.wanted.structure is None:
        names = ", ".join(map(repr, list(fields)[:10]))
        raise Unknown(
            f"it is JSON without the keys of a crystal (it has {names}): those of pymatgen's Structure.as_dict(), of "
            "jarvis, OPTIMADE or ASE, or of a table of these"
        )
    if fields:
        yield records.row(fields, None, None if records._column else source.id)._replace(row=None)


def _listed(value: Any, columns: Any, index: list[Any], number: int, records: Records) -> Row:
    label = index[number] if number < len(index) else None
    id = str(label) if isinstance(label, str) else None
    if isinstance(value, list) and columns:
        if len(value) != len(columns):
            reason = Unusable(f"it is not a list of {len(columns)} values, one per column")
            return Row(reason, {}, id or f"{records.prefix}{number}", number, records.label)
        if number == 0:
            records.wanted.check(list(map(str, columns)), records.label or "the table")
        value = dict(zip(columns, value, strict=True))
    return records.row(value, number, id)


def _later(source: SourceFile, wanted: str) -> Any:
    """Return a member of the outermost object, wherever in the file it is."""
    with source.open_text() as file:
        stream = JsonStream(file)
        for key in stream.members():
            if key == wanted:
                return stream.value()
            stream.skip()
    return None


def _is_record(value: Mapping[str, Any]) -> bool:
    """Return whether a dict is a crystal, or has one among its values."""
    if is_crystal(value):
        return True
    return any(
        (isinstance(inner, (dict, str)) and (is_crystal(inner) if isinstance(inner, dict) else "\n" in inner.strip()))
        or (name == "attributes" and isinstance(inner, dict))
        for name, inner in value.items()
    )
