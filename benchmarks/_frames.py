"""Frames of the corpus: what benchmarks/potential.py evaluates, made anew from a crystal's row wherever they are read.

Frame 0, 1, … of a crystal is *rattled*: its atoms are displaced and its lattice is strained at random. Frame `REST` is
the crystal as it is, and frame `LAYER` one layer of it in vacuum.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

REST, LAYER = -1, -2
SMALLEST, LARGEST, STRAIN = 0.03, 0.1, 0.02  # Å, Å, relative
VACUUM = 20.0  # Å
FRAMES = ["energy", "frequency", "log10_k", "log10_g", "exfoliation", "forces", "virial"]
"""Labels of frames that pretraining learns from."""
FIELDS = ("row", "frame", "energy", "stress", "frequency", "stiffness")


def frame_of(structure: Any, row: int, frame: int) -> Any:
    """Return a frame of a crystal."""
    if frame == REST:
        return structure
    return layer(structure) if frame == LAYER else rattled(structure, row, frame)


def rattled(structure: Any, row: int, frame: int) -> Any:
    """Return a crystal, displaced and strained.

    Atoms move by normal deviates of 0.03 to 0.1 Å per coordinate, one size per frame, and the strain is a symmetric
    tensor of normal deviates of 2 %. Both follow from the row of the crystal and the number of the frame alone.
    """
    from pymatgen.core import Lattice, Structure

    rng = np.random.default_rng([row, frame])
    size = rng.uniform(SMALLEST, LARGEST)
    strain = rng.normal(scale=STRAIN, size=(3, 3))
    # Half the sum of two deviates varies less than one of them: off the diagonal it is brought back to its size.
    strain = np.where(np.eye(3), strain, (strain + strain.T) / np.sqrt(2))
    lattice = structure.lattice.matrix @ (np.eye(3) + strain)
    positions = structure.frac_coords @ lattice + rng.normal(scale=size, size=(len(structure), 3))
    return Structure(Lattice(lattice), structure.species, positions, coords_are_cartesian=True)


def layer(structure: Any) -> Any:
    """Return what lies between the widest gaps of a crystal along one of its axes, in 20 Å of vacuum.

    The axis is the one with the widest gap between neighbouring planes of atoms. Where several gaps are as wide, the
    part between two of them is taken if it has the composition of the crystal, and else the whole cell.
    """
    from pymatgen.core import Lattice, Structure

    matrix, fractions = structure.lattice.matrix, structure.frac_coords % 1
    best: tuple[float, Any] = (-1.0, None)
    for axis in range(3):
        first, second = matrix[(axis + 1) % 3], matrix[(axis + 2) % 3]
        normal = np.cross(first, second)
        normal /= np.linalg.norm(normal)
        order = np.argsort(fractions[:, axis])
        along = fractions[order, axis]
        gaps = np.diff(np.append(along, along[0] + 1)) * abs(matrix[axis] @ normal)
        if gaps.max() > best[0] + 1e-6:
            best = (gaps.max(), (axis, first, second, normal, order, gaps))
    widest, (axis, first, second, normal, order, gaps) = best
    # Begin above a widest gap; atoms that come before it belong to the next cell.
    start = int(gaps.argmax()) + 1
    order, gaps = np.roll(order, -start), np.roll(gaps, -start)
    cell = fractions[order]
    cell[:, axis] = (cell[:, axis] - cell[0, axis]) % 1
    species = [structure.species[i] for i in order]
    ends = np.flatnonzero(gaps > widest - 0.2) + 1
    whole = _composition(species)
    end = next(end for end in ends if _composition(species[:end]) == whole)
    positions = cell[:end] @ matrix
    heights = positions @ normal
    positions += np.outer(VACUUM / 2 - heights.min(), normal)
    lattice = Lattice(np.stack([first, second, normal * (np.ptp(heights) + VACUUM)]))
    return Structure(lattice, species[:end], positions, coords_are_cartesian=True)


def _composition(species: list[Any]) -> Any:
    from pymatgen.core import Composition

    return Composition(Counter(map(str, species))).reduced_composition


def read_frames(folder: Path) -> dict[str, np.ndarray]:
    """Return the labels of all frames in a folder, by field, in the order of rows and frames.

    ``row``, ``frame``, ``energy`` (eV per atom) and ``frequency`` (1/cm) of shape (n_frames,), ``stress`` (eV/Å³) of
    shape (n_frames, 3, 3), ``stiffness`` (GPa) of shape (n_frames, 6, 6), ``offsets`` of shape (n_frames + 1,), and
    ``forces`` (eV/Å) of shape (n_atoms of all frames, 3). Frequencies and stiffness are those of crystals at rest, NaN
    for the others.
    """
    parts = [dict(np.load(path)) for path in sorted(folder.glob("*.npz"))]
    if not parts:
        raise SystemExit(f"There is nothing in {folder}: run benchmarks/potential.py first.")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort([joined["frame"], joined["row"]])
    starts = np.concatenate([[0], np.cumsum(joined["n_atoms"])])
    atoms = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in order])
    offsets = np.concatenate([[0], np.cumsum(joined["n_atoms"][order])])
    return {
        **{name: joined[name][order] for name in FIELDS},
        "offsets": offsets,
        "forces": joined["forces"][atoms],
    }
