"""Precision of matrix products, for the length of a call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["PRECISIONS", "matmul_precision"]

PRECISIONS = {"highest": ("ieee", "ieee"), "high": ("tf32", "tf32"), "medium": ("bf16", "tf32")}
"""As in :func:`torch.set_float32_matmul_precision`, and what each allows CPUs and Nvidia GPUs to compute with."""


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Set how exactly single-precision matrices are multiplied, and restore what was set before at the end.

    Parameters
    ----------
    precision : {"highest", "high", "medium"}
        Key of `PRECISIONS`.
    """
    # Backend by backend: torch.get_float32_matmul_precision raises once a user has set only one of them.
    backends = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul  # type: ignore[attr-defined]
    values = [backend.fp32_precision for backend in backends]
    try:
        for backend, value in zip(backends, PRECISIONS[precision], strict=True):
            backend.fp32_precision = value
        yield
    finally:
        for backend, value in zip(backends, values, strict=True):
            backend.fp32_precision = value
