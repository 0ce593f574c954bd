"""Columns of crystal graphs in a third of the bytes, from which the very same columns come back.

A distance follows from two positions, the lattice and an image; few images occur, so that an edge names one by its
number; counts and neighbours are small. The few distances of which the last bit comes out otherwise are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from crystalssl.graphs._ragged import offsets_of

__all__ = ["PACKED", "pack", "unpack"]

PACKED = {
    "atomic_numbers": "u1",
    "positions": "f8",
    "lattice": "f8",
    "n_atoms": "u",
    "n_neighbors": "u",
    "neighbors": "u",
    "image_numbers": "u",
    "images": "i1",
    "corrected": "u",
    "corrections": "f4",
}
"""The packed columns and their types; "u" is the smallest unsigned one that holds the numbers."""

_AT_ONCE = 2**14  # shifts of lattices by images; some two hundred crystals


def pack(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the packed columns of those of `CrystalGraphs`, see :func:`unpack`."""
    kept = {name: columns[name] for name in ("atomic_numbers", "positions", "lattice")}
    # As one number, images sort and compare fast.
    codes = columns["images"].astype(np.int32) @ np.array([2**16, 2**8, 1], np.int32)
    _, first, image_numbers = np.unique(codes, return_index=True, return_inverse=True)
    packed = {
        **kept,
        "n_atoms": _small(np.diff(columns["atom_offsets"])),
        "n_neighbors": _small(np.diff(columns["edge_offsets"])),
        "neighbors": _small(columns["neighbors"]),
        "image_numbers": _small(image_numbers),
        "images": columns["images"][first],
    }
    distances = _distances(packed, columns["atom_offsets"], columns["edge_offsets"])
    corrected = np.flatnonzero(distances != columns["distances"])
    return {**packed, "corrected": _small(corrected), "corrections": columns["distances"][corrected]}


def unpack(packed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the columns that were packed, equal to the bit on any machine.

    Raises
    ------
    ValueError or IndexError
        If they do not go together.
    """
    atom_offsets, edge_offsets = offsets_of(packed["n_atoms"]), offsets_of(packed["n_neighbors"])
    n_atoms, n_edges = len(packed["positions"]), len(packed["neighbors"])
    if atom_offsets[-1] != n_atoms or len(edge_offsets) != n_atoms + 1 or edge_offsets[-1] != n_edges:
        raise ValueError("its counts are not those of its columns")
    if packed["corrected"].shape != packed["corrections"].shape:
        raise ValueError("its corrections are not those of its distances")
    distances = _distances(packed, atom_offsets, edge_offsets)
    distances[packed["corrected"]] = packed["corrections"]
    return {
        **{name: np.array(packed[name]) for name in ("atomic_numbers", "positions", "lattice")},
        "neighbors": packed["neighbors"].astype(np.int32),
        "images": packed["images"].take(packed["image_numbers"], axis=0),
        "distances": distances,
        "atom_offsets": atom_offsets,
        "edge_offsets": edge_offsets,
    }


def _small(numbers: np.ndarray) -> np.ndarray:
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))


def _distances(packed: Mapping[str, np.ndarray], atom_offsets: np.ndarray, edge_offsets: np.ndarray) -> np.ndarray:
    """Return the distances of all edges, by operations that IEEE 754 rounds in one way, one after the other."""
    distances = np.empty(edge_offsets[-1], np.float32)
    images = packed["images"].astype(np.float64)
    for first, last in _chunks(len(atom_offsets) - 1, len(images)):
        atoms = slice(atom_offsets[first], atom_offsets[last])
        edges = slice(edge_offsets[atoms.start], edge_offsets[atoms.stop])
        ends = edge_offsets[atom_offsets[first : last + 1]]
        n_edges = np.diff(ends)
        shifts = packed["image_numbers"][edges] + np.repeat(np.arange(last - first) * len(images), n_edges)
        neighbors = packed["neighbors"][edges] + np.repeat(atom_offsets[first:last] - atoms.start, n_edges)
        degrees = np.diff(edge_offsets[atoms.start : atoms.stop + 1])
        squares = np.zeros(len(neighbors))
        for axis in range(3):
            vectors = packed["lattice"][first:last, :, axis, None]
            shift = vectors[:, 0] * images[:, 0] + vectors[:, 1] * images[:, 1] + vectors[:, 2] * images[:, 2]
            positions = np.ascontiguousarray(packed["positions"][atoms, axis])
            difference = positions.take(neighbors)
            difference += shift.reshape(-1).take(shifts)
            difference -= np.repeat(positions, degrees)
            difference *= difference
            squares += difference
        np.sqrt(squares, out=squares)
        distances[edges] = squares
    return distances


def _chunks(n_crystals: int, n_images: int) -> Iterator[tuple[int, int]]:
    step = max(1, _AT_ONCE // max(n_images, 1))
    for first in range(0, n_crystals, step):
        yield first, min(first + step, n_crystals)
