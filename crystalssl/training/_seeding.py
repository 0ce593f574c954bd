"""Randomness that follows from one seed and leaves the global state of torch as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["MAX_SEED", "derive_seed", "seeded"]

MAX_SEED = 2**31 - 1
"""What numpy's RandomState draws on every platform."""


def derive_seed(seed: int, *path: int) -> int:
    """Return a seed that depends on `seed` and on where it is used, such as the number of the epoch.

    Examples
    --------
    >>> derive_seed(0, 1) == derive_seed(0, 1), derive_seed(0, 1) == derive_seed(0, 2)
    (True, False)
    """
    return int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0]) >> 1


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators, and restore their states at the end."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
