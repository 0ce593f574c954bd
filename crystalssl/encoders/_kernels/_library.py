"""The package crystalssl-compiled, where it is installed: its library, and how its functions are called.

On a CPU they do all that is done with an edge between two matrix products at once. Their sources are in the folder
``compiled`` of the repository.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crystalssl.encoders._topology import Topology

__all__ = ["VECTOR", "Rows", "can_compute_with", "compiled_serves", "library", "run"]

_INTERFACE = 2
"""Of the package whose functions are called here."""
VECTOR = 16
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


def compiled_serves(x: Tensor, channels: int = VECTOR, l_max: int = 0) -> bool:
    """Return whether there are passes for layers on `x`, with these sums over angles if any."""
    return x.shape[1] in _DIMS and channels % VECTOR == 0 and l_max <= _L_MAX and can_compute_with(x)


def can_compute_with(x: Tensor) -> bool:
    """Return whether the library takes numbers such as those of `x`, and is there."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and library() is not None


class Rows(NamedTuple):
    """Groups of rows, and parts of all groups between which nothing is shared."""

    parts: Tensor
    ptr: Tensor
    neighbors: Tensor | None = None

    @classmethod
    def of(cls, topology: Topology) -> Rows:
        """Return the edges of each atom."""
        return cls(topology.parts, topology.edge_ptr, topology.neighbors)


class _RowsOfThread(ctypes.Structure):
    """``struct Graph`` of the library: the pointers of `Rows`, and which parts a thread is to do."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in Rows._fields),
        *((name, ctypes.c_int64) for name in ("first", "last")),
    )


def run(name: str, rows: Rows, *arguments: Any) -> None:
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
