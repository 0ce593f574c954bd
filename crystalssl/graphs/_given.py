"""What users pass as X: graphs as they are, in memory or on the disk, or a list of crystals."""

from __future__ import annotations

import os
from typing import Any

from crystalssl.graphs._corpus import CrystalCorpus
from crystalssl.graphs._crystal_graphs import CrystalGraphs
from crystalssl.graphs._items import as_items
from crystalssl.graphs._manifest import is_corpus
from crystalssl.graphs._storage import is_stored

__all__ = ["as_graphs"]


def as_graphs(X: Any) -> CrystalGraphs | CrystalCorpus | list[Any]:
    """Return graphs as they are, joined again if X is a column of them, and other crystals as a list.

    The path of a folder stands for what :meth:`CrystalCorpus.load` or :meth:`CrystalGraphs.load` reads from it.
    """
    if isinstance(X, (CrystalGraphs, CrystalCorpus)):
        return X
    if isinstance(X, (str, os.PathLike)):
        if is_corpus(X):
            return CrystalCorpus.load(X)
        if is_stored(X):
            return CrystalGraphs.load(X)
    items = as_items(X)
    if items and all(isinstance(item, CrystalGraphs) for item in items):
        return CrystalGraphs.concatenate(items)
    return items
