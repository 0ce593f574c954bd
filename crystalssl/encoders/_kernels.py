"""The few tensor operations in which graph networks spend their time, written for speed.

On CPUs, indexing rows (``x[index]``) and scattering them back (``index_add_``) cost several times more than the
arithmetic between them. `embedding_bag` sums groups of rows in one pass without temporaries; over edges grouped by
neighbour beforehand it also does the backward pass of a gather. The obvious implementations are in the tests.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch_geometric.data import Batch

__all__ = ["Topology", "gated_mean", "gaussian_expansion", "normalised_gated_sum", "pair_linear", "segment_sum"]


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
    return F.threshold(exponents.exp_(), 1e-26, 0.0, inplace=True)


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


class _GatedMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, envelope, values, epsilon, topology):
        gate = torch.sigmoid(logits)
        weight = gate if envelope is None else gate * envelope
        gathered = values.index_select(0, topology.pairs[:, 1] - len(values))
        total = segment_sum(weight, topology).add_(epsilon)
        mean = segment_sum(weight * gathered, topology).div_(total)
        ctx.save_for_backward(gate, weight, gathered, total, mean)
        ctx.topology = topology
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        gate, weight, gathered, total, mean = ctx.saved_tensors
        topology = ctx.topology
        # Of Σ w v / (Σ w + ε): by w it is (v - mean) / (Σ w + ε), by v it is w / (Σ w + ε).
        grad = (grad / total).index_select(0, topology.centers)
        by_value = _segment_sum(grad * weight, topology.neighbor_order, topology.neighbor_ptr)
        by_logit = mean.index_select(0, topology.centers)
        torch.sub(gathered, by_logit, out=by_logit)
        # The derivative of the weight by its logit is weight * (1 - gate).
        by_logit.mul_(grad).mul_(weight)
        return torch.addcmul(by_logit, by_logit, gate, value=-1, out=grad), None, by_value, None, None


def gated_mean(
    logits: Tensor, envelope: Tensor | None, values: Tensor, topology: Topology, epsilon: float = 1e-6
) -> Tensor:
    """Return the mean of the neighbours' values, weighed by gates: ``Σ_j w_ij v_j / (Σ_j w_ij + ε)``.

    Parameters
    ----------
    logits : Tensor of shape (n_edges, d)
        The weights are ``w = sigmoid(logits) * envelope``.
    envelope : Tensor of shape (n_edges, 1) or None
        No gradient flows into it.
    values : Tensor of shape (n_atoms, d)
    topology : Topology
    epsilon : float, default=1e-6
        Keeps the mean of no neighbours at zero.

    Returns
    -------
    Tensor of shape (n_atoms, d)
    """
    return _GatedMean.apply(logits, envelope, values, epsilon, topology)


def segment_sum(x: Tensor, topology: Topology) -> Tensor:
    """Return the sum of the rows of `x`, one per edge, over the edges of each centre (no gradient)."""
    return _segment_sum(x, torch.arange(len(x), device=x.device), topology.edge_ptr)
