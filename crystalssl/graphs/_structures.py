"""Validation: whatever users hold as crystals becomes arrays, or an error that names the item."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl.exceptions import InvalidStructureError, NotACrystalError
from crystalssl.graphs._arrays import MAX_LENGTH, MIN_VOLUME, N_ELEMENTS, CrystalArrays
from crystalssl.graphs._cell import cell_volume
from crystalssl.graphs._cif import CifCrystal, read_cif
from crystalssl.graphs._neighbors import check_distances

if TYPE_CHECKING:
    from pymatgen.core import Structure

__all__ = ["as_items", "check_structures", "crystal_arrays"]

_ACCEPTED = (
    "a list, tuple, pandas Series, one-column DataFrame or 1-D object array of pymatgen Structures, ASE Atoms or paths"
)


def as_items(X: Any) -> list[Any]:
    """Return the items of any accepted container as a list, or raise NotACrystalError.

    A pymatgen Structure is itself a sequence (of sites), so that ``np.array([s1, s2], dtype=object)`` makes a 2-D array
    of sites and a bare Structure looks like many samples. Both are refused here.
    """
    if _is_crystal(X) or isinstance(X, (str, bytes, os.PathLike)):
        raise NotACrystalError(f"X is a single {type(X).__name__}; expected {_ACCEPTED}. Wrap it in a list: [X].")
    if hasattr(X, "iloc"):  # pandas
        if getattr(X, "ndim", 1) == 2:
            if X.shape[1] != 1:
                raise NotACrystalError(
                    f"X is a DataFrame with {X.shape[1]} columns; pass the one column that holds the crystals."
                )
            X = X.iloc[:, 0]
        return list(X)
    if isinstance(X, np.ndarray):
        if X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]
        if X.ndim != 1:
            hint = ""
            if X.dtype == object and X.size and type(X.flat[0]).__name__ == "PeriodicSite":
                hint = " It holds sites: numpy took each Structure for a sequence. Pass a list of structures instead."
                hint += " Within an estimator that makes a table of X, such as bagging, pass a one-column DataFrame."
            raise NotACrystalError(f"X is an array of shape {X.shape}; expected {_ACCEPTED}.{hint}")
        return list(X)
    if isinstance(X, (list, tuple)):
        return list(X)
    raise NotACrystalError(f"X is of type {type(X).__name__}; expected {_ACCEPTED}.")


def _is_crystal(item: Any) -> bool:
    # Duck typing keeps ASE optional and spares an import of pymatgen for people who pass paths.
    return (hasattr(item, "lattice") and hasattr(item, "sites")) or hasattr(item, "get_atomic_numbers")


def _to_structure(item: Any, index: int) -> Structure:
    from pymatgen.core import IStructure

    if isinstance(item, IStructure):
        if not all(item.lattice.pbc):
            raise InvalidStructureError(
                f"item {index}: the lattice is periodic along {item.lattice.pbc} only; set its pbc to True along all "
                "three axes (with vacuum in the cell where the material ends)",
                index,
            )
        return item  # type: ignore[return-value]
    if isinstance(item, (str, os.PathLike)):
        crystal = _read_file(item, index)
        return crystal.to_structure() if isinstance(crystal, CifCrystal) else crystal
    if hasattr(item, "get_atomic_numbers") and hasattr(item, "get_cell"):
        from pymatgen.io.ase import AseAtomsAdaptor

        if not all(item.get_pbc()):
            raise InvalidStructureError(
                f"item {index}: the ASE Atoms are periodic along {list(map(bool, item.get_pbc()))} only; "
                "set pbc=True (with vacuum in the cell where the material ends)",
                index,
            )
        try:
            return AseAtomsAdaptor.get_structure(item)
        except Exception as error:  # a singular cell, symbols that are none
            raise InvalidStructureError(
                f"item {index}: the ASE Atoms with cell {item.get_cell().tolist()} make no crystal: {error}", index
            ) from error
    raise NotACrystalError(
        f"item {index}: {type(item).__name__} is not a crystal; expected a pymatgen Structure, ASE Atoms or a path",
        index,
    )


def _read_file(item: str | os.PathLike, index: int) -> CifCrystal | Structure:
    """Read a crystal from a path: a plain CIF into arrays, which is many times faster, anything else by pymatgen."""
    path = os.fspath(item)
    if not os.path.isfile(path):
        raise InvalidStructureError(f"item {index}: there is no file {path!r}", index)
    try:
        crystal = read_cif(path) if path.lower().endswith(".cif") else None
        if crystal is not None:
            return crystal

        from pymatgen.core import Structure

        _check_site_counts(path)
        return Structure.from_file(path)
    except Exception as error:  # readers raise whatever their format's parser raises
        raise InvalidStructureError(f"item {index}: cannot read a crystal from {path!r}: {error}", index) from error


def _check_site_counts(path: str) -> None:
    """Raise ValueError if a POSCAR announces more sites than it has lines; pymatgen would first list them all."""
    name = os.path.basename(path)
    if not ("POSCAR" in name or "CONTCAR" in name or name.endswith(".vasp")):
        return
    from monty.io import zopen

    with zopen(path, "rt", encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    for line in lines[5:7]:
        n_sites = sum(int(word) for word in line.split() if word.isdecimal())
        if n_sites > len(lines):
            raise ValueError(f"it announces {n_sites} sites on {len(lines)} lines")


def crystal_arrays(item: Any, index: int = 0) -> CrystalArrays:
    """Turn one item into validated arrays; distances between atoms are left to the neighbour search."""
    if isinstance(item, (str, os.PathLike)):
        item = _read_file(item, index)
        if isinstance(item, CifCrystal):
            positions = item.frac_coords @ item.lattice
            return check_arrays(CrystalArrays(item.atomic_numbers, positions, item.lattice), index)
    structure = _to_structure(item, index)
    if len(structure) == 0:
        raise InvalidStructureError(f"item {index}: the crystal has no atoms", index)
    # What site.specie does, in a third of the time: half of what reading a structure takes.
    compositions = [site.species for site in structure.sites]
    if any(len(species) != 1 or species.num_atoms != 1 for species in compositions):
        site = next(site for site in structure if not site.is_ordered)
        raise InvalidStructureError(
            f"item {index} ({structure.formula}): site {site.species_string!r} is partially occupied; order the "
            "structure first, e.g. with pymatgen's OrderDisorderedStructureTransformation",
            index,
        )
    numbers = [specie.Z for (specie,) in compositions]
    if not 0 < min(numbers) <= max(numbers) <= N_ELEMENTS:
        raise InvalidStructureError(
            f"item {index} ({structure.formula}): holds dummy species, which are not elements", index
        )
    lattice = np.asarray(structure.lattice.matrix, dtype=np.float64)
    positions = np.asarray(structure.cart_coords, dtype=np.float64)
    return check_arrays(CrystalArrays(np.array(numbers, dtype=np.uint8), positions, lattice), index)


def check_arrays(crystal: CrystalArrays, index: int = 0) -> CrystalArrays:
    """Return `crystal` if its numbers can describe a crystal, else raise InvalidStructureError."""
    lattice = crystal.lattice
    volume = cell_volume(lattice)
    if not np.isfinite(volume):
        raise InvalidStructureError(f"item {index}: the lattice holds NaN or infinite values:\n{lattice}", index)
    if abs(volume) < 1e-6:
        raise InvalidStructureError(f"item {index}: the cell has zero volume, its vectors are\n{lattice}", index)
    # A left-handed set of lattice vectors spans the same crystal, but usually tells of swapped rows in the input.
    if volume < 0:
        raise InvalidStructureError(
            f"item {index}: the lattice vectors are left-handed (volume {volume:.3g} Å³); swap two of them", index
        )
    if volume < MIN_VOLUME * len(crystal.positions):
        raise InvalidStructureError(
            f"item {index}: the cell has {volume / len(crystal.positions):.3g} Å³ per atom, less than any crystal; is "
            "its lattice in Å?",
            index,
        )
    longest = max(math.hypot(*vector) for vector in lattice.tolist())
    if longest > MAX_LENGTH:
        raise InvalidStructureError(f"item {index}: the cell is {longest:.3g} Å long; is its lattice in Å?", index)
    # The sum is one pass, but may be infinite though no coordinate is.
    if not (np.isfinite(crystal.positions.sum()) or np.isfinite(crystal.positions).all()):
        atom = int(np.flatnonzero(~np.isfinite(crystal.positions).all(axis=1))[0])
        raise InvalidStructureError(f"item {index}: atom {atom} has NaN or infinite coordinates", index)
    return crystal


def check_structures(X: Any, *, elements: Iterable[int] | None = None) -> list[Structure]:
    """Validate a collection of crystals.

    Parameters
    ----------
    X : list, tuple, pandas Series, one-column DataFrame or 1-D object array
        Crystals as pymatgen `Structure`, ASE `Atoms`, or paths of files that pymatgen reads (CIF, POSCAR, …).
    elements : iterable of int or None, default=None
        Atomic numbers that are allowed, for instance those that an encoder's weights were trained on; None allows all.

    Returns
    -------
    list of pymatgen.core.Structure
        Ordered structures without oxidation states, one per item of `X`. Structures that need no change are returned
        as they are, not copied.

    Raises
    ------
    NotACrystalError
        If `X` is not such a collection (a bare `Structure`, a matrix of sites, …) or an item is not a crystal.
    InvalidStructureError
        If an item is empty, disordered, has NaN or infinite coordinates, no volume, less than 0.1 Å³ per atom, a cell
        longer than 10,000 Å, two atoms closer than 0.1 Å, or an element that is not in `elements`. The message names
        the item, and so does the exception's `index`.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> from crystalssl import check_structures
    >>> salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na+", "Cl-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> check_structures([salt])[0].elements
    [Element Na, Element Cl]
    >>> check_structures(salt)
    Traceback (most recent call last):
      ...
    crystalssl.exceptions.NotACrystalError: X is a single Structure; expected a list, ... Wrap it in a list: [X].
    """
    from pymatgen.core import Element

    structures = []
    for index, item in enumerate(as_items(X)):
        structure = _to_structure(item, index)
        arrays = crystal_arrays(structure, index)
        check_distances(arrays, index)
        check_elements(arrays.atomic_numbers, elements, index)
        if not all(isinstance(specie, Element) for specie in structure.elements):
            structure = structure.copy()
            structure.remove_oxidation_states()
        structures.append(structure)
    return structures


def check_elements(atomic_numbers: np.ndarray, elements: Iterable[int] | None, index: int) -> None:
    """Raise InvalidStructureError if an atomic number is not in `elements` (None: all are)."""
    if elements is None:
        return
    unknown = sorted(set(np.unique(atomic_numbers).tolist()) - set(elements))
    if unknown:
        from pymatgen.core import Element

        names = ", ".join(Element.from_Z(int(z)).symbol for z in unknown)
        raise InvalidStructureError(
            f"item {index}: the encoder's weights have never seen {names}; leave such crystals out, or pretrain on "
            "crystals that hold these elements",
            index,
        )
