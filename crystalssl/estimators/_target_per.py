"""Sizes of crystals, by which targets are divided: atoms, area per atom of a layer, volume per atom."""

from __future__ import annotations

import numpy as np

from crystalssl.exceptions import InvalidStructureError
from crystalssl.graphs import CrystalCorpus, CrystalGraphs
from crystalssl.graphs._cell_features import areas_per_atom
from crystalssl.graphs._corpus import parts_of

__all__ = ["TARGET_PER", "sizes_of"]

TARGET_PER = ("atom", "area", "volume")


def sizes_of(graphs: CrystalGraphs | CrystalCorpus, per: str | None, indices: np.ndarray) -> np.ndarray:
    """Return the sizes of crystals, float64, of shape (n_crystals, 1).

    Parameters
    ----------
    graphs : CrystalGraphs or CrystalCorpus
        The crystals.
    per : {"atom", "area", "volume"} or None
        The number of atoms in the cell; the area per atom of a layer, in Å²; or the volume per atom, in Å³. None is 1.
    indices : ndarray of shape (n_crystals,), int
        Their positions in what the user gave, for messages.

    Raises
    ------
    InvalidStructureError
        If a crystal has no area: no gap of 5 Å between its atoms.
    """
    if per is None:
        return np.ones((len(graphs), 1))
    if isinstance(graphs, CrystalCorpus):
        return np.concatenate([sizes_of(part, per, indices[some]) for some, part in parts_of(graphs)])
    n_atoms = np.diff(graphs.atom_offsets)
    if per == "atom":
        sizes = n_atoms.astype(np.float64)
    elif per == "volume":
        sizes = np.abs(np.linalg.det(graphs.lattice)) / n_atoms
    else:
        sizes = areas_per_atom(graphs)
        if np.isnan(sizes).any():
            index = int(indices[np.isnan(sizes).argmax()])
            raise InvalidStructureError(
                f"item {index} has no area: no plane through it is 5 Å away from all atoms to both sides "
                'together, as it is in the vacuum beside a layer; leave it out, or set target_per to None, "atom" or '
                '"volume"',
                index,
            )
    return sizes[:, None]
