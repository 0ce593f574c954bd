"""What tells a source of crystals from others, so that nothing that was begun from one goes on with another."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence, ValuesView
from pathlib import Path
from typing import Any

import numpy as np

from crystalssl.exceptions import InvalidStructureError
from crystalssl.graphs._structures import crystal_arrays
from crystalssl.io._frames import columns_of, is_frame
from crystalssl.io._sources import files_below, is_path

__all__ = ["identity_of"]


def identity_of(source: Any) -> str | None:
    """Return a hash of a source: of files their names, sizes and times of change, of what is in memory its content.

    None stands for what can be read only once, of which nothing can be told beforehand.
    """
    if hasattr(source, "to_frame"):  # a Series
        source = source.to_frame()
    if is_frame(source):
        said = _of_frame(source.collect() if hasattr(source, "collect") else source)
    elif isinstance(source, (str, os.PathLike)):
        said = _of_text_or_path(source)
    elif isinstance(source, (Sequence, np.ndarray, ValuesView)):
        said = (_of_item(item) for item in source)
    elif hasattr(source, "files"):  # a data set of Arrow
        said = map(_of_file, source.files)
    elif hasattr(source, "to_batches"):  # a table of Arrow
        said = map(_of_batch, source.to_batches())
    else:
        return None
    digest = hashlib.sha256()
    for part in said:
        digest.update(repr(part).encode())
    return digest.hexdigest()


def _of_frame(frame: Any) -> Iterator[Any]:
    if hasattr(frame, "index"):  # which may be the ids
        yield frame.index.tolist()
    for name, values in columns_of(frame):
        yield name
        yield from map(_of_item, values)


def _of_batch(batch: Any) -> bytes:
    import pyarrow as pa

    content = pa.BufferOutputStream()
    with pa.ipc.new_stream(content, batch.schema) as stream:
        stream.write_batch(batch)
    return content.getvalue().to_pybytes()


def _of_text_or_path(source: str | os.PathLike) -> Iterator[Any]:
    if isinstance(source, str) and "\n" in source:
        yield source
        return
    path = os.path.expanduser(os.fsdecode(source))
    if os.path.isdir(path):
        yield os.path.abspath(path)
        yield from map(_of_file, files_below(Path(path), []))
    elif os.path.exists(path) or not glob.has_magic(path):
        yield _of_file(path)
    else:
        yield from map(_of_file, sorted(glob.iglob(path, recursive=True)))


def _of_file(path: str | os.PathLike) -> Any:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # which readers report; ValueError: a null byte
        return os.fspath(path)
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


def _of_item(item: Any) -> Any:
    """Return what tells an item of a list, or a cell of a table, from others."""
    if is_path(item):
        return _of_file(os.path.expanduser(os.fsdecode(item)))
    if item is None or isinstance(item, (str, bytes, bool, int, float, complex, np.generic)):
        return item
    if isinstance(item, Mapping):
        return [(key, _of_item(value)) for key, value in item.items()]
    if isinstance(item, np.ndarray) and item.dtype != object:
        return item.shape, item.tolist()
    if isinstance(item, (list, tuple, np.ndarray)):
        return [_of_item(value) for value in item]
    try:
        numbers, positions, lattice = crystal_arrays(item)
    except InvalidStructureError:  # which readers report
        return type(item).__name__
    return numbers.tobytes(), positions.tobytes(), lattice.tobytes()
