"""What an encoder knows of an element before training, from pymatgen's tables."""

from __future__ import annotations

import functools
import math

import numpy as np

from crystalssl.graphs import N_ELEMENTS

__all__ = ["element_features", "valence_electrons"]

_N_BINS = 10


def valence_electrons(symbol: str) -> int:
    """Return the number of electrons outside the noble-gas core and outside filled d and f shells below the valence.

    Parameters
    ----------
    symbol : str
        Of the element.

    Returns
    -------
    int

    Examples
    --------
    >>> [valence_electrons(symbol) for symbol in ("Na", "Fe", "Ga", "Ce", "Hf", "Pb")]
    [1, 8, 3, 4, 4, 4]
    """
    from pymatgen.core import Element

    element = Element(symbol)
    if element.Z == 2:
        return 2
    period = int(element.row)
    count = 0
    for n, orbital, electrons in element.full_electronic_structure:
        outer = n == period and orbital in "sp"
        # An f shell belongs to the valence while it fills, a d shell until it is full.
        open_d = orbital == "d" and n == period - 1 and not (electrons == 10 and element.block == "p")
        open_f = orbital == "f" and n == period - 2 and electrons < 14
        if outer or open_d or open_f:
            count += electrons
    return count


@functools.lru_cache(maxsize=1)
def element_features() -> np.ndarray:
    """Return the features of all elements.

    Group, period and block are one-hot. Electronegativity, covalent radius, valence electrons, first ionisation
    energy, electron affinity, molar volume and mass are standardised over the elements and, as in CGCNN, also sorted
    into ten classes; radius, energy, volume and mass span decades and are taken as logarithms. A value that pymatgen
    does not have is zero.

    Returns
    -------
    ndarray of shape (119, n_features), float32
        Row z belongs to atomic number z; row 0 is all zeros and stands for a masked atom.

    References
    ----------
    T. Xie and J. C. Grossman, Phys. Rev. Lett. 120, 145301 (2018), doi:10.1103/PhysRevLett.120.145301.
    """
    from pymatgen.analysis.local_env import CovalentRadius
    from pymatgen.core import Element

    def values(element: Element) -> list[float]:
        data = element.data
        # pymatgen warns when it is asked for what it does not have, and warnings cannot be silenced for one thread.
        known = {key for key, value in data.items() if value and not str(value).startswith("no data")}
        affinity = data.get("Electron affinity")  # missing or None, as pymatgen's version has it
        return [
            element.X if "X" in known else math.nan,
            _log(CovalentRadius.radius.get(element.symbol)),
            valence_electrons(element.symbol) if "Electronic structure" in data else math.nan,
            _log(element.ionization_energy if "Ionization energies" in known else None),
            math.nan if affinity is None else float(affinity),
            _log(element.molar_volume if "Molar volume" in known else None),
            _log(element.atomic_mass),
        ]

    elements = [Element.from_Z(z) for z in range(1, N_ELEMENTS + 1)]
    raw = np.array([values(element) for element in elements])
    standardised = np.nan_to_num((raw - np.nanmean(raw, axis=0)) / np.nanstd(raw, axis=0))
    low, high = np.nanmin(raw, axis=0), np.nanmax(raw, axis=0)
    classes = np.nan_to_num((raw - low) / (high - low) * _N_BINS, nan=-1).clip(max=_N_BINS - 1)
    blocks = [
        _one_hot([element.group - 1 for element in elements], 18),
        _one_hot([element.row - 1 for element in elements], 7),
        _one_hot(["spdf".index(element.block) for element in elements], 4),
        standardised,
        *(_one_hot(np.floor(column).astype(int), _N_BINS) for column in classes.T),
    ]
    features = np.concatenate(blocks, axis=1).astype(np.float32)
    return np.concatenate([np.zeros((1, features.shape[1]), np.float32), features])


def _log(value) -> float:
    return math.nan if value is None else math.log(float(value))


def _one_hot(classes, n_classes: int) -> np.ndarray:
    # Class -1 (no value) matches no column.
    return (np.asarray(classes)[:, None] == np.arange(n_classes)).astype(float)
