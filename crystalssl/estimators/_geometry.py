"""Whether cells are of a kind that is known of."""

from __future__ import annotations

import numpy as np

from crystalssl.estimators._corpus import atomic_volumes
from crystalssl.graphs import CrystalGraphs
from crystalssl.graphs._cell_features import CELL_FEATURES, atomic_radii

__all__ = ["GEOMETRY", "UNUSUAL", "excess", "geometry"]

GEOMETRY = ("volume", "shortest_distance", "gap")
"""Names of the columns of :func:`geometry`."""
UNUSUAL = ("loose", "dense", "close atoms", "vacuum")
"""What the columns of :func:`excess` say of a crystal."""

_TAIL = 0.01
"""Part of the training crystals beyond either end of what counts as known, so that it is not what is odd in them."""
_MARGINS = np.array([np.log(1.15), np.log(1.15), np.log(1.05), 0.5])
"""By which others may leave that: factors of volumes and distances, and gaps in Å."""
_FEW = 50
"""Of so many training crystals the margins are twice as large: the ends of few are not those of all."""


def geometry(graphs: CrystalGraphs, features: np.ndarray) -> np.ndarray:
    """Return what tells whether a cell is one that is known of, of shape (n_crystals, 3), float64.

    These are the volume, without the vacuum around a layer, in units of what its atoms usually take; the shortest
    distance between two atoms, in units of the sum of their radii, infinite if none is within the cutoff; and the
    widest gap between planes of atoms, in Å, from 2.5 to 8 Å. `features` are those of
    :func:`crystalssl.graphs.cell_features`.
    """
    n_atoms, radii = np.diff(graphs.atom_offsets), atomic_radii()[graphs.atomic_numbers]
    usual = np.add.reduceat(atomic_volumes()[graphs.atomic_numbers], graphs.atom_offsets[:-1]) / n_atoms
    volumes = np.exp(features[:, CELL_FEATURES.index("log volume per atom")].astype(float)) / usual
    centers = np.repeat(np.arange(graphs.n_atoms), np.diff(graphs.edge_offsets))
    crystals = np.repeat(np.arange(len(graphs)), n_atoms)[centers]
    relative = graphs.distances / (radii[centers] + radii[graphs.neighbors + graphs.atom_offsets[crystals]])
    shortest = np.full(len(graphs), np.inf)
    np.minimum.at(shortest, crystals, relative)
    # Features tell gaps apart up to 5 Å, and from there on how much of a vacuum, which is one from 8 Å, they are.
    gaps = features[:, CELL_FEATURES.index("gap")] + 3 * features[:, CELL_FEATURES.index("vacuum")]
    return np.column_stack([volumes, shortest, gaps])


def excess(cells: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return how far cells are beyond known ones, as :func:`geometry` sees both, in the ways of `UNUSUAL`.

    Of shape (n_crystals, 4), in units of the margins: a crystal is unlike the known ones from 1 on.
    """
    ascending, n_odd = np.sort(known, axis=0), int(_TAIL * len(known))
    low, high = ascending[n_odd], ascending[-1 - n_odd]
    with np.errstate(invalid="ignore", divide="ignore"):  # infinite distances, of which none is beyond another
        beyond = [
            np.log(cells[:, 0] / high[0]),
            np.log(low[0] / cells[:, 0]),
            np.log(low[1] / cells[:, 1]),
            cells[:, 2] - high[2],
        ]
    return np.nan_to_num(np.column_stack(beyond) / (_MARGINS * (1 + _FEW / len(known))), nan=0.0)
