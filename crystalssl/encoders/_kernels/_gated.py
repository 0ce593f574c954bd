"""The edge-gated convolution of GatedGCN and ALIGNN."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from crystalssl.encoders._kernels._angles import angular_moments, power_spectrum
from crystalssl.encoders._kernels._compiled import compiled_edge_gated_conv
from crystalssl.encoders._kernels._library import compiled_serves
from crystalssl.encoders._kernels._rows import pair_sum, pair_sum_backward, sum_groups, sum_segments
from crystalssl.encoders._topology import Topology

if TYPE_CHECKING:
    from crystalssl.encoders._angles import AngularSums, BondAngles
    from crystalssl.encoders._gated import EdgeGatedConv

__all__ = ["edge_gated_conv"]


def edge_gated_conv(
    layer: EdgeGatedConv,
    x: Tensor,
    edges: Tensor,
    topology: Topology,
    envelope: Tensor | None = None,
    angular: tuple[AngularSums, BondAngles] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return what :class:`~crystalssl.encoders._gated.EdgeGatedConv` does.

    No gradient flows into the envelope and the geometry. What C makes of the sums over angles is a function on the
    sphere around each atom, which its bonds evaluate: ``Σ_lm c_i^lm Y_lm(r_ij)`` with ``c_i^lm = C^l A_i^lm``.
    """
    angular_sizes = () if angular is None else (angular[0].radial.out_features, angular[1].l_max)
    if topology.crystal_ptr is not None and compiled_serves(x, *angular_sizes):
        return compiled_edge_gated_conv(layer, x, edges, topology, envelope, angular)
    dim = edges.shape[1]
    of_nodes, functions, angles = x, None, None
    if angular is not None:
        sums, angles = angular
        moments = angular_moments(sums, x, edges, topology, cast(Tensor, envelope), angles)
        of_nodes = torch.cat([x, power_spectrum(moments, angles)], dim=1)
        of_degrees = layer.edge.weight[:, dim:].view(-1, angles.l_max, moments.shape[2]).permute(1, 2, 0)
        of_moments = of_degrees.index_select(0, angles.degrees)
        functions = torch.bmm(moments.transpose(0, 1), of_moments)  # (l_max (l_max + 2), n_atoms, hidden_dim)
    mean, logits = _GatedMean.apply(
        layer.nodes(of_nodes), edges, layer.edge.weight[:, :dim], functions, envelope, layer.epsilon, topology, angles
    )
    x = x + F.silu(layer.node_norm(mean))
    return x, edges if layer.edge_norm is None else edges + F.silu(layer.edge_norm(logits))


class _GatedMean(torch.autograd.Function):
    """Returns ``u_i + Σ_j w_ij v_j / (Σ_j w_ij + ε)`` and the logits."""

    @staticmethod
    def forward(ctx, projected, edges, weight, functions, envelope, epsilon, topology, angles):
        of_center, of_neighbor, values, own = projected.chunk(4, dim=1)
        logits = pair_sum(torch.cat([of_center, of_neighbor]), topology.pairs)
        if functions is not None:
            parts = *map(topology.edges_by_block, (angles.harmonics, logits)), topology.atoms_by_block(functions, dim=1)
            for harmonics, of_bonds, of_atoms in zip(*parts, strict=True):
                of_bonds.baddbmm_(harmonics, of_atoms.transpose(0, 1))
        logits.addmm_(edges, weight.t())
        gates = torch.sigmoid(logits)
        weights = gates.clone() if envelope is None else gates * envelope
        total = sum_segments(weights, topology.edge_ptr).add_(epsilon)
        weights.mul_(values.index_select(0, topology.neighbors))
        mean = sum_segments(weights, topology.edge_ptr).div_(total)
        ctx.save_for_backward(edges, weight, envelope, values, total, mean, gates)
        ctx.topology, ctx.angles = topology, angles
        return own + mean, logits

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor, grad_logits: Tensor):
        edges, weight, envelope, values, total, mean, gates = ctx.saved_tensors
        topology, angles = ctx.topology, ctx.angles
        # Of Σ w v / (Σ w + ε): by w it is (v - mean) / (Σ w + ε), by v it is w / (Σ w + ε).
        by_value = (grad / total).index_select(0, topology.centers).mul_(gates)
        if envelope is not None:
            by_value.mul_(envelope)
        by_logit = values.index_select(0, topology.neighbors)
        by_logit.sub_(mean.index_select(0, topology.centers)).mul_(by_value)
        # The derivative of a weight by its logit is weight * (1 - gate).
        by_logit.addcmul_(by_logit, gates, value=-1).add_(grad_logits)
        by_values = sum_groups(by_value, topology.neighbor_order, topology.neighbor_ptr)
        by_center, by_neighbor = pair_sum_backward(by_logit, topology).chunk(2)
        by_functions = None
        if angles is not None:
            by_functions = grad.new_empty(len(grad), len(angles.degrees), grad.shape[1])
            parts = *map(topology.edges_by_block, (angles.harmonics, by_logit)), topology.atoms_by_block(by_functions)
            for harmonics, of_bonds, of_atoms in zip(*parts, strict=True):
                torch.bmm(harmonics.transpose(1, 2), of_bonds, out=of_atoms)
            by_functions = by_functions.transpose(0, 1)
        by_projected = torch.cat([by_center, by_neighbor, by_values, grad], dim=1)
        return by_projected, by_logit @ weight, by_logit.t() @ edges, by_functions, None, None, None, None
