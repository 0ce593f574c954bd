"""The few tensor operations in which graph networks spend their time, written for speed.

On CPUs, indexing rows (``x[index]``) and scattering them back (``index_add_``) cost several times more than the arithmetic
between them. `embedding_bag` sums groups of rows in one pass without temporaries; over edges grouped by neighbour
beforehand it also does the backward pass of a gather. `tests/encoders/test_kernels.py` holds the obvious implementations.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch_geometric.data import Batch

__all__ = ["Topology", "gated_segment_sum", "gaussian_expansion", "pair_linear", "segment_sum"]


class Topology(NamedTuple):
    """Who is whose neighbour, in the forms that the kernels read; made once per batch, shared by all layers."""

    pairs: Tensor  # (n_edges, 2): row of the centre, and of the neighbour, in a table of 2 * n_atoms rows
    centers: Tensor  # (n_edges,), ascending
    edge_ptr: Tensor  # (n_atoms + 1,): edges of each centre
    neighbor_order: Tensor  # (n_edges,): edges grouped by neighbour
    neighbor_ptr: Tensor  # (n_atoms + 1,)

    @classmethod
    def of(cls, batch: Batch) -> Topology:
        """Read the topology off a batch made by :func:`crystalssl.training.collate`."""
        neighbors, centers = batch.edge_index
        pairs = torch.stack([centers, neighbors + batch.z.numel()], dim=1)
        return cls(pairs, centers, batch.edge_ptr, batch.neighbor_order, batch.neighbor_ptr)


def gaussian_expansion(distances: Tensor, centers: Tensor, width: float) -> Tensor:
    """Return ``exp(-((d - µ) / width)²)`` for every distance and centre; a masked (infinite) distance gives zeros.

    Parameters
    ----------
    distances : Tensor of shape (n_edges,)
        In Å.
    centers : Tensor of shape (n_gaussians,)
        In Å.
    width : float
        In Å.
    """
    # Numbers too small for normal floating point would make this 40 times slower, and then every product that they
    # enter. They are kept out of the exponential, and their results (below 1e-26) set to zero.
    exponents = ((distances[:, None] - centers) / width).square_().neg_().clamp_(min=-80)
    return F.threshold_(exponents.exp_(), 1e-26, 0.0)


def _segment_sum(x: Tensor, order: Tensor, ptr: Tensor) -> Tensor:
    return F.embedding_bag(order, x, ptr, mode="sum", include_last_offset=True)


class _PairLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table: Tensor, edges: Tensor, weight: Tensor, topology: Topology) -> Tensor:
        ctx.save_for_backward(edges, weight)
        ctx.topology = topology
        # The product accumulates onto the gathered rows, so that no second array of that size is made.
        return F.embedding_bag(topology.pairs, table, mode="sum").addmm_(edges, weight.t())

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        edges, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_table = grad_edges = grad_weight = None
        if ctx.needs_input_grad[0]:
            by_center = _segment_sum(grad, torch.arange(len(grad), device=grad.device), ctx.topology.edge_ptr)
            by_neighbor = _segment_sum(grad, ctx.topology.neighbor_order, ctx.topology.neighbor_ptr)
            grad_table = torch.cat([by_center, by_neighbor])
        if ctx.needs_input_grad[1]:
            grad_edges = grad @ weight
        if ctx.needs_input_grad[2]:
            grad_weight = grad.t() @ edges
        return grad_table, grad_edges, grad_weight, None


def pair_linear(of_center: Tensor, of_neighbor: Tensor, edges: Tensor, weight: Tensor, topology: Topology) -> Tensor:
    """Return ``of_center[i] + of_neighbor[j] + edges @ weight.T`` for every edge (i, j).

    A linear layer on the concatenation ``[x_i, x_j, e_ij]`` is the sum of three: the two that act on atoms are done
    once per atom, not once per edge.

    Parameters
    ----------
    of_center, of_neighbor : Tensor of shape (n_atoms, d)
        What an atom contributes as centre and as neighbour.
    edges : Tensor of shape (n_edges, e)
    weight : Tensor of shape (d, e)
    topology : Topology

    Returns
    -------
    Tensor of shape (n_edges, d)
    """
    return _PairLinear.apply(torch.cat([of_center, of_neighbor]), edges, weight, topology)


class _GatedSegmentSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate: Tensor, core: Tensor, topology: Topology) -> Tensor:
        gate = torch.sigmoid(gate)
        slope = torch.sigmoid(core)
        # softplus(x) = x - log(sigmoid(x)): a third of the time of softplus itself, and the backward pass needs the
        # sigmoid anyway. The sum keeps the logarithm finite where the sigmoid underflows.
        softplus = core - (slope + 1e-38).log_()
        ctx.save_for_backward(gate, slope, softplus)
        ctx.topology = topology
        return segment_sum(gate * softplus, topology)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        gate, slope, softplus = ctx.saved_tensors
        grad = grad.index_select(0, ctx.topology.centers).mul_(gate)
        grad_core = slope.mul_(grad)
        grad_gate = grad.mul_(softplus).mul_(1 - gate)
        return grad_gate, grad_core, None


def gated_segment_sum(gate: Tensor, core: Tensor, topology: Topology) -> Tensor:
    """Return the sum of ``sigmoid(gate) * softplus(core)`` over the edges of each centre.

    Parameters
    ----------
    gate, core : Tensor of shape (n_edges, d)
    topology : Topology

    Returns
    -------
    Tensor of shape (n_atoms, d)
    """
    return _GatedSegmentSum.apply(gate, core, topology)


def segment_sum(x: Tensor, topology: Topology) -> Tensor:
    """Return the sum of the rows of `x`, one per edge, over the edges of each centre (no gradient)."""
    return _segment_sum(x, torch.arange(len(x), device=x.device), topology.edge_ptr)
