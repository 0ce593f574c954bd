"""The shards of a corpus, of which those that were needed last are in memory."""

from __future__ import annotations

import hashlib
import itertools
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crystalssl.exceptions import DatasetError
from crystalssl.graphs._crystal_graphs import CrystalGraphs
from crystalssl.graphs._manifest import Manifest
from crystalssl.graphs._ragged import offsets_of
from crystalssl.graphs._storage import read_counts, read_meta

__all__ = ["Shards"]


class Shards:
    """All shards of a corpus, which several threads may read.

    Parameters
    ----------
    folder : Path
        The corpus.
    manifests : sequence of Manifest
        Of its parts.
    buffer_size : int
        About how many crystals may be in memory.
    """

    def __init__(self, folder: Path, manifests: Sequence[Manifest], buffer_size: int):
        self.folder, self.buffer_size = folder, buffer_size
        self.recipe = manifests[0].recipe
        rounds = itertools.zip_longest(*(manifest.shards for manifest in manifests))  # as parts took turns
        self.all = [shard for shards in rounds for shard in shards if shard is not None]
        self.shards = [shard for shard in self.all if shard.n_crystals]  # others are of records that failed
        self.elements = tuple(sorted({z for shard in self.shards for z in shard.elements}))
        self.starts = offsets_of(np.array([shard.n_crystals for shard in self.shards], dtype=np.int64))
        self.n_crystals = int(self.starts[-1])
        self.n_open = max(1, min(len(self.shards), buffer_size * len(self.shards) // max(self.n_crystals, 1)))
        content = [self.recipe.to_dict(), [shard.sha256 for shard in self.shards]]
        self.fingerprint = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        self._open: dict[int, CrystalGraphs] = {}  # the one that was needed last comes last
        self._lock = threading.RLock()
        self._counts: np.ndarray | None = None

    @property
    def counts(self) -> np.ndarray:
        """Numbers of atoms and of edges of each crystal, of shape (n_crystals, 2). Two small columns are read, once."""
        with self._lock:
            if self._counts is None:
                counts = np.empty((self.n_crystals, 2), np.int64)
                for shard, start in zip(self.shards, self.starts.tolist(), strict=False):
                    counts[start : start + shard.n_crystals] = read_counts(self.folder / shard.name)
                self._counts = counts
            return self._counts

    def locate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of the shard of each crystal, and its position in the shard."""
        numbers = np.searchsorted(self.starts, rows, side="right") - 1
        return numbers, rows - self.starts[numbers]

    def gather(self, rows: np.ndarray) -> tuple[CrystalGraphs, np.ndarray]:
        """Return graphs that hold some crystals, each as often as it is asked for, and where they are among them."""
        numbers, local = self.locate(rows)
        order = np.argsort(numbers, kind="stable")
        present, first = np.unique(numbers[order], return_index=True)
        wanted = dict(zip(present.tolist(), np.split(local[order], first[1:]), strict=True))
        # Those at hand come first: the others would push them out.
        parts = {number: self._open_shard(number) for number in sorted(wanted, key=lambda n: n not in self._open)}
        taken = [_some(parts[number], which) for number, which in wanted.items()]
        graphs = taken[0] if len(taken) == 1 else CrystalGraphs.concatenate(taken)
        places = np.empty(len(rows), dtype=np.int64)
        places[order] = np.arange(len(rows))
        return graphs, places

    def _open_shard(self, number: int) -> CrystalGraphs:
        with self._lock:
            graphs = self._open.pop(number, None)
            if graphs is None:
                while len(self._open) >= self.n_open:  # before the next one takes memory
                    del self._open[next(iter(self._open))]
                graphs = self.read(number)
            self._open[number] = graphs
            return graphs

    def read(self, number: int) -> CrystalGraphs:
        """Return a shard that has the hash of the manifest.

        Raises
        ------
        DatasetError
            If it is missing or was altered.
        RecipeMismatchError
            If it is of another recipe.
        """
        shard = self.shards[number]
        shard.check(self.folder)
        try:
            graphs = CrystalGraphs.load(self.folder / shard.name)
        except DatasetError as error:
            raise shard.broken(self.folder, str(error)) from error
        graphs.check_recipe(self.recipe)
        if read_meta(self.folder / shard.name)["sha256"] != shard.sha256:
            raise shard.broken(self.folder, "it is not the one that the manifest lists")
        return graphs


def _some(graphs: CrystalGraphs, rows: np.ndarray) -> CrystalGraphs:
    """Return some of the crystals, as a view where they follow each other."""
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return graphs[int(rows[0]) : int(rows[-1]) + 1]
    return graphs[rows]
