"""The columns of crystal graphs in a folder: one safetensors file, and a hash over it and the recipe."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from crystalssl import _files
from crystalssl._tensors import read_header, write_header
from crystalssl.exceptions import DatasetError
from crystalssl.graphs._packing import PACKED, pack, unpack
from crystalssl.graphs._recipe import GraphRecipe

__all__ = ["COLUMNS_FILE", "is_stored", "load_columns", "read_counts", "read_meta", "save_columns"]

_FORMAT = 3  # 2 had a .npy file for each column, of which each took a descriptor while it was mapped
_PACKED_FORMAT = 4
_META, COLUMNS_FILE = "graphs.json", "graphs.safetensors"
_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "I8": "i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1"},
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}

Graphs = TypeVar("Graphs")


def save_columns(
    folder: str | os.PathLike,
    columns: Mapping[str, np.ndarray],
    recipe: GraphRecipe,
    *,
    packed: bool = False,
    facts: Mapping[str, Any] | None = None,
    further: Mapping[str, bytes] | None = None,
) -> None:
    """Write a folder, as :meth:`crystalssl.CrystalGraphs.save` says.

    Parameters
    ----------
    folder, columns, recipe, packed
        Place, content, and whether it is packed.
    facts : mapping or None, default=None
        What graphs.json says besides.
    further : mapping of str to bytes, or None, default=None
        Files that appear together with it.
    """
    folder, n_crystals = Path(folder), len(columns["lattice"])
    columns = pack(columns) if packed else columns
    if os.path.lexists(folder):
        raise FileExistsError(f"{folder} exists already; remove it or choose another name")
    try:
        with _files.staging(folder) as staged:
            new = staged / "new"
            new.mkdir()
            with (new / COLUMNS_FILE).open("xb") as file:
                _write(file, columns)
            settings = recipe.to_dict()
            meta = {
                "format": _PACKED_FORMAT if packed else _FORMAT,
                "recipe": settings,
                "n_crystals": n_crystals,
                "n_bytes": (new / COLUMNS_FILE).stat().st_size,
                "sha256": _sha256(settings, [new / COLUMNS_FILE]),
                **(facts or {}),
            }
            for name, content in (further or {}).items():
                with (new / name).open("xb") as file:
                    file.write(content)
            with (new / _META).open("xb") as file:
                file.write(json.dumps(meta, indent=2).encode())
            if os.path.lexists(folder):  # an empty folder would be replaced without a word
                raise FileExistsError("it exists")
            new.rename(folder)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        if os.path.lexists(folder):
            raise FileExistsError(f"{folder} was written by another process meanwhile; load it") from error
        raise DatasetError(
            f"the graphs could not be written to {folder} ({error}); choose a place that can be written to and has room"
        ) from error


def _write(file: IO[bytes], columns: Mapping[str, np.ndarray]) -> None:
    # Those of larger items first, so that all are aligned.
    arrays = dict(sorted(columns.items(), key=lambda item: -item[1].itemsize))
    write_header(file, {name: (_NAMES[array.dtype], array.shape) for name, array in arrays.items()})
    for array in arrays.values():
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def load_columns(
    folder: str | os.PathLike, dtypes: Mapping[str, Any], mmap: bool, make: Callable[..., Graphs]
) -> Graphs:
    """Read a folder, as :meth:`crystalssl.CrystalGraphs.load` says.

    Parameters
    ----------
    folder : path
        Of any format but the first.
    dtypes : mapping of str to dtype
        The columns.
    mmap : bool
        Map the columns into memory instead of reading them.
    make : callable
        Makes graphs of a recipe and of columns, or raises ValueError if these do not go together.
    """
    folder = Path(folder)
    try:
        meta = read_meta(folder)
        read = {2: _map_format_2, _FORMAT: _map, _PACKED_FORMAT: _map_packed}.get(meta["format"])
        if read is None:
            raise ValueError(
                f"it has format {meta['format']}, this version reads formats 2 to {_PACKED_FORMAT}; save it again"
            )
        columns, digest = read(folder, dtypes, meta["recipe"])
        for name, dtype in dtypes.items():
            if columns[name].dtype != dtype:
                raise ValueError(f"{name} holds {columns[name].dtype}, expected {np.dtype(dtype)}")
        recipe = GraphRecipe(**meta["recipe"])
        graphs = make(recipe, **columns)  # before the hash, for which everything is read
        if meta["sha256"] != digest():
            raise ValueError(f"a file was altered or truncated (its sha256 is not the one in {_META})")
        for name in dtypes:
            if name.endswith("offsets") and (columns[name][0] or (np.diff(columns[name]) < 0).any()):
                raise ValueError(f"{name} go backwards")
        in_memory = not mmap and meta["format"] != _PACKED_FORMAT
        return graphs if not in_memory else make(recipe, **{name: np.array(column) for name, column in columns.items()})
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise DatasetError(f"{folder} is not a complete folder of CrystalGraphs: {error}") from error


def read_meta(folder: Path) -> dict[str, Any]:
    """Return what graphs.json says; raise OSError or ValueError if it cannot be read."""
    return json.loads(_files.read_bounded(folder / _META, "json_bytes"))


_Columns = tuple[dict[str, np.ndarray], Callable[[], str]]


def _map(folder: Path, dtypes: Mapping[str, Any], recipe: dict[str, Any]) -> _Columns:
    """Return the columns as views of one mapping, which holds one descriptor, and what computes their hash."""
    path = folder / COLUMNS_FILE
    with _files.open_regular(path) as file:
        entries, _ = read_header(file, os.fstat(file.fileno()).st_size)
        content = np.memmap(file, np.uint8, mode="r")
    columns = {}
    for name in dtypes or entries:
        entry = entries[name]
        # A plain array on top: slices of a memmap cost twice as much.
        column = content[entry.start : entry.stop].view(np.ndarray).view(_DTYPES[entry.dtype])
        columns[name] = column.reshape(entry.shape)
    return columns, lambda: _sha256(recipe, [path])


def _map_packed(folder: Path, dtypes: Mapping[str, Any], recipe: dict[str, Any]) -> _Columns:
    packed, digest = _map(folder, {}, recipe)
    for name, dtype in PACKED.items():
        if packed[name].dtype != dtype and packed[name].dtype.kind != dtype:
            raise ValueError(f"{name} holds {packed[name].dtype}, expected {dtype}")
    return unpack(packed), digest


def read_counts(folder: Path) -> np.ndarray:
    """Return how many atoms and edges each crystal of a packed folder has, of shape (n_crystals, 2)."""
    try:
        columns, _ = _map(folder, dict.fromkeys(("n_atoms", "n_neighbors")), {})
        n_atoms, n_neighbors = columns["n_atoms"].astype(np.int64), columns["n_neighbors"].astype(np.int64)
        n_edges = np.add.reduceat(n_neighbors, np.cumsum(n_atoms) - n_atoms)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DatasetError(f"{folder} is not a complete folder of CrystalGraphs: {error}") from error
    return np.stack([n_atoms, n_edges], axis=1)


def _map_format_2(folder: Path, dtypes: Mapping[str, Any], recipe: dict[str, Any]) -> _Columns:
    paths = [folder / f"{name}.npy" for name in dtypes]
    for path in paths:
        _files.open_regular(path).close()
    columns = {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in paths}
    return columns, lambda: _sha256(recipe, paths)


def _sha256(recipe: dict[str, Any], paths: Iterable[Path]) -> str:
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for path in paths:
        with _files.open_regular(path) as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def is_stored(folder: str | os.PathLike) -> bool:
    """Whether a folder is meant as one of graphs, damaged ones included."""
    return os.path.lexists(os.path.join(folder, _META))
