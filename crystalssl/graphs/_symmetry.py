"""Symmetry of crystals: the operations that a space group may mean, and the atoms that they make."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import NamedTuple

import gemmi
import numpy as np
from gemmi import cif

from crystalssl._limits import LIMITS
from crystalssl.graphs._arrays import FULL, MIN_DISTANCE

__all__ = ["Group", "Sites", "has_settings", "operations", "same_sites", "settings"]

_METRIC = 5e-3  # an operation may change the cell's metric by this fraction, since lengths are rounded
_ROUNDED = 4e-3  # a translation this close to a multiple of 1/24 is meant to be it
_SHIFT = re.compile(r"(?<![\d.])(\d+(?=/)|\d+\.\d*|\.\d+)(?:/(\d+))?(?![\d.])", re.ASCII)
_TWICE = re.compile(r"(^|(?<=,)|[+-])\s*2\s*\*?\s*([xyz])", re.IGNORECASE)  # 2x, which gemmi reads as x+x
_LONGEST = 100  # characters of what is kept in a cache
_GRID = 10**6  # images of one place, equal but for the last bits, share a cell of this grid


def distances(off: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Return lengths in Å of differences of fractional coordinates, to the image that is nearest along each axis."""
    return np.linalg.norm((off - np.rint(off)) @ lattice, axis=-1)


class Sites(NamedTuple):
    """Sites of a file, before symmetry makes atoms of them."""

    labels: list[str]
    numbers: np.ndarray  # (n,), atomic numbers
    fractions: np.ndarray  # (n, 3)
    filled: np.ndarray  # (n,), occupancies


class Group(NamedTuple):
    """Symmetry operations on fractional coordinates."""

    rotations: np.ndarray  # (n, 3, 3)
    translations: np.ndarray  # (n, 3)
    distinct: np.ndarray  # (m, 3, 3), each rotation once

    def fits(self, lattice: np.ndarray) -> bool:
        """Whether the operations leave the lengths and angles of a cell as they are."""
        if len(self.rotations) == 1:
            return True
        metric = lattice @ lattice.T
        lengths = np.sqrt(metric.diagonal())
        change = self.distinct.transpose(0, 2, 1) @ metric @ self.distinct - metric
        return bool((abs(change) <= _METRIC * lengths[:, None] * lengths).all())

    def images(self, fractions: np.ndarray) -> np.ndarray:
        """Return the images of each site, of shape (n_sites, n, 3)."""
        LIMITS.check_sites(len(fractions) * len(self.rotations) // 48)  # no more operations leave a place alone
        turned = fractions @ self.rotations.transpose(2, 0, 1).reshape(3, -1)
        return turned.reshape(len(fractions), len(self.rotations), 3) + self.translations

    def expand(self, sites: Sites, lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return atomic numbers and fractional coordinates of all atoms of the cell.

        Images closer than atoms can be are one atom, at their centre: the special position whose digits were rounded.
        """
        numbers, fractions, n_operations = sites.numbers, sites.fractions, len(self.rotations)
        if (abs(sites.filled - 1) > FULL).any():
            kept = self._one_per_place(sites, lattice)
            numbers, fractions = numbers[kept], fractions[kept]
        if n_operations == 1:
            return numbers, fractions
        off = self.images(fractions) - fractions[:, None]
        off -= np.rint(off)
        near = np.linalg.norm(off @ lattice, axis=2) < MIN_DISTANCE
        n_near = near.sum(axis=1)
        images = self.images(fractions + np.einsum("nk,nka->na", near, off) / n_near[:, None])
        # The offset keeps coordinates of few digits away from the borders of the grid's cells.
        cells = np.floor(images * _GRID + 0.381966).astype(np.int64) % _GRID
        keys = cells @ (_GRID**2, _GRID, 1)
        order = keys.argsort(axis=1) + np.arange(0, keys.size, n_operations)[:, None]
        keys = keys.ravel()[order]
        new = np.ones_like(near)
        np.not_equal(keys[:, 1:], keys[:, :-1], out=new[:, 1:])
        counts = new.sum(axis=1)
        if (counts * n_near != n_operations).any():
            raise ValueError(f"images of a site are about {MIN_DISTANCE} Å apart, neither one atom nor several")
        LIMITS.check_sites(int(counts.sum()))
        return numbers.repeat(counts), images.reshape(-1, 3)[order[new]]

    def _one_per_place(self, sites: Sites, lattice: np.ndarray) -> np.ndarray:
        """Return a mask of one site per place; those at one place must fill it with one element."""
        labels, numbers, fractions, filled = sites
        kept, partial = np.ones(len(labels), dtype=bool), np.flatnonzero(abs(filled - 1) > FULL)
        LIMITS.check_sites(len(partial) ** 2 // 50)  # each is compared with all
        images = self.images(fractions[partial])
        for row in partial.tolist():
            if not kept[row]:
                continue
            here = partial[(distances(images - fractions[row], lattice) < MIN_DISTANCE).any(axis=1)]
            if len(set(numbers[here].tolist())) > 1 or abs(filled[here].sum() - 1) > FULL:
                shares = ", ".join(f"{labels[i]} {filled[i]:g}" for i in here[:9])
                raise ValueError(
                    f"site {labels[row]!r} is partially occupied ({shares}); order the structure first, e.g. with "
                    "pymatgen's OrderDisorderedStructureTransformation"
                )
            kept[here] = here == row
        return kept


def same_sites(lattice: np.ndarray, one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether two crystals, each as numbers and fractional coordinates, have the same atoms at the same places."""
    return len(one[0]) == len(other[0]) and all(
        (distances(other[1][other[0] == number] - place, lattice) < MIN_DISTANCE).any()
        for number, place in zip(*one, strict=True)
    )


@lru_cache(maxsize=1024)  # files of one source share their operations
def operations(triplets: tuple[str, ...]) -> Group:
    """Return the group of a complete list of operations such as x,y,z and -x,-y,-z, quoted or not."""
    if len(triplets) > 192:
        raise ValueError(f"it lists {len(triplets)} symmetry operations, but no space group has more than 192")
    if max(map(len, triplets)) > _LONGEST:
        raise ValueError("a symmetry operation is longer than any that means something")
    parsed = [
        gemmi.parse_triplet(_TWICE.sub(_written_out, _SHIFT.sub(_in_24ths, cif.as_string(triplet)))).wrap()
        for triplet in triplets
    ]
    ops = list({op.triplet(): op for op in parsed}.values())
    rotations, translations = np.array([op.rot for op in ops]) / 24, np.array([op.tran for op in ops]) / 24
    group = gemmi.GroupOps(ops)
    group.add_missing_elements()
    if len(group) != len(ops) or (rotations % 1).any():
        raise ValueError(f"its {len(ops)} symmetry operations are no group: some are missing, or one is misspelt")
    return Group(rotations, translations, np.unique(rotations, axis=0))


def _in_24ths(shift: re.Match) -> str:
    """Return a translation as gemmi wants it; files round a half to 499/999, and thirds to 0.33."""
    value = float(shift[1]) / float(shift[2] or 1) if float(shift[2] or 1) else math.nan
    twenty_fourths = round(24 * value) if abs(value) < 9 else 0
    return f"{twenty_fourths}/24" if abs(value - twenty_fourths / 24) < _ROUNDED else shift[0]


def _written_out(twice: re.Match) -> str:
    return 2 * ((twice[1] or "+") + twice[2])


@lru_cache(maxsize=1024)
def settings(hall: str, name: str, number: int) -> list[list[Group]]:
    """Return what a space group may mean; a list of settings counts if none of an earlier list fits the cell.

    Parameters
    ----------
    hall, name : str
        Hall symbol and Hermann-Mauguin symbol, empty if unknown. A name without origin or axes stands for all of them.
    number : int
        Of International Tables, 0 if unknown. Alone, it stands for the standard symbol.

    Raises
    ------
    ValueError
        If they are unknown, or contradict each other.
    """
    if len(hall + name) > _LONGEST:
        raise ValueError("the name of its space group is longer than any that means something")
    groups = _by_name(name) if name else _by_number(number)
    types = {group.number for tier in groups for group in tier} & ({number} if number else set(range(231)))
    if (name or number) and not types:
        raise ValueError(f"space group {name!r} (number {number or 'unknown'}) is unknown; list its operations")
    if hall:
        generated = gemmi.symops_from_hall(hall.replace("=", '"'))
        its_type = gemmi.find_spacegroup_by_ops(generated)
        if types and its_type and its_type.number not in types:
            raise ValueError(f"Hall symbol {hall!r} is not of space group {name or number}; list its operations")
        return [[operations(tuple(op.triplet() for op in generated))]]
    return [
        [operations(tuple(op.triplet() for op in group.operations())) for group in tier if group.number in types]
        for tier in groups
    ]


@lru_cache(maxsize=1024)
def has_settings(number: int) -> bool:
    """Whether the space group of a number has other symbols than the standard one."""
    return len({group.hm for group in gemmi.spacegroup_table() if group.number == number}) > 1


def _by_name(name: str) -> list[list[gemmi.SpaceGroup]]:
    # P 2_1/c and P 2(1)/c stand for P 21/c, and ICSD's S and Z for the two origins.
    name = re.sub(r"(?<=\d)[_(](\d)\)?", r"\1", name.strip())
    name = re.sub(
        r"[\s:]*(S|Z|O1|O2|\(origin choice [12]\))$", lambda end: ":2" if set("Z2") & set(end[1]) else ":1", name
    )
    found = (gemmi.find_spacegroup_by_name(name + end) for end in ("", ":1", ":2", ":H", ":R"))
    # A short monoclinic name means the unique axis b, unless the cell has another one.
    short = re.sub(r"\s", "", name)
    monoclinic = [group for group in gemmi.spacegroup_table() if group.crystal_system_str() == "monoclinic"]
    others = [group for group in monoclinic if group.hm.replace(" 1", "").replace(" ", "") == short]
    return [list({group.xhm(): group for group in found if group}.values()), others]


def _by_number(number: int) -> list[list[gemmi.SpaceGroup]]:
    standard = gemmi.get_spacegroup_reference_setting(number).hm if 0 < number < 231 else ""
    return [[group for group in gemmi.spacegroup_table() if (group.number, group.hm) == (number, standard)]]
