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
        said = (_of_file(Path(path)) for path in source.files)
    elif hasattr(source, "to_batches"):  # a table of Arrow
        said = (batch.serialize().to_pybytes() for batch in source.to_batches())
    else:
        return None
    digest = hashlib.sha256()
    for part in said:
        digest.update(repr(part).encode())
    return digest.hexdigest()


def _of_frame(frame: Any) -> Iterator[Any]:
    for name, values in columns_of(frame):
        yield name
        yield from map(_of_item, values)


def _of_text_or_path(source: str | os.PathLike) -> Iterator[Any]:
    if isinstance(source, str) and "\n" in source:
        yield source
        return
    path = Path(os.fsdecode(source)).expanduser()
    if path.is_dir():
        yield str(path.absolute())
        yield from map(_of_file, files_below(path, []))
    elif path.exists() or not glob.has_magic(str(path)):
        yield _of_file(path)
    else:
        yield from (_of_file(Path(found)) for found in sorted(glob.iglob(str(path), recursive=True)))


def _of_file(path: Path) -> Any:
    try:
        status = path.stat()
    except OSError:  # which readers report
        return str(path)
    return str(path.absolute()), status.st_size, status.st_mtime_ns


def _of_item(item: Any) -> Any:
    """Return what tells an item of a list, or a cell of a table, from others."""
    if is_path(item):
        return _of_file(Path(os.fsdecode(item)).expanduser())
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
