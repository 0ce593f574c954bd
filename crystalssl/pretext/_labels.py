"""Labels of other properties, for the pretext tasks that learn from them."""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from crystalssl._ranks import global_mean

__all__ = [
    "SURROGATES",
    "Labels",
    "encode_classes",
    "encode_labels",
    "encode_properties",
    "mean_where",
    "surrogate_classes",
]

SURROGATES = ("metal", "magnetic", "gap")
FORCES, VIRIAL = "forces", "virial"
"""Columns whose items are arrays: one vector per atom, and a tensor per crystal."""


class Labels(NamedTuple):
    """Labels of crystals and of their atoms, as tasks learn them."""

    crystals: np.ndarray | None
    """Of shape (n_crystals, n_properties), or n_properties + 9 with virials; float32, NaN where unknown."""
    atoms: np.ndarray | None = None
    """Forces of shape (n_atoms, 3), float32, NaN where unknown."""
    counts: np.ndarray | None = None
    """Atoms of each crystal for which forces were given."""
    n_properties: int = 0


def surrogate_classes(kind: str, *, band_gap: Any = None, magnetization: Any = None, n_atoms: Any = None) -> np.ndarray:
    """Return the surrogate classes of SPMat from band gaps or magnetisations.

    Parameters
    ----------
    kind : {"metal", "magnetic", "gap"}
        "metal": 0 with a band gap, 1 without. "magnetic": 1 above 0.05 µB per atom, else 0. "gap": 0 without a band
        gap, 1 below 2 eV (semiconductors), 2 above (insulators).
    band_gap : array-like of shape (n_crystals,), default=None
        In eV, for "metal" and "gap"; NaN where unknown.
    magnetization : array-like of shape (n_crystals,), default=None
        Total magnetisation of the cell in µB, for "magnetic"; its sign is ignored. NaN where unknown.
    n_atoms : array-like of shape (n_crystals,), default=None
        Atoms per cell, for "magnetic"; None takes `magnetization` as per atom.

    Returns
    -------
    ndarray of shape (n_crystals,), int
        -1 where the value is unknown.

    Raises
    ------
    ValueError
        If the kind is unknown or the property that it needs is missing.

    References
    ----------
    Supervised Pretraining for Material Property Prediction (SPMat), arXiv:2504.20112.

    Examples
    --------
    >>> from crystalssl.pretext import surrogate_classes
    >>> surrogate_classes("metal", band_gap=[0.0, 1.1, float("nan")])
    array([ 1,  0, -1])
    >>> surrogate_classes("magnetic", magnetization=[4.0, 0.001], n_atoms=[2, 2])
    array([1, 0])
    """
    if kind not in SURROGATES:
        raise ValueError(f"there are no surrogate classes {kind!r}; choose one of {list(SURROGATES)}")
    needed = "magnetization" if kind == "magnetic" else "band_gap"
    values = magnetization if kind == "magnetic" else band_gap
    if values is None:
        raise ValueError(f"surrogate classes {kind!r} follow from {needed}, which was not given")
    values = np.asarray(values, dtype=float)
    if kind == "magnetic":
        classes = abs(values) > 0.05 * np.asarray(1 if n_atoms is None else n_atoms)
    elif kind == "metal":
        classes = values <= 0
    else:
        classes = (values > 0).astype(int) + (values > 2)
    return np.where(np.isnan(values), -1, classes.astype(int))


def encode_classes(y: Any, method: str) -> np.ndarray:
    """Return classes of any kind as numbers 0, 1, …, of shape (n_crystals, 1), float32; -1 and missing values stay -1.

    Raises
    ------
    ValueError
        If there are no classes, or only one; if they are continuous numbers, or each is of one crystal.
    """
    if y is None:
        raise ValueError(
            f"the pretext task {method!r} learns from surrogate classes; give them as y, one per crystal (-1 where "
            "unknown), for example from crystalssl.pretext.surrogate_classes"
        )
    values = np.asarray(y, dtype=object)
    if values.size != len(values):
        raise ValueError(f"surrogate classes have shape {values.shape}; expected (n_crystals,)")
    import pandas as pd

    classes = pd.Series(values.ravel())
    continuous = [i for i, value in enumerate(classes) if _is_fraction(value)]
    if continuous:
        raise ValueError(
            f"the pretext task {method!r} learns from classes, but y holds continuous numbers: y[{continuous[0]}] is "
            f"{classes[continuous[0]]}; make classes of them, for example with crystalssl.pretext.surrogate_classes"
        )
    codes, names = pd.factorize(classes.where(classes != -1))
    if len(names) < 2:
        raise ValueError(
            f"the pretext task {method!r} tells classes apart, but y holds "
            + (f"one class only, {names[0]!r}" if len(names) else "no class at all")
            + "; choose a surrogate that divides the corpus"
        )
    if len(names) == np.count_nonzero(codes >= 0):
        raise ValueError(
            f"the pretext task {method!r} learns which crystals are of one class, but y holds {len(names)} classes of "
            "one crystal each; choose a surrogate that several crystals share"
        )
    return codes.astype(np.float32).reshape(-1, 1)


def _is_fraction(value: Any) -> bool:
    """Return whether a value is a number, but not a whole one; a missing one, NaN, is none."""
    return isinstance(value, Real) and value == value and not float(value).is_integer()


def encode_properties(y: Any) -> np.ndarray:
    """Return properties, each standardised over its known values, of shape (n_crystals, n_properties), float32.

    Raises
    ------
    ValueError
        If they are not numbers, infinite, or a property is known of no crystal.
    """
    try:
        values = np.array(y, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'properties must be numbers, NaN where unknown ({error}); "joint" takes forces and virials too, as the '
            f'columns "{FORCES}" and "{VIRIAL}" of a DataFrame'
        ) from error
    values = values.reshape(len(values), -1)
    if np.isinf(values).any():
        row, column = np.argwhere(np.isinf(values))[0].tolist()
        raise ValueError(f"y[{row}, {column}] is infinite; write NaN where a property is unknown")
    unknown = np.isnan(values).all(axis=0)
    if unknown.any():
        raise ValueError(f"no crystal has a value of property {int(unknown.argmax())}; leave the column out")
    mean, scale = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    # A constant property is zero, not its rounding errors divided by themselves.
    return ((values - mean) / np.where(scale > 1e-12 * abs(mean), scale, np.inf)).astype(np.float32)


def encode_labels(y: Any) -> Labels | None:
    """Return the properties in a DataFrame standardised, and its forces and virials by their root mean squares.

    Raises
    ------
    ValueError
        If an item has not the shape that its column asks for. As :func:`encode_properties`.
    """
    if y is None:
        return None
    columns = getattr(y, "columns", ())
    numbers = y.drop(columns=[name for name in (FORCES, VIRIAL) if name in columns]) if len(columns) else y
    has_numbers = not len(columns) or numbers.shape[1]
    crystals = encode_properties(numbers) if has_numbers else np.empty((len(y), 0), np.float32)
    n_properties = crystals.shape[1]
    atoms = counts = None
    if VIRIAL in columns:
        virials = np.stack([_array(item, (3, 3), VIRIAL, i) for i, item in enumerate(y[VIRIAL])]).reshape(-1, 9)
        crystals = np.concatenate([crystals, _by_size(virials, VIRIAL)], axis=1)
    if FORCES in columns:
        arrays = [_array(item, (-1, 3), FORCES, i) for i, item in enumerate(y[FORCES])]
        atoms, counts = _by_size(np.concatenate(arrays), FORCES), np.array([len(array) for array in arrays])
    return Labels(crystals, atoms, counts, n_properties)


def _array(item: Any, shape: tuple[int, int], name: str, index: int) -> np.ndarray:
    try:
        array = np.asarray(item, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} of item {index} are no numbers: {error}") from error
    if array.ndim != 2 or array.shape[1] != 3 or shape[0] not in (-1, len(array)):
        wanted = "(n_atoms, 3)" if shape[0] == -1 else str(shape)
        raise ValueError(f"{name} of item {index} have shape {array.shape}; expected {wanted}, NaN where unknown")
    if np.isinf(array).any():
        raise ValueError(f"{name} of item {index} are infinite; write NaN where they are unknown")
    return array


def _by_size(values: np.ndarray, name: str) -> np.ndarray:
    """Return values in units of their root mean square."""
    known = values[~np.isnan(values)]
    size = np.sqrt(np.mean(known**2)) if len(known) else 0.0
    if not size:
        raise ValueError(f"{name} are zero or unknown in all crystals; leave them out, or displace the atoms")
    return (values / size).astype(np.float32)


def mean_where(known: Tensor, errors: Tensor) -> Tensor:
    """Return the mean of the errors of known values, see :func:`global_mean`; 0 if there are none."""
    n_known = known.sum()
    return global_mean((errors * known).sum() / n_known.clamp(min=1), n_known)
