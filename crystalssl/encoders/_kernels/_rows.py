"""Sums over groups of rows, and what is done on a few rows at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crystalssl.encoders._topology import Topology

__all__ = ["pair_sum", "pair_sum_backward", "row_chunks", "softplus_", "sum_groups", "sum_segments"]

_CHUNK = 1024
"""Rows of which a few arrays stay in the cache."""


def row_chunks(x: Tensor) -> list[slice]:
    """Cut rows that have nothing to do with each other into chunks; on a GPU into one."""
    size = _CHUNK if x.device.type == "cpu" else max(len(x), 1)
    return [slice(start, start + size) for start in range(0, len(x), size)]


def sum_groups(x: Tensor, order: Tensor, ptr: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the sums of groups of rows, each a part of `order` that begins at its entry of `ptr`.

    With `weights`, one per entry of `order`, the sums are weighted.
    """
    return F.embedding_bag(order, x, ptr, mode="sum", per_sample_weights=weights, include_last_offset=True)


def sum_segments(x: Tensor, ptr: Tensor) -> Tensor:
    """Return the sums of groups of rows that follow each other."""
    return sum_groups(x, torch.arange(len(x), device=x.device), ptr)


def pair_sum(table: Tensor, pairs: Tensor) -> Tensor:
    """Return ``table[i] + table[j]`` for every pair (i, j), rows of `pairs`."""
    return F.embedding_bag(pairs, table, mode="sum")


def pair_sum_backward(grad: Tensor, topology: Topology) -> Tensor:
    """Return the gradient of the table of :func:`pair_sum` over all pairs of a topology."""
    by_neighbor = sum_groups(grad, topology.neighbor_order, topology.neighbor_ptr)
    return torch.cat([sum_segments(grad, topology.edge_ptr), by_neighbor])


def softplus_(x: Tensor) -> Tensor:
    """Return ``log(exp(x) + 1)`` in the place of `x`; its derivative is ``1 - exp(-softplus)``.

    softplus(x) = x - log(sigmoid(x)) takes a third of the time of softplus itself. The bound keeps the logarithm finite
    where the sigmoid would underflow; softplus is zero there.
    """
    return x.clamp_(min=-80).sub_(torch.sigmoid(x).log_())
