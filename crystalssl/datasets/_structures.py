"""pymatgen Structures from plain data, several times faster than pymatgen's general constructors."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

_ORDERED_KEYS = {"element", "occu"}


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
    >>> from crystalssl.datasets._structures import site_species
    >>> site_species("Na") is site_species("Na")
    True
    """
    from pymatgen.core import Composition, Element

    return Composition({Element(symbol): 1})


def structure_from_dict(dct: dict[str, Any]) -> Structure:
    """Build what ``Structure.from_dict`` builds, with a shortcut for ordered crystals of neutral elements.

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
    >>> from crystalssl.datasets._structures import structure_from_dict
    >>> salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> structure_from_dict(salt.as_dict()) == salt
    True
    """
    from pymatgen.core import Lattice, Structure

    sites = dct["sites"]
    if not sites or not _is_plain(sites):
        return Structure.from_dict(dct)
    property_names = sites[0].get("properties") or ()
    return Structure(
        Lattice.from_dict(dct["lattice"]),
        [site_species(site["species"][0]["element"]) for site in sites],
        np.array([site["abc"] for site in sites], dtype=np.float64),
        charge=dct.get("charge"),
        site_properties={name: [site["properties"][name] for site in sites] for name in property_names},
        labels=[site.get("label") for site in sites],
        properties=dct.get("properties"),
    )


def _is_plain(sites: list[dict[str, Any]]) -> bool:
    """Whether every site holds one neutral element in full, and all carry the same scalar properties."""
    names = (sites[0].get("properties") or {}).keys()
    for site in sites:
        species, properties = site["species"], site.get("properties") or {}
        if len(species) != 1 or species[0].keys() != _ORDERED_KEYS or species[0]["occu"] != 1:
            return False
        # Lists and dicts may encode other objects, which from_dict decodes.
        if properties.keys() != names or any(not isinstance(value, int | float) for value in properties.values()):
            return False
    return True
