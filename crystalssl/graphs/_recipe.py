"""How a crystal becomes a graph, and which encoder wants which graph."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["RECIPES", "GraphRecipe"]


@dataclass(frozen=True)
class GraphRecipe:
    """Rule by which atoms become neighbours.

    Parameters
    ----------
    cutoff : float
        Largest distance of a neighbour, in Å.
    max_neighbors : int or None, default=None
        Number of nearest neighbours that an atom keeps, or None to keep all within `cutoff`. The shell of equally
        distant atoms that the last of them belongs to is kept whole, so that the graph follows from the crystal alone
        and not from the order of its sites or the choice of its cell.
    version : int, default=1
        Raised when the same parameters come to mean other graphs, so that stored graphs are never mixed.

    Examples
    --------
    >>> from crystalssl.graphs import GraphRecipe
    >>> GraphRecipe(cutoff=8.0, max_neighbors=12)
    GraphRecipe(cutoff=8.0, max_neighbors=12, version=1)
    """

    cutoff: float
    max_neighbors: int | None = None
    version: int = 1

    def __post_init__(self) -> None:
        if not (0 < self.cutoff < math.inf):
            raise ValueError(f"cutoff must be a positive finite distance in Å, got {self.cutoff!r}")
        if self.max_neighbors is not None and self.max_neighbors < 1:
            raise ValueError(f"max_neighbors must be at least 1, or None for all, got {self.max_neighbors!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as a dict of JSON values."""
        return asdict(self)


RECIPES: dict[str, GraphRecipe] = {
    "cgcnn": GraphRecipe(cutoff=8.0, max_neighbors=12),
    "megnet": GraphRecipe(cutoff=5.0),
    "deepergatgnn": GraphRecipe(cutoff=8.0, max_neighbors=12),
    "alignn": GraphRecipe(cutoff=8.0, max_neighbors=12),
    "gin": GraphRecipe(cutoff=8.0, max_neighbors=12),
    "gatedgcn": GraphRecipe(cutoff=8.0, max_neighbors=12),
}
"""The recipe of each encoder, by the encoder's name. Kept here so that building graphs needs no torch."""
