"""How torch computes, for the length of a call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["PRECISIONS", "matmul_precision", "usual_torch"]

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


@contextlib.contextmanager
def usual_torch() -> Iterator[None]:
    """Compute as torch does by itself, whatever surrounds the call: in float32, on the CPU, with gradients.

    Another package may have set the default dtype or device, or the call may stand in a block of `torch.autocast`,
    `torch.no_grad` or `torch.inference_mode`. Works as a decorator too.
    """
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if device.type != "cpu":  # only then: it makes every function of torch slower
            stack.enter_context(torch.device("cpu"))
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        yield
