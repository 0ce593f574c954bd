"""Passes over edges by the package crystalssl-compiled, where it is installed.

On a CPU it does all that is done with an edge between two matrix products at once. Its sources are in the folder
``compiled`` of the repository.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from crystalssl.encoders._topology import Topology

if TYPE_CHECKING:
    from crystalssl.encoders._angles import AngularSums, BondAngles
    from crystalssl.encoders._gated import EdgeGatedConv

__all__ = ["compiled_edge_gated_conv", "compiled_serves", "compiled_statistics"]

_INTERFACE = 1
"""Of the package whose functions are called here."""
_VECTOR = 16
"""Rows are multiples of it, so that any processor computes with whole registers."""
_DIMS = (32, 64, 128, 256)
"""Widths of edges that there are loops for."""
_L_MAX = 8


def crystalssl_compiled() -> Any:
    """Return the package, or None if it is not installed."""
    return importlib.import_module("crystalssl_compiled") if importlib.util.find_spec("crystalssl_compiled") else None


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the library for this processor, or None if there is none with the functions that are called here."""
    package = crystalssl_compiled()
    if package is None or package.INTERFACE != _INTERFACE:
        return None
    try:
        return package.library(torch.backends.cpu.get_cpu_capability())
    except (ImportError, OSError) as error:
        warnings.warn(
            f"crystalssl-compiled cannot be loaded ({error}); install it again, or uninstall it. All is computed, more "
            "slowly, without it",
            stacklevel=2,
        )
        return None


def compiled_serves(x: Tensor, channels: int = _VECTOR, l_max: int = 0) -> bool:
    """Return whether there are passes for an edge-gated convolution of `x`, with these sums over angles if any."""
    return x.shape[1] in _DIMS and channels % _VECTOR == 0 and l_max <= _L_MAX and _can_compute_with(x)


def _can_compute_with(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and library() is not None


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


def compiled_statistics(
    x: Tensor, ptr: Tensor, weights: Tensor | None, log_weights: Tensor | None, names: Sequence[str]
) -> Tensor | None:
    """Return what :class:`~crystalssl.encoders._readout.Statistics` does, or None if there is no pass for that.

    No gradient flows into the weights.
    """
    first_names = ("mean", "max", "min")[: len(names)]
    if tuple(names) != first_names or x.shape[1] % _VECTOR or not _can_compute_with(x):
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
        _run("gate_forward", _Rows.of(topology), edges.shape[1] // _VECTOR, *given, *found)
        ctx.save_for_backward(nodes, envelope, logits, weight, bias, mean, total)
        ctx.norm_epsilon, ctx.has_angles, ctx.topology = norm_epsilon, of_angles is not None, topology
        return own_and_mean, new_edges

    @staticmethod
    @once_differentiable
    def backward(ctx, by_mean: Tensor, by_new_edges: Tensor | None):
        nodes, envelope, logits, weight, bias, mean, total = ctx.saved_tensors
        rows, dim = _Rows.of(ctx.topology), logits.shape[1]
        by_mean = by_mean.contiguous()
        by_new_edges = None if weight is None or by_new_edges is None else by_new_edges.contiguous()
        by_logits, by_nodes = torch.empty_like(logits), torch.zeros_like(nodes)
        by_norm = nodes.new_empty(len(rows.parts) - 1, 2, dim)
        given = nodes, envelope, logits, weight, bias, ctx.norm_epsilon, mean, total, by_mean, by_new_edges
        _run("gate_backward", rows, dim // _VECTOR, *given, by_logits, by_nodes, by_norm)
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
        _run("angles_forward", _Rows.of(topology), *sizes, *given, moments, sums, power)
        ctx.save_for_backward(*given, moments)
        ctx.sizes, ctx.topology = sizes, topology
        return sums, power

    @staticmethod
    @once_differentiable
    def backward(ctx, by_sums: Tensor, by_power: Tensor):
        radial, source, *others = ctx.saved_tensors
        by_radial, by_source = torch.empty_like(radial), torch.zeros_like(source)
        given = radial, source, *others, by_sums.contiguous(), by_power.contiguous()
        _run("angles_backward", _Rows.of(ctx.topology), *ctx.sizes, *given, by_radial, by_source)
        return by_radial, by_source, None, None, None


class _Statistics(torch.autograd.Function):
    """Returns the first `n_statistics` of mean, maximum and minimum of groups of rows."""

    @staticmethod
    def forward(ctx, x, ptr, weights, log_weights, n_statistics):
        x, rows = x.contiguous(), _Rows(torch.arange(len(ptr)), ptr)
        sizes = x.shape[1], n_statistics
        pooled = x.new_empty(len(ptr) - 1, n_statistics * x.shape[1])
        _run("pool_forward", rows, *sizes, x, weights, log_weights, pooled)
        ctx.save_for_backward(x, weights, log_weights, pooled)
        ctx.rows, ctx.sizes = rows, sizes
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx, by_pooled: Tensor):
        x, *others = ctx.saved_tensors
        by_x = torch.empty_like(x)
        _run("pool_backward", ctx.rows, *ctx.sizes, x, *others, by_pooled.contiguous(), by_x)
        return by_x, None, None, None, None


class _Rows(NamedTuple):
    """Groups of rows, and parts of all groups between which nothing is shared."""

    parts: Tensor
    ptr: Tensor
    neighbors: Tensor | None = None

    @classmethod
    def of(cls, topology: Topology) -> _Rows:
        """Return the edges of each atom."""
        return cls(topology.parts, topology.edge_ptr, topology.neighbors)


class _RowsOfThread(ctypes.Structure):
    """``struct Graph`` of the library: the pointers of `_Rows`, and which parts a thread is to do."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _Rows._fields),
        *((name, ctypes.c_int64) for name in ("first", "last")),
    )


def _run(name: str, rows: _Rows, *arguments: Any) -> None:
    """Call a function of the library for all parts, on as many threads as torch computes on."""
    function = getattr(library(), f"crystalssl_{name}")
    pointers, values = [_as_c(tensor) for tensor in rows], [_as_c(argument) for argument in arguments]
    n_parts = len(rows.parts) - 1
    n_threads = min(torch.get_num_threads(), n_parts)

    def call(thread: int) -> None:
        first, last = n_parts * thread // n_threads, n_parts * (thread + 1) // n_threads
        function(ctypes.byref(_RowsOfThread(*pointers, first, last)), *values)

    others = [_pool(os.getpid(), torch.get_num_threads()).submit(call, thread) for thread in range(1, n_threads)]
    if n_threads:
        call(0)
    for other in others:
        other.result()


def _as_c(value: Tensor | int | float | None) -> Any:
    if isinstance(value, Tensor):
        assert value.is_contiguous()
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_float(value) if isinstance(value, float) else value if value is None else ctypes.c_int64(value)


@functools.lru_cache(maxsize=1)
def _pool(process: int, n_threads: int) -> ThreadPoolExecutor:
    """Return threads of a process: those of its parent are not there after a fork."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="crystalssl")
