"""pymatgen Structures from plain data: several times faster than pymatgen does it, and nothing in it is executed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl._limits import LIMITS
from crystalssl._mappings import without_arrays
from crystalssl.graphs._arrays import CrystalArrays
from crystalssl.graphs._symbols import atomic_number

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

__all__ = ["crystal_from_dict", "site_species", "structure_from_dict"]

_NEUTRAL = {"element", "occu"}


def crystal_from_dict(dct: Any) -> Structure | CrystalArrays:
    """Read a crystal as pymatgen's ``Structure.as_dict`` or jarvis' ``Atoms.to_dict`` write it.

    Parameters
    ----------
    dct : dict
        With the keys ``lattice`` and ``sites``, or ``lattice_mat``, ``coords``, ``elements`` and ``cartesian``.

    Returns
    -------
    Structure or CrystalArrays
    """
    if isinstance(dct, dict):
        dct = without_arrays(dct)
    if isinstance(dct, dict) and {"lattice", "sites"} <= dct.keys():
        LIMITS.check_sites(len(dct["sites"]))
        return structure_from_dict(dct)
    if isinstance(dct, dict) and {"lattice_mat", "coords", "elements"} <= dct.keys():
        LIMITS.check_sites(len(dct["elements"]))
        lattice = _vectors(dct["lattice_mat"], 3)
        coordinates = _vectors(dct["coords"], len(dct["elements"]))
        numbers = np.array([atomic_number(symbol) for symbol in dct["elements"]], dtype=np.uint8)
        cartesian = dct.get("cartesian", False)
        if not isinstance(cartesian, (bool, np.bool_, int)):
            raise ValueError(f"its 'cartesian' is {cartesian!r}; it should be True or False")
        return CrystalArrays(numbers, coordinates if cartesian else coordinates @ lattice, lattice)
    raise ValueError(
        f"it is a {type(dct).__name__} without the keys of a crystal: those of pymatgen's Structure.as_dict() or of "
        "jarvis' Atoms.to_dict()"
    )


@functools.cache
def site_species(symbol: str) -> Composition:
    """Return the composition of a site fully occupied by one element.

    Building a Composition is most of the cost of a site; they are immutable, so all sites of an element share one.

    Parameters
    ----------
    symbol : str
        Element symbol.

    Returns
    -------
    pymatgen.core.Composition

    Examples
    --------
    >>> from crystalssl.graphs._dicts import site_species
    >>> site_species("Na") is site_species("Na")
    True
    """
    from pymatgen.core import Composition, Element

    return Composition({Element(symbol): 1})


def structure_from_dict(dct: dict[str, Any]) -> Structure:
    """Build what ``Structure.from_dict`` builds, without importing what the data name.

    pymatgen decodes site properties by importing the modules that they name, whichever those are. Here properties that
    encode other objects are left as they are written.

    Parameters
    ----------
    dct : dict
        A Structure as ``Structure.as_dict`` writes it.

    Returns
    -------
    pymatgen.core.Structure

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> from crystalssl.graphs._dicts import structure_from_dict
    >>> salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> structure_from_dict(salt.as_dict()) == salt
    True
    """
    from pymatgen.core import Lattice, Structure

    sites = dct["sites"]
    if not isinstance(sites, list) or not sites:
        raise ValueError("a crystal needs a list of sites")
    if "matrix" not in dct["lattice"] or not all("abc" in site for site in sites):
        raise ValueError(
            "a crystal needs the 'matrix' of its lattice and the fractional coordinates 'abc' of its sites"
        )
    properties: dict[str, list[Any]] = {}
    for number, site in enumerate(sites):
        for name, value in (site.get("properties") or {}).items():
            properties.setdefault(name, [None] * len(sites))[number] = value
    return Structure(
        Lattice(_vectors(dct["lattice"]["matrix"], 3), tuple(dct["lattice"].get("pbc", (True, True, True)))),
        [_species(site["species"]) for site in sites],
        _vectors([site["abc"] for site in sites], len(sites)),
        charge=dct.get("charge"),
        site_properties=properties,
        labels=[site.get("label") for site in sites],
        properties=dct.get("properties"),
    )


def _vectors(rows: list[list[float]], n: int) -> np.ndarray:
    """Return vectors as an array; numpy alone would take lists of any depth, which a few aliases in YAML can make."""
    if len(rows) != n or any(len(row) != 3 for row in rows):
        raise ValueError(f"{n} vectors of three numbers are needed")
    return np.array([[float(x), float(y), float(z)] for x, y, z in rows])


def _species(entries: list[dict[str, Any]]) -> Composition:
    """Return what a site holds: elements, ions or dummy species with their occupancies."""
    if len(entries) == 1 and entries[0].keys() == _NEUTRAL and entries[0]["occu"] == 1:
        return site_species(entries[0]["element"])
    from pymatgen.core import Composition, DummySpecies, Element, Species

    amounts: dict[Any, float] = {}
    for entry in entries:
        kind: Any = Element
        if "oxidation_state" in entry:
            kind = Species if Element.is_valid_symbol(entry["element"]) else DummySpecies
        specie = kind(entry["element"]) if kind is Element else kind.from_dict(entry)
        amounts[specie] = entry["occu"]
    return Composition(amounts)
