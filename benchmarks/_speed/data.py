"""The crystals that are raced with, read once."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import numpy as np
from _common import load_task
from torch_geometric.data import Batch

from crystalssl import CrystalGraphs, CrystalGraphTransformer
from crystalssl.datasets import read_optimade_parquet
from crystalssl.encoders import Sight
from crystalssl.training import BatchIterator, CrystalDataset, collate

CORPUS = "mp_pretrain"


class Crystals:
    """Random samples of the data sets.

    Parameters
    ----------
    folder : path
        With matbench_phonons.json.gz, and mp_pretrain.parquet, without which what concerns it is left out.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    @functools.cached_property
    def phonons(self) -> Any:
        return load_task("matbench_phonons", self.folder)

    @functools.cached_property
    def corpus(self) -> list[Any]:
        path = self.folder / f"{CORPUS}.parquet"
        if not path.exists():
            print(f"There is no {path}: what concerns it is left out.", file=sys.stderr)
            return []
        return read_optimade_parquet(path, columns=[]).data

    def sample(self, name: str, size: int) -> list[Any]:
        """Return some structures of a data set, the same at every call."""
        structures = self.corpus if name == CORPUS else self.phonons.data
        return [structures[i] for i in np.random.default_rng(0).permutation(len(structures))[:size]]

    def batches(self, size: int, batch_size: int, encoder: str, name: str = "phonons") -> list[Batch]:
        """Return an epoch's batches, made beforehand so that all models get the same ones for free; with targets."""
        return batches_of(self.graphs(size, encoder, name), batch_size)

    def graphs(self, size: int, encoder: str, name: str = "phonons") -> CrystalGraphs:
        """Return graphs of a sample."""
        return CrystalGraphTransformer(encoder=encoder).transform(self.sample(name, size))


def batches_of(graphs: CrystalGraphs, batch_size: int, sight: Sight | None = None) -> list[Batch]:
    """Return all batches of some graphs, with targets of no meaning; those of a `sight` are of what is distinct."""
    y = np.random.default_rng(0).normal(size=(len(graphs), 1)).astype(np.float32)
    return [batch for batch, _ in BatchIterator(CrystalDataset(graphs, y), batch_size, sight=sight)]


def one_batch(graphs: CrystalGraphs) -> Batch:
    return collate(graphs, np.arange(len(graphs)))
