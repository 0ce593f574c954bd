"""What the machine can do at most, measured in the same run."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

_SIDE = 1536  # of the square matrices
_BYTES = 256 * 2**20
_ROUNDS = 7


def _median_seconds(call: Callable[[], Any], threads: int) -> float:
    clock = time.process_time if threads == 1 else time.perf_counter
    torch.set_num_threads(threads)
    times = []
    for _ in range(_ROUNDS + 1):
        started = clock()
        call()
        times.append(clock() - started)
    torch.set_num_threads(1)
    return statistics.median(times[1:])


@functools.cache
def gemm_rate(threads: int) -> float:
    """Return the FLOP/s of a product of large float32 matrices."""
    a, b, out = (torch.rand(_SIDE, _SIDE) for _ in range(3))
    return 2 * _SIDE**3 / _median_seconds(lambda: torch.mm(a, b, out=out), threads)


@functools.cache
def copy_rate(threads: int) -> float:
    """Return the bytes per second, read and written, of a copy in memory."""
    a, b = (torch.zeros(_BYTES, dtype=torch.uint8) for _ in range(2))
    return 2 * _BYTES / _median_seconds(lambda: b.copy_(a), threads)


def flops_of(call: Callable[[], Any]) -> int:
    """Return the floating-point operations of the matrix products of a call, those of the backward pass included."""

    def product(_: Any, a: tuple[int, int], b: tuple[int, int], **kwargs: Any) -> int:
        return 2 * a[0] * a[1] * b[1]

    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: product}) as counter:
        call()
    return counter.get_total_flops()


def gemm_limit(call: Callable[[], Any], threads: int) -> dict[str, Any]:
    """Return how long a call would take if its matrix products ran at full speed and all else took no time."""
    rate = gemm_rate(threads)
    return {"seconds": flops_of(call) / rate, "what": f"fp32 matrix products at {rate / 1e9:.0f} GFLOP/s"}


def measured() -> dict[str, float]:
    """Return the limits of this machine."""
    result = {}
    for threads in (1, 2):
        result[f"gemm_gflops_{threads}"] = gemm_rate(threads) / 1e9
        result[f"copy_gbytes_{threads}"] = copy_rate(threads) / 1e9
    return result
