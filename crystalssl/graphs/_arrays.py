"""Crystals as plain arrays, and the limits of what is taken for a crystal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from crystalssl.graphs._ragged import concatenate_ranges, offsets_of

__all__ = [
    "FULL",
    "MAX_LENGTH",
    "MIN_DISTANCE",
    "MIN_VOLUME",
    "N_ELEMENTS",
    "PART_SIZE",
    "CrystalArrays",
    "CrystalColumns",
]

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

PART_SIZE = 256
"""Crystals that are read at once, and sent to another process."""


class CrystalArrays(NamedTuple):
    """One crystal as plain arrays."""

    atomic_numbers: np.ndarray  # (n_atoms,) uint8
    positions: np.ndarray  # (n_atoms, 3) float64, Å
    lattice: np.ndarray  # (3, 3) float64, Å, rows are lattice vectors


class CrystalColumns(NamedTuple):
    """The arrays of many crystals, end to end: the form that crosses process borders cheaply."""

    atomic_numbers: np.ndarray  # (n_atoms,) uint8
    positions: np.ndarray  # (n_atoms, 3) float64, Å
    lattice: np.ndarray  # (n_crystals, 3, 3) float64, Å
    offsets: np.ndarray  # (n_crystals + 1,), where the atoms of each crystal start

    @classmethod
    def of(cls, crystals: Sequence[CrystalArrays]) -> CrystalColumns:
        """Return those of some crystals."""
        return cls(
            np.concatenate([crystal.atomic_numbers for crystal in crystals]),
            np.concatenate([crystal.positions for crystal in crystals]),
            np.concatenate([crystal.lattice for crystal in crystals]).reshape(-1, 3, 3),
            offsets_of(np.array([len(crystal.positions) for crystal in crystals])),
        )

    def between(self, start: int, stop: int) -> CrystalColumns:
        """Return some crystals that follow each other, as views."""
        atoms = slice(self.offsets[start], self.offsets[stop])
        offsets = self.offsets[start : stop + 1] - atoms.start
        return CrystalColumns(self.atomic_numbers[atoms], self.positions[atoms], self.lattice[start:stop], offsets)

    def parts(self) -> Iterator[CrystalColumns]:
        """Return them all, as many at a time as are worth sending to another process."""
        n_crystals = len(self.lattice)
        return (self.between(i, min(i + PART_SIZE, n_crystals)) for i in range(0, n_crystals, PART_SIZE))

    def take(self, crystals: np.ndarray) -> CrystalColumns:
        """Return the crystals at some indices."""
        sizes = np.diff(self.offsets)[crystals]
        atoms = concatenate_ranges(self.offsets[crystals], sizes)
        return CrystalColumns(
            self.atomic_numbers[atoms], self.positions[atoms], self.lattice[crystals], offsets_of(sizes)
        )
