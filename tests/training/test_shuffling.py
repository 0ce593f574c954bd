from __future__ import annotations

import numpy as np
import pytest
import torch

from crystalssl import CrystalCorpus
from crystalssl.graphs import CorpusWriter
from crystalssl.training import BatchIterator, CrystalDataset, collate
from crystalssl.training._batching import shuffled


@pytest.fixture
def folder(real_graphs, tmp_path):
    with CorpusWriter(tmp_path / "corpus", real_graphs.recipe) as writer:
        for start in range(0, 100, 10):
            writer.write(real_graphs[start : start + 10])
    return tmp_path / "corpus"


def order(graphs, indices, seed=0):
    return shuffled(graphs, indices, torch.Generator().manual_seed(seed))


def assert_same(batch, other):
    assert batch.keys() == other.keys()
    for key in batch.keys():  # noqa: SIM118  (a Batch iterates over its graphs)
        assert torch.equal(torch.as_tensor(batch[key]), torch.as_tensor(other[key])), key


def test_batches_of_a_corpus_are_those_of_graphs(folder, real_graphs):
    corpus = CrystalCorpus.load(folder, buffer_size=20)
    rows = np.random.default_rng(0).integers(0, 100, 30)
    assert_same(collate(corpus, rows), collate(real_graphs, rows))
    assert_same(collate(corpus[20:70], rows % 50), collate(real_graphs[20:70], rows % 50))


def test_open_corpora_are_shuffled_as_graphs_are(folder, real_graphs):
    indices = np.arange(3, 97)
    assert np.array_equal(order(CrystalCorpus.load(folder), indices), order(real_graphs, indices))


@pytest.mark.parametrize("part", [slice(None), slice(15, 85)])
def test_each_crystal_once_from_some_shards_at_a_time(folder, part):
    corpus = CrystalCorpus.load(folder, buffer_size=30)[part]
    assert corpus.n_open == 3
    indices = np.arange(len(corpus))[::2]
    found = order(corpus, indices)
    assert sorted(found.tolist()) == indices.tolist()
    shards = corpus.shard_of(found)
    # Of all shards, at no time more than three have begun and not ended.
    places = [np.flatnonzero(shards == shard) for shard in np.unique(shards)]
    for place in range(len(found)):
        assert sum(where[0] <= place <= where[-1] for where in places) <= 3
    assert (np.diff(shards) != 0).mean() > 0.3  # within a turn they are mixed
    assert not np.array_equal(found, order(corpus, indices, 1))
    assert np.array_equal(found, order(corpus, indices, 0))


def test_shards_are_read_once_an_epoch(folder, monkeypatch):
    corpus = CrystalCorpus.load(folder, buffer_size=30)
    read, original = [], corpus._shards.read
    monkeypatch.setattr(corpus._shards, "read", lambda number: read.append(number) or original(number))
    batches = list(BatchIterator(CrystalDataset(corpus), 7, True, torch.Generator().manual_seed(0)))
    assert sum(batch.num_graphs for batch, _ in batches) == 100
    assert sorted(set(read)) == list(range(10))
    assert len(read) <= 13  # a batch may lie across two turns


def test_batches_have_targets_of_crystals_cells_and_atoms(folder, real_graphs):
    corpus = CrystalCorpus.load(folder, buffer_size=30)
    y = np.arange(100, dtype=np.float32)[:, None]
    atom_y = np.arange(3 * real_graphs.n_atoms, dtype=np.float32).reshape(-1, 3)
    pairs = zip(
        *(
            BatchIterator(CrystalDataset(graphs, y, atom_y=atom_y), 16, with_cell=True)
            for graphs in (corpus, real_graphs)
        ),
        strict=True,
    )
    for (batch, target), (other, expected) in pairs:
        assert torch.equal(target, expected)
        assert_same(batch, other)


def test_a_damaged_shard_is_told_of_in_training(folder):
    path = folder / "part-00000-of-00001" / "000004" / "graphs.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match="000004"):
        list(BatchIterator(CrystalDataset(CrystalCorpus.load(folder)), 16))
