from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from crystalssl import CrystalCorpus
from crystalssl.exceptions import DatasetError, RecordError
from crystalssl.graphs import CorpusWriter
from crystalssl.io import iter_crystals, read_crystals, write_corpus


@pytest.fixture
def table(prototypes, tmp_path):
    """Crystals as CIF in a table, two of which cannot be used."""
    cifs = [crystal.to(fmt="cif") for crystal in prototypes[:60]]
    cifs[7] = "data_nothing"
    names = [f"id-{number}" for number in range(60)]
    names[45] = "id-3"
    frame = pd.DataFrame({"id": names, "cif": cifs})
    frame.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


@pytest.fixture
def expected(table):
    return read_crystals(table, as_graphs=True, on_error="report", verbose=0)


def assert_equal(corpus, expected):
    graphs = corpus.to_graphs()
    for name, column in expected.data.columns.items():
        assert np.array_equal(graphs.columns[name], column), name
    assert corpus.ids.tolist() == expected.ids.tolist()
    assert corpus.report[["id", "row", "reason"]].equals(expected.report[["id", "row", "reason"]])


def write(table, folder, **options):
    write_corpus(table, folder, **{"on_error": "report", "shard_size": 10, "verbose": 0} | options)


def test_a_table_becomes_a_corpus(table, expected, tmp_path):
    write(table, tmp_path / "corpus")
    corpus = CrystalCorpus.load(tmp_path / "corpus")
    assert corpus.shards == (9, 10, 10, 10, 9, 10)
    assert_equal(corpus, expected)
    write(table, tmp_path / "corpus")  # which has nothing to do


def test_processes_give_the_same(table, expected, tmp_path):
    write(table, tmp_path / "corpus", n_jobs=2, shard_size=64)
    assert_equal(CrystalCorpus.load(tmp_path / "corpus"), expected)


@pytest.mark.parametrize("interrupted", [1, 4])
def test_interrupted_writing_ends_with_the_same_corpus(table, tmp_path, monkeypatch, interrupted, expected):
    write(table, tmp_path / "whole")
    original, written = CorpusWriter.write, []

    def once_more(self, *args, **options):
        if len(written) == interrupted:
            written.append("stop")
            raise KeyboardInterrupt
        written.append(options["n_records"])
        return original(self, *args, **options)

    monkeypatch.setattr(CorpusWriter, "write", once_more)
    with pytest.raises(KeyboardInterrupt):
        write(table, tmp_path / "corpus")
    with pytest.raises(DatasetError, match="is not complete"):
        CrystalCorpus.load(tmp_path / "corpus")
    write(table, tmp_path / "corpus")
    assert written == [10] * interrupted + ["stop"] + [10] * (6 - interrupted)  # nothing was read twice
    whole, corpus = (CrystalCorpus.load(tmp_path / name) for name in ("whole", "corpus"))
    assert corpus.fingerprint == whole.fingerprint
    assert_equal(corpus, expected)


def test_several_writers_share_a_source(table, tmp_path):
    for part in (2, 0, 1):
        write(table, tmp_path / "corpus", part=part, n_parts=3)
    corpus = CrystalCorpus.load(tmp_path / "corpus")
    # In the order of the source, as targets are. Another writer's ids are not known: the id that occurs twice does.
    assert corpus.ids.tolist() == ["id-3" if n == 45 else f"id-{n}" for n in range(60) if n != 7]


def test_writers_without_anything_to_do(table, tmp_path):
    for part in range(8):
        write(table, tmp_path / "corpus", part=part, n_parts=8)
    assert len(CrystalCorpus.load(tmp_path / "corpus")) == 59


def test_the_first_bad_record_stops_all(table, tmp_path):
    with pytest.raises(RecordError, match="item 7, row 7"):
        write(table, tmp_path / "corpus", on_error="raise")


def test_another_source_or_size_does_not_go_on(table, tmp_path, prototypes):
    write(table, tmp_path / "corpus")
    for source, options in ((table, {"shard_size": 20}), (prototypes[:20], {})):
        with pytest.raises(DatasetError, match="was begun from another source, one that has changed"):
            write(source, tmp_path / "corpus", **options)
    table.write_text(table.read_text() + "\n")
    with pytest.raises(DatasetError, match="was begun from another source, one that has changed"):
        write(table, tmp_path / "corpus")


def _as_folder(crystals, folder):
    folder.mkdir()
    for number, crystal in enumerate(crystals):
        crystal.to(filename=str(folder / f"{number}.cif"))
    return folder


CHANGED = {
    "a list of crystals": lambda old, new: (old, new),
    "the positions": lambda old, new: (old, [_moved(crystal) for crystal in old]),
    "a list of texts": lambda old, new: ([c.to(fmt="cif") for c in old], [c.to(fmt="cif") for c in new]),
    "a list of dicts": lambda old, new: ([c.as_dict() for c in old], [c.as_dict() for c in new]),
    "a list of Atoms": lambda old, new: ([c.to_ase_atoms() for c in old], [c.to_ase_atoms() for c in new]),
    "a Series": lambda old, new: (pd.Series(old), pd.Series(new)),
    "a frame": lambda old, new: (pd.DataFrame({"structure": old}), pd.DataFrame({"structure": new})),
    "the index of a frame": lambda old, new: (pd.Series(old, list("abc")), pd.Series(old, list("abd"))),
    "a table of Arrow": lambda old, new: (_arrow(old), _arrow(new)),
    "a table of Arrow with categories": lambda old, new: (_arrow(old, "ab"), _arrow(old, "ac")),
}


def _moved(crystal):
    return crystal.copy().translate_sites([0], [0.01, 0, 0])


def _arrow(crystals, kinds=None):
    columns = {"structure": [crystal.to(fmt="poscar") for crystal in crystals]}
    if kinds:
        columns["kind"] = pa.array([*kinds, None]).dictionary_encode()
    return pa.table(columns)


@pytest.mark.parametrize("case", CHANGED)
def test_a_source_in_memory_is_told_by_what_is_in_it(case, prototypes, tmp_path):
    old, new = CHANGED[case](prototypes[:3], prototypes[3:6])
    write(old, tmp_path / "corpus")
    write(CHANGED[case](prototypes[:3], prototypes[3:6])[0], tmp_path / "corpus")  # made anew, but the same
    with pytest.raises(DatasetError, match="was begun from another source, one that has changed"):
        write(new, tmp_path / "corpus")


def test_files_are_told_by_names_sizes_and_times(prototypes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = _as_folder(prototypes[:3], tmp_path / "cifs")
    sources = {"of folder": folder, "of glob": "cifs/*.cif", "of list": sorted(folder.glob("*.cif"))}
    for name, source in sources.items():
        write(source, name)
        write(source, name)
    (folder / ".hidden").write_text("which is not read")
    write(folder, "of folder")
    os.utime(folder / "1.cif", ns=(0, 0))
    for name, source in sources.items():
        with pytest.raises(DatasetError, match="one that has changed since"):
            write(source, name)


def test_a_file_that_is_added_is_noticed(prototypes, tmp_path):
    folder = _as_folder(prototypes[:3], tmp_path / "cifs")
    write(folder, tmp_path / "corpus")
    prototypes[3].to(filename=str(folder / "3.cif"))
    with pytest.raises(DatasetError, match="one that has changed since"):
        write(folder, tmp_path / "corpus")


def test_of_a_stream_nothing_can_be_told(prototypes, tmp_path):
    write(iter(prototypes[:3]), tmp_path / "corpus")
    with pytest.warns(UserWarning, match="whether it is of this source cannot be told"):
        write(iter(prototypes[3:6]), tmp_path / "corpus")
    assert len(CrystalCorpus.load(tmp_path / "corpus")) == 3


def test_texts(prototypes, tmp_path):
    texts = [crystal.to(fmt="cif") for crystal in prototypes[:3]]
    write(texts, tmp_path / "corpus")
    assert len(CrystalCorpus.load(tmp_path / "corpus")) == 3
    write(texts[0], tmp_path / "of one")
    assert len(CrystalCorpus.load(tmp_path / "of one")) == 1


def test_a_corpus_is_no_source(table, tmp_path):
    write(table, tmp_path / "corpus")
    CrystalCorpus.load(tmp_path / "corpus").to_graphs().save(tmp_path / "graphs")
    for name in ("corpus", "graphs"):
        with pytest.raises(DatasetError, match="holds graphs that were made before"):
            read_crystals(tmp_path / name)


def test_no_crystals(tmp_path):
    (tmp_path / "bad.cif").write_text("nothing")
    with pytest.raises(ValueError, match="no crystal was written"):
        write([tmp_path / "bad.cif"], tmp_path / "corpus")


def test_chunks_that_are_passed_over(prototypes):
    def ids(chunks):
        found = iter_crystals(prototypes[:50], chunk_size=10, chunks=chunks, verbose=0)
        return [(chunk.ids[0], chunk.positions[0], len(chunk)) for chunk in found]

    assert ids(slice(1, None, 2)) == [("10", 10, 10), ("30", 30, 10)]
    assert ids(slice(4, None)) == [("40", 40, 10)]
    assert ids(slice(9, None)) == []
    for wrong in (slice(0, 3), slice(-1, None), slice(0, None, -1)):
        with pytest.raises(ValueError, match="chunks must be a slice"):
            ids(wrong)
