"""Where the training crystals of a network lie, as it sees them itself."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import nn
from torch_geometric.data import Batch

from crystalssl.estimators._network import PropertyNetwork

__all__ = ["Seeing", "Surroundings"]

N_NEAREST = 5
"""Training crystals to which the distance of a crystal is a mean."""
_N_AXES = 32
_N_FOR_AXES = 2000
"""Crystals of which principal axes are taken; their number costs memory for training sets of any size."""
_COPY = 3e-3
"""Distance up to which crystals count as copies of one, relative to how far they are from their mean.

One whose atoms are moved by 1e-3 Å is mostly at 5e-4 to 3e-3, with the default weights; of 281 different crystals the
two that are nearest to each other are at 1e-2. In networks from random weights 1 % have another one within 3e-3.
"""
_ROUNDING = 1e-5
"""The same relative to the vectors, of which rounding changes some 1e-6, if all crystals are copies of one."""


class Seeing(nn.Module):
    """A network that returns what its head sees of the encoder beside what it predicts, side by side."""

    def __init__(self, network: PropertyNetwork):
        super().__init__()
        self.network = network
        self.reads_cell, self.sight = network.reads_cell, network.sight

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return vectors and predictions, of shape (n_crystals, vector_dim + n_targets)."""
        vectors = self.network.vectors(self.network.encoder(batch).vector)
        return torch.cat([vectors, self.network.predict_from(vectors, batch)], dim=1)


class Surroundings:
    """Vectors of training crystals in few numbers, from which distances to other crystals follow.

    A vector becomes its components along the principal axes of the training crystals, and the length of what is left
    of it. So a crystal that is far from all of them is not taken for a near one because the axes do not show it.

    Parameters
    ----------
    center : ndarray of shape (dim,), float32
        Mean of the vectors.
    axes : ndarray of shape (dim, n_axes), float32
        Principal axes.
    points : ndarray of shape (n_crystals, n_axes + 1), float32
        The training crystals, and after them those that this network has left out.
    rows : ndarray of shape (n_crystals,), int64
        Their positions among all that are known of.
    n_trained : int or None, default=None
        How many of them are training crystals; None takes all.
    floor : float, default=0.0
        Distance up to which crystals are copies of one, of which one counts; with 0 all count.
    """

    FIELDS: ClassVar = ("center", "axes", "points", "rows", "n_trained", "floor")
    """What makes it, and is kept in files."""
    floor = 0.0  # of what was pickled before copies were told; errors of left-out crystals are in units of all of them

    def __init__(
        self,
        center: np.ndarray,
        axes: np.ndarray,
        points: np.ndarray,
        rows: np.ndarray,
        n_trained: int | np.ndarray | None = None,
        floor: float | np.ndarray = 0.0,
    ):
        self.center, self.axes, self.points, self.rows = center, axes, points, rows
        self.n_trained = int(len(rows) if n_trained is None else n_trained)
        self.floor = float(floor)

    @classmethod
    def of(cls, vectors: np.ndarray, rows: np.ndarray, n_trained: int | None = None) -> Surroundings:
        """Return the surroundings that crystals make, from their vectors, of shape (n_crystals, dim)."""
        trained = vectors[:n_trained]
        center = trained.mean(axis=0)
        some = trained[:: -(-len(trained) // _N_FOR_AXES)] - center
        axes = np.linalg.svd(some, full_matrices=False)[2][:_N_AXES].T
        nothing, rows = np.empty((0, 0), np.float32), np.asarray(rows, np.int64)
        new = cls(center, np.ascontiguousarray(axes), nothing, rows, n_trained)
        new.points = new.project(vectors)
        spread = np.linalg.norm(new.points[: new.n_trained], axis=1).mean()
        # Standardised vectors are about 1 in each component, others as large as their mean.
        size = max(np.linalg.norm(center), np.sqrt(len(center)))
        new.floor = float(max(_COPY * spread, _ROUNDING * size))
        return new

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors in few numbers, float32."""
        centered = vectors - self.center
        inside = centered @ self.axes
        outside = np.linalg.norm(centered - inside @ self.axes.T, axis=1)
        return np.column_stack([inside, outside])

    def nearest(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return distances to the k nearest crystals, ascending, and positions of these, (n_crystals, k)."""
        distances, found = cKDTree(self.points).query(self.project(vectors), k)
        shape = len(vectors), k
        return distances.reshape(shape), self.rows[found.reshape(shape)]

    def holds(self, vectors: np.ndarray) -> np.ndarray:
        """Return whether crystals are copies of some that are known, bool, of shape (n_crystals,)."""
        return cKDTree(self.points).query(self.project(vectors), distance_upper_bound=self.floor)[0] < np.inf

    def distances(self, vectors: np.ndarray) -> np.ndarray:
        """Return how far crystals are from those of training, in units of how far these are from each other.

        It is the mean distance to the nearest few, and 1 is the median of that over the training crystals. Of copies
        one counts.
        """
        points = self._counted
        k = min(N_NEAREST, len(points))
        distances = cKDTree(points).query(self.project(vectors), k)[0]
        return distances.reshape(len(vectors), k).mean(axis=1) / self.unit

    @property
    def own(self) -> np.ndarray:
        """Mean distances of the training crystals to the nearest of the others; of copies there is one."""
        points = self._counted
        k = min(N_NEAREST, len(points) - 1)
        return cKDTree(points).query(points, k + 1)[0][:, 1:].mean(axis=1) if k else np.zeros(1)

    @cached_property  # it compares all training crystals with each other
    def unit(self) -> float:
        """The unit of :meth:`distances`."""
        return float(np.median(self.own)) or 1.0  # copies of one crystal have no distances

    @property
    def repeated(self) -> np.ndarray:
        """Positions of crystals that are copies of others before them."""
        return np.delete(self.rows, _first_of_copies(self.points, self.floor))

    @property
    def _counted(self) -> np.ndarray:
        """The training crystals, of copies the first."""
        return self.points[self._first]

    @cached_property  # as above
    def _first(self) -> np.ndarray:
        return _first_of_copies(self.points[: self.n_trained], self.floor)


def _first_of_copies(points: np.ndarray, floor: float) -> np.ndarray:
    """Return positions of points, ascending: all but those within `floor` of one that is returned and before them."""
    if floor == 0:
        return np.arange(len(points))
    tree, is_first = cKDTree(points), np.ones(len(points), dtype=bool)
    for point, position in enumerate(points):  # one after the other: together they may have as many near as pairs
        if is_first[point]:
            is_first[tree.query_ball_point(position, floor)] = False
            is_first[point] = True
    return np.flatnonzero(is_first)
