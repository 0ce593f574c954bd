"""How torch computes, for the length of a call."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["PRECISIONS", "matmul_precision", "usual_torch"]

PRECISIONS = {"highest": ("ieee", "ieee"), "high": ("tf32", "tf32"), "medium": ("bf16", "tf32")}
"""As in :func:`torch.set_float32_matmul_precision`, and what each allows CPUs and Nvidia GPUs to compute with."""

# Torch has one setting for all threads. Those that want the same share it; the others wait, in the order they came.
_turn = threading.Condition()
_queue: deque[object] = deque()
_inside = 0
_setting: tuple[str, ...] = ()
_before: tuple[str, ...] = ()
_mine = threading.local()


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Set how exactly single-precision matrices are multiplied, and restore what was set before at the end.

    Threads that ask for another precision meanwhile wait for the end, so keep what is inside short. A thread that asks
    again does not wait for itself.

    Parameters
    ----------
    precision : {"highest", "high", "medium"}
        Key of `PRECISIONS`.
    """
    setting = PRECISIONS[precision]
    outer: tuple[str, ...] | None = getattr(_mine, "setting", None)
    if setting == outer:
        yield
        return
    if outer is not None:  # nothing is multiplied out there now
        _leave()
    try:
        _enter(setting)
        try:
            yield
        finally:
            _leave()
    finally:
        if outer is not None:
            _enter(outer)


def _enter(setting: tuple[str, ...]) -> None:
    global _inside, _setting, _before
    place = object()
    with _turn:
        _queue.append(place)
        try:
            _turn.wait_for(lambda: _queue[0] is place and (not _inside or _setting == setting))
            if not _inside:
                _before, _setting = _exchange(setting), setting
            _inside += 1
            _mine.setting = setting
        finally:  # Ctrl-C ends the waiting, too
            _queue.remove(place)
            _turn.notify_all()


def _leave() -> None:
    global _inside
    if getattr(_mine, "setting", None) is None:  # Ctrl-C ended the waiting to be inside again
        return
    with _turn:
        _mine.setting = None
        _inside -= 1
        if not _inside:
            _exchange(_before)
        _turn.notify_all()


def _exchange(setting: tuple[str, ...]) -> tuple[str, ...]:
    """Set the precision of all backends, and return what it was."""
    # Backend by backend: torch.get_float32_matmul_precision raises once a user has set only one of them.
    backends: Any = (torch.backends.mkldnn.matmul, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    before = tuple(backend.fp32_precision for backend in backends)
    for backend, value in zip(backends, setting, strict=True):
        backend.fp32_precision = value
    return before


@contextlib.contextmanager
def usual_torch() -> Iterator[None]:
    """Compute as torch does by itself, whatever surrounds the call: in float32, on the CPU, with gradients.

    Another package may have set the default dtype or device, or the call may stand in a block of `torch.autocast`,
    `torch.no_grad` or `torch.inference_mode`. Works as a decorator too.
    """
    device = torch.get_default_device()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if device.type != "cpu":  # only then: it makes every function of torch slower
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(_single_precision())
        yield


_dtype_lock = threading.Lock()
_n_calls = 0
_dtype = torch.float32


@contextlib.contextmanager
def _single_precision() -> Iterator[None]:
    """Make float32 the default type. All threads have one; the first call sets it, and the last restores it."""
    global _n_calls, _dtype
    with _dtype_lock:
        if not _n_calls:
            _dtype = torch.get_default_dtype()
            torch.set_default_dtype(torch.float32)
        _n_calls += 1
    try:
        yield
    finally:
        with _dtype_lock:
            _n_calls -= 1
            if not _n_calls:
                torch.set_default_dtype(_dtype)
