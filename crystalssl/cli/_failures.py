"""Exit statuses, and messages that fit on a line."""

from __future__ import annotations

__all__ = ["FAILED_RECORDS", "INTERRUPTED", "Interrupted", "in_one_line"]

FAILED_RECORDS = 3
"""Status where all went well but for some records, which are listed."""
INTERRUPTED = 130
"""Status after Ctrl-C, as of any program of Unix."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, with a line that says what is left and how to go on.

    Parameters
    ----------
    message : str
        The line.
    status : int, default=INTERRUPTED
        With which the command ends.
    """

    def __init__(self, message: str, status: int = INTERRUPTED):
        super().__init__(message)
        self.status = status


def in_one_line(error: object) -> str:
    """Return the message of an error or warning without line breaks, or its type where it has none.

    Examples
    --------
    >>> from crystalssl.cli._failures import in_one_line
    >>> in_one_line(ValueError("the lattice is\\n [[1 0]\\n  [0 1]]")), in_one_line(MemoryError())
    ('the lattice is [[1 0] [0 1]]', 'MemoryError')
    """
    return " ".join(str(error).split()) or type(error).__name__
