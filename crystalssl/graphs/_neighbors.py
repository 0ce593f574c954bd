"""Neighbour lists of many crystals at once.

pymatgen's compiled cell-list search finds candidates crystal by crystal; ordering and cutting, which cost more than the
search when done per crystal, are done in one sort for a whole chunk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crystalssl.exceptions import InvalidStructureError
from crystalssl.graphs._arrays import MIN_DISTANCE, CrystalArrays
from crystalssl.graphs._cell import cell_volume, lengths_and_heights
from crystalssl.graphs._recipe import GraphRecipe

__all__ = ["Edges", "check_distances", "find_edges"]

_PERIODIC = np.ones(3, dtype=np.int64)
_MAX_POINTS = 2e7  # periodic images of atoms that a search may go through; real crystals have some thousand
_MAX_CROWD = 4e6  # pairs of atoms that share a box; real crystals of ten thousands of atoms have some hundred thousand
_MAX_BOXES = 1e6  # boxes that a search may divide space into
_NEAR = 20  # cells from the origin; sites beyond are moved into the cell for the search
_MAX_CELLS = 1e6  # cells between an atom and the origin; beyond, coordinates lose the digits that distances need


class Edges(NamedTuple):
    """The edges of a chunk of crystals, sorted by centre, then distance."""

    neighbors: np.ndarray  # (n_edges,) int32, index of the neighbouring atom within its crystal
    images: np.ndarray  # (n_edges, 3) int8, lattice translations of the neighbour
    distances: np.ndarray  # (n_edges,) float32, Å
    counts: np.ndarray  # (n_atoms,) int64, edges of each centre


_Pairs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # centres, neighbours, images, distances


def _search(crystal: CrystalArrays, radius: float, index: int) -> _Pairs:
    """All pairs within `radius`, among them every atom with itself at distance zero.

    The compiled search takes the crystal as it comes: it goes through every cell between distant atoms, and divides the
    space between them into boxes of the radius, which may take hours and all memory. What it is given here is harmless.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    lattice, positions = crystal.lattice, crystal.positions
    lengths, heights = lengths_and_heights(lattice)
    if min(lengths) < MIN_DISTANCE:
        raise _too_close(index, (0, 0), min(lengths))
    farthest = max(float(positions.max()), -float(positions.min()))  # along one axis
    cells, wide = None, radius
    if farthest > _NEAR * min(heights):
        cells = np.floor(positions @ np.linalg.inv(lattice))
        if np.abs(cells).max() > _MAX_CELLS:
            raise _too_skewed(index)
        positions = positions - cells @ lattice
    if (2 * farthest / wide + 2) ** 3 > _MAX_BOXES:
        extent = positions.max(axis=0) - positions.min(axis=0)
        while (extent / wide + 2).prod() > _MAX_BOXES:  # mostly vacuum: larger boxes cost nothing
            wide *= 1.5
    if len(positions) * math.prod(2 * wide / height + 1 for height in heights) > _MAX_POINTS:
        raise _too_skewed(index)

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


def _candidates(crystal: CrystalArrays, recipe: GraphRecipe, index: int) -> _Pairs:
    """All pairs within a radius that is certain to hold what the recipe keeps, atoms with themselves included."""
    k = recipe.max_neighbors
    if k is None:
        return _search(crystal, recipe.cutoff, index)
    n_atoms = len(crystal.positions)
    # The radius of the sphere that holds k + 1 atoms at the crystal's mean density, and a margin that spares 98 of 100
    # crystals a second search.
    sphere = (k + 1) * cell_volume(crystal.lattice) / n_atoms
    radius = min(recipe.cutoff, 1.15 * (3 * sphere / (4 * np.pi)) ** (1 / 3) + recipe.shell)
    while True:
        found = _search(crystal, radius, index)
        if radius >= recipe.cutoff:
            return found
        # The k-th neighbour's whole shell must lie inside the sphere.
        complete = found[0][found[3] <= radius - recipe.shell]
        if np.bincount(complete, minlength=n_atoms).min() > k:  # more than k, for the atom itself is counted too
            return found
        radius = min(recipe.cutoff, 1.3 * radius)


def _sort_order(centers: np.ndarray, distances: np.ndarray, neighbors: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Order by (centre, distance rounded to 1e-5 Å, neighbour, image): the same on every machine."""
    keys = [centers, np.rint(distances * 1e5).astype(np.int64), neighbors, *(images - images.min()).T]
    widths = [int(key.max()).bit_length() for key in keys]
    if sum(widths) > 63:
        return np.lexsort(keys[::-1])
    # Packed into one integer, the six keys sort several times faster than with lexsort.
    packed = np.zeros(len(centers), dtype=np.int64)
    for key, width in zip(keys, widths, strict=True):
        packed <<= width
        packed |= key
    return np.argsort(packed)


def _farthest_kept(centers: np.ndarray, distances: np.ndarray, counts: np.ndarray, k: int, shell: float) -> np.ndarray:
    """Return for each atom how far its neighbours may be; infinity with fewer than k candidates."""
    limits = np.full(len(counts), np.inf)
    enough = np.flatnonzero(counts >= k)
    stride = 2 * distances.max()  # one sort for all atoms: each has a range of numbers of its own
    ascending = np.sort(centers * stride + distances)
    kth = (np.cumsum(counts) - counts)[enough] + k - 1
    limits[enough] = ascending[kth] - enough * stride + shell
    return limits


def find_edges(crystals: Sequence[CrystalArrays], recipe: GraphRecipe, first_index: int = 0) -> Edges:
    """Find the neighbours of every atom of every crystal.

    Parameters
    ----------
    crystals : sequence of CrystalArrays
        Some hundred at a time: enough to spread numpy's overhead, few enough to stay in cache.
    recipe : GraphRecipe
        Cutoff (Å) and number of neighbours.
    first_index : int, default=0
        Position of the first crystal in the user's input, for error messages.

    Returns
    -------
    Edges
        Sorted by centre (in the order of the crystals and their atoms), then distance.

    Raises
    ------
    InvalidStructureError
        If two atoms are closer than 0.1 Å, or a cell is so skewed that images do not fit into a byte.
    """
    sizes = np.array([len(crystal.positions) for crystal in crystals])
    first_atom = np.concatenate([[0], np.cumsum(sizes)])
    n_atoms = int(first_atom[-1])
    found = [_candidates(crystal, recipe, first_index + i) for i, crystal in enumerate(crystals)]
    centers = np.concatenate([f[0] + start for f, start in zip(found, first_atom, strict=False)])
    neighbors = np.concatenate([f[1] for f in found])
    distances = np.concatenate([f[3] for f in found])

    itself = neighbors + np.repeat(first_atom[:-1], [len(f[0]) for f in found])
    rows = np.flatnonzero((distances > 1e-8) | (centers != itself))
    centers, distances = centers[rows], distances[rows]
    counts = np.bincount(centers, minlength=n_atoms)
    if recipe.max_neighbors is not None and len(rows):
        # Before the edges are sorted, since that costs more than all else here.
        limits = _farthest_kept(centers, distances, counts, recipe.max_neighbors, recipe.shell)
        near = np.flatnonzero(distances <= limits[centers])
        rows, centers, distances = rows[near], centers[near], distances[near]
        counts = np.bincount(centers, minlength=n_atoms)
    if len(rows) == 0:  # isolated atoms only
        return Edges(np.empty(0, np.int32), np.empty((0, 3), np.int8), np.empty(0, np.float32), counts)
    neighbors = neighbors[rows]
    images = np.concatenate([f[2] for f in found], dtype=np.int64, casting="unsafe")[rows]
    order = _sort_order(centers, distances, neighbors, images)
    centers, neighbors, images, distances = centers[order], neighbors[order], images[order], distances[order]

    if distances.min() < MIN_DISTANCE:
        edge = int(distances.argmin())
        crystal = int(np.searchsorted(first_atom, centers[edge], side="right")) - 1
        pair = (int(centers[edge] - first_atom[crystal]), int(neighbors[edge]))
        raise _too_close(first_index + crystal, pair, float(distances[edge]))
    if np.abs(images).max() > 127:
        atom = centers[int(np.abs(images).max(axis=1).argmax())]
        index = first_index + int(np.searchsorted(first_atom, atom, side="right")) - 1
        raise _too_skewed(index)
    return Edges(neighbors.astype(np.int32), images.astype(np.int8), distances.astype(np.float32), counts)


def check_distances(crystal: CrystalArrays, index: int) -> None:
    """Raise InvalidStructureError if two atoms are closer than 0.1 Å."""
    # Ten times the distance, since the compiled search divides the cell into boxes of that size.
    centers, neighbors, _, distances = _search(crystal, 10 * MIN_DISTANCE, index)
    for pair in np.flatnonzero((distances < MIN_DISTANCE) & ((distances > 1e-8) | (centers != neighbors))):
        raise _too_close(index, (int(centers[pair]), int(neighbors[pair])), float(distances[pair]))


def _too_close(index: int, pair: tuple[int, int], distance: float) -> InvalidStructureError:
    first, second = sorted(pair)
    return InvalidStructureError(
        f"item {index}: atoms {first} and {second} are {distance:.3g} Å apart (less than {MIN_DISTANCE} Å); remove "
        "duplicated sites, e.g. with structure.merge_sites(mode='delete')",
        index,
    )


def _too_skewed(index: int) -> InvalidStructureError:
    return InvalidStructureError(
        f"item {index}: the cell is too skewed or its atoms lie too far outside it (a neighbour is more than 127 cells "
        "away); pass structure.get_reduced_structure(), with sites inside the cell",
        index,
    )
