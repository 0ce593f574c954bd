"""Passes over edges by the package crystalssl-compiled, in the place of those of PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from crystalssl.encoders._kernels._library import VECTOR, Rows, can_compute_with, run
from crystalssl.encoders._kernels._rows import sum_groups
from crystalssl.encoders._topology import Topology

if TYPE_CHECKING:
    from crystalssl.encoders._angles import AngularSums, BondAngles
    from crystalssl.encoders._gated import EdgeGatedConv
    from crystalssl.encoders._kernels._attention import AtomLengthPairs

__all__ = ["compiled_edge_gated_conv", "compiled_pair_vectors", "compiled_statistics", "compiled_weighted_sum"]


def compiled_edge_gated_conv(
    layer: EdgeGatedConv,
    x: Tensor,
    edges: Tensor,
    topology: Topology,
    envelope: Tensor | None,
    angular: tuple[AngularSums, BondAngles] | None,
) -> tuple[Tensor, Tensor]:
    """Return what :class:`~crystalssl.encoders._gated.EdgeGatedConv` does; no gradient flows into the geometry."""
    of_nodes, of_angles, dim = x, None, edges.shape[1]
    if angular is not None:
        sums, angles = angular
        assert envelope is not None
        radial, source = sums.radial(edges), 1 + sums.source(x)
        of_bonds, power = _AngularSums.apply(radial, source, envelope / sums.typical_bonds, angles, topology)
        of_nodes, of_angles = torch.cat([x, power], dim=1), F.linear(of_bonds, layer.edge.weight[:, dim:])
    of_edges, norm = F.linear(edges, layer.edge.weight[:, :dim]), layer.edge_norm
    weights = (None, None, 0.0) if norm is None else (norm.weight, norm.bias, norm.eps)
    mean, new_edges = _GatedMean.apply(
        layer.nodes(of_nodes), of_edges, of_angles, edges, *weights, envelope, layer.epsilon, topology
    )
    return x + F.silu(layer.node_norm(mean)), edges if norm is None else new_edges


def compiled_pair_vectors(
    of_atoms: Tensor, of_lengths: Tensor, attention: Tensor, pairs: AtomLengthPairs
) -> tuple[Tensor, Tensor]:
    """Return the vectors of all pairs of atom and length, and what they score as a centre and as a neighbour."""
    return _PairVectors.apply(of_atoms, of_lengths, attention, pairs)


def compiled_weighted_sum(z: Tensor, weights: Tensor, pairs: AtomLengthPairs) -> Tensor:
    """Return the weighted sums of the vectors of neighbours, over the edges of each centre and the heads."""
    return _WeightedSum.apply(z, weights, pairs)


def compiled_statistics(
    x: Tensor, ptr: Tensor, weights: Tensor | None, log_weights: Tensor | None, names: Sequence[str]
) -> Tensor | None:
    """Return what :class:`~crystalssl.encoders._readout.Statistics` does, or None if there is no pass for that.

    No gradient flows into the weights.
    """
    first_names = ("mean", "max", "min")[: len(names)]
    if tuple(names) != first_names or x.shape[1] % VECTOR or not can_compute_with(x):
        return None
    return _Statistics.apply(x, ptr, weights, log_weights, len(names))


class _GatedMean(torch.autograd.Function):
    """Returns ``u_i + Σ_j w_ij v_j / (Σ_j w_ij + ε)`` and the new vectors of the edges.

    Logits are the sum of what nodes, edges and angles give.
    """

    @staticmethod
    def forward(ctx, nodes, of_edges, of_angles, edges, weight, bias, norm_epsilon, envelope, epsilon, topology):
        nodes, edges = nodes.contiguous(), edges.contiguous()
        logits = of_edges  # take its place: nothing else reads it
        mean, total, own_and_mean = (nodes.new_empty(len(nodes), edges.shape[1]) for _ in range(3))
        new_edges = None if weight is None else torch.empty_like(edges)
        given = nodes, envelope, of_angles, edges, weight, bias, norm_epsilon, epsilon
        found = logits, new_edges, mean, total, own_and_mean
        run("gate_forward", Rows.of(topology), edges.shape[1] // VECTOR, *given, *found)
        ctx.save_for_backward(nodes, envelope, logits, weight, bias, mean, total)
        ctx.norm_epsilon, ctx.has_angles, ctx.topology = norm_epsilon, of_angles is not None, topology
        return own_and_mean, new_edges

    @staticmethod
    @once_differentiable
    def backward(ctx, by_mean: Tensor, by_new_edges: Tensor | None):
        nodes, envelope, logits, weight, bias, mean, total = ctx.saved_tensors
        rows, dim = Rows.of(ctx.topology), logits.shape[1]
        by_mean = by_mean.contiguous()
        by_new_edges = None if weight is None or by_new_edges is None else by_new_edges.contiguous()
        by_logits, by_nodes = torch.empty_like(logits), torch.zeros_like(nodes)
        by_norm = nodes.new_empty(len(rows.parts) - 1, 2, dim)
        given = nodes, envelope, logits, weight, bias, ctx.norm_epsilon, mean, total, by_mean, by_new_edges
        run("gate_backward", rows, dim // VECTOR, *given, by_logits, by_nodes, by_norm)
        by_weight, by_bias = (None, None) if weight is None else by_norm.sum(dim=0)
        by_angles = by_logits if ctx.has_angles else None
        return by_nodes, by_logits, by_angles, by_new_edges, by_weight, by_bias, None, None, None, None


class _AngularSums(torch.autograd.Function):
    """Returns the sums of each edge and the power spectrum of each atom."""

    @staticmethod
    def forward(ctx, radial, source, envelope, angles, topology):
        radial, source = radial.contiguous(), source.contiguous()
        sizes, channels = (radial.shape[1], angles.l_max), radial.shape[1]
        given = radial, source, envelope, angles.harmonics, angles.mean_harmonics
        moments = radial.new_empty(len(source), angles.harmonics.shape[1], channels)
        sums, power = (x.new_empty(len(x), angles.l_max * channels) for x in (radial, source))
        run("angles_forward", Rows.of(topology), *sizes, *given, moments, sums, power)
        ctx.save_for_backward(*given, moments)
        ctx.sizes, ctx.topology = sizes, topology
        return sums, power

    @staticmethod
    @once_differentiable
    def backward(ctx, by_sums: Tensor, by_power: Tensor):
        radial, source, *others = ctx.saved_tensors
        by_radial, by_source = torch.empty_like(radial), torch.zeros_like(source)
        given = radial, source, *others, by_sums.contiguous(), by_power.contiguous()
        run("angles_backward", Rows.of(ctx.topology), *ctx.sizes, *given, by_radial, by_source)
        return by_radial, by_source, None, None, None


class _Statistics(torch.autograd.Function):
    """Returns the first `n_statistics` of mean, maximum and minimum of groups of rows."""

    @staticmethod
    def forward(ctx, x, ptr, weights, log_weights, n_statistics):
        x, rows = x.contiguous(), Rows(torch.arange(len(ptr)), ptr)
        sizes = x.shape[1], n_statistics
        pooled = x.new_empty(len(ptr) - 1, n_statistics * x.shape[1])
        run("pool_forward", rows, *sizes, x, weights, log_weights, pooled)
        ctx.save_for_backward(x, weights, log_weights, pooled)
        ctx.rows, ctx.sizes = rows, sizes
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx, by_pooled: Tensor):
        x, *others = ctx.saved_tensors
        by_x = torch.empty_like(x)
        run("pool_backward", ctx.rows, *ctx.sizes, x, *others, by_pooled.contiguous(), by_x)
        return by_x, None, None, None, None


class _PairVectors(torch.autograd.Function):
    """Returns ``z = softplus(of_atom + of_length)`` and the products of its heads with two vectors each."""

    @staticmethod
    def forward(ctx, of_atoms, of_lengths, attention, pairs):
        rows, n_heads = _pairs_of_atoms(pairs), len(attention)
        of_atoms, of_lengths, attention = of_atoms.contiguous(), of_lengths.contiguous(), attention.contiguous()
        z = of_atoms.new_empty(len(pairs.atom), of_atoms.shape[1])
        scores = z.new_empty(len(z), 2 * n_heads)
        sizes = z.shape[1] // n_heads // VECTOR, n_heads
        run("pairs_forward", rows, *sizes, of_atoms, of_lengths, attention, z, scores)
        ctx.save_for_backward(z, attention)
        ctx.pairs, ctx.sizes = pairs, sizes
        return z, scores

    @staticmethod
    @once_differentiable
    def backward(ctx, by_z: Tensor, by_scores: Tensor):
        z, attention = ctx.saved_tensors
        rows = _pairs_of_atoms(ctx.pairs)
        by_sums, by_atoms = torch.empty_like(z), z.new_zeros(len(rows.ptr) - 1, z.shape[1])
        by_attention = z.new_zeros(len(rows.parts) - 1, *attention.shape)
        given = attention, z, by_z.contiguous(), by_scores.contiguous()
        run("pairs_backward", rows, *ctx.sizes, *given, by_sums, by_atoms, by_attention)
        return by_atoms, sum_groups(by_sums, *ctx.pairs.by_length), by_attention.sum(dim=0), None


class _WeightedSum(torch.autograd.Function):
    """Returns ``Σ_j Σ_h w_ijh z_jh``."""

    @staticmethod
    def forward(ctx, z, weights, pairs):
        z, weights, rows = z.contiguous(), weights.contiguous(), _pairs_of_neighbors(pairs)
        sums, sizes = z.new_empty(len(rows.ptr) - 1, z.shape[2]), (z.shape[2] // VECTOR, z.shape[1])
        run("heads_forward", rows, *sizes, z, weights, sums)
        ctx.save_for_backward(z, weights)
        ctx.rows, ctx.sizes = rows, sizes
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx, by_sums: Tensor):
        z, weights = ctx.saved_tensors
        by_z, by_weights = torch.zeros_like(z), torch.empty_like(weights)
        run("heads_backward", ctx.rows, *ctx.sizes, z, weights, by_sums.contiguous(), by_z, by_weights)
        return by_z, by_weights, None


def _pairs_of_atoms(pairs: AtomLengthPairs) -> Rows:
    return Rows(pairs.topology.parts, pairs.atom_ptr, pairs.length)


def _pairs_of_neighbors(pairs: AtomLengthPairs) -> Rows:
    return Rows(pairs.topology.parts, pairs.topology.edge_ptr, pairs.of_neighbor)
