"""From columnar graphs to PyG batches, in one vectorised step."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Dataset
from torch_geometric.data import Batch

from crystalssl.graphs import CrystalCorpus, CrystalGraphs, GraphRecipe, cell_features
from crystalssl.graphs._ragged import concatenate_ranges
from crystalssl.training._background import in_background
from crystalssl.training._sharing import balanced

__all__ = ["BatchIterator", "CrystalDataset", "collate", "shuffled"]

_READY = 4096
"""Crystals in batches of a corpus that may wait to be used, while the next shards are read."""


def collate(graphs: CrystalGraphs | CrystalCorpus, indices: np.ndarray) -> Batch:
    """Join some graphs into one PyG `Batch`.

    Parameters
    ----------
    graphs : CrystalGraphs or CrystalCorpus
        The store to take from; only the rows named by `indices` are touched, of a corpus the shards that hold them.
    indices : ndarray of shape (n_crystals,), int
        Which crystals, in which order.

    Returns
    -------
    torch_geometric.data.Batch
        With the usual ``edge_index`` (neighbour, centre), ``batch`` and ``ptr``, and

        - ``z`` (n_atoms,): atomic numbers; 0 stands for a masked atom;
        - ``pos`` (n_atoms, 3), ``cell`` (n_crystals, 3, 3): in Å;
        - ``image`` (n_edges, 3): lattice translations of the neighbours;
        - ``distance`` (n_edges,): in Å; infinity stands for a masked distance;
        - ``edge_weight`` (n_edges,): 1 up to the centre's k-th neighbour, from there on smoothly less, and 0 where the
          recipe cuts edges off. It is a continuous function of all positions;
        - ``edge_ptr`` (n_atoms + 1,): the edges of centre ``i`` are ``edge_ptr[i]:edge_ptr[i + 1]``;
        - ``neighbor_order`` (n_edges,), ``neighbor_ptr`` (n_atoms + 1,): the edges grouped by neighbour, which is what
          the backward pass of a gather sums over.
    """
    if isinstance(graphs, CrystalCorpus):
        graphs, indices = graphs.gather(indices)
    n_atoms = np.diff(graphs.atom_offsets)[indices]
    atoms = concatenate_ranges(graphs.atom_offsets[indices], n_atoms)
    first_edge = graphs.edge_offsets[graphs.atom_offsets[indices]]
    n_edges = graphs.edge_offsets[graphs.atom_offsets[indices + 1]] - first_edge
    edges = concatenate_ranges(first_edge, n_edges)

    ptr = np.concatenate([[0], np.cumsum(n_atoms)])
    degrees = graphs.edge_offsets[atoms + 1] - graphs.edge_offsets[atoms]
    centers = np.repeat(np.arange(len(atoms)), degrees)
    neighbors = graphs.neighbors[edges] + np.repeat(ptr[:-1], n_edges)
    neighbor_ptr = np.concatenate([[0], np.cumsum(np.bincount(neighbors, minlength=len(atoms)))])

    distances = graphs.distances[edges]
    edge_ptr = np.concatenate([[0], np.cumsum(degrees)])
    batch = Batch(
        z=torch.from_numpy(graphs.atomic_numbers[atoms].astype(np.int64)),
        pos=torch.from_numpy(graphs.positions[atoms].astype(np.float32)),
        cell=torch.from_numpy(graphs.lattice[indices].astype(np.float32)),
        edge_index=torch.from_numpy(np.stack([neighbors, centers])),
        image=torch.from_numpy(graphs.images[edges].astype(np.float32)),
        distance=torch.from_numpy(distances),
        edge_weight=torch.from_numpy(_edge_weights(distances, centers, edge_ptr, graphs.recipe)),
        edge_ptr=torch.from_numpy(edge_ptr),
        neighbor_order=torch.from_numpy(np.argsort(neighbors, kind="stable")),
        neighbor_ptr=torch.from_numpy(neighbor_ptr),
        batch=torch.from_numpy(np.repeat(np.arange(len(indices)), n_atoms)),
        ptr=torch.from_numpy(ptr),
    )
    batch._num_graphs = len(indices)
    return batch


def shuffled(
    graphs: CrystalGraphs | CrystalCorpus, indices: np.ndarray, generator: torch.Generator | None
) -> np.ndarray:
    """Return indices in random order, in which those of a corpus come from some of its shards after others.

    A corpus of which all shards are open at a time is in the order that `CrystalGraphs` would be in. Of a larger one as
    many shards are drawn as may be open, all of their crystals are shuffled, and the next shards are drawn.

    Parameters
    ----------
    graphs : CrystalGraphs or CrystalCorpus
        What they are indices of.
    indices : ndarray of int
        Some of its rows.
    generator : torch.Generator or None
        As in :class:`BatchIterator`.
    """
    indices = indices[torch.randperm(len(indices), generator=generator).numpy()]
    if isinstance(graphs, CrystalGraphs):
        return indices
    shards, present = np.unique(graphs.shard_of(indices), return_inverse=True)
    n_turns = -(-len(shards) // graphs.n_open)
    if n_turns <= 1:
        return indices
    turns = np.empty(len(shards), np.int64)
    drawn = torch.randperm(len(shards), generator=generator).numpy()
    for turn, some in enumerate(np.array_split(drawn, n_turns)):
        turns[some] = turn
    return indices[np.argsort(turns[present], kind="stable")]


def _edge_weights(distances: np.ndarray, centers: np.ndarray, edge_ptr: np.ndarray, recipe: GraphRecipe) -> np.ndarray:
    """Return how far each edge is from being cut off: 1 inside, 0 at the limit, and a smooth step in a shell between.

    The limit of a centre is the cutoff, or a shell beyond its k-th distance. The k-th of ascending numbers is a
    continuous function of them, whichever atoms they belong to.
    """
    limits = np.full(len(edge_ptr) - 1, recipe.cutoff)
    k = recipe.max_neighbors
    if k is not None:
        enough = np.flatnonzero(np.diff(edge_ptr) >= k)
        # The edges of a centre ascend but for the last digits, in which they are in the order of their neighbours. All
        # centres are sorted at once, each in a range of numbers of its own, by a sort that is fast where order reigns.
        stride = 2 * recipe.cutoff
        ascending = np.sort(centers * stride + distances, kind="stable")
        kth = ascending[edge_ptr[enough] + k - 1] - enough * stride
        limits[enough] = np.minimum(recipe.cutoff, kth + recipe.shell)
    inside = ((limits[centers] - distances) / recipe.shell).clip(0, 1).astype(np.float32)
    return inside**2 * (3 - 2 * inside)


class CrystalDataset(Dataset):
    """Some rows of a store of graphs, with their targets.

    Parameters
    ----------
    graphs : CrystalGraphs or CrystalCorpus
        Shared, never copied.
    y : ndarray of shape (len(graphs), n_targets), float32, or (len(graphs),), int64, or None, default=None
        Targets of all rows of `graphs`: numbers, or codes of classes.
    indices : ndarray of int or None, default=None
        The rows that belong to the data set; None means all.
    sample_weight : ndarray of shape (len(graphs),), float32, or None, default=None
        How much each row counts in the loss; None means 1.
    atom_y : ndarray of shape (n_atoms, ·), float32, or None, default=None
        Targets of the atoms of all rows.
    """

    def __init__(
        self,
        graphs: CrystalGraphs | CrystalCorpus,
        y: np.ndarray | None = None,
        indices: np.ndarray | None = None,
        sample_weight: np.ndarray | None = None,
        atom_y: np.ndarray | None = None,
    ):
        self.atom_y = atom_y
        self.graphs = graphs
        self._cell_features: list[np.ndarray] = []  # of one item, which selections share
        self.y = np.empty((len(graphs), 0), np.float32) if y is None else y
        self.indices = np.arange(len(graphs)) if indices is None else np.asarray(indices)
        self.sample_weight = np.ones(len(graphs), np.float32) if sample_weight is None else sample_weight

    def __len__(self) -> int:
        return len(self.indices)

    def select(
        self, indices: np.ndarray, y: np.ndarray | None = None, sample_weight: np.ndarray | None = None
    ) -> CrystalDataset:
        """Return other rows of the same graphs, with the same or other targets and weights."""
        new = copy.copy(self)
        new.indices = np.asarray(indices)
        new.y = self.y if y is None else y
        new.sample_weight = self.sample_weight if sample_weight is None else sample_weight
        return new

    @property
    def cell_features(self) -> np.ndarray:
        """What the cells of all rows say, see :func:`crystalssl.graphs.cell_features`; computed once."""
        if not self._cell_features:
            self._cell_features.append(cell_features(self.graphs))
        return self._cell_features[0]


class BatchIterator:
    """Iterate over a `CrystalDataset` in batches, pairs of a PyG `Batch` and its targets.

    The batch has fields ``y`` and ``sample_weight`` beside those of `collate`, ``cell_features`` where they are
    asked for, and ``atom_y`` where atoms have targets. PyTorch's `DataLoader` would collate
    graph by graph. A thread reads the batches of a corpus ahead.

    Parameters
    ----------
    dataset : CrystalDataset
        What to iterate over.
    batch_size : int
        Crystals per batch.
    shuffle : bool, default=False
        Draw a new order at every pass. The last batch is then left out if it holds a single crystal, of which batch
        normalisation cannot take statistics, unless it is the only one.
    generator : torch.Generator or None, default=None
        What the order is drawn from, on the CPU; None is torch's global generator, which all threads share.
    with_cell : bool, default=False
        Whether batches have the features of the cells.
    share : tuple of int, default=(0, 1)
        Which of how many processes this is. Each gets some crystals of every batch, all together as many edges as each
        other; `batch_size` is that of the whole, whose number of crystals is the batch's ``n_together``.
    """

    skip = 0
    """Batches at the beginning of the next pass that are left out, for they were had before."""

    def __init__(
        self,
        dataset: CrystalDataset,
        batch_size: int,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
        with_cell: bool = False,
        share: tuple[int, int] = (0, 1),
    ):
        self.with_cell = with_cell
        self.share = share
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.generator = generator

    def __len__(self) -> int:
        n_batches, rest = divmod(len(self.dataset), self.batch_size)
        # Every process needs a crystal, and batch normalisation another one, unless there is nothing else.
        smallest = max(self.share[1], 2 if self.shuffle and n_batches else 1)
        return n_batches + (rest >= smallest)

    def __iter__(self) -> Iterator[tuple[Batch, torch.Tensor]]:
        indices = self.dataset.indices
        if self.shuffle:
            indices = shuffled(self.dataset.graphs, indices, self.generator)
        n_batches, start, self.skip = len(self), self.skip, 0
        rows = [indices[i * self.batch_size : (i + 1) * self.batch_size] for i in range(n_batches)]
        if rows and not self.shuffle:  # the last one takes the rest, however small
            rows[-1] = indices[(n_batches - 1) * self.batch_size :]
        batches = (self._batch(part) for part in rows[start:])
        if isinstance(self.dataset.graphs, CrystalGraphs):
            return batches
        return in_background(batches, max(2, _READY // self.batch_size))

    def _batch(self, rows: np.ndarray) -> tuple[Batch, torch.Tensor]:
        n_together = len(rows)
        if self.share[1] > 1:
            rows = rows[balanced(self.dataset.graphs.n_edges_of(rows), self.share[1])[self.share[0]]]
        batch = collate(self.dataset.graphs, rows)
        batch._n_together = n_together  # like _num_graphs no field of the batch
        batch.y = torch.from_numpy(self.dataset.y[rows])
        batch.sample_weight = torch.from_numpy(self.dataset.sample_weight[rows])
        if self.dataset.atom_y is not None:
            offsets = self.dataset.graphs.atom_offsets
            atoms = concatenate_ranges(offsets[rows], np.diff(offsets)[rows])
            batch.atom_y = torch.from_numpy(self.dataset.atom_y[atoms])
        if self.with_cell:
            batch.cell_features = torch.from_numpy(self.dataset.cell_features[rows])
        return batch, batch.y
