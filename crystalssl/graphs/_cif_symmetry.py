"""Symmetry operations of a CIF file, and the sites that they make."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from crystalssl.graphs._cif_values import NotPlainError, Values, column, single, text

__all__ = ["Operations", "expand", "operations_of"]

_SITE_TOLERANCE = 1e-4  # CifParser's site_tolerance, in fractional coordinates
# Whether two sites are one is left to pymatgen where the last bits of a sum would decide it.
_DOUBT = 1e-6 * _SITE_TOLERANCE
# Up to this many sites it is faster to compare all pairs than to sort.
_FEW = 64
# Beyond this many images their indices, packed into one integer, would overflow.
_MANY = 50_000
_AXES = np.arange(3)[:, None]

# In the order in which CifParser.get_symops looks for them.
_OPERATIONS = (
    "_symmetry_equiv_pos_as_xyz",
    "_symmetry_equiv_pos_as_xyz_",
    "_space_group_symop_operation_xyz",
    "_space_group_symop_operation_xyz_",
)
_SPACE_GROUP = (
    *(f"_symmetry_space_group_name_{name}" for name in ("H-M", "H_M", "H-M_", "H_M_", "hall", "hall_", "h-m", "h-m_")),
    *(f"_space_group_name_{name}" for name in ("Hall", "Hall_", "H-M_alt", "H-M_alt_")),
    *("_space_group_IT_number", "_space_group_IT_number_"),
    *("_symmetry_Int_Tables_number", "_symmetry_Int_Tables_number_"),
)


class Operations(NamedTuple):
    """Symmetry operations on fractional coordinates; the operations are counted by the last axis."""

    rotations: np.ndarray  # (3, 3 * n_operations), from the right
    translations: np.ndarray  # (3, n_operations)


def operations_of(values: Values) -> Operations | None:
    """Return the symmetry operations of a file in pymatgen's order; None stands for the identity alone."""
    for tag in _OPERATIONS:
        if tag in values:
            return _parse_all(tuple(column(values, tag)))
    return _look_up(tuple((tag, text(single(values, tag))) for tag in _SPACE_GROUP if tag in values))


# Files of one source share their operations, so that these are parsed once; pymatgen parses them, its way.
@lru_cache(maxsize=1024)
def _parse_all(operations: tuple[str, ...]) -> Operations | None:
    return _stack([_parse(text(operation)) for operation in operations])


@lru_cache(maxsize=8192)
def _parse(operation: str) -> np.ndarray:
    from pymatgen.core.operations import SymmOp

    try:
        return SymmOp.from_xyz_str(operation).affine_matrix
    except (ValueError, ArithmeticError, IndexError) as error:
        raise NotPlainError(f"symmetry operation {operation!r}: {error}") from error


@lru_cache(maxsize=1024)
def _look_up(tags: tuple[tuple[str, str], ...]) -> Operations | None:
    """Let pymatgen find the operations of a space group by its name or number."""
    from pymatgen.io.cif import CifBlock, CifParser

    parser = CifParser.from_str("data_symmetry\n")
    with warnings.catch_warnings():
        # That the file lists no operations; and if pymatgen has to read the file, it will say what it guesses.
        warnings.simplefilter("ignore")
        operations = parser.get_symops(CifBlock(dict(tags), [], "symmetry"))
    if any("Defaulting to P1" in warning for warning in parser.warnings):
        raise NotPlainError("no space group, or an unknown one")
    return _stack([operation.affine_matrix for operation in operations])


def _stack(matrices: list[np.ndarray]) -> Operations | None:
    affine = np.array(matrices)
    # Without the identity, sites that pymatgen takes for different could have images in one place.
    if not (np.abs(affine - np.eye(4)) < 1e-12).all(axis=(1, 2)).any():
        raise NotPlainError("symmetry operations without the identity")
    if len(affine) == 1:
        return None
    rotations = affine[:, :3, :3].transpose(2, 1, 0).reshape(3, -1)
    return Operations(rotations, np.ascontiguousarray(affine[:, :3, 3].T))


def expand(coords: np.ndarray, operations: Operations | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Find all images of the sites of a file.

    Parameters
    ----------
    coords : ndarray of shape (3, n_sites)
        Fractional coordinates.
    operations : Operations or None
        None stands for the identity alone.

    Returns
    -------
    coords : ndarray of shape (n_atoms, 3)
        Within the cell; site by site, each in the order of the operations.
    counts : ndarray of shape (n_sites,) or None
        Images of each site; None if each has one.

    Raises
    ------
    NotPlainError
        If images of two sites are at one place: pymatgen merges such sites or refuses the file.
    """
    n_sites = coords.shape[1]
    if operations is None:
        images = coords - np.floor(coords)
        _check_apart(images)
        return np.ascontiguousarray(images.T), None
    n_operations = operations.translations.shape[1]
    images = (coords.T @ operations.rotations).reshape(n_sites, 3, n_operations)
    images += operations.translations
    images -= np.floor(images)
    images = images.transpose(1, 0, 2).reshape(3, -1)
    kept = _first_at_each_place(images, n_operations)
    return images.T[kept], np.bincount(kept // n_operations, minlength=n_sites)


def _check_apart(points: np.ndarray) -> None:
    n = points.shape[1]
    if n > _FEW:
        _first_at_each_place(points, 1)
        return
    apart = np.abs(points[:, :, None] - points[:, None])
    close = (np.minimum(apart, 1 - apart) < _SITE_TOLERANCE + _DOUBT).all(axis=0)
    if np.count_nonzero(close) > n:
        raise NotPlainError("several sites at one place")


def _first_at_each_place(points: np.ndarray, n_images: int) -> np.ndarray:
    """Return the indices of the points that have no earlier one within the tolerance.

    Of each site there are `n_images` points; no two sites may share a place. Two points are at one place if all three
    coordinates are close. Along an axis, the sorted coordinates fall apart into runs without gaps as wide as the
    tolerance. Points that share their runs along all axes are at one place if they are close to the earliest of them;
    points that do not are apart.
    """
    n = points.shape[1]
    if n > _MANY:
        raise NotPlainError("a very large number of images")
    order = points.argsort(axis=1)
    order += _AXES * n
    ascending = points.take(order)
    runs = np.zeros((3, n), dtype=np.int64)
    np.cumsum(ascending[:, 1:] - ascending[:, :-1] >= _SITE_TOLERANCE + _DOUBT, axis=1, out=runs[:, 1:])
    for axis in np.flatnonzero(ascending[:, -1] - ascending[:, 0] > 1 - _SITE_TOLERANCE - _DOUBT):
        runs[axis, runs[axis] == runs[axis, -1]] = 0  # 0.99999 is close to 0.00001
    x, y, z = _unsort(runs, order)

    # One sort by place, then index: both in one number is faster than an argsort.
    place, order = np.divmod(np.sort(((x * n + y) * n + z) * n + np.arange(n)), n)
    new = np.ones(n, dtype=bool)
    np.not_equal(place[1:], place[:-1], out=new[1:])
    first = order[new]
    if len(first) < n:
        earliest = first[new.cumsum() - 1]
        if (order // n_images != earliest // n_images).any():
            raise NotPlainError("several sites at one place")
        apart = np.abs(points[:, order] - points[:, earliest])
        if (np.minimum(apart, 1 - apart) > _SITE_TOLERANCE - _DOUBT).any():
            raise NotPlainError("images that are apart by about the tolerance")
    first.sort()
    return first


def _unsort(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    unsorted = np.empty_like(values)
    unsorted.reshape(-1)[order] = values
    return unsorted
