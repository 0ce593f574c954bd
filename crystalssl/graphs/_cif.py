"""CIF files read by gemmi, with the meaning that pymatgen gives them.

pymatgen defines what a CIF file says, but takes milliseconds to say it. gemmi cuts the file into tags and values a
hundred times faster, and here the values are put together by the rules of pymatgen's `CifParser`. Only plain files go
this way: one crystal, fully occupied, written by the book. `read_cif` returns None for any other file, which pymatgen
then reads, so that its results, its corrections and its errors stay the only ones.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crystalssl.graphs._cell import lengths_and_heights
from crystalssl.graphs._cif_symmetry import expand, operations_of
from crystalssl.graphs._cif_values import NotPlainError, Values, column, number, single, text, values_of

if TYPE_CHECKING:
    from pymatgen.core import Structure

__all__ = ["CifCrystal", "parse_cif", "read_cif"]

_FRAC_TOLERANCE = 1e-4  # CifParser's frac_tolerance
_MIN_THICKNESS = 0.01  # Å; CifParser refuses thinner cells
_FORMULA_TOLERANCE = 0.01  # CifParser's comp_tol
_THIRDS = np.array([1 / 3, 2 / 3])[:, None, None]

# An element, then perhaps a charge or a number. Other spellings (Fe_sv, OW, CA1) are pymatgen's to guess.
_TYPE_SYMBOL = re.compile(r"([A-Z][a-z]?)(?:\d*(?:\.\d+)?[+-]|[+-]\d+|\d+)?")
_FORMULA_PART = re.compile(r"([A-Z][a-z]?)(\d+(?:\.\d+)?)?\s*")

_CELL = tuple(f"_cell_length_{i}" for i in "abc") + tuple(f"_cell_angle_{i}" for i in ("alpha", "beta", "gamma"))
_FRACTIONS = ("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z")

_States = tuple[tuple[str, float], ...]


class CifCrystal(NamedTuple):
    """A crystal as pymatgen's `Structure.from_file` returns it, in arrays, without oxidation states."""

    atomic_numbers: np.ndarray  # (n_atoms,) uint8
    frac_coords: np.ndarray  # (n_atoms, 3) float64
    lattice: np.ndarray  # (3, 3) float64, Å, rows are lattice vectors
    rows: np.ndarray  # (n_atoms,) row of each atom in the file's list of sites
    labels: list[str]  # of these rows

    def to_structure(self) -> Structure:
        """Return the crystal as pymatgen's `Structure`."""
        from pymatgen.core import Composition, Element, Structure

        numbers = self.atomic_numbers.tolist()
        species = {number: Composition({Element.from_Z(number): 1}) for number in set(numbers)}
        return Structure(
            self.lattice,
            [species[number] for number in numbers],
            self.frac_coords,
            labels=[self.labels[row] for row in self.rows.tolist()],
        )


def read_cif(path: str) -> CifCrystal | None:
    """Read a plain CIF file; None means that pymatgen has to read it.

    Parameters
    ----------
    path : str
        An uncompressed file.

    Returns
    -------
    CifCrystal or None
        Lattice, sites and their order are those of `Structure.from_file`.
    """
    with open(path, "rb", buffering=0) as file:
        data = file.read()
    try:
        return parse_cif(data)
    except NotPlainError:
        return None


def parse_cif(data: bytes) -> CifCrystal:
    """Read the content of a plain CIF file.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    CifCrystal

    Raises
    ------
    NotPlainError
        If pymatgen may see more, less or something else in the file than is read here.
    """
    values = values_of(data)
    lattice = _lattice(values)
    sites = _sites(values)
    rows = sorted(range(len(sites.labels)), key=sites.ranks.__getitem__)
    numbers = np.array([sites.atomic_numbers[row] for row in rows], dtype=np.uint8)
    order = np.array(rows)
    coords, counts = expand(sites.coords[:, order], operations_of(values))
    if counts is not None:
        order, numbers = order.repeat(counts), numbers.repeat(counts)
    _check_formula(values, numbers)
    return CifCrystal(numbers, coords, lattice, order, sites.labels)


# ---------------------------------------------------------------------- cell


def _lattice(values: Values) -> np.ndarray:
    """Return lattice vectors by the formula of pymatgen's Lattice.from_parameters, to the last bit.

    That takes numpy's sines and cosines; plain floats between them are three times as fast.
    """
    a, b, c, *angles = cell = [number(single(values, tag)) for tag in _CELL]
    usual = 0.1 < min(a, b, c) <= max(a, b, c) < 1e4 and 5 < min(angles) <= max(angles) < 175  # no sine vanishes
    if not usual or not math.isfinite(sum(cell)):  # NaN may hide from min and max
        raise NotPlainError(f"an unusual cell: {cell}")
    radians = np.radians(angles)
    cos_alpha, cos_beta, cos_gamma = np.cos(radians).tolist()
    sin_alpha, sin_beta, _ = np.sin(radians).tolist()
    cos_star = (cos_alpha * cos_beta - cos_gamma) / (sin_alpha * sin_beta)
    if not -1 < cos_star < 1:
        raise NotPlainError(f"angles that make no cell: {cell}")
    gamma_star = np.arccos(cos_star)
    first = [a * sin_beta, 0.0, a * cos_beta]
    second = [
        -b * sin_alpha * float(np.cos(gamma_star)),
        b * sin_alpha * float(np.sin(gamma_star)),
        b * cos_alpha,
    ]
    lattice = np.array([first, second, [0.0, 0.0, c]])
    if min(lengths_and_heights(lattice)[1]) < 2 * _MIN_THICKNESS:
        raise NotPlainError(f"a flat cell: {cell}")
    return lattice


# ---------------------------------------------------------------------- sites


class _Sites(NamedTuple):
    atomic_numbers: list[int]
    ranks: list[tuple[float, str]]  # what pymatgen sorts by
    coords: np.ndarray  # (3, n_sites)
    labels: list[str]


def _sites(values: Values) -> _Sites:
    symbols = column(values, "_atom_site_type_symbol")
    labels = [label if label[0].isalnum() else text(label) for label in column(values, "_atom_site_label")]
    fractions = [column(values, tag) for tag in _FRACTIONS]
    if any(len(other) != len(symbols) for other in (labels, *fractions)):
        raise NotPlainError("the sites are spread over several loops")
    if "_atom_site_occupancy" in values:
        occupancies = column(values, "_atom_site_occupancy")
        if len(occupancies) != len(symbols) or any(number(occupancy) != 1 for occupancy in set(occupancies)):
            raise NotPlainError("a site that is not fully occupied")
    states = _oxidation_states(values)
    species = [_species(symbol, states) for symbol in symbols]
    try:
        coords = np.array([list(map(float, axis)) for axis in fractions])
    except ValueError:
        coords = np.array([list(map(number, axis)) for axis in fractions])
    if not math.isfinite(coords.sum()):
        raise NotPlainError("coordinates that are not finite")
    # 0.3333 stands for 1/3, which matters once symmetry operations move the site.
    thirds = np.abs(coords / _THIRDS - 1) <= _FRAC_TOLERANCE
    if thirds.any():
        coords[thirds[0]] = 1 / 3
        coords[thirds[1]] = 2 / 3
    return _Sites([z for z, _ in species], [rank for _, rank in species], coords, labels)


def _oxidation_states(values: Values) -> _States | None:
    """Return the file's oxidation states by type symbol, with and without charge, as CifParser collects them."""
    if "_atom_type_oxidation_number" not in values or "_atom_type_symbol" not in values:
        return None
    symbols = [text(symbol) for symbol in column(values, "_atom_type_symbol")]
    numbers = [number(value) for value in column(values, "_atom_type_oxidation_number")]
    if len(symbols) != len(numbers) or not all(map(math.isfinite, numbers)):
        raise NotPlainError("an odd table of oxidation states")
    states = dict(zip(symbols, numbers, strict=True))
    for symbol, value in zip(symbols, numbers, strict=True):
        states[re.sub(r"\d?[\+,\-]?$", "", symbol)] = value
    return tuple(states.items())


@lru_cache(maxsize=4096)
def _species(symbol: str, states: _States | None) -> tuple[int, tuple[float, str]]:
    """Return the atomic number, and what pymatgen sorts sites by: electronegativity, then the name of the species."""
    from pymatgen.core import Element, Species

    symbol = text(symbol)
    match = _TYPE_SYMBOL.fullmatch(symbol)
    # D and T are elements of their own to pymatgen, or to some of its versions.
    if match is None or not Element.is_valid_symbol(match[1]) or match[1] in ("D", "T"):
        raise NotPlainError(f"{symbol!r} is not plainly an element")
    element = Element(match[1])
    if math.isnan(element.X):
        raise NotPlainError(f"{element} has no electronegativity to sort by")
    name = element.symbol
    if states is not None:
        table = dict(states)
        name = str(Species(name, table.get(symbol, table.get(name, 0))))
    return element.Z, (element.X, name)


# ---------------------------------------------------------------------- formula


def _check_formula(values: Values, atomic_numbers: np.ndarray) -> None:
    """Leave a file to pymatgen, which warns, if its formula is not that of its sites (hydrogens are often missing)."""
    for tag in ("_chemical_formula_sum", "_chemical_formula_structural"):
        if tag in values:
            break
    else:
        return
    stated = _parse_formula(text(single(values, tag)))
    found = Counter(atomic_numbers.tolist())
    if stated.keys() != found.keys():
        raise NotPlainError("the formula has other elements than the sites")
    ratios = [found[z] / amount for z, amount in stated.items()]
    if max(ratios) - min(ratios) >= _FORMULA_TOLERANCE:
        raise NotPlainError("the formula has another stoichiometry than the sites")


@lru_cache(maxsize=4096)
def _parse_formula(formula: str) -> dict[int, float]:
    from pymatgen.core import Element

    amounts: dict[int, float] = {}
    end = 0
    for part in _FORMULA_PART.finditer(formula):
        if part.start() != end or not Element.is_valid_symbol(part[1]):
            break
        end = part.end()
        z = Element(part[1]).Z
        amounts[z] = amounts.get(z, 0.0) + float(part[2] or 1)
    if end != len(formula) or not all(amounts.values()):
        raise NotPlainError(f"formula {formula!r}")
    return amounts
