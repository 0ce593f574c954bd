"""The few tensor operations in which graph networks spend their time, written for speed.

On CPUs, indexing rows (``x[index]``) and scattering them back (``index_add_``) cost several times more than the
arithmetic between them. `embedding_bag` sums groups of rows in one pass without temporaries; over edges grouped by
neighbour beforehand it also does the backward pass of a gather.

An elementwise operation on an array of one row per edge takes several times longer than on as many numbers that are
still in the cache from the operation before. Where nothing but such operations follow each other, they are done on a
chunk of rows, then on the next. The obvious implementations are in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch_geometric.data import Batch

from crystalssl.encoders._segments import row_chunks, sum_groups, sum_segments

__all__ = [
    "Topology",
    "gated_convolution",
    "gaussian_expansion",
    "normalised_gated_sum",
    "pair_linear",
    "pair_sum",
    "pair_sum_backward",
    "segment_sum",
]


@dataclass(frozen=True, eq=False)
class Topology:
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

    @cached_property
    def neighbors(self) -> Tensor:
        """The neighbour of every edge, of shape (n_edges,)."""
        return self.pairs[:, 1] - (len(self.edge_ptr) - 1)


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
    expanded = torch.empty(
        len(distances), len(centers), dtype=torch.result_type(distances, centers), device=distances.device
    )
    for rows in row_chunks(expanded):
        exponents = torch.sub(distances[rows, None], centers).div_(width).square_().neg_().clamp_(min=-80)
        expanded[rows] = F.threshold(exponents.exp_(), 1e-26, 0.0)
    return expanded


def pair_sum(table: Tensor, pairs: Tensor) -> Tensor:
    """Return ``table[i] + table[j]`` for every pair (i, j), rows of `pairs` (no gradient)."""
    starts = torch.arange(0, pairs.numel(), 2, device=pairs.device)
    return F.embedding_bag(pairs.view(-1), table, starts, mode="sum")


def pair_sum_backward(grad: Tensor, topology: Topology) -> Tensor:
    """Return the gradient of the table of :func:`pair_sum` over all pairs of a topology."""
    by_neighbor = sum_groups(grad, topology.neighbor_order, topology.neighbor_ptr)
    return torch.cat([segment_sum(grad, topology), by_neighbor])


class _PairLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table: Tensor, edges: Tensor, weight: Tensor, topology: Topology) -> Tensor:
        ctx.save_for_backward(edges, weight)
        ctx.topology = topology
        # The product accumulates onto the gathered rows, so that no second array of that size is made.
        return pair_sum(table, topology.pairs).addmm_(edges, weight.t())

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        edges, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_table = grad_edges = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_table = pair_sum_backward(grad, ctx.topology)
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


class _NormalisedGatedSum(torch.autograd.Function):
    """Batch normalisation, gate and sum in one step, so that arrays of one row per edge are reused in place.

    Such an array is written from cache to memory and back; with seven of them per layer that was half of the time.
    """

    @staticmethod
    def forward(ctx, gate, core, gate_scale, gate_shift, core_scale, core_shift, norms, training, topology):
        gate_norm, core_norm = norms
        statistics = []
        normalised = []
        for z, scale, shift, norm in (
            (gate, gate_scale, gate_shift, gate_norm),
            (core, core_scale, core_shift, core_norm),
        ):
            result, mean, inverse_std = torch.native_batch_norm(
                z, scale, shift, norm.running_mean, norm.running_var, training, norm.momentum, norm.eps
            )
            normalised.append(result)
            statistics += [mean, inverse_std]
        opening, softplus = normalised
        opening.sigmoid_()
        # softplus(x) = x - log(sigmoid(x)): a third of the time of softplus itself. The bound keeps the logarithm
        # finite where the sigmoid would underflow; softplus is zero there.
        scratch = torch.sigmoid(softplus.clamp_(min=-80)).log_()
        softplus.sub_(scratch)
        ctx.save_for_backward(gate, core, gate_scale, core_scale, opening, softplus, *statistics)
        ctx.norms, ctx.training, ctx.topology = norms, training, topology
        return segment_sum(torch.mul(opening, softplus, out=scratch), topology)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        gate, core, gate_scale, core_scale, opening, softplus, *statistics = ctx.saved_tensors
        grad = grad.index_select(0, ctx.topology.centers).mul_(opening)
        # The derivative of softplus is the sigmoid, 1 - exp(-softplus).
        grad_core = torch.neg(softplus).exp_()
        torch.addcmul(grad, grad, grad_core, value=-1, out=grad_core)
        grad.mul_(softplus)
        grad_gate = torch.addcmul(grad, grad, opening, value=-1, out=grad)
        results = []
        for grad_z, z, scale, norm, (mean, inverse_std) in (
            (grad_gate, gate, gate_scale, ctx.norms[0], statistics[:2]),
            (grad_core, core, core_scale, ctx.norms[1], statistics[2:]),
        ):
            results.append(
                torch.ops.aten.native_batch_norm_backward(
                    grad_z, z, scale, norm.running_mean, norm.running_var, mean, inverse_std, ctx.training, norm.eps,
                    [True, True, True],
                )
            )  # fmt: skip
        (of_gate, gate_scale, gate_shift), (of_core, core_scale, core_shift) = results
        return of_gate, of_core, gate_scale, gate_shift, core_scale, core_shift, None, None, None


def normalised_gated_sum(
    gate: Tensor, core: Tensor, gate_norm: nn.BatchNorm1d, core_norm: nn.BatchNorm1d, topology: Topology
) -> Tensor:
    """Return the sum of ``sigmoid(gate_norm(gate)) * softplus(core_norm(core))`` over the edges of each centre.

    Parameters
    ----------
    gate, core : Tensor of shape (n_edges, d)
    gate_norm, core_norm : BatchNorm1d
        Over edges. With fewer than two edges in the batch there are no statistics to take, and the running ones serve.
    topology : Topology

    Returns
    -------
    Tensor of shape (n_atoms, d)
    """
    if len(gate) == 0:  # isolated atoms only; the backward pass of batch normalisation crashes on nothing
        return gate.new_zeros(len(topology.edge_ptr) - 1, gate.shape[1])
    return _NormalisedGatedSum.apply(
        gate, core, gate_norm.weight, gate_norm.bias, core_norm.weight, core_norm.bias, (gate_norm, core_norm),
        gate_norm.training and len(gate) > 1, topology,
    )  # fmt: skip


class _GatedConvolution(torch.autograd.Function):
    """Keeps the logits of all edges and the statistics of their norm; all else is computed again when it is needed.

    Memory for arrays of one row per edge costs more time than most of what is computed in them, so they are few, and
    reused in place.
    """

    @staticmethod
    def forward(ctx, projected, edges, weight, scale, shift, envelope, norm_epsilon, epsilon, topology):
        of_center, of_neighbor, values, own = projected.chunk(4, dim=1)
        logits = pair_sum(torch.cat([of_center, of_neighbor]), topology.pairs).addmm_(edges, weight.t())
        weights = _open(logits, envelope)
        total = segment_sum(weights, topology).add_(epsilon)
        weights.mul_(values.index_select(0, topology.neighbors))
        mean = segment_sum(weights, topology).div_(total)
        updated: Tensor | None = None
        statistics: list[Tensor] = []
        if scale is not None:
            updated, *statistics = torch.native_layer_norm(logits, scale.shape, scale, shift, norm_epsilon)
            F.silu(updated, inplace=True).add_(edges)
        ctx.save_for_backward(edges, weight, scale, shift, envelope, values, total, mean, logits, *statistics)
        ctx.topology = topology
        return own + mean, updated

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, grad_updated: Any):
        edges, weight, scale, shift, envelope, values, total, mean, logits, *statistics = ctx.saved_tensors
        topology = ctx.topology
        # Of Σ w v / (Σ w + ε): by w it is (v - mean) / (Σ w + ε), by v it is w / (Σ w + ε).
        by_value = _open(logits, envelope).mul_((grad / total).index_select(0, topology.centers))
        by_logit = values.index_select(0, topology.neighbors)
        scratch = mean.index_select(0, topology.centers)
        by_logit.sub_(scratch).mul_(by_value)
        # The derivative of a weight by its logit is weight * (1 - gate).
        by_logit.addcmul_(by_logit, torch.sigmoid(logits, out=scratch), value=-1)
        by_values = sum_groups(by_value, topology.neighbor_order, topology.neighbor_ptr)
        grad_scale = grad_shift = None
        if scale is None:
            grad_edges = by_logit @ weight
        else:
            normalised = torch.sub(logits, statistics[0], out=by_value).mul_(statistics[1])
            torch.addcmul(shift, normalised, scale, out=normalised)
            torch.ops.aten.silu_backward.grad_input(grad_updated, normalised, grad_input=normalised)
            of_norm, grad_scale, grad_shift = torch.ops.aten.native_layer_norm_backward(
                normalised, logits, scale.shape, *statistics, scale, shift, [True, True, True]
            )
            by_logit.add_(of_norm)
            grad_edges = torch.addmm(grad_updated, by_logit, weight, out=of_norm)
        grad_projected = torch.cat(
            [
                segment_sum(by_logit, topology),
                sum_groups(by_logit, topology.neighbor_order, topology.neighbor_ptr),
                by_values,
                grad,
            ],
            dim=1,
        )
        return grad_projected, grad_edges, by_logit.t() @ edges, grad_scale, grad_shift, None, None, None, None


def _open(logits: Tensor, envelope: Tensor | None) -> Tensor:
    gate = torch.sigmoid(logits)
    return gate if envelope is None else gate.mul_(envelope)


def gated_convolution(
    projected: Tensor,
    edges: Tensor,
    weight: Tensor,
    norm: nn.LayerNorm | None,
    envelope: Tensor | None,
    topology: Topology,
    epsilon: float = 1e-6,
) -> tuple[Tensor, Tensor | None]:
    """Return what an edge-gated convolution adds up at every atom, and the edges that it updates.

    With the logits ``m_ij = a_i + b_j + edges @ weight.T`` and ``w_ij = sigmoid(m_ij) * envelope`` these are
    ``u_i + Σ_j w_ij v_j / (Σ_j w_ij + ε)`` and ``edges + silu(norm(m_ij))``.

    Parameters
    ----------
    projected : Tensor of shape (n_atoms, 4 * d)
        a, b, v and u of every atom, side by side.
    edges : Tensor of shape (n_edges, d)
    weight : Tensor of shape (d, d)
    norm : LayerNorm or None
        If None, edges are not updated, and None is returned for them.
    envelope : Tensor of shape (n_edges, 1) or None
        No gradient flows into it.
    topology : Topology
    epsilon : float, default=1e-6
        Keeps the mean of no neighbours at zero.

    Returns
    -------
    nodes : Tensor of shape (n_atoms, d)
    edges : Tensor of shape (n_edges, d) or None
    """
    scale, shift, norm_epsilon = (None, None, 0.0) if norm is None else (norm.weight, norm.bias, norm.eps)
    return _GatedConvolution.apply(projected, edges, weight, scale, shift, envelope, norm_epsilon, epsilon, topology)


def segment_sum(x: Tensor, topology: Topology) -> Tensor:
    """Return the sum of the rows of `x`, one per edge, over the edges of each centre (no gradient)."""
    return sum_segments(x, topology.edge_ptr)
