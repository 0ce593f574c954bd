"""Compiled passes over the edges of crystals. `crystalssl` calls them where this package is installed."""

from __future__ import annotations

import ctypes
import functools
import importlib.util

__all__ = ["INTERFACE", "library"]

INTERFACE = 2
"""Changes with the arguments of the functions."""


@functools.cache
def library(instructions: str) -> ctypes.CDLL:
    """Return the library for an instruction set.

    Parameters
    ----------
    instructions : str
        What :func:`torch.backends.cpu.get_cpu_capability` returns: "AVX512", "AVX2" or another name, for which the
        portable library is returned.
    """
    wanted = f"crystalssl_compiled._{instructions.lower()}"
    spec = importlib.util.find_spec(wanted) or importlib.util.find_spec("crystalssl_compiled._portable")
    if spec is None or spec.origin is None:
        raise ImportError("crystalssl-compiled is installed without its libraries; install it again")
    return ctypes.CDLL(spec.origin)
