"""What the cell says of a crystal: how densely it is packed, and whether it is a layer in a vacuum."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from crystalssl.graphs._arrays import N_ELEMENTS
from crystalssl.graphs._corpus import CrystalCorpus, parts_of
from crystalssl.graphs._crystal_graphs import CrystalGraphs
from crystalssl.graphs._ragged import concatenate_ranges, offsets_of

__all__ = ["CELL_FEATURES", "areas_per_atom", "atomic_radii", "cell_features"]

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
_NO_GAP = 2.5  # Å: narrower ones are between any planes of atoms
_BOND = 3.0  # Å: what is left of a vacuum in the volume, about the gap between layers that touch
_NEARLY_WIDEST = 0.8  # planes whose gaps reach this part of the widest one count, more so the closer they come to it
_SKEWED = 2.0  # length of a lattice vector times that of its reciprocal; 1 in a box
_FEW = 8  # atoms by which planes without a wide gap are told
_CHUNK = 1024  # crystals at once


def cell_features(graphs: CrystalGraphs | CrystalCorpus) -> np.ndarray:
    """Return numbers that follow from cell, positions and elements alone, continuous in the positions of all atoms.

    They depend on the crystal, not on the cell that describes it; nor on how wide a vacuum is once it is one.

    Parameters
    ----------
    graphs : CrystalGraphs or CrystalCorpus

    Returns
    -------
    ndarray of shape (n_crystals, 6), float32
        In the order of `CELL_FEATURES`. The volume (Å³) without the vacuum around a layer, per atom, in logarithm. The
        part of it that spheres of the atomic radii fill. The widest gap (Å) between planes of atoms, at least 2.5 and
        at most 5 Å. How much of a vacuum it is, from 0 up to 5 Å to 1 from 8 Å. Area (Å²) per atom and thickness (Å) of
        the layer beside the vacuum, in logarithm; 0 where there is none.

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
    for some, part in parts_of(graphs):
        rows[some] = _features_of(part)
    return rows


def _features_of(graphs: CrystalGraphs) -> np.ndarray:
    rows = np.empty((len(graphs), len(CELL_FEATURES)), np.float32)
    cubes = atomic_radii() ** 3
    for start in range(0, len(graphs), _CHUNK):
        offsets = graphs.atom_offsets[start : start + _CHUNK + 1]
        lattices = np.asarray(graphs.lattice[start : start + _CHUNK], float)
        positions = np.asarray(graphs.positions[offsets[0] : offsets[-1]], float)
        spheres = np.add.reduceat(cubes[graphs.atomic_numbers[offsets[0] : offsets[-1]]], offsets[:-1] - offsets[0])
        rows[start : start + _CHUNK] = _features(positions, offsets - offsets[0], lattices, 4 / 3 * np.pi * spheres)
    return rows


def _features(positions: np.ndarray, offsets: np.ndarray, lattices: np.ndarray, spheres: np.ndarray) -> np.ndarray:
    n_atoms = np.diff(offsets)
    planes = _planes(positions, offsets, lattices)
    gap = planes.widest(len(lattices))
    vacuum = _smooth((gap - _NO_VACUUM) / (_VACUUM - _NO_VACUUM))
    # The widest gap is a continuous function, the plane in which it lies is not: where two are equally wide it changes.
    # Their mean does not.
    weights = _smooth((planes.gaps / gap[planes.crystals] - _NEARLY_WIDEST) / (1 - _NEARLY_WIDEST))
    weights /= np.bincount(planes.crystals, weights, len(lattices))[planes.crystals]
    log_volume = np.log(abs(np.linalg.det(lattices)) / n_atoms)
    log_areas = np.log(planes.layers / planes.spacings) + log_volume[planes.crystals]
    log_thicknesses = np.log((planes.spacings - planes.empty) / planes.layers + _BOND)
    area, thickness = (
        vacuum * np.bincount(planes.crystals, weights * values, len(lattices))
        for values in (log_areas, log_thicknesses)
    )
    log_volume = (1 - vacuum) * log_volume + area + thickness
    packing = spheres / n_atoms / np.exp(log_volume)
    return np.stack([log_volume, packing, gap.clip(_NO_GAP, _NO_VACUUM), vacuum, area, thickness], axis=1)


def areas_per_atom(graphs: CrystalGraphs) -> np.ndarray:
    """Return the areas per atom (Å²) of layers in a vacuum of at least 5 Å, NaN for crystals that are none."""
    planes = _planes(np.asarray(graphs.positions, float), graphs.atom_offsets, np.asarray(graphs.lattice, float))
    gap = planes.widest(len(graphs))
    areas = np.full(len(graphs), np.nan)
    widest = np.flatnonzero((planes.gaps == gap[planes.crystals]) & (planes.gaps >= _NO_VACUUM))
    crystals = planes.crystals[widest]
    volumes = abs(np.linalg.det(graphs.lattice)) / np.diff(graphs.atom_offsets)
    areas[crystals] = planes.layers[widest] / planes.spacings[widest] * volumes[crystals]
    return areas


class Planes(NamedTuple):
    """Families of lattice planes of some crystals, each with what lies between two neighbouring planes."""

    crystals: np.ndarray
    """To which crystal each belongs."""
    spacings: np.ndarray
    """How far apart the planes are, in Å."""
    gaps: np.ndarray
    """The widest distance in Å between two atoms that follow each other along the normal."""
    layers: np.ndarray
    """Number of such distances that are about as wide, hence of layers that they part: a cell may hold several."""
    empty: np.ndarray
    """The sum of these distances."""

    def widest(self, n_crystals: int) -> np.ndarray:
        """Return the widest gap of each crystal."""
        widest = np.zeros(n_crystals)
        np.maximum.at(widest, self.crystals, self.gaps)
        return widest


def _planes(positions: np.ndarray, offsets: np.ndarray, lattices: np.ndarray) -> Planes:
    """Return all planes that are at least 2.5 Å apart, or in a vacuum nearly as far as its gap is wide, and some more.

    No gap is wider than the spacing of its planes, so that these are all that may hold the widest gap.
    """
    lattices = _compact(lattices)
    inverses = np.linalg.inv(lattices)
    fractional = np.einsum("ai,aij->aj", positions, np.repeat(inverses, np.diff(offsets), axis=0))
    # The planes of the cell's own faces: every crystal has some, and they tell where a vacuum makes others superfluous.
    own = np.repeat(np.arange(len(lattices)), 3), np.tile(np.eye(3, dtype=int), (len(lattices), 1))
    faces = _gaps_of(*own, fractional, offsets, inverses)
    widest = faces.widest(len(lattices))
    least = np.maximum(_NO_GAP, np.where(widest > _NO_VACUUM, _NEARLY_WIDEST * widest, widest))
    # Miller indices are bounded by h = G · a, with the reciprocal vector G of the planes. Crystals with equal bounds
    # have the same planes to look at.
    limits = (np.linalg.norm(lattices, axis=2) / least[:, None]).astype(int)
    crystals, planes = [], []
    for limit in np.unique(limits, axis=0):
        which = np.flatnonzero((limits == limit).all(axis=1))
        candidates = np.indices(2 * limit + 1).reshape(3, -1).T - limit
        candidates = candidates[len(candidates) // 2 + 1 :]  # the other half are the same planes
        candidates = candidates[(np.gcd.reduce(candidates, axis=1) == 1) & (abs(candidates).sum(axis=1) > 1)]
        squares = np.square(np.einsum("pj,nij->npi", candidates, inverses[which])).sum(axis=2)
        crystal, plane = np.nonzero(squares * least[which, None] ** 2 <= 1)
        crystals.append(which[crystal])
        planes.append(candidates[plane])
    crystals, planes = np.concatenate(crystals), np.concatenate(planes)
    # Between a few of the atoms the gaps are wider, so that planes that show no wide one among these can be left out.
    # Of a crystal that may turn out to have a vacuum, those count too that reach a part of the widest gap.
    few, few_offsets = _few_atoms(offsets)
    *_, upper = _steps_of(crystals, planes, fractional[few], few_offsets, inverses)
    least = np.where(widest > _NO_VACUUM, least, np.minimum(least, _NEARLY_WIDEST * _NO_VACUUM))
    wide = np.flatnonzero(upper >= least[crystals] - 1e-6)
    more = _gaps_of(crystals[wide], planes[wide], fractional, offsets, inverses)
    return Planes(*(np.concatenate(both) for both in zip(faces, more, strict=True)))


def _compact(lattices: np.ndarray) -> np.ndarray:
    """Return lattices of which those in very skewed cells have others."""
    lengths = np.linalg.norm(lattices, axis=2) * np.linalg.norm(np.linalg.inv(lattices), axis=1)
    skewed = np.flatnonzero((lengths > _SKEWED).any(axis=1))
    if len(skewed):
        from pymatgen.core import Lattice

        lattices = lattices.copy()
        lattices[skewed] = [Lattice(lattice).get_lll_reduced_lattice().matrix for lattice in lattices[skewed]]
    return lattices


def _gaps_of(
    crystals: np.ndarray, planes: np.ndarray, fractional: np.ndarray, offsets: np.ndarray, inverses: np.ndarray
) -> Planes:
    spacings, owners, starts, steps, gaps = _steps_of(crystals, planes, fractional, offsets, inverses)
    if not (gaps > _NO_VACUUM).any():  # nobody asks for layers
        return Planes(crystals, spacings, gaps, np.ones(len(gaps)), gaps)
    weights = _smooth((steps / gaps[owners] - _NEARLY_WIDEST) / (1 - _NEARLY_WIDEST))
    return Planes(crystals, spacings, gaps, np.add.reduceat(weights, starts), np.add.reduceat(weights * steps, starts))


def _few_atoms(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return some atoms of each crystal, spread over its list, and their offsets."""
    n_atoms = np.diff(offsets)
    counts = np.minimum(n_atoms, _FEW)
    chosen = concatenate_ranges(np.zeros_like(counts), counts)
    chosen = np.repeat(offsets[:-1], counts) + chosen * np.repeat(n_atoms, counts) // np.repeat(counts, counts)
    return chosen, offsets_of(counts)


def _steps_of(
    crystals: np.ndarray, planes: np.ndarray, fractional: np.ndarray, offsets: np.ndarray, inverses: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the spacing of each family of planes, and along its normal the steps from atom to atom.

    Returns
    -------
    spacings : ndarray of shape (n_planes,)
    owners : ndarray of shape (n_steps,)
        To which planes each step belongs.
    starts : ndarray of shape (n_planes,)
        The first step of each.
    steps : ndarray of shape (n_steps,)
        In Å.
    gaps : ndarray of shape (n_planes,)
        The widest step of each.
    """
    spacings = 1 / np.linalg.norm(np.einsum("pij,pj->pi", inverses[crystals], planes), axis=1)
    counts = np.diff(offsets)[crystals]
    atoms = concatenate_ranges(offsets[crystals], counts)
    owners = np.repeat(np.arange(len(crystals)), counts)
    heights = np.einsum("ai,ai->a", fractional[atoms], planes[owners])
    heights -= np.floor(heights)
    heights[heights >= 1] = 0  # by rounding
    # All are sorted at once, those of each plane in a range of numbers of its own.
    heights = np.sort(owners + heights)
    ends = np.cumsum(counts)
    steps = np.diff(heights, append=0)
    steps[ends - 1] = heights[ends - counts] + 1 - heights[ends - 1]
    steps *= spacings[owners]
    starts = ends - counts
    return spacings, owners, starts, steps, np.maximum.reduceat(steps, starts) if len(starts) else spacings


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
