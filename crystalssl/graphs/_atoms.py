"""ASE and jarvis Atoms as arrays; neither package is needed for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from crystalssl.graphs._arrays import FULL, CrystalArrays
from crystalssl.graphs._symbols import atomic_number

__all__ = ["arrays_of_ase", "arrays_of_jarvis"]


def arrays_of_ase(atoms: Any) -> CrystalArrays:
    """Return the crystal that ASE Atoms are.

    Parameters
    ----------
    atoms : ase.Atoms

    Returns
    -------
    CrystalArrays

    Raises
    ------
    ValueError
        If they are not periodic, or come from a file with partially occupied sites. Of such a site ASE keeps the
        element with the largest share, and the truth in ``info["occupancy"]``.
    """
    if not all(atoms.get_pbc()):
        raise ValueError(
            f"the ASE Atoms are periodic along {list(map(bool, atoms.get_pbc()))} only; "
            "set pbc=True (with vacuum in the cell where the material ends)"
        )
    for kind, shares in _occupancies(atoms).items():
        elements = {atomic_number(symbol) for symbol, share in shares.items() if share}
        if len(elements) != 1 or abs(sum(shares.values()) - 1) > FULL:
            raise ValueError(
                f"site {kind!r} of the ASE Atoms is partially occupied ({shares} in atoms.info['occupancy']); order "
                "the structure first, and then del atoms.info['occupancy']"
            )
    for name in ("occupancy", "occupancies"):
        filled = np.asarray(atoms.arrays.get(name, 1.0))
        if (abs(filled - 1) > FULL).any():
            raise ValueError(
                f"sites of the ASE Atoms are partially occupied (atoms.arrays[{name!r}]); order the structure first"
            )
    return CrystalArrays(
        _numbers(atoms.get_atomic_numbers()),
        np.array(atoms.get_positions(), dtype=np.float64),
        np.array(atoms.get_cell()[:], dtype=np.float64),
    )


def _occupancies(atoms: Any) -> dict[str, dict[str, float]]:
    """Return shares of elements by kind of site, for the kinds that the atoms are of."""
    found = atoms.info.get("occupancy", {})
    if not isinstance(found, dict):
        raise ValueError(f"atoms.info['occupancy'] is {found!r}, not a dict as ase.io.read writes it; delete it")
    kinds = atoms.arrays.get("spacegroup_kinds")
    used = None if kinds is None else {str(kind) for kind in kinds}
    return {str(kind): shares for kind, shares in found.items() if used is None or str(kind) in used}


def arrays_of_jarvis(atoms: Any) -> CrystalArrays:
    """Return the crystal that jarvis Atoms are.

    Parameters
    ----------
    atoms : jarvis.core.atoms.Atoms

    Returns
    -------
    CrystalArrays
    """
    return CrystalArrays(
        _numbers([atomic_number(symbol) for symbol in atoms.elements]),
        np.array(atoms.cart_coords, dtype=np.float64).reshape(-1, 3),
        np.array(atoms.lattice_mat, dtype=np.float64),
    )


def _numbers(numbers: Any) -> np.ndarray:
    numbers = np.asarray(numbers, dtype=np.int64)
    if len(numbers) and not 0 < numbers.min() <= numbers.max() <= 118:
        raise ValueError("it holds dummy species, which are not elements")
    return numbers.astype(np.uint8)
