"""From what readers hand on to crystals: parsed, validated, and turned into graphs, in this process or others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crystalssl._limits import LIMITS
from crystalssl._optimade import structure_from_record
from crystalssl.graphs import CrystalGraphs, GraphRecipe
from crystalssl.graphs._arrays import CrystalArrays
from crystalssl.graphs._compiled_search import check_distances
from crystalssl.graphs._files import read_file
from crystalssl.graphs._good import graphs_of_good
from crystalssl.graphs._reading import kind_of_name, parse_crystal
from crystalssl.graphs._structures import read_item
from crystalssl.graphs._symbols import atomic_number
from crystalssl.io._rows import File, Text
from crystalssl.io._source_file import text_of

if TYPE_CHECKING:
    from pymatgen.core import IStructure

__all__ = ["Outcome", "examine"]

_SMALLEST = 32  # crystals that are worth sending to another process


class Outcome(NamedTuple):
    """What became of one item: a crystal and remarks, or the reason why it is none."""

    structure: IStructure | None  # where it was one
    arrays: CrystalArrays | None
    notes: list[str]
    reason: str | None
    cause: BaseException | None = None


def examine(
    items: Sequence[Any], recipe: GraphRecipe | None, n_jobs: int
) -> tuple[list[Outcome], CrystalGraphs | None]:
    """Read and check crystals.

    Parameters
    ----------
    items : sequence
        Of rows.
    recipe : GraphRecipe or None
        With one, graphs are built as well.
    n_jobs : int
        Number of processes.

    Returns
    -------
    outcomes : list of Outcome
        One for each item.
    graphs : CrystalGraphs or None
        Of the crystals that are good.
    """
    size = max(_SMALLEST, -(-len(items) // max(n_jobs, 1)))
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    if n_jobs == 1 or len(parts) < 2:
        return _examine(items, recipe, None)
    from crystalssl._workers import map_calls

    limits = (LIMITS.bytes, LIMITS.sites)
    results = map_calls(_examine, [(part, recipe, limits) for part in parts], n_jobs)
    outcomes = [outcome for found, _ in results for outcome in found]
    graphs = [part for _, part in results if part is not None]
    return outcomes, CrystalGraphs.concatenate(graphs) if graphs else None


def _examine(
    items: Sequence[Any], recipe: GraphRecipe | None, limits: tuple[int, int] | None
) -> tuple[list[Outcome], CrystalGraphs | None]:
    if limits is not None:  # in another process, whose limits are the defaults
        LIMITS.bytes, LIMITS.sites = limits
    outcomes = [_outcome(item, recipe is None) for item in items]
    graphs = None
    if recipe is not None:
        good = {place: outcome.arrays for place, outcome in enumerate(outcomes) if outcome.arrays is not None}
        graphs, errors = graphs_of_good(good, recipe, n_jobs=1)
        for place, error in errors.items():
            outcomes[place] = _bad(error, place)
    if limits is not None:  # not all exceptions can be sent on
        outcomes = [outcome._replace(cause=None) for outcome in outcomes]
    return outcomes, graphs


def _outcome(item: Any, distances: bool) -> Outcome:
    notes: list[str] = []
    try:
        if isinstance(item, (Text, File)):
            item, notes = _parsed(item)
        elif isinstance(item, Mapping):
            item = _from_mapping(item)
        structure, arrays = read_item(item, 0)
        if structure is None or isinstance(item, Mapping):
            LIMITS.check_sites(len(arrays.positions))
        if distances:
            check_distances(arrays, 0)
        return Outcome(structure, arrays, notes, None)
    except FileNotFoundError as error:
        return Outcome(None, None, [], f"there is no file {error.filename!r}", error)
    except Exception as error:  # items are of other packages' types, and texts of anyone
        return _bad(error)


def _bad(error: Exception, place: int = 0) -> Outcome:
    return Outcome(None, None, [], (str(error) or type(error).__name__).removeprefix(f"item {place}: "), error)


def _parsed(item: Text | File) -> tuple[Any, list[str]]:
    if isinstance(item, File):
        name = os.fspath(item.path)
        return parse_crystal(text_of(read_file(name, beginning=kind_of_name(name) == "poscar")), name)
    if len(item.data) > LIMITS.bytes:
        raise ValueError(f"it holds more than {LIMITS.bytes:,} bytes, the crystalssl.LIMITS.bytes")
    return parse_crystal(text_of(item.data), item.name)


def _from_mapping(item: Mapping[str, Any]) -> Any:
    """Return the crystal of a dict in the layouts of OPTIMADE and ASE; others as they are."""
    if {"lattice", "sites"} <= item.keys() or {"lattice_mat", "elements"} <= item.keys():
        return dict(item)
    if "species_at_sites" in item:
        return structure_from_record(item)
    if not np.all(item.get("pbc", True)):
        raise ValueError(f"it is periodic along {item['pbc']} only")
    numbers = [value if isinstance(value, str) else int(value) for value in item["numbers"]]
    if not all(isinstance(value, str) or 0 < value <= 118 for value in numbers):
        raise ValueError("it holds dummy species, which are not elements")
    return CrystalArrays(
        np.array([atomic_number(value) if isinstance(value, str) else value for value in numbers], dtype=np.uint8),
        np.array(item["positions"], dtype=np.float64).reshape(len(numbers), 3),
        np.array(item["cell"], dtype=np.float64).reshape(3, 3),
    )
