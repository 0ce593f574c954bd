"""Who of several processes has which crystals of a batch."""

from __future__ import annotations

import heapq

import numpy as np

__all__ = ["balanced"]


def balanced(n_edges: np.ndarray, n_shares: int) -> list[np.ndarray]:
    """Return shares of crystals with about as many edges each: the largest crystal goes where there is least.

    Parameters
    ----------
    n_edges : ndarray of shape (n_crystals,)
        Edges of each crystal; there are at least as many crystals as shares.
    n_shares : int
        How many shares.

    Returns
    -------
    list of ndarray
        Ascending numbers of crystals; none is empty.

    Examples
    --------
    >>> import numpy as np
    >>> [share.tolist() for share in balanced(np.array([1, 2, 3, 6]), 2)]
    [[0, 3], [1, 2]]
    """
    loads = [(0, share) for share in range(n_shares)]
    owners = np.empty(len(n_edges), int)
    for crystal in np.argsort(-n_edges, kind="stable"):
        load, share = heapq.heappop(loads)
        owners[crystal] = share
        heapq.heappush(loads, (load + int(n_edges[crystal]) + 1, share))  # one more, for crystals without edges
    return [np.flatnonzero(owners == share) for share in range(n_shares)]
