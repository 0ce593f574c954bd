"""Errors that say which name was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return `` Did you mean 'this'?`` with the known name that is most like `name`, or nothing if none is.

    Examples
    --------
    >>> from crystalssl._suggestions import did_you_mean
    >>> did_you_mean("barlw", ["barlow", "simsiam"])
    " Did you mean 'barlow'?"
    >>> did_you_mean("phonons", ["matbench_phonons"])
    " Did you mean 'matbench_phonons'?"
    >>> did_you_mean("mae", ["l1", "mse"])
    ''
    """
    if not isinstance(name, str) or not name:
        return ""
    known = sorted(known)
    # The default of difflib, 0.6, takes "mse" for a misspelt "mae".
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
    # It finds nothing for a short tail such as "phonons", which is what people type first.
    close = close or [candidate for candidate in known if name in candidate][:1]
    return f" Did you mean {close[0]!r}?" if close else ""
