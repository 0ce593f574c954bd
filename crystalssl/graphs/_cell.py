"""Geometry of single cells; plain floats are several times faster here than numpy."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["cell_volume", "lengths_and_heights"]


def cell_volume(lattice: np.ndarray) -> float:
    """Return the volume of a cell in Å³, whether its vectors are right- or left-handed."""
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = lattice.tolist()
    return abs(ax * (by * cz - bz * cy) - ay * (bx * cz - bz * cx) + az * (bx * cy - by * cx))


def lengths_and_heights(lattice: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the lengths of the lattice vectors and the distances of the lattice planes, in Å."""
    rows = lattice.tolist()
    volume = cell_volume(lattice)
    lengths, heights = [], []
    for (ax, ay, az), (bx, by, bz), (cx, cy, cz) in ((rows[i], rows[i - 2], rows[i - 1]) for i in range(3)):
        lengths.append(math.sqrt(ax * ax + ay * ay + az * az))
        heights.append(volume / math.hypot(by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx))
    return lengths, heights
