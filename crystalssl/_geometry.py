"""Where the neighbours of atoms are, in a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Batch

__all__ = ["edge_vectors"]


def edge_vectors(batch: Batch) -> Tensor:
    """Return the vector (Å) of every edge of a batch, from its centre to its neighbour, of shape (n_edges, 3).

    Positions, lattice and images decide, not the stored distances.
    """
    neighbors, centers = batch.edge_index
    # Lattice translations per edge: few images differ from zero, but a matrix product per edge beats finding them.
    shifts = torch.bmm(batch.image[:, None, :], batch.cell.index_select(0, batch.batch[centers]))[:, 0]
    return batch.pos.index_select(0, neighbors).add_(shifts).sub_(batch.pos.index_select(0, centers))
