"""Sizes of crystals, by which targets are divided: atoms, area per atom of a layer, volume per atom."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from crystalssl.exceptions import InvalidStructureError
from crystalssl.graphs import CrystalGraphs

__all__ = ["TARGET_PER", "sizes_of"]

TARGET_PER = ("atom", "area", "volume")
MIN_GAP = 5.0
"""Å between the atoms of a layer and those of the next that count as vacuum; sheets of graphite are 3.35 Å apart."""
_MAX_INDEX = 40
"""Miller index along each axis up to which planes are looked at, in cells of more than 200 Å."""


def sizes_of(graphs: CrystalGraphs, per: str | None, indices: np.ndarray) -> np.ndarray:
    """Return the sizes of crystals, float64, of shape (n_crystals, 1).

    Parameters
    ----------
    graphs : CrystalGraphs
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
    n_atoms = np.diff(graphs.atom_offsets)
    if per is None:
        sizes = np.ones(len(graphs))
    elif per == "atom":
        sizes = n_atoms.astype(np.float64)
    elif per == "volume":
        sizes = np.abs(np.linalg.det(graphs.lattice)) / n_atoms
    else:
        atoms = np.split(graphs.positions, graphs.atom_offsets[1:-1])
        sizes = np.array([_area_per_atom(*crystal) for crystal in zip(graphs.lattice, atoms, strict=True)])
        if np.isnan(sizes).any():
            index = int(indices[np.isnan(sizes).argmax()])
            raise InvalidStructureError(
                f"item {index} has no area: no plane through it is {MIN_GAP:g} Å away from all atoms to both sides "
                'together, as it is in the vacuum beside a layer; leave it out, or set target_per to None, "atom" or '
                '"volume"',
                index,
            )
    return sizes[:, None]


def _area_per_atom(lattice: np.ndarray, positions: np.ndarray) -> float:
    """Return the area of a layer, divided by its atoms, in Å²; NaN if the crystal is not one of layers in vacuum.

    Of all lattice planes those with the widest gap are taken. It does not matter how the cell is chosen: a gap is no
    wider than the planes are apart, so that those to look at have reciprocal vectors of at most 1 / MIN_GAP, and there
    are few of them.
    """
    from pymatgen.core import Lattice

    cell = Lattice(lattice).get_lll_reduced_lattice().matrix
    to_fractions = np.linalg.inv(cell)
    bounds = [min(math.floor(length / MIN_GAP), _MAX_INDEX) for length in np.linalg.norm(cell, axis=1)]
    indices = np.array(list(product(*(range(-bound, bound + 1) for bound in bounds))))
    indices = indices[len(indices) // 2 + 1 :]  # one of each pair of opposites, without zero
    indices = indices[np.gcd.reduce(indices, axis=1) == 1]
    lengths = np.linalg.norm(indices @ to_fractions.T, axis=1)
    fractions = positions @ to_fractions
    widest, area = MIN_GAP, math.nan
    for row in np.argsort(lengths, kind="stable"):
        spacing = 1 / lengths[row]
        if spacing < widest:  # and so are those that follow
            break
        heights = np.sort(fractions @ indices[row] % 1.0)
        gaps = spacing * np.diff(heights, append=heights[0] + 1)
        if gaps.max() >= widest:
            # A cell of several layers, each in vacuum, has the area of each of them.
            widest = gaps.max() * (1 + 1e-6)
            area = (gaps >= MIN_GAP).sum() * abs(np.linalg.det(cell)) / (spacing * len(positions))
    return area
