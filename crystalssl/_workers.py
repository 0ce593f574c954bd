"""Calls in worker processes, which end with the process that started them."""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor
from typing import Any, TypeVar

from joblib import Parallel, delayed
from joblib.externals.loky import ProcessPoolExecutor
from joblib.parallel import LokyBackend, get_active_backend

__all__ = ["map_calls"]

_IDLE = 60  # seconds without work after which workers end
_PERIOD = 0.25  # seconds between two looks at the parent

Result = TypeVar("Result")


def map_calls(function: Callable[..., Result], calls: Iterable[tuple], n_jobs: int) -> list[Result]:
    """Call a function many times in several processes, and return the results in order.

    Joblib's own workers do not notice when the process that started them is killed: they hold both ends of the pipe
    that work comes through, wait there for five minutes if it is empty, and for ever if it holds half a message. These
    watch their parent. They are the package's own, since joblib has one set of workers at a time, and would start it
    anew whenever the next caller does not want the same initializer.

    Parameters
    ----------
    function : callable
        Of a module.
    calls : iterable of tuple
        Its arguments. The processes begin with the first while the others are still made.
    n_jobs : int
        Number of processes. With a backend other than loky, which is joblib's default, that backend is used as it is.
    """
    backend, _ = get_active_backend()
    if not isinstance(backend, LokyBackend):
        # A list, since joblib reads on in threads of its own, where an error of whoever makes the calls is lost.
        return Parallel(n_jobs=n_jobs)([delayed(function)(*call) for call in calls])
    executor = _executor(os.getpid(), n_jobs)
    try:
        return list(executor.map(functools.partial(_call, function), calls))
    except BrokenExecutor:  # a worker was killed, for want of memory perhaps; the next call starts others
        _executor.cache_clear()
        raise


def _call(function: Callable[..., Result], arguments: tuple) -> Result:
    return function(*arguments)


@functools.cache  # by process, since a fork has none of the workers
def _executor(parent: int, n_jobs: int) -> Any:
    threads = {"OMP_NUM_THREADS": "1"}
    return ProcessPoolExecutor(n_jobs, timeout=_IDLE, initializer=_watch, initargs=(parent,), env=threads)


def _watch(parent: int) -> None:
    # Before the first message is read. PR_SET_PDEATHSIG would tell of the end of the thread that started a worker, not
    # of the process.
    _leave_without(parent)
    threading.Thread(target=_keep_watching, args=(parent,), name="crystalssl-parent", daemon=True).start()


def _keep_watching(parent: int) -> None:
    while True:
        time.sleep(_PERIOD)
        _leave_without(parent)


def _leave_without(parent: int) -> None:
    if os.name == "posix" and os.getppid() != parent:  # orphans get another one
        os._exit(1)
