"""The attention layer of DeeperGATGNN."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from crystalssl.encoders._kernels._rows import row_chunks, sum_groups
from crystalssl.encoders._topology import Topology

if TYPE_CHECKING:
    from crystalssl.encoders.deepergatgnn import AGATConv

__all__ = ["AtomLengthPairs", "agat_conv"]


def agat_conv(layer: AGATConv, x: Tensor, lengths: Tensor, pairs: AtomLengthPairs) -> Tensor:
    """Return what :class:`~crystalssl.encoders.deepergatgnn.AGATConv` does.

    The vectors z of an edge belong to one atom and one length each. Both directions of an edge share them, and so do
    the neighbours of a shell. They and their parts of the attention are computed once per pair of atom and length.
    """
    n_heads, dim = len(layer.attention), x.shape[1]
    of_atom, of_length = layer.linear.weight.split([dim, lengths.shape[1]], dim=1)
    z = F.softplus(
        F.linear(x, of_atom).index_select(0, pairs.atom) + F.linear(lengths, of_length).index_select(0, pairs.length)
    )
    z = z.unflatten(1, (n_heads, dim))
    # What z scores as a centre, and as a neighbour, in every head.
    as_center, as_neighbor = torch.einsum("phd,hed->eph", z, layer.attention.view(n_heads, 2, dim))
    scores = as_center.index_select(0, pairs.of_center) + as_neighbor.index_select(0, pairs.of_neighbor)
    weights = layer.attention_weights(scores, pairs.topology) / n_heads
    return layer.update(x, _WeightedSum.apply(z, weights, pairs))


class _WeightedSum(torch.autograd.Function):
    """``Σ_j Σ_h w_jh z_jh`` over the edges of each centre and the heads h.

    The heads of a pair are rows of their own. `embedding_bag` adds up the weighted ones without gathering them.
    """

    @staticmethod
    def forward(ctx, z: Tensor, weights: Tensor, pairs: AtomLengthPairs) -> Tensor:
        ctx.save_for_backward(z, weights)
        ctx.pairs = pairs
        n_heads = weights.shape[1]
        head = torch.arange(n_heads, device=z.device)
        rows = (pairs.of_neighbor[:, None] * n_heads + head).flatten()
        return sum_groups(z.flatten(0, 1), rows, pairs.topology.edge_ptr * n_heads, weights.flatten())

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        z, weights = ctx.saved_tensors
        pairs, n_heads = ctx.pairs, weights.shape[1]
        centers = pairs.topology.centers
        order, ptr = pairs.edges_by_neighbor
        grad_z = [sum_groups(grad, centers[order], ptr, weights[order, head]) for head in range(n_heads)]
        grad_weights = torch.empty_like(weights)
        for rows in row_chunks(weights):
            products = z.index_select(0, pairs.of_neighbor[rows]).mul_(grad.index_select(0, centers[rows])[:, None])
            torch.sum(products, dim=2, out=grad_weights[rows])
        return torch.stack(grad_z, dim=1), grad_weights, None


@dataclass(frozen=True, eq=False)
class AtomLengthPairs:
    """Which atom has an edge of which length, every combination once; made once per batch, shared by all layers."""

    topology: Topology
    atom: Tensor  # (n_pairs,)
    length: Tensor  # (n_pairs,): row of the length in the distinct ones
    of_center: Tensor  # (n_edges,): the pair of the edge's centre and its length
    of_neighbor: Tensor  # (n_edges,): the pair of the edge's neighbour and its length

    @cached_property
    def edges_by_neighbor(self) -> tuple[Tensor, Tensor]:
        """Edges grouped by the pair of their neighbour, and where each group starts and the last one ends."""
        counts = torch.bincount(self.of_neighbor, minlength=len(self.atom))
        return self.of_neighbor.argsort(stable=True), F.pad(counts.cumsum(0), (1, 0))

    @classmethod
    def of(cls, topology: Topology, length: Tensor) -> AtomLengthPairs:
        """Find the pairs of edges of which `length`, of shape (n_edges,), says the row in the distinct lengths."""
        n_lengths = int(length.max()) + 1 if len(length) else 1
        ends = torch.cat([topology.centers, topology.neighbors])
        keys, pair = (ends * n_lengths + length.repeat(2)).unique(return_inverse=True)
        of_center, of_neighbor = pair.chunk(2)
        return cls(topology, keys // n_lengths, keys % n_lengths, of_center, of_neighbor)
