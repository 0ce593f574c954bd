"""One crystal as plain arrays, and the limits of what is taken for a crystal."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["FULL", "MAX_LENGTH", "MIN_DISTANCE", "MIN_VOLUME", "N_ELEMENTS", "CrystalArrays"]

N_ELEMENTS = 118
"""Elements of the periodic table. Tables by atomic number have one row more: row 0 stands for a masked atom."""

MIN_DISTANCE = 0.1
"""Two atoms closer than this (Å) are taken for a mistake in the input."""

MIN_VOLUME = 0.1
"""A cell with less volume per atom (Å³) is taken for one in another unit; matter in the laboratory has 1 Å³ or more."""

MAX_LENGTH = 1e4
"""A cell longer than this (Å) is taken for one in another unit."""


FULL = 2e-3
"""A site whose occupancy is this close to 1 is full: files round thirds and sixths to three digits."""


class CrystalArrays(NamedTuple):
    """One crystal as plain arrays, the form that crosses process borders cheaply."""

    atomic_numbers: np.ndarray  # (n_atoms,) uint8
    positions: np.ndarray  # (n_atoms, 3) float64, Å
    lattice: np.ndarray  # (3, 3) float64, Å, rows are lattice vectors
