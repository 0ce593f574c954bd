"""Validation: whatever users hold as crystals becomes arrays, or an error that names the item."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl.exceptions import InvalidStructureError, NotACrystalError
from crystalssl.graphs._arrays import FULL, MAX_LENGTH, MIN_VOLUME, N_ELEMENTS, CrystalArrays
from crystalssl.graphs._atoms import arrays_of_ase, arrays_of_jarvis
from crystalssl.graphs._cell import cell_volume
from crystalssl.graphs._compiled_search import check_distances
from crystalssl.graphs._dicts import crystal_from_dict, site_species
from crystalssl.graphs._items import as_items
from crystalssl.graphs._reading import read_crystal

if TYPE_CHECKING:
    from pymatgen.core import IStructure, PeriodicSite, Structure

__all__ = ["check_elements", "check_structures", "crystal_arrays", "plain_structure", "read_item"]

_REMEDIES = {
    "Molecule": "put it in a box: molecule.get_boxed_structure(20, 20, 20)",
    "IMolecule": "put it in a box: molecule.get_boxed_structure(20, 20, 20)",
    "bytes": "pass their text, item.decode(), or a path",
    "NoneType": "leave missing crystals out",
    "NAType": "leave missing crystals out",
    "float": "leave missing crystals out",
    "list": "pass one flat list",
    "tuple": "pass one flat list",
    "dict": "pass what Structure.as_dict() or jarvis' Atoms.to_dict() returns",
}


def crystal_arrays(item: Any, index: int = 0) -> CrystalArrays:
    """Turn one item into validated arrays; distances between atoms are left to the neighbour search."""
    return read_item(item, index)[1]


def read_item(item: Any, index: int) -> tuple[IStructure | None, CrystalArrays]:
    """Return an item's validated arrays, and its pymatgen structure where it is or holds one."""
    where = f"item {index}"
    try:
        if isinstance(item, (str, os.PathLike)):
            source = os.fsdecode(item)
            where += f", {source!r}" if "\n" not in source else f", text {source.strip()[:40]!r}…"
            crystal = _read_source(source, index, where)
        elif isinstance(item, dict) and ("sites" in item or "lattice_mat" in item):
            crystal = crystal_from_dict(item)
        elif isinstance(item, CrystalArrays):
            crystal = item
        elif hasattr(item, "get_atomic_numbers") and hasattr(item, "get_cell"):
            crystal = arrays_of_ase(item)
        elif hasattr(item, "lattice_mat") and hasattr(item, "elements"):
            crystal = arrays_of_jarvis(item)
        else:
            crystal = _check_type(item, index)
        if isinstance(crystal, CrystalArrays):
            return None, check_arrays(crystal, index, where)
        return crystal, check_arrays(_arrays_of(crystal), index, where)
    except InvalidStructureError:
        raise
    except Exception as error:  # items are of other packages' types, and files of anyone
        raise InvalidStructureError(f"{where}: {error}", index) from error


def _read_source(source: str, index: int, where: str) -> IStructure | CrystalArrays:
    try:
        crystal, notes = read_crystal(source)
    except FileNotFoundError as error:
        raise InvalidStructureError(f"item {index}: there is no file {source!r}", index) from error
    except Exception as error:  # readers raise whatever their format's parser raises
        what = where.partition(", ")[2]
        raise InvalidStructureError(f"item {index}: cannot read a crystal from {what}: {error}", index) from error
    for note in notes:
        warnings.warn(f"{where}: {note}", UserWarning, stacklevel=5)
    return crystal


def _check_type(item: Any, index: int) -> IStructure:
    from pymatgen.core import IStructure

    if isinstance(item, IStructure):
        return item
    remedy = _REMEDIES.get(type(item).__name__, "")
    if isinstance(getattr(item, "structure", None), IStructure):
        remedy = "pass its .structure"
    raise NotACrystalError(
        f"item {index}: {type(item).__name__} is not a crystal; expected a pymatgen Structure, ASE or jarvis Atoms, a "
        f"dict of one of these, a path or a file's text{'; ' * bool(remedy)}{remedy}",
        index,
    )


def _arrays_of(structure: IStructure) -> CrystalArrays:
    try:
        # Lattices from pickles of older releases have no pbc: all were periodic.
        pbc = getattr(structure.lattice, "pbc", (True, True, True))
        lattice = np.array(structure.lattice.matrix, dtype=np.float64)
        positions = np.array(structure.cart_coords, dtype=np.float64).reshape(-1, 3)
        # What site.specie does, in a third of the time: half of what reading a structure takes.
        compositions = [site.species for site in structure.sites]
        if any(len(species) != 1 or species.num_atoms != 1 for species in compositions):
            numbers = [_number_at(site) for site in structure.sites]
        else:
            numbers = [specie.Z for (specie,) in compositions]
    except AttributeError as error:
        raise ValueError(
            f"the {type(structure).__name__} is incomplete ({error}), as from a pickle of another release of pymatgen; "
            "build it anew: Structure(old.lattice.matrix, old.species, old.frac_coords)"
        ) from error
    if not all(pbc):
        raise ValueError(
            f"the lattice is periodic along {pbc} only; set its pbc to True along all three axes (with vacuum in the "
            "cell where the material ends)"
        )
    if numbers and not 0 < min(numbers) <= max(numbers) <= N_ELEMENTS:
        raise ValueError(f"{structure.formula} holds dummy species, which are not elements")
    return CrystalArrays(np.array(numbers, dtype=np.uint8), positions, lattice)


def _number_at(site: PeriodicSite) -> int:
    """Return the element of a site that is full: one element, whatever its charges and isotopes are."""
    numbers = {specie.Z for specie in site.species}
    if len(numbers) != 1 or abs(site.species.num_atoms - 1) > FULL:
        raise ValueError(
            f"site {site.species_string!r} is partially occupied; order the structure first, e.g. with pymatgen's "
            "OrderDisorderedStructureTransformation"
        )
    return numbers.pop()


def check_arrays(crystal: CrystalArrays, index: int = 0, where: str = "") -> CrystalArrays:
    """Return `crystal` if its numbers can describe a crystal, else raise InvalidStructureError.

    A left-handed set of lattice vectors spans the same crystal as a right-handed one, and is taken as it is.
    """
    where = where or f"item {index}"
    lattice, n_atoms = crystal.lattice, len(crystal.positions)
    if n_atoms == 0:
        raise InvalidStructureError(f"{where}: the crystal has no atoms", index)
    volume = cell_volume(lattice)
    if not np.isfinite(volume):
        raise InvalidStructureError(f"{where}: the lattice holds NaN or infinite values:\n{lattice}", index)
    if volume < 1e-6:
        raise InvalidStructureError(f"{where}: the cell has zero volume, its vectors are\n{lattice}", index)
    if volume < MIN_VOLUME * n_atoms:
        raise InvalidStructureError(
            f"{where}: the cell has {volume / n_atoms:.3g} Å³ per atom, less than any crystal; is its lattice in Å?",
            index,
        )
    longest = max(math.hypot(*vector) for vector in lattice.tolist())
    if longest > MAX_LENGTH:
        raise InvalidStructureError(f"{where}: the cell is {longest:.3g} Å long; is its lattice in Å?", index)
    # The sum is one pass, but may be infinite though no coordinate is.
    if not (np.isfinite(crystal.positions.sum()) or np.isfinite(crystal.positions).all()):
        atom = int(np.flatnonzero(~np.isfinite(crystal.positions).all(axis=1))[0])
        raise InvalidStructureError(f"{where}: atom {atom} has NaN or infinite coordinates", index)
    return crystal


def check_structures(X: Any, *, elements: Iterable[int] | None = None) -> list[Structure]:
    """Validate a collection of crystals.

    Parameters
    ----------
    X : list, tuple, generator, Series, one-column DataFrame or 1-D object array
        Crystals, each as one of

        - pymatgen `Structure`, or a dict as its ``as_dict`` writes it;
        - ASE `Atoms`, or jarvis `Atoms` and their ``to_dict``;
        - a path of a CIF file (read by gemmi), POSCAR, CONTCAR, CHGCAR or LOCPOT, of JSON or YAML by pymatgen, of JSON
          by jarvis, of XSF, CSSR, RES or mcsqs, compressed or not;
        - the text of such a file: a string of several lines.

        Files and texts are read up to :obj:`crystalssl.LIMITS`, and nothing in them is executed.
    elements : iterable of int or None, default=None
        Atomic numbers that are allowed, for instance those that an encoder's weights were trained on; None allows all.

    Returns
    -------
    list of pymatgen.core.Structure
        Ordered structures without oxidation states, one per item of `X`. Structures that need no change are returned
        as they are, not copied. Left-handed cells stay as they are. Ions or isotopes of one element that fill a site
        together are that element.

    Raises
    ------
    NotACrystalError
        If `X` is not such a collection (a bare `Structure`, a matrix of sites, …) or an item is not a crystal.
    InvalidStructureError
        If an item is empty, disordered, has NaN or infinite coordinates, no volume, less than 0.1 Å³ per atom, a cell
        longer than 10,000 Å, two atoms closer than 0.1 Å, or an element that is not in `elements`; if a file cannot be
        read, exceeds the limits, or does not decide which crystal it means (a space group without its setting, sites
        without elements). The message names the item and its path, and the exception's `index` is the item's.

    Warns
    -----
    UserWarning
        Of what is odd in a file that is read all the same: a formula of other elements than the sites', a second
        structure. The message names the item and its path.

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
    structures = []
    elements = None if elements is None else set(elements)
    for index, item in enumerate(as_items(X)):
        structure, arrays = read_item(item, index)
        check_distances(arrays, index)
        check_elements(arrays.atomic_numbers, elements, index)
        structures.append(plain_structure(structure, arrays))
    return structures


def plain_structure(structure: IStructure | None, arrays: CrystalArrays) -> Structure:
    """Return a structure of neutral elements, the given one if it is so."""
    from pymatgen.core import Element, Structure

    if structure is not None and hasattr(structure.lattice, "pbc"):
        compositions = [site.species for site in structure.sites]
        simple = all(len(species) == 1 and species.num_atoms == 1 for species in compositions)
        if simple and all(isinstance(specie, Element) for (specie,) in compositions):
            return structure  # type: ignore[return-value]
    symbols = {number: Element.from_Z(number).symbol for number in set(arrays.atomic_numbers.tolist())}
    return Structure(
        arrays.lattice,
        [site_species(symbols[number]) for number in arrays.atomic_numbers.tolist()],
        arrays.positions @ np.linalg.inv(arrays.lattice) if structure is None else structure.frac_coords,
        site_properties=None if structure is None else structure.site_properties,
    )


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
