"""CIF files, read by gemmi: the crystal that a file decides, or an error that says what it leaves open."""

from __future__ import annotations

import math
import re
from functools import lru_cache

import gemmi
import numpy as np
from gemmi import cif

from crystalssl._limits import LIMITS
from crystalssl.graphs._arrays import FULL, CrystalArrays
from crystalssl.graphs._symbols import atomic_number
from crystalssl.graphs._symmetry import Group, Sites, has_settings, operations, same_sites, settings

__all__ = ["read_cif"]

_CELL = [f"_cell_length_{i}" for i in "abc"] + [f"_cell_angle_{i}" for i in ("alpha", "beta", "gamma")]
_OPERATIONS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_HALL = ("_space_group_name_Hall", "_symmetry_space_group_name_Hall")
_NAME = ("_space_group_name_H-M_alt", "_symmetry_space_group_name_H-M")
_LONGEST = 1000  # characters of a formula that are read
_MAX_BLOCKS = 1000  # gemmi compares the names of all with all
_NUMBER = ("_space_group_IT_number", "_symmetry_Int_Tables_number")


def read_cif(data: bytes) -> tuple[CrystalArrays, list[str]]:
    """Return the first structure of a CIF file, and notes of what its user should know.

    Symmetry is that of the listed operations, else that of the settings which the space group's names allow and whose
    rotations keep the cell's metric; they must make the same crystal. ValueError or RuntimeError say what is wrong or
    not decided.
    """
    lower = data.lower()
    if lower.count(b"data_") + lower.count(b"save_") > _MAX_BLOCKS:
        raise ValueError(f"it has more than {_MAX_BLOCKS} blocks")
    document = cif.read_string(data.removeprefix(b"\xef\xbb\xbf"))
    blocks = [block for block in document if block.find_values("_atom_site_fract_x")]
    if not blocks:
        raise ValueError("it has no sites with fractional coordinates (_atom_site_fract_x)")
    block, notes = blocks[0], []
    if len(blocks) > 1:
        notes.append(f"of several structures {block.name!r} is read, not {', '.join(b.name for b in blocks[1:])}")
    cell = [_number(_value(block, tag)) for tag in _CELL]
    lattice = np.array(gemmi.UnitCell(*cell).orth.mat.tolist()).T.copy()
    if not (all(value > 0 for value in cell) and max(cell[3:]) < 180 and np.isfinite(lattice).all()):
        raise ValueError(f"its cell {tuple(cell)} has no volume, or lacks a length or an angle")
    sites = _sites(block)
    (numbers, fractions), *others = [group.expand(sites, lattice) for group in _groups(block, lattice, notes)]
    if not all(same_sites(lattice, (numbers, fractions), other) for other in others):
        raise ValueError(
            "its space group has several settings (origins, axes) that make different crystals of these sites; list "
            "the symmetry operations, or name the setting, as in 'F d -3 m :2'"
        )
    formula = _value(block, "_chemical_formula_sum")[:_LONGEST]
    shares = _shares(formula)
    if shares.any() and abs(shares - np.bincount(numbers, minlength=len(shares)) / len(numbers)).max() > FULL:
        notes.append(f"its sites have another composition than its formula, {formula} (hydrogens are often missing)")
    return CrystalArrays(numbers, (fractions - np.floor(fractions)) @ lattice, lattice), notes


def _value(block: cif.Block, *tags: str) -> str:
    """Return the value of the first tag that has one, or an empty string."""
    values = (block.find_value(tag) for tag in tags)
    return next((cif.as_string(value) for value in values if value and not cif.is_null(value)), "")


def _number(value: str, default: float = math.nan) -> float:
    """Return a number without its uncertainty; a dot is the dictionary's default."""
    return default if value == "." else cif.as_number(cif.as_string(value))


def _sites(block: cif.Block) -> Sites:
    """Return the sites that are there, unless something of them is not understood."""
    names = ("fract_x", "fract_y", "fract_z", "label", "type_symbol", "occupancy", "attached_hydrogens")
    further = ("calc_flag", "disorder_assembly", "disorder_group")
    columns = _columns(block, *(f"_atom_site_{name}" for name in (*names, *further)))
    x, y, z, labels, symbols, filled, hydrogens, flags, assemblies, alternatives = columns
    n = len(x)
    LIMITS.check_sites(n)
    labels, symbols, filled = labels or symbols, symbols or ["?"] * n, filled or ["."] * n
    optional = [column or x for column in (hydrogens, flags, assemblies, alternatives)]
    if not all(len(column) == n for column in (y, z, labels, symbols, filled, *optional)):
        raise ValueError("its sites are spread over several loops, or lack a column")
    fractions = np.array([[_number(value, 0.0) for value in axis] for axis in (x, y, z)]).T
    occupancies = np.array([1.0 if value == "?" else _number(value, 1.0) for value in filled])
    for wrong, what in (
        (~np.isfinite(fractions).all(axis=1), "has coordinates that are no numbers"),
        (~((occupancies >= 0) & (occupancies <= 1 + FULL)), "has an occupancy that is not between 0 and 1"),
        (np.array([value not in (".", "?", "0") for value in hydrogens]), "has hydrogens without positions"),
    ):
        if wrong.any():
            raise ValueError(f"site {labels[wrong.argmax()]} {what}")
    dummies = {row for row, flag in enumerate(flags) if cif.as_string(flag) == "dum"}
    there = [row for row in np.flatnonzero(occupancies).tolist() if row not in dummies]
    if alternatives:
        _check_alternatives(labels, assemblies or ["."] * n, alternatives, there)
    numbers = [
        atomic_number(
            cif.as_string(labels[row] if cif.is_null(symbols[row]) else symbols[row]), cif.is_null(symbols[row])
        )
        for row in there
    ]
    return Sites([labels[row] for row in there], np.array(numbers, np.uint8), fractions[there], occupancies[there])


def _check_alternatives(labels: list[str], assemblies: list[str], groups: list[str], there: list[int]) -> None:
    """Raise ValueError if sites are alternatives to each other: in different groups of one assembly."""
    first: dict[str, int] = {}
    for row in there:
        if not cif.is_null(groups[row]):
            other = first.setdefault(assemblies[row], row)
            if groups[other] != groups[row]:
                raise ValueError(
                    f"sites {labels[other]} and {labels[row]} are alternatives (disorder groups {groups[other]} and "
                    f"{groups[row]}); leave those of one group"
                )


def _columns(block: cif.Block, *tags: str) -> list[list[str]]:
    """Return the values of some tags, empty for those that are missing; from the loop of the first tag in one go."""
    item = block.find_loop_item(tags[0])
    loop = item.loop if item else None
    if loop is None:
        return [list(block.find_values(tag)) for tag in tags]
    values, names, width = loop.values, [tag.lower() for tag in loop.tags], loop.width()
    return [values[names.index(tag) :: width] if tag in names else list(block.find_values(tag)) for tag in tags]


@lru_cache(maxsize=4096)
def _shares(formula: str) -> np.ndarray:
    """Return the share of each element in a formula such as 'Cd I2'."""
    amounts = np.zeros(256)
    for symbol, amount in re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", formula):
        amounts[gemmi.Element(symbol).atomic_number] += float(amount or 1)
    return amounts / max(amounts.sum(), 1e-9)


def _groups(block: cif.Block, lattice: np.ndarray, notes: list[str]) -> list[Group]:
    """Return the operations of the file, or those of each setting that it may mean."""
    lists = (tuple(block.find_values(tag)) for tag in _OPERATIONS)
    listed = next((triplets for triplets in lists if triplets and not cif.is_null(triplets[0])), None)
    if listed:
        tiers, what = [[operations(listed)]], "the list of symmetry operations"
    elif any(said := [_value(block, *tags) for tags in (_HALL, _NAME, _NUMBER)]):
        hall, name, number = said
        tiers, what = settings(hall, name, int(number or 0)), f"space group {name or hall or number}"
        if not (hall or name) and has_settings(int(number)):
            notes.append(f"it gives space group {number} without its setting; the standard one is assumed")
    else:
        pairs = [item.pair[0] for item in block if item.pair]  # type: ignore[index]
        tags = pairs + [tag for item in block if item.loop for tag in item.loop.tags]
        tags = [tag for tag in tags if re.match("_(symmetry|space_group)", tag, re.IGNORECASE)]
        said = [tag for tag in tags if not all(map(cif.is_null, block.find_values(tag)))]
        if said:
            raise ValueError(f"its symmetry is not clear from {', '.join(said)}; list the operations (x,y,z, …)")
        tiers, what = [[operations(("x,y,z",))]], "P 1"
        notes.append("it says nothing about symmetry; its sites are taken for all atoms of the cell")
    found = next(filter(None, ([group for group in tier if group.fits(lattice)] for tier in tiers)), None)
    if found is None:
        raise ValueError(f"{what} does not fit the lengths and angles of its cell")
    return found
