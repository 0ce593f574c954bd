"""The columns of crystal graphs in a folder: one ``.npy`` file each, and a hash over all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crystalssl.exceptions import DatasetError
from crystalssl.graphs._recipe import GraphRecipe

__all__ = ["load_columns", "save_columns"]

_FORMAT = 2  # 1 had no hash


def save_columns(folder: str | os.PathLike, columns: Mapping[str, np.ndarray], recipe: GraphRecipe) -> None:
    """Write a folder, as :meth:`crystalssl.CrystalGraphs.save` says."""
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; remove it or choose another name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name, column in columns.items():
            np.save(partial / f"{name}.npy", column)
        settings = recipe.to_dict()
        meta = {
            "format": _FORMAT,
            "recipe": settings,
            "n_crystals": len(columns["lattice"]),
            "sha256": _sha256(partial, columns, settings),
        }
        (partial / "graphs.json").write_text(json.dumps(meta, indent=2))
        partial.chmod(0o755)
        partial.rename(folder)
    except OSError as error:
        if folder.exists():
            raise FileExistsError(f"{folder} was written by another process meanwhile; load it") from error
        raise DatasetError(f"the graphs could not be written to {folder} ({error}); is the disk full?") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_columns(
    folder: str | os.PathLike, dtypes: Mapping[str, Any], mmap: bool
) -> tuple[dict[str, np.ndarray], GraphRecipe]:
    """Read a folder, as :meth:`crystalssl.CrystalGraphs.load` says; `dtypes` names the columns."""
    folder = Path(folder)
    try:
        meta = json.loads((folder / "graphs.json").read_text())
        if meta["format"] != _FORMAT:
            raise ValueError(f"it has format {meta['format']}, this version reads format {_FORMAT}; save it again")
        if meta["sha256"] != _sha256(folder, dtypes, meta["recipe"]):
            raise ValueError("a file was altered or truncated (its sha256 is not the one in graphs.json)")
        columns = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r" if mmap else None, allow_pickle=False)
            for name in dtypes
        }
        for name, dtype in dtypes.items():
            if columns[name].dtype != dtype:
                raise ValueError(f"{name}.npy holds {columns[name].dtype}, expected {np.dtype(dtype)}")
        return columns, GraphRecipe(**meta["recipe"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise DatasetError(f"{folder} is not a complete folder of CrystalGraphs: {error}") from error


def _sha256(folder: Path, names: Iterable[str], recipe: dict[str, Any]) -> str:
    """Return the hash of a recipe and of the columns' files."""
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for name in names:
        with (folder / f"{name}.npy").open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()
