"""Neighbour lists of many crystals at once: the pairs that a recipe keeps, in an order that is always the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from crystalssl.graphs._arrays import MIN_DISTANCE, CrystalColumns
from crystalssl.graphs._compiled_search import too_close, too_skewed
from crystalssl.graphs._pairs import TOO_FAR, Pairs, find_pairs
from crystalssl.graphs._ragged import concatenate_ranges, offsets_of
from crystalssl.graphs._recipe import GraphRecipe

__all__ = ["CHUNK_ATOMS", "Edges", "find_columns", "find_edges"]

CHUNK_ATOMS = 2000
"""Atoms that are searched at once: enough to spread numpy's overhead, few enough to bound memory."""


class Edges(NamedTuple):
    """The edges of a chunk of crystals, sorted by centre, then distance."""

    neighbors: np.ndarray  # (n_edges,) int32, index of the neighbouring atom within its crystal
    images: np.ndarray  # (n_edges, 3) int8, lattice translations of the neighbour
    distances: np.ndarray  # (n_edges,) float32, Å
    counts: np.ndarray  # (n_atoms,) int64, edges of each centre


def _nearest_first(pairs: Pairs, k: int | None, shell: float) -> tuple[Pairs, np.ndarray]:
    """Keep the k nearest of each centre and the rest of the last one's shell, and return how far the k-th is, too.

    They are ordered by distance, rounded to 1e-5 Å, neighbour and image: the same on every machine. Centres with about
    as many pairs are the rows of a table: short rows sort ten times faster than one long array.
    """
    kept = pairs.counts.copy()
    farthest = np.full(len(kept), np.inf)
    rounded = np.rint(pairs.distances * 1e5).astype(np.int64)
    tables = []
    exponents = np.frexp(pairs.counts - 1)[1]
    for exponent in np.unique(exponents[pairs.counts > 0]).tolist():
        atoms = np.flatnonzero((exponents == exponent) & (pairs.counts > 0))
        columns = np.arange(1 << exponent)
        starts = pairs.starts[atoms, None]
        places = starts + columns
        left_out = columns >= pairs.counts[atoms, None]
        keys = rounded.take(places, mode="clip") << exponent | columns
        if k is not None and k <= len(columns):
            distances = np.where(left_out, np.inf, pairs.distances.take(places, mode="clip"))
            farthest[atoms] = np.partition(distances, k - 1, axis=1)[:, k - 1]
            left_out |= distances > farthest[atoms, None] + shell
            kept[atoms] = len(columns) - left_out.sum(axis=1)
        keys[left_out] = np.iinfo(np.int64).max
        keys.sort(axis=1)
        tables.append((atoms, starts + (keys & (len(columns) - 1))))
    starts = offsets_of(kept)
    order = np.empty(starts[-1], dtype=np.int64)
    for atoms, table in tables:
        columns = np.arange(table.shape[1])
        there = columns < kept[atoms, None]
        order[(starts[atoms, None] + columns)[there]] = table[there]
    ordered = (pairs.distances.take(order), pairs.ends.take(order))
    return Pairs(starts[:-1], kept, *ordered, pairs.neighbors, pairs.images), farthest


def find_columns(
    parts: Iterable[CrystalColumns], recipe: GraphRecipe, n_jobs: int | None, first: int
) -> dict[str, np.ndarray]:
    """Return the columns of graphs, see :meth:`CrystalGraphs.from_columns`."""
    from joblib import effective_n_jobs

    read: list[CrystalColumns] = []

    def calls() -> Iterator[tuple[CrystalColumns, GraphRecipe, int]]:
        start = first
        for part in parts:
            read.append(part)
            yield part, recipe, start
            start += len(part.lattice)

    waiting = calls()
    beginning = list(islice(waiting, effective_n_jobs(n_jobs)))
    if not beginning:
        raise ValueError("no crystals were given; at least one is needed")
    chunks: list[Edges]
    if len(beginning) == 1:  # no more processes than have something to do
        chunks = [find_edges(*call) for call in chain(beginning, waiting)]
    else:
        from crystalssl._workers import map_calls

        chunks = map_calls(find_edges, chain(beginning, waiting), len(beginning))
    columns = dict(zip(Edges._fields, zip(*chunks, strict=True), strict=True))
    del chunks  # the parts of a column go as soon as it is joined: most of the memory is in the edges
    return {
        "atomic_numbers": np.concatenate([part.atomic_numbers for part in read]),
        "positions": np.concatenate([part.positions for part in read]),
        "lattice": np.concatenate([part.lattice for part in read]),
        "neighbors": np.concatenate(columns.pop("neighbors")),
        "images": np.concatenate(columns.pop("images")),
        "distances": np.concatenate(columns.pop("distances")),
        "atom_offsets": offsets_of(np.concatenate([np.diff(part.offsets) for part in read])),
        "edge_offsets": offsets_of(np.concatenate(columns.pop("counts"))),
    }


def find_edges(crystals: CrystalColumns, recipe: GraphRecipe, first_index: int = 0) -> Edges:
    """Find the neighbours of every atom of every crystal.

    Parameters
    ----------
    crystals : CrystalColumns
    recipe : GraphRecipe
        Cutoff (Å) and number of neighbours.
    first_index : int, default=0
        Position of the first crystal in the user's input, for error messages.

    Returns
    -------
    Edges
        Sorted by centre (in the order of the crystals and their atoms), then distance.

    Raises
    ------
    InvalidStructureError
        If two atoms are closer than 0.1 Å, or a cell is so skewed that images do not fit into a byte.
    """
    sizes, k = np.diff(crystals.offsets), recipe.max_neighbors
    waiting, radii = np.arange(len(sizes)), np.full(len(sizes), recipe.cutoff)
    if k is not None:
        # The radius of the sphere that holds k + 1 atoms at the crystal's mean density, and a margin that spares 98 of
        # 100 crystals a second search.
        spheres = (k + 1) * abs(np.linalg.det(crystals.lattice)) / sizes
        radii = np.minimum(radii, 1.15 * np.cbrt(3 * spheres / (4 * np.pi)) + recipe.shell)
    starts, counts = np.empty((2, crystals.offsets[-1]), dtype=np.int64)
    parts: list[Edges] = []
    n_edges = 0
    while True:
        incomplete = []
        for chunk in _chunks(waiting, sizes):
            edges, complete = _search(crystals.take(chunk), recipe, radii[chunk], chunk + first_index)
            atoms = concatenate_ranges(crystals.offsets[chunk], sizes[chunk])
            starts[atoms], counts[atoms] = n_edges + offsets_of(edges.counts)[:-1], edges.counts
            n_edges += len(edges.distances)
            parts.append(edges)
            incomplete.append(chunk[~complete])
        waiting = np.concatenate(incomplete)
        if len(waiting) == 0:
            break
        radii[waiting] = np.minimum(recipe.cutoff, 1.3 * radii[waiting])
    rows = concatenate_ranges(starts, counts)  # without what was incomplete
    neighbors, images, distances, _ = map(np.concatenate, zip(*parts, strict=True))
    if len(rows) < n_edges:
        neighbors, images, distances = neighbors.take(rows), images.take(rows, axis=0), distances.take(rows)
    return Edges(neighbors, images, distances, counts)


def _chunks(crystals: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    """Split some crystals; each is in the chunk of its first atom."""
    first = offsets_of(sizes[crystals])[:-1]
    return np.split(crystals, np.flatnonzero(np.diff(first // CHUNK_ATOMS)) + 1)


def _search(
    crystals: CrystalColumns, recipe: GraphRecipe, radii: np.ndarray, indices: np.ndarray
) -> tuple[Edges, np.ndarray]:
    """Return the edges within some radii, and of which crystals they are all."""
    pairs, farthest = _nearest_first(find_pairs(crystals, radii, indices), recipe.max_neighbors, recipe.shell)
    # The k-th neighbour's whole shell must lie inside the sphere.
    complete = np.maximum.reduceat(farthest, crystals.offsets[:-1]) <= radii - recipe.shell
    complete |= radii >= recipe.cutoff
    distances, ends = pairs.distances, pairs.ends
    neighbors, images = pairs.neighbors.take(ends), pairs.images.take(ends, axis=0)
    if distances.min(initial=MIN_DISTANCE) < MIN_DISTANCE:
        edge = int(distances.argmin())
        atom, crystal = _center(crystals, pairs.counts, edge)
        raise too_close(int(indices[crystal]), (atom, int(neighbors[edge])), float(distances[edge]))
    if images.min(initial=0) == TOO_FAR:
        edge = int((images == TOO_FAR).any(axis=1).argmax())
        raise too_skewed(int(indices[_center(crystals, pairs.counts, edge)[1]]))
    return Edges(neighbors, images, distances.astype(np.float32), pairs.counts), complete


def _center(crystals: CrystalColumns, counts: np.ndarray, edge: int) -> tuple[int, int]:
    """Return the centre of an edge within its crystal, and the crystal."""
    atom = int(np.searchsorted(np.cumsum(counts), edge, side="right"))
    crystal = int(np.searchsorted(crystals.offsets, atom, side="right")) - 1
    return atom - int(crystals.offsets[crystal]), crystal
