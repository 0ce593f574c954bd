"""Calls in processes of their own, which can be killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

__all__ = ["children_of", "finish", "kill", "run", "start", "still_there"]

_FORK = multiprocessing.get_context("fork")  # a fresh interpreter would spend most of its life on imports


def _report(sender: Any, function: Callable, args: tuple) -> None:
    torch.set_num_threads(1)  # the threads of the parent are not forked
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs deaf to Ctrl-C
    warnings.simplefilter("ignore")
    try:
        sender.send((function(*args), None))
    except BaseException as error:
        sender.send((None, f"{type(error).__name__}: {error}"))


def start(function: Callable, *args: Any) -> tuple[Any, Any]:
    """Call a function in another process."""
    receiver, sender = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_report, args=(sender, function, args))
    process.start()
    sender.close()
    return process, receiver


def finish(process: Any, receiver: Any) -> Any:
    """Return what the function returns."""
    value, error = receiver.recv()
    process.join()
    if error:
        raise RuntimeError(error)
    return value


def run(function: Callable, *args: Any) -> Any:
    return finish(*start(function, *args))


def _status(pid: int | str) -> tuple[str, int]:
    """Return the state and the parent of a process, as Linux tells them."""
    state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    return state, int(parent)


def children_of(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if _status(folder.name)[1] == parent:
                found.append(int(folder.name))
    return found


def still_there(pids: list[int]) -> list[int]:
    """Return those of some processes that have not ended."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if _status(pid)[0] != "Z":
                found.append(pid)
    return found


def kill(after: float, function: Callable, *args: Any, sign: int = signal.SIGKILL) -> tuple[Any, Any]:
    """Call a function in another process, and send that a signal."""
    process, receiver = start(function, *args)
    time.sleep(after)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, sign)
    if sign == signal.SIGKILL:
        process.join()
    return process, receiver
