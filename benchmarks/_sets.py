"""The sets of labels that methods are compared on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _common import data_file, encoder_of, load_task

from crystalssl import CrystalGraphs, CrystalGraphTransformer
from crystalssl.datasets import fetch_matminer, read_optimade_parquet
from crystalssl.graphs import RECIPES
from crystalssl.training import bundled_weights, load_encoder

__all__ = ["UNITS", "Sets", "known_elements", "n_atoms_of", "read_set"]

UNITS = {
    "phonons": "1/cm",
    "jdft2d": "meV/atom",
    "dielectric": "log10",
    "log10 K": "log10 GPa",
    "log10 G": "log10 GPa",
    "perovskites": "eV/atom",
    "band gap": "eV",
    "formation energy": "eV/atom",
}
_FILES = {
    "log10 K": ("mp_elastic.parquet", "log10_k_vrh"),
    "log10 G": ("mp_elastic.parquet", "log10_g_vrh"),
    "perovskites": ("perovskites.parquet", "heat_of_formation"),
    "band gap": ("mp_stable.parquet", "band_gap"),
    "formation energy": ("mp_stable.parquet", "formation_energy_per_atom"),
}


def read_set(name: str, folder: Path) -> tuple[Any, np.ndarray]:
    """Return crystals and labels of one of `UNITS`."""
    if name in ("phonons", "jdft2d"):
        data = load_task(f"matbench_{name}", folder)
        return data.data, np.asarray(data.target)
    if name == "dielectric":
        data = fetch_matminer("dielectric_constant", data_home=folder, download_if_missing=False)
        return data.data, np.log10(np.asarray(data.target))
    file, column = _FILES[name]
    data = read_optimade_parquet(data_file(folder, file), columns=[column])
    return data.data, np.asarray(data.target, dtype=float).reshape(-1)


class Sets:
    """Graphs and labels, read and built when they are first asked for.

    Parameters
    ----------
    folder : path
        With the data files.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._built: dict[Any, tuple[CrystalGraphs, np.ndarray]] = {}

    def of(self, task: str, method: str) -> tuple[CrystalGraphs, np.ndarray]:
        """Return graphs as the encoder of a method reads them, and labels."""
        if task not in self._built:
            X, y = read_set(task, self.folder)
            graphs = CrystalGraphTransformer().transform(X)
            rows = np.flatnonzero(made_of(graphs, known_elements()) & np.isfinite(y))
            self._built[task] = graphs[rows], y[rows]
        graphs, y = self._built[task]
        recipe = RECIPES[encoder_of(method)]
        if (task, recipe) not in self._built:
            self._built[task, recipe] = graphs.with_recipe(recipe), y
        return self._built[task, recipe]


def known_elements(weights: Sequence[str | Path] = ()) -> set[int]:
    """Return the elements that all of some weights know, where none are given the bundled ones."""
    return set.intersection(*(set(load_encoder(name)[1]["elements"]) for name in weights or bundled_weights()))


def n_atoms_of(graphs: CrystalGraphs, elements: Iterable[int]) -> np.ndarray:
    """Return how many atoms of some elements each crystal has."""
    return np.add.reduceat(np.isin(graphs.atomic_numbers, list(elements)), graphs.atom_offsets[:-1], dtype=int)


def made_of(graphs: CrystalGraphs, elements: Iterable[int]) -> np.ndarray:
    """Return whether each crystal has atoms of some elements alone."""
    return n_atoms_of(graphs, elements) == np.diff(graphs.atom_offsets)
