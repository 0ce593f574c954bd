"""How much memory some work takes."""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["MIB", "Peak"]

MIB = 2**20


class Peak:
    """The largest memory of this process within a block, beyond what it had at the beginning, in bytes."""

    def __enter__(self) -> Peak:
        import psutil

        self._process = psutil.Process()
        self._over = threading.Event()
        self._before = self._most = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self._most = max(self._most, self._process.memory_info().rss)

    def __exit__(self, *args: Any) -> None:
        self._over.set()
        self._thread.join()
        self._most = max(self._most, self._process.memory_info().rss)

    @property
    def grown(self) -> int:
        return self._most - self._before
