"""pymatgen's compiled search for pairs of atoms, kept from what would take hours or all memory."""

from __future__ import annotations

import math

import numpy as np

from crystalssl.exceptions import InvalidStructureError
from crystalssl.graphs._arrays import MIN_DISTANCE, CrystalArrays
from crystalssl.graphs._cell import lengths_and_heights

__all__ = ["MAX_CELLS_AWAY", "check_distances", "compiled_search", "too_close", "too_skewed"]

MAX_CELLS_AWAY = 20
"""Cells from the origin; sites beyond are moved into the cell for the search."""

_PERIODIC = np.ones(3, dtype=np.int64)
_MAX_POINTS = 2e7  # periodic images of atoms that a search may go through; real crystals have some thousand
_MAX_CROWD = 4e6  # pairs of atoms that share a box; real crystals of ten thousands of atoms have some hundred thousand
_MAX_BOXES = 1e6  # boxes that a search may divide space into
_MAX_CELLS = 1e6  # cells between an atom and the origin; beyond, coordinates lose the digits that distances need


def compiled_search(
    crystal: CrystalArrays, radius: float, index: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return centres, neighbours, images and distances of all pairs of a crystal within a radius.

    Every atom with itself at distance zero is among them. The compiled search takes the crystal as it comes: it goes
    through every cell between distant atoms, and divides the space between them into boxes of the radius, which may
    take hours and all memory. What it is given here is harmless.

    Parameters
    ----------
    crystal : CrystalArrays
    radius : float
        In Å.
    index : int
        Position of the crystal in the user's input, for error messages.

    Raises
    ------
    InvalidStructureError
        If the cell is shorter than atoms may be apart or too skewed, or too many atoms are at one place.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    lattice, positions = crystal.lattice, crystal.positions
    lengths, heights = lengths_and_heights(lattice)
    if min(lengths) < MIN_DISTANCE:
        raise too_close(index, (0, 0), min(lengths))
    farthest = max(float(positions.max()), -float(positions.min()))  # along one axis
    cells, wide = None, radius
    if farthest > MAX_CELLS_AWAY * min(heights):
        cells = np.floor(positions @ np.linalg.inv(lattice))
        if np.abs(cells).max() > _MAX_CELLS:
            raise too_skewed(index)
        positions = positions - cells @ lattice
    if (2 * farthest / wide + 2) ** 3 > _MAX_BOXES:
        extent = positions.max(axis=0) - positions.min(axis=0)
        while (extent / wide + 2).prod() > _MAX_BOXES:  # mostly vacuum: larger boxes cost nothing
            wide *= 1.5
    if len(positions) * math.prod(2 * wide / height + 1 for height in heights) > _MAX_POINTS:
        raise too_skewed(index)

    if len(positions) ** 2 > _MAX_CROWD:
        _, counts = np.unique(np.floor(positions / wide), axis=0, return_counts=True)
        if (counts.astype(np.float64) ** 2).sum() > _MAX_CROWD:
            raise InvalidStructureError(
                f"item {index}: {counts.max()} atoms are within {wide:.2g} Å of each other; remove duplicated sites",
                index,
            )

    centers, neighbors, images, distances = find_points_in_spheres(
        positions, positions, r=wide, pbc=_PERIODIC, lattice=lattice, tol=1e-8
    )
    if wide > radius:
        near = distances <= radius
        centers, neighbors, images, distances = centers[near], neighbors[near], images[near], distances[near]
    if cells is not None:
        images = images + cells[centers] - cells[neighbors]
    return centers, neighbors, images, distances


def check_distances(crystal: CrystalArrays, index: int) -> None:
    """Raise InvalidStructureError if two atoms are closer than 0.1 Å."""
    # Ten times the distance, since the compiled search divides the cell into boxes of that size.
    centers, neighbors, _, distances = compiled_search(crystal, 10 * MIN_DISTANCE, index)
    for pair in np.flatnonzero((distances < MIN_DISTANCE) & ((distances > 1e-8) | (centers != neighbors))):
        raise too_close(index, (int(centers[pair]), int(neighbors[pair])), float(distances[pair]))


def too_close(index: int, pair: tuple[int, int], distance: float) -> InvalidStructureError:
    """Return the error for two atoms at one place."""
    first, second = sorted(pair)
    return InvalidStructureError(
        f"item {index}: atoms {first} and {second} are {distance:.3g} Å apart (less than {MIN_DISTANCE} Å); remove "
        "duplicated sites, e.g. with structure.merge_sites(mode='delete')",
        index,
    )


def too_skewed(index: int) -> InvalidStructureError:
    """Return the error for images that are too many cells away."""
    return InvalidStructureError(
        f"item {index}: the cell is too skewed or its atoms lie too far outside it (a neighbour is more than 127 cells "
        "away); pass structure.get_reduced_structure(), with sites inside the cell",
        index,
    )
