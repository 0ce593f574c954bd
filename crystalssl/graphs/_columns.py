"""Crystals into columns: pymatgen's structures many at a time, everything else one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from crystalssl.graphs._arrays import MAX_LENGTH, MIN_VOLUME, N_ELEMENTS, PART_SIZE, CrystalColumns
from crystalssl.graphs._ragged import offsets_of
from crystalssl.graphs._structures import crystal_arrays

__all__ = ["read_columns"]


def read_columns(items: Sequence[Any], first: int = 0) -> Iterator[CrystalColumns]:
    """Validate crystals and return their columns, some hundred at a time.

    Parameters
    ----------
    items : sequence
        Of what :func:`crystalssl.check_structures` takes.
    first : int, default=0
        Position of the first of them in what the user gave, for messages.

    Raises
    ------
    NotACrystalError or InvalidStructureError
        See :func:`crystalssl.check_structures`; distances between atoms are left to the neighbour search.
    """
    for start in range(0, len(items), PART_SIZE):
        part = items[start : start + PART_SIZE]
        columns = _plain(part)
        if columns is None:
            columns = CrystalColumns.of([crystal_arrays(item, i) for i, item in enumerate(part, first + start)])
        yield columns


def _plain(items: Sequence[Any]) -> CrystalColumns | None:
    """Return the columns of structures if each of them is plain: nothing to leave out, to decide or to refuse."""
    if not all(hasattr(item, "sites") and hasattr(item, "lattice") for item in items):
        return None
    from pymatgen.core import IStructure

    if not all(isinstance(item, IStructure) for item in items):
        return None
    try:
        sites = [site for structure in items for site in structure.sites]
        compositions = [site.species for site in sites]
        numbers = np.array([specie.Z for (specie,) in compositions])
        filled = np.array([species.num_atoms for species in compositions])
        positions = np.concatenate([site.coords for site in sites], dtype=np.float64).reshape(-1, 3)
        lattice = np.concatenate([structure.lattice.matrix for structure in items], dtype=np.float64).reshape(-1, 3, 3)
        periodic = all(all(structure.lattice.pbc) for structure in items)
        sizes = np.array([len(structure.sites) for structure in items])
    except (AttributeError, TypeError, ValueError):  # of another release of pymatgen, disordered, or without sites
        return None
    with np.errstate(all="ignore"):  # NaN and infinity are none of what follows
        lengths, volumes = np.linalg.norm(lattice, axis=2), abs(np.linalg.det(lattice))
    plain = (
        periodic
        and sizes.min() > 0
        and (filled == 1).all()
        and 0 < numbers.min() <= numbers.max() <= N_ELEMENTS
        and np.isfinite(positions).all()
        and (volumes > 1.01 * np.maximum(MIN_VOLUME * sizes, 1e-6)).all()  # not if rounding decides
        and lengths.max() < 0.99 * MAX_LENGTH
    )
    return CrystalColumns(numbers.astype(np.uint8), positions, lattice, offsets_of(sizes)) if plain else None
