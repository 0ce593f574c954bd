"""The attention layer of DeeperGATGNN."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from crystalssl.encoders._kernels._compiled import compiled_pair_vectors, compiled_weighted_sum
from crystalssl.encoders._kernels._library import compiled_serves
from crystalssl.encoders._kernels._rows import row_chunks, softplus_, sum_groups, sum_segments
from crystalssl.encoders._topology import Topology, offsets

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
    given = F.linear(x, of_atom), F.linear(lengths, of_length)
    if compiled := pairs.topology.crystal_ptr is not None and compiled_serves(x):
        z, scores = compiled_pair_vectors(*given, layer.attention, pairs)
    else:
        # What z scores as a centre, and as a neighbour, in every head: one vector each, zero outside its own head.
        heads = torch.eye(n_heads, dtype=x.dtype, device=x.device)
        vectors = torch.einsum("gh,hed->eghd", heads, layer.attention.view(n_heads, 2, dim)).flatten(2).flatten(0, 1)
        z, scores = _PairVectors.apply(*given, vectors, pairs)
    as_center, as_neighbor = scores.chunk(2, dim=1)
    scores = as_center.index_select(0, pairs.of_center) + as_neighbor.index_select(0, pairs.of_neighbor)
    weights = layer.attention_weights(scores, pairs.topology) / n_heads
    weighted_sum = compiled_weighted_sum if compiled else _WeightedSum.apply
    return layer.update(x, weighted_sum(z.unflatten(1, (n_heads, dim)), weights, pairs))


class _PairVectors(torch.autograd.Function):
    """The vectors ``z = softplus(of_atom + of_length)`` of all pairs, and their products with some vectors.

    A few pairs at a time, which stay in the processor's cache for all that is done with them. The vectors, few as they
    are, come first in the products: as columns of the second factor they take MKL several times as long.
    """

    @staticmethod
    def forward(ctx, of_atoms: Tensor, of_lengths: Tensor, vectors: Tensor, pairs: AtomLengthPairs):
        z = of_atoms.new_empty(len(pairs.atom), of_atoms.shape[1])
        products = z.new_empty(len(z), len(vectors))
        for rows in row_chunks(z):
            torch.index_select(of_atoms, 0, pairs.atom[rows], out=z[rows])
            softplus_(z[rows].add_(of_lengths.index_select(0, pairs.length[rows])))
            products[rows] = torch.mm(vectors, z[rows].t()).t()
        ctx.save_for_backward(z, vectors)
        ctx.pairs = pairs
        return z, products

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_z: Tensor, grad_products: Tensor):
        z, vectors = ctx.saved_tensors
        grad_vectors, grad_sums = torch.zeros_like(vectors), torch.empty_like(z)
        for rows in row_chunks(z):
            grad_vectors.addmm_(grad_products[rows].t(), z[rows])
            of_rows = torch.addmm(grad_z[rows], grad_products[rows], vectors)
            slope = torch.neg(z[rows], out=grad_sums[rows]).exp_()
            torch.addcmul(of_rows, of_rows, slope, value=-1, out=slope)  # times sigmoid, 1 - exp(-softplus)
        by_length = sum_groups(grad_sums, *ctx.pairs.by_length)
        return sum_segments(grad_sums, ctx.pairs.atom_ptr), by_length, grad_vectors, None


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
    def atom_ptr(self) -> Tensor:
        """Where the pairs of each atom start, which follow each other, and at the end where the last ones end."""
        return offsets(torch.bincount(self.atom, minlength=len(self.topology.edge_ptr) - 1))

    @cached_property
    def by_length(self) -> tuple[Tensor, Tensor]:
        """Pairs grouped by their length, and where each group starts and the last one ends."""
        return self.length.argsort(stable=True), offsets(torch.bincount(self.length))

    @cached_property
    def edges_by_neighbor(self) -> tuple[Tensor, Tensor]:
        """Edges grouped by the pair of their neighbour, and where each group starts and the last one ends."""
        counts = torch.bincount(self.of_neighbor, minlength=len(self.atom))
        return self.of_neighbor.argsort(stable=True), offsets(counts)

    @classmethod
    def of(cls, topology: Topology, length: Tensor) -> AtomLengthPairs:
        """Find the pairs of edges of which `length`, of shape (n_edges,), says the row in the distinct lengths."""
        n_lengths = int(length.max()) + 1 if len(length) else 1
        ends = torch.cat([topology.centers, topology.neighbors])
        keys, pair = (ends * n_lengths + length.repeat(2)).unique(return_inverse=True)
        of_center, of_neighbor = pair.chunk(2)
        return cls(topology, keys // n_lengths, keys % n_lengths, of_center, of_neighbor)
