"""Reader of the gzipped JSON files that matminer and Matbench publish (pandas' ``orient="split"``)."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from crystalssl.exceptions import DatasetError


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
    from crystalssl.io._json_stream import JsonStream
    from crystalssl.io._source_file import expanded

    columns = None
    for wanted in ("columns", "data"):  # in two passes, since either may come first
        with expanded(io.BytesIO(content)) as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
            stream = JsonStream(text)
            try:
                for key in stream.members():
                    if key == wanted == "columns":
                        columns = stream.value()
                        break
                    if key == wanted:
                        return _convert(columns, stream.items(), converters, source)
                    stream.skip()
            except DatasetError:
                raise
            except (OSError, UnicodeDecodeError) as error:
                raise DatasetError(f"{source} is not a complete gzipped text file ({error}).") from error
            except ValueError as error:
                raise DatasetError(f"{source} is not a complete JSON file ({error}).") from error
        if columns is None:
            break
    raise DatasetError(f'{source} is not a table in the "split" layout: it needs the keys "columns" and "data".')


def _convert(
    columns: Any, rows: Iterable[Any], converters: Mapping[str, Callable[[Any], Any]], source: str
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
