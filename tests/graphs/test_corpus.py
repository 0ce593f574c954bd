from __future__ import annotations

import errno
import json
import pickle
import shutil
import threading

import numpy as np
import pytest

from crystalssl import CrystalCorpus, CrystalGraphs, CrystalGraphTransformer
from crystalssl.exceptions import DatasetError, RecipeMismatchError
from crystalssl.graphs import CorpusWriter, _storage, cell_features
from crystalssl.graphs._corpus import parts_of


def assert_same(found, graphs):
    assert len(found) == len(graphs)
    for name, column in graphs.columns.items():
        assert np.array_equal(found.columns[name], column), name


def write(graphs, folder, sizes=(30, 30, 30, 10), **options):
    with CorpusWriter(folder, graphs.recipe, **options) as writer:
        for stop, size in zip(np.cumsum(sizes), sizes, strict=True):
            writer.write(graphs[stop - size : stop], [f"c{row}" for row in range(stop - size, stop)])


@pytest.fixture
def folder(real_graphs, tmp_path):
    write(real_graphs, tmp_path / "corpus")
    return tmp_path / "corpus"


@pytest.fixture
def corpus(folder):
    return CrystalCorpus.load(folder)


SHARD = "part-00000-of-00001/000001"


# ---------------------------------------------------------------- reading


def test_what_it_says_of_itself(corpus, real_graphs, folder):
    assert (len(corpus), corpus.shape, corpus.ndim) == (100, (100, 1), 2)
    assert corpus.recipe == real_graphs.recipe
    assert corpus.elements == real_graphs.elements
    assert corpus.shards == (30, 30, 30, 10)
    assert corpus.folder == folder
    files = [path.stat().st_size for path in folder.rglob("graphs.safetensors")]
    assert corpus.nbytes == sum(files)
    manifest = json.loads((folder / "part-00000-of-00001" / "manifest.json").read_text())
    assert manifest["n_crystals"] == 100
    assert manifest["n_atoms"] == real_graphs.n_atoms
    assert manifest["n_edges"] == real_graphs.n_edges


@pytest.mark.parametrize(
    "key",
    [
        slice(None),
        slice(25, 65),
        slice(None, None, 7),
        slice(99, 0, -20),
        np.array([99, 0, 31, 31, 0]),
        np.arange(100) % 3 == 0,
        [-1, 5],
    ],
    ids=str,
)
def test_rows_are_those_of_graphs_in_memory(corpus, real_graphs, key):
    part = corpus[key]
    assert isinstance(part, CrystalCorpus)
    assert_same(part.to_graphs(), real_graphs[key])
    assert_same(part[::-1].to_graphs(), real_graphs[key][::-1])
    graphs = real_graphs[key]
    assert np.array_equal(part.atom_offsets, graphs.atom_offsets)
    assert np.array_equal(part.n_edges_of(np.arange(len(graphs))), np.diff(graphs.edge_offsets[graphs.atom_offsets]))
    assert part.elements == graphs.elements
    assert part.ids.tolist() == [f"c{row}" for row in np.arange(100)[key]]


def test_single_crystals(corpus, real_graphs):
    for row in (0, 42, -1):
        assert corpus[row].distance.tolist() == real_graphs[row].distance.tolist()
    assert [data.z.tolist() for data in corpus] == [data.z.tolist() for data in real_graphs]
    with pytest.raises(IndexError, match="out of range"):
        corpus[100]


def test_parts_cover_all_in_order(corpus, real_graphs):
    found = list(parts_of(corpus, np.arange(99, 0, -2)))
    assert_same(CrystalGraphs.concatenate([part for _, part in found]), real_graphs[np.arange(99, 0, -2)])
    assert np.array_equal(cell_features(corpus), cell_features(real_graphs))


def test_few_shards_are_in_memory(folder, monkeypatch):
    corpus = CrystalCorpus.load(folder, buffer_size=50)
    assert corpus.n_open == 2
    read = []
    original = corpus._shards.read
    monkeypatch.setattr(corpus._shards, "read", lambda number: read.append(number) or original(number))
    corpus[[0, 1, 40, 41, 2, 42]].to_graphs()
    corpus[[45]].to_graphs()
    assert read == [0, 1]
    corpus[[70]].to_graphs()  # takes the place of the first
    corpus[[45]].to_graphs()
    assert read == [0, 1, 2]
    corpus[[0]].to_graphs()
    assert read == [0, 1, 2, 0]
    assert len(corpus._shards._open) == 2


def test_threads_read_the_same(corpus, real_graphs):
    small = CrystalCorpus.load(corpus.folder, buffer_size=1)
    orders = [np.random.default_rng(seed).permutation(100) for seed in range(4)]
    found = [None] * 4

    def work(number):
        found[number] = small[orders[number]].to_graphs()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for order, graphs in zip(orders, found, strict=True):
        assert_same(graphs, real_graphs[order])


def test_it_is_pickled_as_its_path(corpus, real_graphs):
    content = pickle.dumps(corpus[:50])
    assert len(content) < 2000
    assert_same(pickle.loads(content).to_graphs(), real_graphs[:50])
    shutil.rmtree(corpus.folder / "part-00000-of-00001")
    write(real_graphs[:90], corpus.folder, (90,))
    with pytest.raises(DatasetError, match="has changed meanwhile"):
        pickle.loads(content)


def test_it_is_never_made_an_array(corpus):
    with pytest.raises(TypeError, match="would hold all of it"):
        np.asarray(corpus)


def test_fingerprint_is_that_of_the_content(corpus, real_graphs, tmp_path):
    write(real_graphs, tmp_path / "same")
    write(real_graphs[:90], tmp_path / "less", (30, 30, 30))
    others = [CrystalCorpus.load(tmp_path / name).fingerprint for name in ("same", "less")]
    assert others[0] == corpus.fingerprint != others[1]


# ---------------------------------------------------------------- writing


def test_writing_goes_on_where_it_stopped(real_graphs, tmp_path, corpus):
    folder = tmp_path / "resumed"
    with pytest.raises(RecipeMismatchError), CorpusWriter(folder, "gatedgcn") as writer:  # noqa: PT012
        writer.write(real_graphs[:30], [f"c{row}" for row in range(30)], failed=[["x", 3, None, "bad"]], n_records=31)
        writer.write(CrystalGraphTransformer("megnet").transform([_structure(0)]))
    with pytest.raises(DatasetError, match="part-00000-of-00001 is not finished"):
        CrystalCorpus.load(folder)
    with CorpusWriter(folder, "gatedgcn") as writer:
        assert (writer.n_records, writer.n_crystals, writer.n_shards, writer.finished) == (31, 30, 1, False)
        assert writer.ids() == [f"c{row}" for row in range(30)]
        for start in (30, 60):
            writer.write(real_graphs[start : start + 30], [f"c{row}" for row in range(start, start + 30)])
        writer.write(real_graphs[90:], [f"c{row}" for row in range(90, 100)])
    assert writer.finished
    found = CrystalCorpus.load(folder)
    assert found.fingerprint == corpus.fingerprint
    assert found.report.values.tolist() == [["x", 3, None, "bad"]]
    with pytest.raises(ValueError, match="is finished"):
        CorpusWriter(folder, "gatedgcn").write(real_graphs[:1])


def test_parts_by_several_writers(real_graphs, tmp_path):
    folder = tmp_path / "corpus"
    taking_turns = CrystalGraphs.concatenate([real_graphs[:30], real_graphs[70:]])
    write(real_graphs[30:70], folder, (40,), part=2, n_parts=3)
    write(taking_turns, folder, (30, 30), part=0, n_parts=3)
    with pytest.raises(DatasetError, match=r"part-00001-of-00003 is not finished \(2 of 3 parts are\)"):
        CrystalCorpus.load(folder)
    CorpusWriter(folder, "gatedgcn", part=1, n_parts=3).close()  # for which nothing was left
    assert_same(CrystalCorpus.load(folder).to_graphs(), real_graphs)
    write(real_graphs[:1], folder, (1,), part=0, n_parts=1)
    with pytest.raises(DatasetError, match="part-00000-of-00001 too; delete it"):
        CrystalCorpus.load(folder)


def test_ids_are_positions_if_there_are_none(real_graphs, tmp_path):
    with CorpusWriter(tmp_path / "corpus", "gatedgcn") as writer:
        writer.write(real_graphs[:3])
        writer.write(real_graphs[3:5])
    assert CrystalCorpus.load(tmp_path / "corpus")[1:].ids.tolist() == ["1", "2", "3", "4"]


def test_what_cannot_be_written_is_refused(real_graphs, tmp_path, monkeypatch):
    writer = CorpusWriter(tmp_path / "corpus", "gatedgcn")
    with pytest.raises(RecipeMismatchError):
        writer.write(CrystalGraphTransformer("megnet").transform([*map(_structure, range(2))]))
    with pytest.raises(ValueError, match="there are 2 ids, but 3 crystals"):
        writer.write(real_graphs[:3], ["a", "b"])
    with pytest.raises(ValueError, match="no crystal was written"):
        writer.close()
    with pytest.raises(ValueError, match="part must be one of 0 to 1"):
        CorpusWriter(tmp_path / "corpus", "gatedgcn", part=2, n_parts=2)
    monkeypatch.setattr("crystalssl.graphs._corpus_writer._MOST", 50)
    with pytest.raises(ValueError, match="100 crystals are too many for a shard; write at most 50"):
        writer.write(real_graphs)


def _structure(number):
    from pymatgen.core import Lattice, Structure

    return Structure(Lattice.cubic(3 + number), ["Fe"], [[0, 0, 0]])


def test_other_recipe_or_settings_do_not_go_on(real_graphs, tmp_path):
    CorpusWriter(tmp_path / "corpus", "gatedgcn", settings="a").write(real_graphs[:30])
    with pytest.raises(DatasetError, match="was begun from another source, one that has changed"):
        CorpusWriter(tmp_path / "corpus", "gatedgcn", settings="b")
    with pytest.raises(DatasetError, match=r"was begun by GraphRecipe\(cutoff=8.0"):
        CorpusWriter(tmp_path / "corpus", "megnet", settings="a")


def test_full_disk_keeps_what_was_written(real_graphs, tmp_path, monkeypatch):
    writer = CorpusWriter(tmp_path / "corpus", "gatedgcn")
    writer.write(real_graphs[:30])

    def full(file, columns):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_storage, "_write", full)
        with pytest.raises(DatasetError, match=r"No space left.* The 30 crystals before are in .*goes on from there"):
            writer.write(real_graphs[30:60])
    assert [path.name for path in (tmp_path / "corpus" / "part-00000-of-00001").iterdir()] == ["000000"]
    with CorpusWriter(tmp_path / "corpus", "gatedgcn") as again:
        again.write(real_graphs[30:])
    assert_same(CrystalCorpus.load(tmp_path / "corpus").to_graphs(), real_graphs)


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("damage", ["folder", "file", "truncated"])
def test_missing_or_truncated_shard_is_named_at_once(folder, damage):
    path = folder / SHARD / "graphs.safetensors"
    if damage == "folder":
        shutil.rmtree(folder / SHARD)
    elif damage == "file":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=f"shard {SHARD} of the corpus .* restore it, or delete") as caught:
        CrystalCorpus.load(folder)
    assert str(folder) in str(caught.value)


def test_altered_shard_is_named_when_it_is_read(folder):
    path = folder / SHARD / "graphs.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    corpus = CrystalCorpus.load(folder)
    corpus[:30].to_graphs()
    with pytest.raises(DatasetError, match=f"shard {SHARD} .* altered"):
        corpus[25:35].to_graphs()


@pytest.mark.parametrize("name", ["records.json", "graphs.json"])
def test_other_altered_files_of_a_shard(folder, name):
    path = folder / SHARD / name
    path.write_bytes(path.read_bytes().replace(b"c3", b"d3") if name == "records.json" else b"{}")
    corpus = CrystalCorpus.load(folder)
    with pytest.raises(DatasetError, match=f"shard {SHARD}"):
        _ = corpus.ids if name == "records.json" else corpus.to_graphs()


def test_shard_of_another_corpus(folder, real_graphs, tmp_path):
    """Of the same number of bytes, and whole in itself."""
    turned = real_graphs[np.r_[0:30, np.arange(59, 29, -1), 60:100]]
    write(turned, tmp_path / "other")
    shutil.rmtree(folder / SHARD)
    shutil.copytree(tmp_path / "other" / SHARD, folder / SHARD)
    with pytest.raises(DatasetError, match="not the one that the manifest lists"):
        CrystalCorpus.load(folder).to_graphs()


def test_shard_of_another_recipe(folder):
    meta = json.loads((folder / SHARD / "graphs.json").read_text())
    meta["recipe"]["cutoff"] = 7.0
    (folder / SHARD / "graphs.json").write_text(json.dumps(meta))
    with pytest.raises(DatasetError, match=f"shard {SHARD}"):
        CrystalCorpus.load(folder).to_graphs()


def test_two_recipes(real_graphs, real_crystals, tmp_path):
    folder = tmp_path / "corpus"
    write(real_graphs[:30], folder, (30,), part=0, n_parts=2)
    others = CrystalGraphTransformer("megnet").transform(real_crystals[0][30:40])
    write(others, folder, (10,), part=1, n_parts=2)
    with pytest.raises(RecipeMismatchError, match="was built with two recipes: part-00000-of-00002 with"):
        CrystalCorpus.load(folder)


@pytest.mark.parametrize(
    ("old", "new"), [('"n_crystals": 30', '"n_crystals": 31'), ('"format": 1', '"format": 2'), ("{", "[")]
)
def test_altered_manifest(folder, old, new):
    path = folder / "part-00000-of-00001" / "manifest.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DatasetError, match="is not the manifest of a corpus"):
        CrystalCorpus.load(folder)


def test_no_corpus(tmp_path):
    with pytest.raises(DatasetError, match="is not a corpus: it has no part"):
        CrystalCorpus.load(tmp_path)
    with pytest.raises(DatasetError, match="cannot be read"):
        CrystalCorpus.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="buffer_size must be positive"):
        CrystalCorpus.load(tmp_path, buffer_size=0)


def test_other_recipe_than_the_encoders(corpus):
    with pytest.raises(RecipeMismatchError, match=r"write_corpus\(source, folder, encoder='megnet'\)"):
        corpus.check_recipe(CrystalGraphTransformer("megnet").fit().recipe_)
