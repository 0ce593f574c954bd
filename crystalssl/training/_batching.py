"""Batches of crystals, epoch after epoch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from torch_geometric.data import Batch

from crystalssl.encoders import Sight
from crystalssl.graphs import CrystalCorpus, CrystalGraphs, cell_features
from crystalssl.graphs._ragged import concatenate_ranges
from crystalssl.training._background import in_background
from crystalssl.training._collate import collate
from crystalssl.training._distinct import DistinctParts, collate_distinct, find_distinct
from crystalssl.training._sharing import balanced

__all__ = ["BatchIterator", "CrystalDataset", "batches_for", "shuffled"]

_READY = 4096
"""Crystals in batches of a corpus that may wait to be used, while the next shards are read."""


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
        self._distinct: dict[Sight, DistinctParts] = {}  # shared as well
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

    def collate(self, rows: np.ndarray, sight: Sight | None = None) -> Batch:
        """Join some rows into one batch.

        Parameters
        ----------
        rows : ndarray of shape (n_crystals,), int
            Which, in which order.
        sight : Sight or None, default=None
            What an encoder can tell apart: the batch is of that, see
            :func:`~crystalssl.training._distinct.collate_distinct`. None takes all atoms and edges.
        """
        if sight is None:
            return collate(self.graphs, rows)
        if isinstance(self.graphs, CrystalCorpus):  # of which what was found would take as much memory as the graphs
            graphs, rows = self.graphs.gather(rows)
            graphs = graphs[rows]
            return collate_distinct(graphs, find_distinct(graphs, sight), np.arange(len(graphs)))
        if sight not in self._distinct:
            self._distinct[sight] = find_distinct(self.graphs, sight)
        return collate_distinct(self.graphs, self._distinct[sight], rows)


def batches_for(
    module: nn.Module, dataset: CrystalDataset, batch_size: int, device: str, **options: Any
) -> BatchIterator:
    """Return the batches that a network reads on a device; further options are those of :class:`BatchIterator`."""
    on_cpu = torch.device(device).type == "cpu"
    return BatchIterator(
        dataset,
        batch_size,
        with_cell=getattr(module, "reads_cell", False),
        # A GPU is done with all atoms before the processor has found out which are alike.
        sight=getattr(module, "sight", None) if on_cpu else None,
        ahead=not on_cpu,
        **options,
    )


class BatchIterator:
    """Iterate over a `CrystalDataset` in batches, pairs of a PyG `Batch` and its targets.

    The batch has fields ``y`` and ``sample_weight`` beside those of :meth:`CrystalDataset.collate`, ``cell_features``
    where they are asked for, and ``atom_y`` where atoms have targets. PyTorch's `DataLoader` would collate graph by
    graph. A thread makes the batches of a corpus ahead.

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
    sight : Sight or None, default=None
        What batches are of, see :meth:`CrystalDataset.collate`.
    share : tuple of int, default=(0, 1)
        Which of how many processes this is. Each gets some crystals of every batch, all together as many edges as each
        other; `batch_size` is that of the whole, whose number of crystals is the batch's ``_n_together``.
    ahead : bool, default=False
        Have a thread make batches while others are computed with, as it does of a corpus: for a GPU, which leaves the
        processor free meanwhile.
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
        sight: Sight | None = None,
        share: tuple[int, int] = (0, 1),
        ahead: bool = False,
    ):
        self.ahead = ahead
        self.with_cell = with_cell
        self.sight = sight
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
        if isinstance(self.dataset.graphs, CrystalGraphs) and not self.ahead:
            return batches
        return in_background(batches, max(2, _READY // self.batch_size))

    def _batch(self, rows: np.ndarray) -> tuple[Batch, torch.Tensor]:
        n_together = len(rows)
        if self.share[1] > 1:
            rows = rows[balanced(self.dataset.graphs.n_edges_of(rows), self.share[1])[self.share[0]]]
        batch = self.dataset.collate(rows, self.sight)
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
