"""Pairs of atoms within a radius, of many crystals at once.

Most cells are so small that it takes less time to go through all their pairs, a whole chunk of crystals in a few calls
of numpy, than pymatgen's compiled search needs to set up its boxes. That is left large cells, and odd ones. Both find
the same pairs, and distances come from the same operations in the same order, so that they are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from crystalssl.graphs._arrays import MIN_DISTANCE, CrystalArrays, CrystalColumns
from crystalssl.graphs._compiled_search import MAX_CELLS_AWAY, compiled_search
from crystalssl.graphs._ragged import concatenate_ranges, offsets_of

__all__ = ["TOO_FAR", "Pairs", "find_pairs"]

TOO_FAR = -128
"""Stands for a translation by more cells than fit into a byte."""

_ITSELF = 1e-8  # Å
_TOLERANCE = 1e-8  # Å², which the compiled search adds to the square of the radius
_MIN_RADIUS = 1.0  # Å; with a smaller one the compiled search has another rule for what lies at the radius
_MAX_PAIRS = 1e6  # of an atom and an image; with more the compiled search is faster
_BLOCK = 50_000  # pairs per matrix product, which stays in cache, and for which OpenBLAS starts no threads
_FARTHEST = 1e3  # Å from the origin, up to which
_ROUNDED = 1e-6  # Å² is more than matrix products are wrong by


class Pairs(NamedTuple):
    """Atoms with the images near them, those of an atom by neighbour, then image. No atom is paired with itself."""

    starts: np.ndarray  # (n_atoms,), where the pairs of each centre start
    counts: np.ndarray  # (n_atoms,)
    distances: np.ndarray  # (n_pairs,), Å
    ends: np.ndarray  # (n_pairs,), rows of the following
    neighbors: np.ndarray  # (n_ends,) int32, indices of atoms within their crystals
    images: np.ndarray  # (n_ends, 3) int8, lattice translations


def _join(parts: Sequence[tuple[np.ndarray, Pairs]], n_atoms: int) -> Pairs:
    """Join pairs of different centres, which are given by their indices among all."""
    starts, counts = np.zeros((2, n_atoms), dtype=np.int64)
    ends, n_pairs, n_ends = [], 0, 0
    for atoms, pairs in parts:
        starts[atoms], counts[atoms] = pairs.starts + n_pairs, pairs.counts
        ends.append(pairs.ends + n_ends)
        n_pairs, n_ends = n_pairs + len(pairs.ends), n_ends + len(pairs.neighbors)
    columns = ([getattr(pairs, name) for _, pairs in parts] for name in ("distances", "neighbors", "images"))
    distances, neighbors, images = map(np.concatenate, columns)
    return Pairs(starts, counts, distances, np.concatenate(ends), neighbors, images)


def find_pairs(crystals: CrystalColumns, radii: np.ndarray, indices: np.ndarray) -> Pairs:
    """Find all pairs within a radius.

    Parameters
    ----------
    crystals : CrystalColumns
    radii : ndarray of shape (n_crystals,)
        In Å.
    indices : ndarray of shape (n_crystals,)
        Positions of the crystals in the user's input, for error messages.

    Raises
    ------
    InvalidStructureError
        See :func:`compiled_search`.
    """
    with np.errstate(all="ignore"):  # what overflows is not small
        near, small = _images_near(crystals, radii)
    if small.all():
        return _all_at_once(crystals, radii, near)
    parts = []
    if small.any():
        atoms = np.flatnonzero(small.repeat(np.diff(crystals.offsets)))
        chosen = _Images(*(column[:, atoms] for column in near))
        parts.append((atoms, _all_at_once(crystals.take(np.flatnonzero(small)), radii[small], chosen)))
    for i in np.flatnonzero(~small).tolist():
        one = crystals.between(i, i + 1)
        crystal = CrystalArrays(one.atomic_numbers, one.positions, one.lattice[0])
        atoms = np.arange(crystals.offsets[i], crystals.offsets[i + 1])
        parts.append((atoms, _by_itself(crystal, float(radii[i]), int(indices[i]))))
    return _join(parts, int(crystals.offsets[-1]))


def _by_itself(crystal: CrystalArrays, radius: float, index: int) -> Pairs:
    centers, neighbors, images, distances = compiled_search(crystal, radius, index)
    rows = np.flatnonzero((distances > _ITSELF) | (centers != neighbors))
    rows = rows[np.lexsort((*images[rows].T[::-1], neighbors[rows], centers[rows]))]
    counts = np.bincount(centers[rows], minlength=len(crystal.positions))
    images = np.where(abs(images) < -TOO_FAR, images, TOO_FAR)[rows].astype(np.int8)
    neighbors = neighbors[rows].astype(np.int32)
    return Pairs(offsets_of(counts)[:-1], counts, distances[rows], np.arange(len(rows)), neighbors, images)


class _Images(NamedTuple):
    """Which images of each atom may be near another one; columns are atoms."""

    places: np.ndarray  # (3, n_atoms), Å, of the atoms when they are moved into the cell,
    moved: np.ndarray  # (3, n_atoms), from so many cells away
    first: np.ndarray  # (3, n_atoms), the first translation from there along each lattice vector
    counts: np.ndarray  # (3, n_atoms), and how many


def _product(vectors: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Return vectors, of shape (3, n), times matrices, of shape (3, 3, n), rounded as the compiled search rounds."""
    return vectors[0] * matrices[0] + vectors[1] * matrices[1] + vectors[2] * matrices[2]


def _images_near(crystals: CrystalColumns, radii: np.ndarray) -> tuple[_Images, np.ndarray]:
    """Return the images of all atoms, and for which crystals to go through all pairs with them."""
    sizes, starts = np.diff(crystals.offsets), crystals.offsets[:-1]
    positions, lattice = np.ascontiguousarray(crystals.positions.T), crystals.lattice.transpose(1, 2, 0)
    normals = np.cross(lattice[[1, 2, 0]], lattice[[2, 0, 1]], axis=1)
    volumes = lattice[0, 0] * normals[0, 0] + lattice[0, 1] * normals[0, 1] + lattice[0, 2] * normals[0, 2]
    inverse = (normals * (1.0 / volumes)).transpose(1, 0, 2)
    fractions = _product(positions, inverse.repeat(sizes, axis=2))
    moved = np.floor(fractions)
    inside = fractions - moved
    places = _product(inside, lattice.repeat(sizes, axis=2))
    heights = abs(volumes) / np.sqrt((normals * normals).sum(axis=1))
    reach = radii / heights + 1e-8
    lowest = (np.minimum.reduceat(fractions, starts, axis=1) - reach).repeat(sizes, axis=1)
    highest = (np.maximum.reduceat(fractions, starts, axis=1) + reach).repeat(sizes, axis=1)
    first, last = np.ceil(lowest - inside), np.floor(highest - inside)
    counts = last - first + 1
    fit = ((first - moved >= -127) & (last - moved <= 127)).all(axis=0)
    n_images = np.add.reduceat(np.where(fit, counts[0] * counts[1] * counts[2], np.inf), starts)
    farthest = np.maximum.reduceat(abs(positions).max(axis=0), starts)
    small = (sizes * n_images <= _MAX_PAIRS) & (radii >= _MIN_RADIUS)
    small &= farthest <= np.minimum(MAX_CELLS_AWAY * heights.min(axis=0), _FARTHEST)
    small &= np.sqrt((lattice * lattice).sum(axis=1)).min(axis=0) >= MIN_DISTANCE
    return _Images(places, moved, first, counts), small


def _all_at_once(crystals: CrystalColumns, radii: np.ndarray, near: _Images) -> Pairs:
    n_atoms, sizes = int(crystals.offsets[-1]), np.diff(crystals.offsets)
    atoms, translations = _translations(near)
    end_offsets = np.searchsorted(atoms, crystals.offsets)
    n_ends = np.diff(end_offsets)
    positions, ends = np.ascontiguousarray(crystals.positions.T), np.empty((3, len(atoms)))
    for axis in range(3):
        a, b, c = (crystals.lattice[:, vector, axis].repeat(n_ends) for vector in range(3))
        ends[axis] = translations[0] * a + translations[1] * b + translations[2] * c + near.places[axis].take(atoms)
    center, end = _roughly_within(radii, positions, crystals.offsets, ends, end_offsets)
    squares = np.zeros(len(end))
    for axis in range(3):
        difference = ends[axis].take(end)
        difference -= positions[axis].take(center)
        difference *= difference
        squares += difference
    distances = np.sqrt(squares)
    within = squares < (radii * radii + _TOLERANCE).repeat(sizes).take(center)
    within &= (distances > _ITSELF) | (atoms.take(end) != center)
    rows = within.nonzero()[0]
    counts = np.bincount(center.take(rows), minlength=n_atoms)
    images = np.empty((len(atoms), 3), dtype=np.int8)
    for axis in range(3):
        images[:, axis] = translations[axis] - near.moved[axis].take(atoms)
    neighbors = np.subtract(atoms, crystals.offsets[:-1].repeat(n_ends), dtype=np.int32, casting="unsafe")
    return Pairs(offsets_of(counts)[:-1], counts, distances.take(rows), end.take(rows), neighbors, images)


def _translations(near: _Images) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the atom of each image, and its translations along the lattice vectors; in the order of both."""
    atoms = np.arange(near.counts.shape[1])
    translations: list[np.ndarray] = []
    for first, counts in zip(near.first, near.counts.astype(np.int64), strict=True):
        repeats = counts.take(atoms)
        steps = concatenate_ranges(first.take(atoms), repeats)
        translations = [axis.repeat(repeats) for axis in translations] + [steps]
        atoms = atoms.repeat(repeats)
    return atoms, translations


def _roughly_within(
    radii: np.ndarray, positions: np.ndarray, offsets: np.ndarray, ends: np.ndarray, end_offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return centres and ends of the pairs of each crystal that are within its radius, and of few that are not."""
    x, y, z = positions
    # |p - e|² = |p|² - 2 p·e + |e|² as a product of matrices
    left = np.stack([-2 * x, -2 * y, -2 * z, np.ones_like(x), x * x + y * y + z * z], axis=1)
    right = np.stack([*ends, (ends * ends).sum(axis=0), np.ones_like(ends[0])])
    found, blocks = [], []
    bounds = (radii * radii + _ROUNDED).tolist()
    limits = zip(bounds, pairwise(offsets.tolist()), pairwise(end_offsets.tolist()), strict=True)
    for bound, (start, stop), (first, last) in limits:
        step = max(1, _BLOCK // (last - first))
        for begin in range(start, stop, step):
            squares = left[begin : min(begin + step, stop)] @ right[:, first:last]
            found.append((squares <= bound).ravel().nonzero()[0])
            blocks.append((begin, first, last - first, len(found[-1])))
    *columns, n_found = np.array(blocks).T
    begins, firsts, widths = (column.repeat(n_found) for column in columns)
    places = np.concatenate(found)
    rows = places // widths
    return begins + rows, firsts + places - rows * widths
