from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from safetensors.numpy import load_file, save_file

from crystalssl import CrystalGraphs, CrystalGraphTransformer
from crystalssl.exceptions import DatasetError
from crystalssl.graphs._packing import PACKED, pack, unpack


def assert_same(found, graphs):
    assert found.recipe == graphs.recipe
    for name, column in graphs.columns.items():
        assert found.columns[name].dtype == column.dtype, name
        assert np.array_equal(found.columns[name], column), name


@pytest.mark.parametrize("encoder", ["cgcnn", "gatedgcn", "megnet"])
def test_the_very_same_columns_come_back(crystals, encoder):
    graphs = CrystalGraphTransformer(encoder).transform(crystals[:300])
    packed = pack(graphs.columns)
    assert_same(CrystalGraphs(graphs.recipe, **unpack(packed)), graphs)
    n_bytes = sum(column.nbytes for column in packed.values())
    assert n_bytes < graphs.nbytes / 2.5


def test_distances_that_come_out_otherwise_are_kept(real_graphs):
    columns = dict(real_graphs.columns)
    columns["distances"] = np.nextafter(columns["distances"], np.float32(9))
    packed = pack(columns)
    assert len(packed["corrected"]) > 0.9 * real_graphs.n_edges
    assert np.array_equal(unpack(packed)["distances"], columns["distances"])


def test_only_a_few_distances_have_to_be_kept(real_graphs):
    assert len(pack(real_graphs.columns)["corrected"]) < 0.01 * real_graphs.n_edges


def test_types_grow_with_the_crystals():
    """300 atoms, and images far away, of a cell whose sites lie in other cells."""
    chain = Structure(Lattice.orthorhombic(4, 4, 900), ["Si"] * 300, [[9.0 * (i % 9), 0, i / 300] for i in range(300)])
    graphs = CrystalGraphTransformer("megnet").transform([chain])
    packed = pack(graphs.columns)
    assert packed["neighbors"].dtype == np.uint16
    assert np.abs(packed["images"]).max() > 60
    assert_same(CrystalGraphs(graphs.recipe, **unpack(packed)), graphs)


def test_more_than_256_images(real_graphs):
    columns = dict(real_graphs.columns)
    rng = np.random.default_rng(0)
    columns["images"] = rng.integers(-127, 128, columns["images"].shape, dtype=np.int8)
    packed = pack(columns)
    assert packed["image_numbers"].dtype == np.uint16
    assert np.array_equal(unpack(packed)["images"], columns["images"])
    assert np.array_equal(unpack(packed)["distances"], columns["distances"])


def test_no_crystals_and_no_edges(real_graphs):
    lone = CrystalGraphTransformer("megnet").transform([Structure(Lattice.cubic(20), ["Ar"], [[0, 0, 0]])])
    assert lone.n_edges == 0
    for graphs in (real_graphs[:0], lone, real_graphs[:1]):
        assert_same(CrystalGraphs(graphs.recipe, **unpack(pack(graphs.columns))), graphs)


@pytest.fixture
def graphs(real_graphs):
    """One distance is not the one that follows from the positions."""
    columns = dict(real_graphs.columns)
    columns["distances"] = columns["distances"].copy()
    columns["distances"][7] *= np.float32(1.001)
    return CrystalGraphs(real_graphs.recipe, **columns)


@pytest.fixture
def folder(graphs, tmp_path):
    graphs.save(tmp_path / "packed", packed=True)
    return tmp_path / "packed"


@pytest.mark.parametrize("mmap", [True, False])
def test_packed_folder(folder, graphs, tmp_path, mmap):
    assert_same(CrystalGraphs.load(folder, mmap=mmap), graphs)
    graphs.save(tmp_path / "plain")
    sizes = [(path / "graphs.safetensors").stat().st_size for path in (folder, tmp_path / "plain")]
    assert sizes[0] < sizes[1] / 2.5


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize(
    "alter",
    [lambda column: column.astype(np.float16), lambda column: column[:-1], lambda column: column[:0]],
    ids=["type", "shorter", "empty"],
)
def test_altered_packed_column_is_refused(folder, name, alter):
    """Also with the right hash, of which whoever altered it may have thought."""
    columns = load_file(folder / "graphs.safetensors")
    altered = np.ascontiguousarray(alter(columns[name]))
    save_file(columns | {name: altered}, folder / "graphs.safetensors")
    meta = json.loads((folder / "graphs.json").read_text())
    digest = hashlib.sha256(json.dumps(meta["recipe"], sort_keys=True).encode())
    digest.update((folder / "graphs.safetensors").read_bytes())
    (folder / "graphs.json").write_text(json.dumps(meta | {"sha256": digest.hexdigest()}))
    with pytest.raises(DatasetError, match="is not a complete folder of CrystalGraphs"):
        CrystalGraphs.load(folder)


def test_a_wrong_bit_is_refused(folder):
    path = folder / "graphs.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="altered"):
        CrystalGraphs.load(folder)
