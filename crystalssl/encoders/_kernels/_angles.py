"""The sums over angles of GatedGCN, by moments of each atom's neighbourhood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crystalssl.encoders._kernels._rows import sum_groups
from crystalssl.encoders._topology import Topology

if TYPE_CHECKING:
    from crystalssl.encoders._angles import AngularSums, BondAngles

__all__ = ["angular_moments", "power_spectrum"]


def angular_moments(
    layer: AngularSums, x: Tensor, edges: Tensor, topology: Topology, envelope: Tensor, angles: BondAngles
) -> Tensor:
    """Return ``A_i^lm = Σ_k w_ik Y_lm(r_ik)`` for l = 1 … l_max, of shape (n_atoms, l_max (l_max + 2), channels).

    The sums of an edge are ``s_ij^l = Σ_m Y_lm(r_ij) A_i^lm``: they are never made, for what reads them is linear. No
    gradient flows into the geometry.
    """
    radial, source = layer.radial(edges), 1 + layer.source(x)
    return _Moments.apply(radial, source, envelope / layer.typical_bonds, angles, topology)


def power_spectrum(moments: Tensor, angles: BondAngles) -> Tensor:
    """Return ``Σ_m (A_i^lm)²``, of shape (n_atoms, l_max * channels)."""
    return _PowerSpectrum.apply(moments, angles)


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(ctx, radial, source, envelope, angles, topology):
        radial = radial * envelope
        source = source.index_select(0, topology.neighbors)
        weights = radial * source
        moments = radial.new_empty(len(topology.edge_ptr) - 1, len(angles.degrees), radial.shape[1])
        parts = *map(topology.edges_by_block, (angles.mean_harmonics, weights)), topology.atoms_by_block(moments)
        for harmonics, of_bonds, of_atoms in zip(*parts, strict=True):
            torch.bmm(harmonics.transpose(1, 2), of_bonds, out=of_atoms)
        ctx.save_for_backward(radial, source, envelope)
        ctx.angles, ctx.topology = angles, topology
        return moments

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        radial, source, envelope = ctx.saved_tensors
        topology = ctx.topology
        by_weight = torch.empty_like(radial)
        parts = *map(topology.edges_by_block, (ctx.angles.mean_harmonics, by_weight)), topology.atoms_by_block(grad)
        for harmonics, of_bonds, of_atoms in zip(*parts, strict=True):
            torch.bmm(harmonics, of_atoms, out=of_bonds)
        by_source = sum_groups(by_weight * radial, topology.neighbor_order, topology.neighbor_ptr)
        return by_weight.mul_(source).mul_(envelope), by_source, None, None, None


class _PowerSpectrum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, moments, angles):
        ctx.save_for_backward(moments)
        ctx.angles = angles
        squares = moments.square().split([2 * degree + 1 for degree in range(1, angles.l_max + 1)], dim=1)
        return torch.cat([part.sum(dim=1) for part in squares], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (moments,) = ctx.saved_tensors
        by_degree = (2 * grad).view(len(grad), ctx.angles.l_max, moments.shape[2])
        return by_degree.index_select(1, ctx.angles.degrees).mul_(moments), None
