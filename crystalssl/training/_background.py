"""What is read ahead by a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

__all__ = ["in_background"]

T = TypeVar("T")


def in_background(items: Iterable[T], depth: int) -> Iterator[T]:
    """Yield items that a thread makes meanwhile, in their order.

    An exception of the thread is raised where its item would have come. The thread ends when the iterator does, or is
    closed.

    Parameters
    ----------
    items : iterable
        Only the thread goes through it.
    depth : int
        Items that may be ready and wait.
    """
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
    over = threading.Event()
    end = object()

    def put(item: Any, error: BaseException | None = None) -> None:
        while not over.is_set():
            try:
                return ready.put((item, error), timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put(item)
                if over.is_set():
                    return
            put(end)
        except BaseException as error:  # it belongs to the one who reads
            put(end, error)

    thread = threading.Thread(target=work, name="crystalssl-reader", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item
    finally:
        over.set()
        thread.join()
