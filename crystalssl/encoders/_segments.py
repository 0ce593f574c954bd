"""Sums, statistics and attention over rows that belong together, such as the atoms of a crystal.

Written for speed as `_kernels.py`, which says how.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["row_chunks", "segment_attention", "segment_statistics", "sum_groups", "sum_segments"]

_CHUNK = 1024
"""Rows of which a few arrays stay in the cache."""
_PARTIAL_SUM = 64
"""Rows that are added up one by one."""


def row_chunks(x: Tensor) -> list[slice]:
    """Cut rows that have nothing to do with each other into chunks; on a GPU into one."""
    size = _CHUNK if x.device.type == "cpu" else max(len(x), 1)
    return [slice(start, start + size) for start in range(0, len(x), size)]


def sum_groups(x: Tensor, order: Tensor, ptr: Tensor) -> Tensor:
    """Return the sums of groups of rows, each a part of `order` that begins at its entry of `ptr` (no gradient)."""
    return F.embedding_bag(order, x, ptr, mode="sum", include_last_offset=True)


def sum_segments(x: Tensor, ptr: Tensor) -> Tensor:
    """Return the sums of groups of rows that follow each other (no gradient)."""
    return sum_groups(x, torch.arange(len(x), device=x.device), ptr)


class _SegmentStatistics(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, index, ptr, names):
        shape = len(ptr) - 1, x.shape[1]
        results = []
        for name in names:
            if name == "mean":
                # Of many rows in two steps, since the rounding errors of a running sum grow with its length.
                cuts = torch.cat([ptr, torch.arange(0, len(x), _PARTIAL_SUM, device=x.device)]).unique()
                total = sum_segments(sum_segments(x, cuts), torch.searchsorted(cuts, ptr))
                results.append(total.div_(_sizes(ptr)))
            else:
                rows = index[:, None].expand_as(x)
                results.append(x.new_zeros(shape).scatter_reduce_(0, rows, x, f"a{name}", include_self=False))
        ctx.save_for_backward(x, index, ptr, *results)
        ctx.names = names
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        x, index, ptr, *results = ctx.saved_tensors
        grad_x = torch.zeros_like(x)
        for name, result, grad in zip(ctx.names, results, grads, strict=True):
            if name == "mean":
                grad_x += (grad / _sizes(ptr)).index_select(0, index)
            else:  # rows that share an extreme share its gradient
                extreme = (x == result.index_select(0, index)).to(x.dtype)
                share = grad / sum_segments(extreme, ptr)
                grad_x.addcmul_(extreme, share.index_select(0, index))
        return grad_x, None, None, None


def _sizes(ptr: Tensor) -> Tensor:
    return ptr.diff().clamp_(min=1)[:, None]


def segment_statistics(x: Tensor, index: Tensor, ptr: Tensor, names: Sequence[str]) -> tuple[Tensor, ...]:
    """Return statistics of segments of rows; all are zero for segments without rows.

    Parameters
    ----------
    x : Tensor of shape (n_rows, d)
    index : Tensor of shape (n_rows,)
        The segment of each row, ascending.
    ptr : Tensor of shape (n_segments + 1,)
        Where each segment starts, and at the end where the last one ends.
    names : sequence of {"mean", "max", "min"}

    Returns
    -------
    tuple of Tensor
        Each of shape (n_segments, d).
    """
    return _SegmentStatistics.apply(x, index, ptr, names)


class _SegmentAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, query, index, ptr):
        scores = _row_products(x, query, index)
        largest = scores.new_zeros(len(query)).scatter_reduce_(0, index, scores, "amax", include_self=False)
        # Numbers too small for normal floating point would slow down all that follows.
        weights = scores.sub_(largest.index_select(0, index)).clamp_(min=-80).exp_()
        weights /= weights.new_zeros(len(query)).index_add_(0, index, weights).index_select(0, index)
        result = _weighted_sum(x, weights, ptr)
        ctx.save_for_backward(x, query, index, ptr, weights, result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, query, index, ptr, weights, result = ctx.saved_tensors
        of_scores = _row_products(x, grad, index).sub_((grad * result).sum(dim=1).index_select(0, index)).mul_(weights)
        grad_x = torch.empty_like(x)
        for rows in row_chunks(x):
            torch.index_select(grad, 0, index[rows], out=grad_x[rows]).mul_(weights[rows, None])
            grad_x[rows].addcmul_(query.index_select(0, index[rows]), of_scores[rows, None])
        return grad_x, _weighted_sum(x, of_scores, ptr), None, None


def _row_products(x: Tensor, other: Tensor, index: Tensor) -> Tensor:
    products = x.new_empty(len(x))
    for rows in row_chunks(x):
        torch.sum(other.index_select(0, index[rows]).mul_(x[rows]), dim=1, out=products[rows])
    return products


def _weighted_sum(x: Tensor, weights: Tensor, ptr: Tensor) -> Tensor:
    order = torch.arange(len(x), device=x.device)
    return F.embedding_bag(order, x, ptr, mode="sum", per_sample_weights=weights, include_last_offset=True)


def segment_attention(x: Tensor, query: Tensor, index: Tensor, ptr: Tensor) -> Tensor:
    """Return the sum of the rows of each segment, weighed by the softmax of their products with the segment's query.

    Parameters
    ----------
    x : Tensor of shape (n_rows, d)
    query : Tensor of shape (n_segments, d)
    index, ptr
        As in :func:`segment_statistics`.

    Returns
    -------
    Tensor of shape (n_segments, d)
    """
    return _SegmentAttention.apply(x, query, index, ptr)
