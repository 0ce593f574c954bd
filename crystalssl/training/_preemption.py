"""SIGTERM, by which schedulers announce that a process has to leave its place."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["Terminated", "asked_to_leave", "heeding_sigterm"]

_asked = False


class Terminated(SystemExit):
    """Ends the process, as SIGTERM would have done at once, after the state of training was saved.

    Parameters
    ----------
    message : str
        Where it was saved.
    """

    def __init__(self, message: str):
        self.status = 128 + signal.SIGTERM
        super().__init__(self.status)
        self.message = message


def asked_to_leave() -> bool:
    """Return whether SIGTERM has come in this block of :func:`heeding_sigterm`."""
    return _asked


@contextlib.contextmanager
def heeding_sigterm() -> Iterator[None]:
    """Take note of SIGTERM within a block, instead of ending at once.

    Only the main thread may say what becomes of signals; in others the block changes nothing.
    """
    global _asked
    _asked = False
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(*_: object) -> None:
        global _asked
        _asked = True

    before = signal.signal(signal.SIGTERM, note) or signal.SIG_DFL  # None: set by no Python
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _asked = False
