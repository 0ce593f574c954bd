"""Crystals from the fields that OPTIMADE describes a structure with, from the web or a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl._mappings import without_arrays
from crystalssl.exceptions import InvalidStructureError

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

__all__ = ["FIELDS", "LAYOUT", "crystal_of", "structure_from_record"]

# What structure_from_record looks at: all that makes a crystal, and all that tells that a record is none.
FIELDS = (
    "lattice_vectors",
    "cartesian_site_positions",
    "species_at_sites",
    "species",
    "nsites",
    "nperiodic_dimensions",
    "dimension_types",
    "assemblies",
    "structure_features",
)

LAYOUT = ("lattice_vectors", "species_at_sites", "cartesian_site_positions")
"""Those that make a crystal."""

_MIN_VOLUME = 1e-6  # Å³; less is no cell


def crystal_of(vectors: np.ndarray, positions: np.ndarray, species: list[Composition]) -> Structure:
    """Build a crystal from arrays.

    Parameters
    ----------
    vectors : ndarray of shape (3, 3)
        Lattice vectors as rows, in Å; a left-handed set stays as it is.
    positions : ndarray of shape (n_sites, 3)
        Cartesian positions in Å.
    species : list of pymatgen.core.Composition
        What is on each site.

    Returns
    -------
    pymatgen.core.Structure

    Raises
    ------
    InvalidStructureError
        When the vectors span no volume.
    """
    from pymatgen.core import Lattice, Structure

    lattice = Lattice(vectors)
    try:
        # One call per crystal: converted by the Structure itself, positions would cost a matrix product per site.
        fractional = lattice.get_fractional_coords(positions)
    except np.linalg.LinAlgError as error:
        raise InvalidStructureError("lattice_vectors span no volume") from error
    return Structure(lattice, species, fractional)


def structure_from_record(attributes: Mapping[str, Any]) -> Structure:
    """Build a crystal from the attributes of an OPTIMADE structure.

    Parameters
    ----------
    attributes : mapping
        The :data:`FIELDS` as JSON gives them; those that are absent count as null. Without ``species``, the names of
        the sites are taken for element symbols.

    Returns
    -------
    pymatgen.core.Structure
        Every site holds one element in full.

    Raises
    ------
    InvalidStructureError
        When the record is no ordered crystal of known atoms; the message is the reason.

    Examples
    --------
    >>> from crystalssl._optimade import structure_from_record
    >>> polonium = {
    ...     "lattice_vectors": [[3.35, 0, 0], [0, 3.35, 0], [0, 0, 3.35]],
    ...     "cartesian_site_positions": [[0, 0, 0]],
    ...     "species_at_sites": ["Po1"],
    ...     "species": [{"name": "Po1", "chemical_symbols": ["Po"], "concentration": [1.0]}],
    ... }
    >>> structure_from_record(polonium).formula
    'Po1'
    >>> structure_from_record(polonium | {"dimension_types": [1, 1, 0]})
    Traceback (most recent call last):
        ...
    crystalssl.exceptions.InvalidStructureError: not periodic in three dimensions (dimension_types [1, 1, 0])
    """
    attributes = without_arrays(attributes)
    _check_periodicity(attributes)
    names = attributes.get("species_at_sites")
    if names is None or names == []:
        raise InvalidStructureError("no sites (species_at_sites is missing or empty)")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidStructureError("species_at_sites is not a list of names")
    if attributes.get("nsites") not in (None, len(names)):
        raise InvalidStructureError(f"nsites is {attributes['nsites']}, but species_at_sites has {len(names)} entries")
    if attributes.get("assemblies"):
        raise InvalidStructureError("disordered: assemblies of sites that are occupied together or not at all")
    elements = _elements(names, attributes.get("species"))
    if features := attributes.get("structure_features"):
        # Disorder and attached atoms show in the species too, but implicit atoms show nowhere else.
        raise InvalidStructureError(f"the sites do not describe it in full (structure_features {features})")
    vectors = _vectors(attributes, "lattice_vectors", 3)
    if abs(np.linalg.det(vectors)) < _MIN_VOLUME:
        raise InvalidStructureError("lattice_vectors span no volume")
    positions = _vectors(attributes, "cartesian_site_positions", len(names))
    return crystal_of(vectors, positions, [elements[name] for name in names])


def _check_periodicity(attributes: Mapping[str, Any]) -> None:
    for field, periodic in (("dimension_types", [1, 1, 1]), ("nperiodic_dimensions", 3)):
        if attributes.get(field) not in (None, periodic):
            raise InvalidStructureError(f"not periodic in three dimensions ({field} {attributes[field]})")


def _elements(names: list[str], species: Any) -> dict[str, Composition]:
    """Return what each of the names stands for."""
    if species is None:
        return {name: _element(name, name) for name in dict.fromkeys(names)}
    try:
        described = {entry["name"]: entry for entry in species}
    except (TypeError, KeyError) as error:
        raise InvalidStructureError("species is not a list of species with names") from error
    unknown = next((name for name in names if name not in described), None)
    if unknown is not None:
        raise InvalidStructureError(f"species does not describe {unknown!r} of species_at_sites")
    return {name: _only_element(described[name]) for name in dict.fromkeys(names)}


def _only_element(species: Mapping[str, Any]) -> Composition:
    name, symbols, concentration = species["name"], species.get("chemical_symbols"), species.get("concentration")
    if not isinstance(symbols, list) or not isinstance(concentration, list) or len(symbols) != len(concentration):
        raise InvalidStructureError(f"species {name!r} has no list of chemical_symbols with a concentration each")
    if species.get("attached"):
        raise InvalidStructureError(f"species {name!r} has atoms attached that have no positions")
    if len(symbols) != 1:
        parts = ", ".join(f"{symbol} {part}" for symbol, part in zip(symbols, concentration, strict=True))
        raise InvalidStructureError(f"disordered: species {name!r} is {parts or 'nothing'}")
    element = _element(symbols[0], name)
    if not isinstance(concentration[0], int | float) or not abs(concentration[0] - 1) < 1e-6:
        raise InvalidStructureError(f"disordered: species {name!r} is {symbols[0]} {concentration[0]}")
    return element


def _element(symbol: Any, name: str) -> Composition:
    if symbol == "vacancy":
        raise InvalidStructureError(f"species {name!r} is a vacancy")
    if symbol == "X":
        raise InvalidStructureError(f"species {name!r} is an unknown element (X)")
    from crystalssl.graphs._dicts import site_species

    try:
        return site_species(symbol)
    except (ValueError, TypeError) as error:
        raise InvalidStructureError(f"species {name!r}: {symbol!r} is not an element symbol") from error


def _vectors(attributes: Mapping[str, Any], field: str, expected: int) -> np.ndarray:
    """Return a list of 3-vectors as float64 of shape (expected, 3)."""
    value = attributes.get(field)
    if value is None:
        raise InvalidStructureError(f"{field} is missing")
    try:
        vectors = np.array(value, dtype=np.float64)  # null becomes NaN
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidStructureError(f"{field} is not a list of vectors of three numbers") from error
    if vectors.shape != (expected, 3):
        raise InvalidStructureError(f"{field} has the shape {vectors.shape}, expected ({expected}, 3)")
    if not np.isfinite(vectors).all():
        raise InvalidStructureError(f"{field} holds null, NaN or infinite numbers")
    return vectors
