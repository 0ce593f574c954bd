"""The layers of MEGNet's updates."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from crystalssl.encoders._kernels._rows import pair_sum, pair_sum_backward, row_chunks, softplus_
from crystalssl.encoders._topology import Topology

if TYPE_CHECKING:
    from crystalssl.encoders.megnet import MLP

__all__ = ["mlp", "mlp_of_edges"]


def mlp(layer: MLP, x: Tensor) -> Tensor:
    """Return what :class:`~crystalssl.encoders.megnet.MLP` does."""
    return _RowwiseMLP.apply(x, None, None, *layer.parameters())


def mlp_of_edges(layer: MLP, x: Tensor, edges: Tensor, state: Tensor, crystal: Tensor, topology: Topology) -> Tensor:
    """Return what :meth:`MLP.of_edges` does; the first layer acts on atoms and crystals once, not once per edge."""
    weight, bias, *rest = layer.parameters()
    of_center, of_neighbor, of_edge, of_state = weight.chunk(4, dim=1)
    shift = F.linear(state, of_state, bias).index_select(0, crystal)
    table = torch.cat([F.linear(x, of_center) + shift, F.linear(x, of_neighbor)])
    return _RowwiseMLP.apply(edges, table, topology, of_edge, None, *rest)


class _RowwiseMLP(torch.autograd.Function):
    """All layers of some rows at a time, few enough to stay in the processor's cache.

    Layer by layer, arrays of one row per edge travel between memory and cache for every elementary operation, which
    took more time than the matrix products.
    """

    @staticmethod
    def forward(ctx, x, table, topology, *parameters):
        weights, biases = parameters[::2], parameters[1::2]
        result = x.new_empty(len(x), len(weights[-1]))
        hidden = []
        for rows in row_chunks(x):
            y = x[rows]
            for weight, bias in zip(weights, biases, strict=True):
                if bias is None:  # the first layer's is part of the table
                    y = pair_sum(table, topology.pairs[rows]).addmm_(y, weight.t())
                else:
                    y = torch.addmm(bias, y, weight.t(), out=result[rows] if weight is weights[-1] else None)
                hidden.append(softplus_(y).sub_(math.log(2)))
            hidden.pop()
        ctx.save_for_backward(x, result, *weights, *hidden)
        ctx.n_layers, ctx.topology = len(weights), topology
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, result, *saved = ctx.saved_tensors
        weights, hidden = saved[: ctx.n_layers], iter(saved[ctx.n_layers :])
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        grad_pairs = None if ctx.topology is None else x.new_empty(len(x), len(weights[0]))
        grad_weights = [torch.zeros_like(weight) for weight in weights]
        grad_biases = [weight.new_zeros(len(weight)) for weight in weights]
        for rows in row_chunks(x):
            outputs = [x[rows], *(next(hidden) for _ in weights[1:]), result[rows]]
            of_rows = grad[rows]
            for k in reversed(range(len(weights))):
                # The derivative is the sigmoid, 1 - exp(-softplus), so that what went in need not be kept.
                out = grad_pairs[rows] if k == 0 and grad_pairs is not None else None
                slope = torch.neg(outputs[k + 1], out=out).exp_()
                of_rows = torch.addcmul(of_rows, of_rows, slope, value=-0.5, out=slope)
                grad_weights[k].addmm_(of_rows.t(), outputs[k])
                grad_biases[k].add_(of_rows.sum(dim=0))
                if k > 0:
                    of_rows = of_rows @ weights[k]
            if grad_x is not None:
                torch.mm(of_rows, weights[0], out=grad_x[rows])
        of_parameters: list[Tensor | None] = [p for pair in zip(grad_weights, grad_biases, strict=True) for p in pair]
        if grad_pairs is None:
            return grad_x, None, None, *of_parameters
        of_parameters[1] = None
        return grad_x, pair_sum_backward(grad_pairs, ctx.topology), None, *of_parameters
