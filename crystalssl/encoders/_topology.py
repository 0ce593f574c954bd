"""Who is whose neighbour in a batch, in the forms that layers need."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Batch

__all__ = ["Block", "Topology", "inverse", "offsets", "ranges"]


_EDGES_OF_PART = 1024
"""Of work for one thread. It is fixed, so that sums over parts do not depend on how many threads there are."""


class Block(NamedTuple):
    """Atoms that follow each other and have as many edges."""

    n_atoms: int
    n_bonds: int  # of each of them


@dataclass(frozen=True, eq=False)
class Topology:
    """Who is whose neighbour. Edges are grouped by their centres; made once per batch, shared by all layers."""

    neighbors: Tensor  # (n_edges,)
    centers: Tensor  # (n_edges,), ascending
    edge_ptr: Tensor  # (n_atoms + 1,): edges of each centre
    neighbor_order: Tensor  # (n_edges,): edges grouped by neighbour
    neighbor_ptr: Tensor  # (n_atoms + 1,)
    crystal_ptr: Tensor | None = None  # (n_crystals + 1,): atoms of each crystal, if they follow each other

    @classmethod
    def of(cls, batch: Batch) -> Topology:
        """Read the topology off a batch made by :func:`crystalssl.training.collate`."""
        neighbors, centers = batch.edge_index
        return cls(neighbors, centers, batch.edge_ptr, batch.neighbor_order, batch.neighbor_ptr, batch.ptr)

    @functools.cached_property
    def pairs(self) -> Tensor:
        """Rows of centre and neighbour in a table of all atoms twice, of shape (n_edges, 2)."""
        return torch.stack([self.centers, self.neighbors + (len(self.edge_ptr) - 1)], dim=1)

    @functools.cached_property
    def parts(self) -> Tensor:
        """Where groups of whole crystals, with about `_EDGES_OF_PART` edges each, start and end among the atoms."""
        assert self.crystal_ptr is not None
        starts = self.edge_ptr[self.crystal_ptr[:-1]] // _EDGES_OF_PART
        first = F.pad(starts.diff() > 0, (1, 0), value=True)
        return torch.cat([self.crystal_ptr[:-1][first], self.crystal_ptr[-1:]])

    @functools.cached_property
    def blocks(self) -> list[Block]:
        """All atoms; few blocks if the atoms are in the order of :meth:`by_bonds`."""
        degrees, counts = self.edge_ptr.diff().unique_consecutive(return_counts=True)
        return [Block(*numbers) for numbers in torch.stack([counts, degrees], dim=1).tolist()]

    def atoms_by_block(self, x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
        """Return views of what belongs to the atoms of each block in `x`, along a dimension of as many as all atoms."""
        return x.split([block.n_atoms for block in self.blocks], dim=dim)

    def edges_by_block(self, x: Tensor) -> list[Tensor]:
        """Return views of the rows of `x`, one per edge, for each block: (n_atoms, n_bonds, ·)."""
        parts = x.split([block.n_atoms * block.n_bonds for block in self.blocks])
        return [part.view(*block, x.shape[1]) for part, block in zip(parts, self.blocks, strict=True)]

    def by_bonds(self) -> tuple[Topology, Tensor, Tensor]:
        """Return the topology with its atoms in the order of their numbers of edges.

        Returns
        -------
        topology : Topology
        atoms : Tensor of shape (n_atoms,)
            Which atom stands where.
        edges : Tensor of shape (n_edges,)
            Which edge stands where.
        """
        degrees = self.edge_ptr.diff()
        atoms = degrees.argsort(stable=True)
        degrees, n_as_neighbor = degrees[atoms], self.neighbor_ptr.diff()[atoms]
        edges = ranges(self.edge_ptr[atoms], degrees)
        as_neighbor = self.neighbor_order[ranges(self.neighbor_ptr[atoms], n_as_neighbor)]
        topology = Topology(
            neighbors=inverse(atoms)[self.neighbors[edges]],
            centers=torch.repeat_interleave(degrees, output_size=len(edges)),
            edge_ptr=offsets(degrees),
            neighbor_order=inverse(edges)[as_neighbor],
            neighbor_ptr=offsets(n_as_neighbor),
        )
        return topology, atoms, edges

    def sum(self, x: Tensor) -> Tensor:
        """Return the sums of the rows of `x`, one per edge, over the edges of each centre."""
        return x.new_zeros(len(self.edge_ptr) - 1, *x.shape[1:]).index_add(0, self.centers, x)


def offsets(lengths: Tensor) -> Tensor:
    """Return where each of some rows that follow each other starts, and at the end where the last one ends."""
    return F.pad(lengths.cumsum(0), (1, 0))


def ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """Return ``[s, s+1, …, s+l-1]`` for every (s, l), end to end."""
    ptr = offsets(lengths)
    n = int(ptr[-1])
    shifts = torch.repeat_interleave(starts - ptr[:-1], lengths, output_size=n)
    return torch.arange(n, device=starts.device) + shifts


def inverse(order: Tensor) -> Tensor:
    """Return where each number stands in a permutation."""
    return torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=order.device))
