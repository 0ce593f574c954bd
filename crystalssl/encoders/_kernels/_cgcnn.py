"""The convolution of CGCNN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from crystalssl.encoders._kernels._rows import pair_sum, pair_sum_backward, softplus_, sum_segments
from crystalssl.encoders._topology import Topology

if TYPE_CHECKING:
    from crystalssl.encoders.cgcnn import CGConv

__all__ = ["cg_conv"]


def cg_conv(layer: CGConv, x: Tensor, edges: Tensor, topology: Topology) -> Tensor:
    """Return what :class:`~crystalssl.encoders.cgcnn.CGConv` does; no gradient flows into the edges.

    A linear layer on the concatenation ``[x_i, x_j, e_ij]`` is the sum of three. The two that act on atoms are done
    once per atom, not once per edge.
    """
    gate = layer.gate_norm(_linear_of_pairs(layer.gate, x, edges, topology))
    core = layer.core_norm(_linear_of_pairs(layer.core, x, edges, topology))
    return F.softplus(x + layer.norm(_GatedSum.apply(gate, core, topology)))


def _linear_of_pairs(linear: nn.Linear, x: Tensor, edges: Tensor, topology: Topology) -> Tensor:
    center, neighbor, edge = linear.weight.split([x.shape[1], x.shape[1], edges.shape[1]], dim=1)
    table = torch.cat([F.linear(x, center, linear.bias), F.linear(x, neighbor)])
    return _PairLinear.apply(table, edges, edge, topology)


class _PairLinear(torch.autograd.Function):
    """``table[i] + table[n + j] + edges @ weight.T`` for every edge (i, j) between n atoms."""

    @staticmethod
    def forward(ctx, table: Tensor, edges: Tensor, weight: Tensor, topology: Topology) -> Tensor:
        ctx.save_for_backward(edges)
        ctx.topology = topology
        # The product accumulates onto the gathered rows, so that no second array of that size is made.
        return pair_sum(table, topology.pairs).addmm_(edges, weight.t())

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (edges,) = ctx.saved_tensors
        return pair_sum_backward(grad, ctx.topology), None, grad.t() @ edges, None


class _GatedSum(torch.autograd.Function):
    """``Σ_j sigmoid(gate) softplus(core)`` over the edges of each centre."""

    @staticmethod
    def forward(ctx, gate: Tensor, core: Tensor, topology: Topology) -> Tensor:
        gate, core = torch.sigmoid(gate), softplus_(core.clone())
        ctx.save_for_backward(gate, core)
        ctx.topology = topology
        return sum_segments(gate * core, topology.edge_ptr)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        gate, core = ctx.saved_tensors
        grad = grad.index_select(0, ctx.topology.centers).mul_(gate)
        # The derivative of softplus is the sigmoid, 1 - exp(-softplus).
        grad_core = torch.neg(core).exp_()
        torch.addcmul(grad, grad, grad_core, value=-1, out=grad_core)
        grad.mul_(core)
        return grad.addcmul_(grad, gate, value=-1), grad_core, None
