"""The sums over angles of GatedGCN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crystalssl.encoders._kernels._rows import sum_groups, sum_segments
from crystalssl.encoders._layers import Topology

if TYPE_CHECKING:
    from crystalssl.encoders._angles import AngularSums, BondAngles

__all__ = ["angular_sums"]


def angular_sums(
    layer: AngularSums, x: Tensor, edges: Tensor, topology: Topology, envelope: Tensor, angles: BondAngles
) -> tuple[Tensor, Tensor]:
    """Return what :class:`~crystalssl.encoders._angles.AngularSums` does; no gradient flows into the geometry."""
    envelope = envelope / layer.typical_bonds
    return _AngularSums.apply(layer.radial(edges), 1 + layer.source(x), envelope, angles, topology)


class _AngularSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, radial, source, envelope, angles, topology):
        radial = radial * envelope
        source = source.index_select(0, topology.neighbors)
        weights = radial * source
        sums = angles.sum(weights)
        power = sum_segments(_scaled(sums, weights), topology.edge_ptr)
        ctx.save_for_backward(radial, source, envelope, weights, sums)
        ctx.angles, ctx.topology = angles, topology
        return power, sums

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_power: Tensor, grad_sums: Tensor):
        radial, source, envelope, weights, sums = ctx.saved_tensors
        angles, topology = ctx.angles, ctx.topology
        grad_power = grad_power.index_select(0, topology.centers)
        grad_sums = _scaled(grad_power, weights).add_(grad_sums)
        n_edges, channels = weights.shape
        by_weight = grad_power.mul_(sums).view(n_edges, angles.l_max, channels).sum(dim=1)
        by_weight += angles.sum_transposed(grad_sums)
        by_source = sum_groups(by_weight * radial, topology.neighbor_order, topology.neighbor_ptr)
        return by_weight.mul_(source).mul_(envelope), by_source, None, None, None


def _scaled(rows: Tensor, weights: Tensor) -> Tensor:
    """Return rows of (l, channel) times weights of channels."""
    n_edges, channels = weights.shape
    return (rows.view(n_edges, rows.shape[1] // channels, channels) * weights[:, None]).view(rows.shape)
