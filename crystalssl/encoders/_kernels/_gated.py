"""The edge-gated convolution of GatedGCN and ALIGNN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from crystalssl.encoders._kernels._rows import pair_sum, pair_sum_backward, sum_groups, sum_segments
from crystalssl.encoders._layers import Topology, beside

if TYPE_CHECKING:
    from crystalssl.encoders._gated import EdgeGatedConv

__all__ = ["edge_gated_conv"]


def edge_gated_conv(
    layer: EdgeGatedConv,
    x: Tensor,
    edges: Tensor,
    topology: Topology,
    envelope: Tensor | None = None,
    extra: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return what :class:`~crystalssl.encoders._gated.EdgeGatedConv` does; no gradient flows into the envelope."""
    messages, logits = _GatedMean.apply(
        layer.nodes(beside(x, extra, 0)),
        edges,
        None if extra is None else extra[1],
        layer.edge.weight,
        envelope,
        layer.epsilon,
        topology,
    )
    x = x + F.silu(layer.node_norm(messages))
    return x, edges if layer.edge_norm is None else edges + F.silu(layer.edge_norm(logits))


class _GatedMean(torch.autograd.Function):
    """Returns ``u_i + Σ_j w_ij v_j / (Σ_j w_ij + ε)`` and the logits; the weights w are computed anew when needed."""

    @staticmethod
    def forward(ctx, projected, edges, extra, weight, envelope, epsilon, topology):
        of_center, of_neighbor, values, own = projected.chunk(4, dim=1)
        logits = pair_sum(torch.cat([of_center, of_neighbor]), topology.pairs)
        parts = [edges] if extra is None else [edges, extra]
        for part, columns in zip(parts, _split(weight, parts), strict=True):
            logits.addmm_(part, columns.t())
        weights = _weights(logits, envelope)
        total = sum_segments(weights, topology.edge_ptr).add_(epsilon)
        weights.mul_(values.index_select(0, topology.neighbors))
        mean = sum_segments(weights, topology.edge_ptr).div_(total)
        ctx.save_for_backward(edges, extra, weight, envelope, values, total, mean, logits)
        ctx.topology = topology
        return own + mean, logits

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, grad_logits: Tensor):
        edges, extra, weight, envelope, values, total, mean, logits = ctx.saved_tensors
        topology = ctx.topology
        # Of Σ w v / (Σ w + ε): by w it is (v - mean) / (Σ w + ε), by v it is w / (Σ w + ε).
        by_value = _weights(logits, envelope).mul_((grad / total).index_select(0, topology.centers))
        by_logit = values.index_select(0, topology.neighbors)
        scratch = mean.index_select(0, topology.centers)
        by_logit.sub_(scratch).mul_(by_value)
        # The derivative of a weight by its logit is weight * (1 - gate).
        by_logit.addcmul_(by_logit, torch.sigmoid(logits, out=scratch), value=-1).add_(grad_logits)
        by_values = sum_groups(by_value, topology.neighbor_order, topology.neighbor_ptr)
        by_center, by_neighbor = pair_sum_backward(by_logit, topology).chunk(2)
        grad_projected = torch.cat([by_center, by_neighbor, by_values, grad], dim=1)
        parts = [edges] if extra is None else [edges, extra]
        by_parts = [by_logit @ columns for columns in _split(weight, parts)]
        by_weight = torch.cat([by_logit.t() @ part for part in parts], dim=1)
        return grad_projected, by_parts[0], by_parts[1] if len(parts) == 2 else None, by_weight, None, None, None


def _split(weight: Tensor, parts: list[Tensor]) -> tuple[Tensor, ...]:
    """Return the columns of a weight that each part of the rows meets."""
    return weight.split([part.shape[1] for part in parts], dim=1)


def _weights(logits: Tensor, envelope: Tensor | None) -> Tensor:
    gates = torch.sigmoid(logits)
    return gates if envelope is None else gates.mul_(envelope)
