"""Graphs of the crystals that have one, and why the others have none."""

from __future__ import annotations

from crystalssl.exceptions import InvalidStructureError
from crystalssl.graphs._arrays import PART_SIZE, CrystalArrays, CrystalColumns
from crystalssl.graphs._crystal_graphs import CrystalGraphs
from crystalssl.graphs._neighbors import find_edges
from crystalssl.graphs._recipe import GraphRecipe

__all__ = ["graphs_of_good"]


def graphs_of_good(
    crystals: dict[int, CrystalArrays], recipe: GraphRecipe, n_jobs: int | None = None
) -> tuple[CrystalGraphs | None, dict[int, InvalidStructureError]]:
    """Build the graphs of crystals, without those that have none.

    Parameters
    ----------
    crystals : dict
        By what messages call them.
    recipe : GraphRecipe
    n_jobs : int or None, default=None
        As in :meth:`CrystalGraphs.from_arrays`.

    Returns
    -------
    graphs : CrystalGraphs or None
        In the order of the crystals; None if there are none.
    errors : dict
        Those of the other crystals.
    """
    errors: dict[int, InvalidStructureError] = {}
    try:
        return _built([*crystals.values()], recipe, n_jobs), errors
    except InvalidStructureError:  # of one among many
        _find_errors([*crystals.items()], recipe, errors)
        return _built([crystal for index, crystal in crystals.items() if index not in errors], recipe, n_jobs), errors


def _built(crystals: list[CrystalArrays], recipe: GraphRecipe, n_jobs: int | None) -> CrystalGraphs | None:
    return CrystalGraphs.from_arrays(crystals, recipe, n_jobs=n_jobs) if crystals else None


def _find_errors(
    items: list[tuple[int, CrystalArrays]], recipe: GraphRecipe, errors: dict[int, InvalidStructureError]
) -> None:
    """Add the errors of crystals, which are searched many at once, and by halves where one is bad."""
    if len(items) <= PART_SIZE:
        first, _ = items[0]
        try:
            find_edges(CrystalColumns.of([crystal for _, crystal in items]), recipe, first)
            return
        except InvalidStructureError as error:
            if len(items) == 1:
                errors[first] = error
                return
    middle = len(items) // 2
    _find_errors(items[:middle], recipe, errors)
    _find_errors(items[middle:], recipe, errors)
