"""Reader of the gzipped JSON files that matminer and Matbench publish (pandas' ``orient="split"``)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from crystalssl._files import decompress
from crystalssl.exceptions import DatasetError

_decode = json.JSONDecoder().raw_decode
_SPACE = re.compile(r"[ \t\n\r]*")


def read_split_json(
    content: bytes, converters: Mapping[str, Callable[[Any], Any]], source: str
) -> dict[str, list[Any]]:
    """Read some columns of a ``{"index": […], "columns": […], "data": [[…], …]}`` file.

    Rows are decoded and converted one by one: the largest Matbench file would need several GB as parsed JSON.

    Parameters
    ----------
    content : bytes
        The gzipped file.
    converters : mapping of str to callable
        For each wanted column, what turns a JSON value into the value to keep.
    source : str
        Name of the file, for messages.

    Returns
    -------
    dict of str to list
        The converted values of each wanted column, in file order.

    Examples
    --------
    >>> import gzip, json
    >>> from crystalssl.datasets._split_json import read_split_json
    >>> table = {"index": [0, 1], "columns": ["formula", "gap"], "data": [["Si", 1], ["C", 5]]}
    >>> read_split_json(gzip.compress(json.dumps(table).encode()), {"gap": float}, "example")
    {'gap': [1.0, 5.0]}
    """
    try:
        text = decompress(content).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{source} is not a complete gzipped text file ({error}).") from error

    columns: list[str] | None = None
    rows: Iterator[Any] | None = None
    try:
        for key, start in _members(text):
            if key == "columns":
                columns = _decode(text, start)[0]
            elif key == "data":
                rows = _items(text, start)
            if columns is not None and rows is not None:
                return _convert(columns, rows, converters, source)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{source} is not a complete JSON file ({error}).") from error
    raise DatasetError(f'{source} is not a table in the "split" layout: it needs the keys "columns" and "data".')


def _convert(
    columns: list[str], rows: Iterator[Any], converters: Mapping[str, Callable[[Any], Any]], source: str
) -> dict[str, list[Any]]:
    for name in converters:
        if name not in columns:
            raise DatasetError(f"{source} has no column {name!r}; its columns are {', '.join(map(str, columns))}.")
    values: dict[str, list[Any]] = {name: [] for name in converters}
    wanted = [(name, columns.index(name), convert) for name, convert in converters.items()]
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            raise DatasetError(f"{source}, row {number}: not a list of {len(columns)} values, one per column.")
        for name, position, convert in wanted:
            try:
                values[name].append(convert(row[position]))
            except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
                raise DatasetError(
                    f"{source}, row {number}: column {name!r} cannot be read ({type(error).__name__}: {error})."
                ) from error
    return values


def _members(text: str) -> Iterator[tuple[str, int]]:
    """Yield each key of the outermost JSON object with the position of its value."""
    position = _expect(text, 0, "{")
    if text.startswith("}", position):
        return
    while True:
        key, end = _decode(text, position)
        start = _expect(text, end, ":")
        yield key, start
        position, closed = _next(text, _decode(text, start)[1], "}")
        if closed:
            return


def _items(text: str, start: int) -> Iterator[Any]:
    """Yield the items of the JSON array that begins at `start`, decoding one at a time."""
    position = _expect(text, start, "[")
    if text.startswith("]", position):
        return
    while True:
        item, end = _decode(text, position)
        yield item
        position, closed = _next(text, end, "]")
        if closed:
            return


def _next(text: str, position: int, closing: str) -> tuple[int, bool]:
    """Step over the comma after a value; the flag says that `closing` came instead."""
    position = _skip_space(text, position)
    if text.startswith(closing, position):
        return position + 1, True
    return _expect(text, position, ","), False


def _expect(text: str, position: int, character: str) -> int:
    position = _skip_space(text, position)
    if not text.startswith(character, position):
        raise json.JSONDecodeError(f"Expecting {character!r}", text, position)
    return _skip_space(text, position + 1)


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
