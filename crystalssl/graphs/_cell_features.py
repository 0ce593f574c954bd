"""What the cell says of a crystal: how densely it is packed, and whether it is a layer in a vacuum."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from crystalssl.graphs._arrays import N_ELEMENTS
from crystalssl.graphs._cell import cell_volume
from crystalssl.graphs._crystal_graphs import CrystalGraphs

__all__ = ["CELL_FEATURES", "area_per_atom", "atomic_radii", "cell_features"]

CELL_FEATURES = (
    "log volume per atom",
    "packing fraction",
    "gap",
    "vacuum",
    "log area per atom",
    "log thickness",
)
"""Names of the columns of :func:`cell_features`."""

_NO_VACUUM, _VACUUM = 5.0, 8.0  # Å: gaps in crystals, between layers too, are narrower; those of slabs are wider
_BOND = 3.0  # Å: what is left of a vacuum in the volume, about the gap between layers that touch
_NEARLY_WIDEST = 0.8  # planes whose gaps reach this part of the widest one count, more so the closer they come to it
_MANY_PLANES = 4096
_SIMPLE_PLANES = np.indices((3, 3, 3)).reshape(3, -1).T[14:] - 1  # all whose Miller indices are -1, 0 or 1


def cell_features(graphs: CrystalGraphs) -> np.ndarray:
    """Return numbers that follow from cell, positions and elements alone, continuous in the positions of all atoms.

    They depend on the crystal, not on the cell that describes it; nor on how wide a vacuum is once it is one.

    Parameters
    ----------
    graphs : CrystalGraphs

    Returns
    -------
    ndarray of shape (n_crystals, 6), float32
        In the order of `CELL_FEATURES`. The volume (Å³) without the vacuum around a layer, per atom, in logarithm. The
        part of it that spheres of the atomic radii fill. The widest gap (Å) between planes of atoms, at most 5 Å. How
        much of a vacuum it is, from 0 up to 5 Å to 1 from 8 Å. Area (Å²) per atom and thickness (Å) of the layer beside
        the vacuum, in logarithm; 0 where there is none.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> from crystalssl import CrystalGraphTransformer
    >>> from crystalssl.graphs import cell_features
    >>> graphene = Structure(Lattice.hexagonal(2.46, 20), ["C", "C"], [[0, 0, 0], [1 / 3, 2 / 3, 0]])
    >>> cell_features(CrystalGraphTransformer().transform([graphene])).round(2)
    array([[2.06, 0.18, 5.  , 1.  , 0.96, 1.1 ]], dtype=float32)
    """
    rows = np.empty((len(graphs), len(CELL_FEATURES)), np.float32)
    radii = atomic_radii()
    for row, start, stop, lattice in zip(
        rows, graphs.atom_offsets[:-1], graphs.atom_offsets[1:], graphs.lattice, strict=True
    ):
        positions = np.asarray(graphs.positions[start:stop], float)
        spheres = 4 / 3 * np.pi * float((radii[graphs.atomic_numbers[start:stop]] ** 3).sum())
        row[:] = _features(positions, np.asarray(lattice, float), spheres)
    return rows


def _features(positions: np.ndarray, lattice: np.ndarray, spheres: float) -> list[float]:
    planes = _gaps(positions, lattice)
    volume, n_atoms, gap = cell_volume(lattice), len(positions), float(planes.gaps.max())
    vacuum = float(_smooth((gap - _NO_VACUUM) / (_VACUUM - _NO_VACUUM)))
    area = thickness = 0.0
    if vacuum:
        # The widest gap is a continuous function, the plane in which it lies is not: where two are equally wide it
        # changes. Their mean does not.
        weights = _smooth((planes.gaps / gap - _NEARLY_WIDEST) / (1 - _NEARLY_WIDEST))
        weights /= weights.sum()
        log_area = float(weights @ np.log(planes.layers * volume / (planes.spacings * n_atoms)))
        log_thickness = float(weights @ np.log((planes.spacings - planes.empty) / planes.layers + _BOND))
        volume *= np.exp(vacuum * (log_area + log_thickness - np.log(volume / n_atoms)))
        area, thickness = vacuum * log_area, vacuum * log_thickness
    return [np.log(volume / n_atoms), spheres / volume, min(gap, _NO_VACUUM), vacuum, area, thickness]


def area_per_atom(positions: np.ndarray, lattice: np.ndarray) -> float:
    """Return the area per atom (Å²) of a layer in a vacuum of at least 5 Å, or NaN if the crystal is none.

    Parameters
    ----------
    positions : ndarray of shape (n_atoms, 3)
        In Å.
    lattice : ndarray of shape (3, 3)
        Rows are the lattice vectors, in Å.
    """
    planes = _gaps(positions, lattice)
    widest = int(planes.gaps.argmax())
    if planes.gaps[widest] < _NO_VACUUM:
        return np.nan
    return float(planes.layers[widest] * cell_volume(lattice) / (planes.spacings[widest] * len(positions)))


class Planes(NamedTuple):
    """Some families of lattice planes, each with what lies between two neighbouring planes."""

    spacings: np.ndarray
    """How far apart the planes are, in Å."""
    gaps: np.ndarray
    """The widest distance in Å between two atoms that follow each other along the normal."""
    layers: np.ndarray
    """Number of such distances that are about as wide, hence of layers that they part: a cell may hold several."""
    empty: np.ndarray
    """The sum of these distances."""


def _gaps(positions: np.ndarray, lattice: np.ndarray) -> Planes:
    """Return families of planes, the one with the widest gap among them, and all with gaps close to a vacuum's."""
    inverse = np.linalg.inv(lattice)
    fractional = positions @ inverse
    simple = _gaps_of(_SIMPLE_PLANES, fractional, inverse)
    least = float(simple.gaps.max())
    least *= _NEARLY_WIDEST if least > _NO_VACUUM else 1.0
    # No gap is wider than the spacing of its planes: those that are closer than the widest gap so far need no look.
    # Their Miller indices are bounded, by h = G · a.
    limits = (np.sqrt(np.square(lattice).sum(axis=1)) / least).astype(int)
    if np.prod(2 * limits + 1) > _MANY_PLANES:  # of a cell that is far from compact
        from pymatgen.core import Lattice

        reduced = Lattice(lattice).get_lll_reduced_lattice().matrix
        if np.square(reduced).sum() < 0.99 * np.square(lattice).sum():
            return _gaps(positions, reduced)
    planes = np.indices(2 * limits + 1).reshape(3, -1).T - limits
    planes = planes[len(planes) // 2 + 1 :]  # the other half are the same planes
    planes = planes[np.square(planes @ inverse.T).sum(axis=1) * least**2 <= 1]
    planes = planes[(np.gcd.reduce(planes, axis=1) == 1) & (abs(planes).max(axis=1) > 1)]
    more = _gaps_of(planes, fractional, inverse)
    return Planes(*(np.concatenate(both) for both in zip(simple, more, strict=True)))


def _gaps_of(planes: np.ndarray, fractional: np.ndarray, inverse: np.ndarray) -> Planes:
    spacings = 1 / np.sqrt(np.square(planes @ inverse.T).sum(axis=1))
    heights = fractional @ planes.T
    heights = np.sort(heights - np.floor(heights), axis=0)
    steps = np.diff(heights, axis=0, append=heights[:1] + 1) * spacings
    gaps = steps.max(axis=0)
    if not (gaps > _NO_VACUUM).any():  # nobody asks for layers
        return Planes(spacings, gaps, np.ones_like(gaps), gaps)
    weights = _smooth((steps / gaps - _NEARLY_WIDEST) / (1 - _NEARLY_WIDEST))
    return Planes(spacings, gaps, weights.sum(axis=0), (weights * steps).sum(axis=0))


def _smooth(x: np.ndarray | float) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x**2 * (3 - 2 * x)


@functools.lru_cache(maxsize=1)
def atomic_radii() -> np.ndarray:
    """Return the atomic radii of the elements in Å, of shape (119,), by atomic number."""
    from pymatgen.core import Element

    radii = np.full(N_ELEMENTS + 1, 1.5)  # of the elements of which none is known, which are radioactive
    for element in Element:
        for name in ("Atomic radius calculated", "Atomic radius"):  # the latter where there is one
            if isinstance(radius := element.data.get(name), int | float):
                radii[element.Z] = radius
    return radii
