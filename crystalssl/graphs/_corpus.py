"""Graphs of more crystals than fit into memory."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl.graphs._crystal_graphs import CrystalGraphs
from crystalssl.graphs._indexing import rows_of
from crystalssl.graphs._manifest import RECORDS, Shard, read_manifests
from crystalssl.graphs._ragged import offsets_of
from crystalssl.graphs._recipe import GraphRecipe, check_recipe
from crystalssl.graphs._shards import Shards

if TYPE_CHECKING:
    import pandas as pd
    from torch_geometric.data import Data

__all__ = ["CrystalCorpus", "parts_of"]

_AT_A_TIME = 4096
"""Crystals in memory where all are gone through."""


class CrystalCorpus(Sequence):
    """`CrystalGraphs` that do not fit into memory: a folder of shards, of which some are in memory at a time.

    Estimators take it, or the path of its folder, wherever they take `CrystalGraphs`, and stream it: `fit`, `transform`
    and `predict` hold the shards that they read, not the corpus. It is written by
    :func:`crystalssl.io.write_corpus` from any source of crystals, or by :class:`CorpusWriter`, and read by
    :meth:`load`.

    It has a length and takes an integer (giving one PyG `Data`), a slice, an index array or a boolean mask (giving
    another `CrystalCorpus`, without reading anything), so that scikit-learn splits it. It is pickled as its path.

    Parameters
    ----------
    shards : Shards
        What :meth:`load` finds in a folder.
    rows : ndarray of int or None, default=None
        Which of their crystals; None takes all.

    Attributes
    ----------
    recipe : GraphRecipe
        How the graphs were built.
    elements : tuple of int
        Atomic numbers that occur, ascending. Those of a part are looked up in its shards.
    folder : Path
        Where it is.
    shards : tuple of int
        Number of crystals in each shard of the whole corpus.
    fingerprint : str
        A hash of its content, which changes if a shard does, or if there are more of them.

    See Also
    --------
    crystalssl.io.write_corpus : Writes one from any source.

    References
    ----------
    The order of training is that of L. Xu et al., In-Database Machine Learning with CorgiPile, SIGMOD 2022,
    doi:10.1145/3514221.3526150.

    Examples
    --------
    >>> import tempfile
    >>> from crystalssl import CrystalCorpus, PretrainedCrystalEmbedder
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.io import write_corpus
    >>> folder = tempfile.mkdtemp()
    >>> write_corpus(load_prototypes().data[130:190], folder, encoder="cgcnn", shard_size=20)
    >>> corpus = CrystalCorpus.load(folder)
    >>> corpus
    CrystalCorpus(60 crystals in 3 shards, cutoff=8.0, max_neighbors=12)
    >>> corpus[50:].to_graphs()
    CrystalGraphs(10 crystals, 174 atoms, 2182 edges, cutoff=8.0, max_neighbors=12)
    >>> PretrainedCrystalEmbedder("barlow").fit([]).transform(folder).shape
    (60, 768)
    """

    def __init__(self, shards: Shards, rows: np.ndarray | None = None):
        self._shards = shards
        self._rows = rows

    @classmethod
    def load(cls, folder: str | os.PathLike, *, buffer_size: int = 65_536) -> CrystalCorpus:
        """Open a corpus. Nothing but its manifests is read.

        Parameters
        ----------
        folder : path
            The folder.
        buffer_size : int, default=65536
            About how many crystals are shuffled among each other in training: an epoch takes some shards, drawn at
            random, into memory, goes through all of their crystals in random order, and takes the next. The whole
            shards that it holds are in memory, some 5 kB a crystal. A corpus that is no larger is shuffled as
            `CrystalGraphs` are, and training gives the same bits.

        Returns
        -------
        CrystalCorpus

        Raises
        ------
        DatasetError
            If it is not finished, a shard is missing or of another size, or a manifest was altered. A shard whose
            content was altered is an error when it is read.
        RecipeMismatchError
            If its parts were built with several recipes.
        """
        if buffer_size < 1:
            raise ValueError(f"buffer_size must be positive, got {buffer_size}")
        return cls(Shards(Path(folder).absolute(), read_manifests(Path(folder)), buffer_size))

    def __reduce__(self):
        shards = self._shards
        return _reopen, (str(shards.folder), shards.buffer_size, shards.fingerprint, self._rows)

    # ------------------------------------------------------------------ what is known without reading

    @property
    def recipe(self) -> GraphRecipe:
        """How the graphs were built."""
        return self._shards.recipe

    @functools.cached_property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending. Those of a part are looked up in its shards."""
        if self._rows is None:
            return self._shards.elements
        return tuple(sorted({z for _, part in parts_of(self) for z in part.elements}))

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._shards.folder

    @property
    def shards(self) -> tuple[int, ...]:
        """Number of crystals in each shard of the whole corpus."""
        return tuple(shard.n_crystals for shard in self._shards.shards)

    @property
    def buffer_size(self) -> int:
        """About how many crystals are shuffled among each other in training."""
        return self._shards.buffer_size

    @property
    def fingerprint(self) -> str:
        """A hash of the content of the whole corpus."""
        return self._shards.fingerprint

    @property
    def key(self) -> list[Any]:
        """What tells it from others that training would go through otherwise; wherever the folder is."""
        return [self.fingerprint, self._shards.n_open, None if self._rows is None else self._rows]

    def __len__(self) -> int:
        return self._shards.n_crystals if self._rows is None else len(self._rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Tuple ``(n_crystals, 1)``, as of `CrystalGraphs`."""
        return (len(self), 1)

    @property
    def ndim(self) -> int:
        """Always 2."""
        return 2

    @property
    def nbytes(self) -> int:
        """Bytes of the whole corpus on the disk."""
        return sum(shard.n_bytes for shard in self._shards.shards)

    def __repr__(self) -> str:
        part = "" if self._rows is None else f", part of {self._shards.n_crystals}"
        return (
            f"CrystalCorpus({len(self)} crystals in {len(self._shards.shards)} shards{part}, "
            f"cutoff={self.recipe.cutoff}, max_neighbors={self.recipe.max_neighbors})"
        )

    def check_recipe(self, recipe: GraphRecipe) -> None:
        """Raise RecipeMismatchError unless the graphs were built by a recipe, as `CrystalGraphs` do.

        Parameters
        ----------
        recipe : GraphRecipe
            The recipe.
        """
        check_recipe(self.recipe, recipe, "write them again with crystalssl.io.write_corpus(source, folder, {})")

    # ------------------------------------------------------------------ crystals

    def __getitem__(self, key: Any) -> Any:
        rows = rows_of(key, len(self))
        if isinstance(rows, int):
            return self[rows : rows + 1].to_graphs()[0]
        if isinstance(rows, slice):
            rows = np.arange(rows.start, rows.stop)
        return CrystalCorpus(self._shards, rows if self._rows is None else self._rows[rows])

    def __iter__(self) -> Iterator[Data]:
        for _, graphs in parts_of(self):
            yield from graphs

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("a CrystalCorpus is not made an array, which would hold all of it; see to_graphs()")

    def to_graphs(self) -> CrystalGraphs:
        """Read the crystals into memory.

        Returns
        -------
        CrystalGraphs

        Raises
        ------
        DatasetError
            If a shard is missing, or was altered since it was written.
        """
        if len(self) == 0:
            raise ValueError("the corpus holds no crystals; at least one is needed")
        graphs, places = self.gather(np.arange(len(self)))
        return graphs if np.array_equal(places, np.arange(len(places))) else graphs[places]

    def gather(self, indices: np.ndarray) -> tuple[CrystalGraphs, np.ndarray]:
        """Return graphs in memory that hold some crystals, and the positions that these have among them.

        Parameters
        ----------
        indices : ndarray of int
            Positions in the corpus.
        """
        return self._shards.gather(self._rows_of(indices))

    def _rows_of(self, indices: np.ndarray) -> np.ndarray:
        return indices if self._rows is None else self._rows[indices]

    def shard_of(self, indices: np.ndarray) -> np.ndarray:
        """Return the number of the shard that each of some crystals is in, of shape (n_indices,).

        Parameters
        ----------
        indices : ndarray of int
            Positions in the corpus.
        """
        return self._shards.locate(self._rows_of(indices))[0]

    @property
    def n_open(self) -> int:
        """Number of shards that are in memory at a time."""
        return self._shards.n_open

    @property
    def atom_offsets(self) -> np.ndarray:
        """As of `CrystalGraphs`, of shape (n_crystals + 1,). Two columns are read for it, once."""
        return offsets_of(self._shards.counts[self._rows_of(np.arange(len(self))), 0])

    def n_edges_of(self, indices: np.ndarray) -> np.ndarray:
        """Return how many edges some crystals have, of shape (n_indices,).

        Parameters
        ----------
        indices : ndarray of int
            Positions in the corpus.
        """
        return self._shards.counts[self._rows_of(indices), 1]

    # ------------------------------------------------------------------ records

    @property
    def ids(self) -> np.ndarray:
        """Ids of the crystals, object, as they were given to the writer; else their positions in the corpus."""
        numbers, places = self._shards.locate(self._rows_of(np.arange(len(self))))
        ids = np.empty(len(self), dtype=object)
        for number in np.unique(numbers).tolist():
            shard = self._shards.shards[number]
            names = self._records(shard)["ids"] or range(self._shards.starts[number], self._shards.starts[number + 1])
            for row in np.flatnonzero(numbers == number).tolist():
                ids[row] = str(names[places[row]])
        return ids

    @property
    def report(self) -> pd.DataFrame:
        """The records of the source that could not be used: id, row, file and reason of each."""
        import pandas as pd

        rows = [row for shard in self._shards.all for row in self._records(shard)["failed"]]
        return pd.DataFrame(rows, columns=["id", "row", "file", "reason"], dtype=object).astype({"row": "Int64"})

    def _records(self, shard: Shard) -> dict[str, Any]:
        return json.loads(shard.read(self.folder, RECORDS))


def _reopen(folder: str, buffer_size: int, fingerprint: str, rows: np.ndarray | None) -> CrystalCorpus:
    from crystalssl.exceptions import DatasetError

    corpus = CrystalCorpus.load(folder, buffer_size=buffer_size)
    if corpus.fingerprint != fingerprint:
        raise DatasetError(f"the corpus {folder} is not the one that is meant, or has changed meanwhile")
    return CrystalCorpus(corpus._shards, rows)


def parts_of(
    graphs: CrystalGraphs | CrystalCorpus, rows: np.ndarray | None = None
) -> Iterator[tuple[slice, CrystalGraphs]]:
    """Yield some crystals, or all, as `CrystalGraphs`, and which of them: those of a corpus some thousand at a time.

    Parameters
    ----------
    graphs : CrystalGraphs or CrystalCorpus
        The crystals.
    rows : ndarray of int or None, default=None
        Which of them; None means all.
    """
    if isinstance(graphs, CrystalGraphs):
        chosen = graphs if rows is None else graphs[rows]
        yield slice(len(chosen)), chosen
        return
    corpus = graphs if rows is None else graphs[rows]
    for start in range(0, len(corpus), _AT_A_TIME):
        some = slice(start, start + _AT_A_TIME)
        yield some, corpus[some].to_graphs()
