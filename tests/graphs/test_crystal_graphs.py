"""The columnar container: what scikit-learn, PyG, pickle and the disk do with it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import stat
import tempfile

import joblib
import numpy as np
import pytest
import torch
from joblib._memmapping_reducer import ArrayMemmapForwardReducer, _get_backing_memmap
from pymatgen.core import Lattice, Structure
from safetensors.numpy import load_file, save_file
from sklearn.model_selection import KFold, train_test_split
from sklearn.utils import _safe_indexing, shuffle

from crystalssl import CrystalGraphs, CrystalGraphTransformer
from crystalssl._tensors import read_header
from crystalssl.exceptions import DatasetError, RecipeMismatchError
from crystalssl.graphs import GraphRecipe, _storage
from crystalssl.graphs._crystal_graphs import _COLUMNS as COLUMNS
from crystalssl.graphs._ragged import concatenate_ranges

N = 12


def assert_same(graphs, others):
    assert graphs.recipe == others.recipe
    assert len(graphs) == len(others)
    for name, dtype in COLUMNS.items():
        a, b = getattr(graphs, name), getattr(others, name)
        assert a.dtype == b.dtype == dtype, name
        assert np.array_equal(a, b), name


@pytest.fixture(scope="module")
def structures(prototypes):
    """Crystals of different sizes, among them an isolated atom, which has no edges."""
    chosen = prototypes[5 : 5 * N : 5]
    chosen.insert(4, Structure(Lattice.cubic(50), ["Ar"], [[0, 0, 0]]))
    assert len(chosen) == N
    assert len({len(s) for s in chosen}) > 3
    return chosen


@pytest.fixture(scope="module")
def graphs(structures):
    return CrystalGraphTransformer("cgcnn").transform(structures)


def graphs_of(structures, rows):
    return CrystalGraphTransformer("cgcnn").transform([structures[row] for row in rows])


# ---------------------------------------------------------------------- sequence


def test_sizes(graphs, structures):
    assert len(graphs) == N
    assert graphs.shape == (N, 1)
    assert graphs.ndim == 2
    assert graphs.n_atoms == sum(map(len, structures))
    assert graphs.n_edges == len(graphs.distances) == graphs.edge_offsets[-1]
    assert graphs.nbytes == sum(getattr(graphs, name).nbytes for name in COLUMNS)
    assert graphs.elements == tuple(sorted({z for s in structures for z in s.atomic_numbers}))


SELECTIONS = {
    "slice": (slice(2, 7), range(2, 7)),
    "slice to the end": (slice(9, None), range(9, N)),
    "slice beyond the end": (slice(9, 99), range(9, N)),
    "negative slice": (slice(-3, -1), range(N - 3, N - 1)),
    "whole slice": (slice(None), range(N)),
    "slice with step": (slice(1, None, 3), range(1, N, 3)),
    "backwards": (slice(None, None, -1), range(N - 1, -1, -1)),
    "list": ([3, 1, 4, 1], [3, 1, 4, 1]),
    "array": (np.array([3, 1, 4, 1]), [3, 1, 4, 1]),
    "array of small integers": (np.array([3, 1, 4], dtype=np.uint8), [3, 1, 4]),
    "negative indices": ([-1, 0, -N], [N - 1, 0, 0]),
    "mask": (np.arange(N) % 3 == 1, range(1, N, 3)),
    "list of bools": ([i == 4 for i in range(N)], [4]),
    "tuple with ellipsis": (([2, 5], ...), [2, 5]),
    "tuple of slice and ellipsis": ((slice(2, 5), ...), [2, 3, 4]),
}


@pytest.mark.parametrize(("key", "rows"), SELECTIONS.values(), ids=SELECTIONS)
def test_selected_graphs_equal_those_of_the_selected_crystals_alone(graphs, structures, key, rows):
    assert_same(graphs[key], graphs_of(structures, rows))


@pytest.mark.parametrize("key", [slice(3, 3), slice(N, None), slice(5, 2), slice(5, 2, 2), [], np.zeros(N, dtype=bool)])
def test_empty_selection(graphs, key):
    empty = graphs[key]
    assert len(empty) == empty.n_atoms == empty.n_edges == 0
    assert list(empty) == []
    assert empty.recipe == graphs.recipe
    assert len(empty[:]) == 0
    assert_same(CrystalGraphs.concatenate([empty, graphs[2:4], empty]), graphs[2:4])


@pytest.mark.parametrize("rows", [[5, 0], [7], [4]])
def test_selection_of_a_selection(graphs, structures, rows):
    assert_same(graphs[3:][rows], graphs_of(structures, [row + 3 for row in rows]))
    assert_same(graphs[::-1][rows], graphs_of(structures, [N - 1 - row for row in rows]))


def test_slice_shares_memory(graphs):
    part = graphs[3:9]
    for name in COLUMNS:
        if not name.endswith("offsets"):
            assert np.shares_memory(getattr(part, name), getattr(graphs, name)), name


def test_selection_leaves_the_original_alone(structures):
    graphs = graphs_of(structures, range(6))
    copy = pickle.loads(pickle.dumps(graphs))
    taken = graphs[[3, 4, 1]]
    for name in COLUMNS:
        getattr(taken, name)[...] = 0
    assert_same(graphs, copy)


@pytest.mark.parametrize("index", [0, 4, N - 1, -1, -N, np.int64(3), np.uint8(7)])
def test_integer_gives_the_data_of_one_crystal(graphs, structures, index):
    data, structure = graphs[index], structures[index]
    assert data.z.tolist() == list(structure.atomic_numbers)
    np.testing.assert_allclose(data.pos.numpy(), structure.cart_coords)
    np.testing.assert_allclose(data.cell.numpy(), [structure.lattice.matrix])  # an axis that PyG concatenates
    neighbors, centers = data.edge_index
    vectors = data.pos[neighbors] + data.image.double() @ data.cell[0] - data.pos[centers]
    torch.testing.assert_close(vectors.norm(dim=1).float(), data.distance)
    assert data.num_nodes == len(structure)
    data.validate()


def test_data_does_not_share_memory_with_the_graphs(structures):
    graphs = graphs_of(structures, [0, 1])
    data = graphs[0]
    data.distance.zero_()
    data.z.zero_()
    assert graphs.distances.min() > 0
    assert graphs.atomic_numbers.min() > 0


@pytest.mark.parametrize("index", [N, -N - 1, np.int64(99)])
def test_integer_out_of_range(graphs, index):
    with pytest.raises(IndexError):
        graphs[index]


@pytest.mark.parametrize("rows", [[0, N], [-N - 1], np.array([3, 99, 0])])
def test_index_array_out_of_range_names_the_index(graphs, rows):
    wrong = next(row for row in rows if not -N <= row < N)
    with pytest.raises(IndexError, match=rf"index {wrong} is out of range for {N} crystals"):
        graphs[rows]


@pytest.mark.parametrize("length", [N - 1, N + 1, 1])
def test_mask_of_another_length(graphs, length):
    with pytest.raises(IndexError, match=rf"mask has shape \({length},\), but there are {N} crystals"):
        graphs[np.ones(length, dtype=bool)]


@pytest.mark.parametrize("key", [1.5, [0.0, 1.0], "a", None, [[0, 1], [2, 3]], np.array(3.0)])
def test_keys_that_are_no_indices(graphs, key):
    with pytest.raises(IndexError, match="index CrystalGraphs with"):
        graphs[key]


@pytest.mark.parametrize("key", [(0, 0), (..., 0), (0, ..., 0), ()])
def test_there_is_one_axis(graphs, key):
    with pytest.raises(IndexError, match="one axis"):
        graphs[key]


def test_iteration_goes_over_all_crystals_in_order(graphs, structures):
    assert [data.z.tolist() for data in graphs] == [list(s.atomic_numbers) for s in structures]
    assert [data.z.tolist() for data in reversed(graphs)] == [list(s.atomic_numbers) for s in structures[::-1]]


# ---------------------------------------------------------------------- construction


def test_an_item_is_pygs_data_with_the_columns_of_its_crystal(graphs):
    for i, data in enumerate(graphs):
        one = graphs[i : i + 1]
        assert data.validate()
        np.testing.assert_array_equal(data.z, one.atomic_numbers)
        np.testing.assert_array_equal(data.pos, one.positions)
        np.testing.assert_array_equal(data.cell, one.lattice)
        np.testing.assert_array_equal(data.image, one.images)
        np.testing.assert_array_equal(data.distance, one.distances)
        neighbors, centers = data.edge_index.numpy()
        np.testing.assert_array_equal(neighbors, one.neighbors)
        np.testing.assert_array_equal(np.bincount(centers, minlength=len(data.z)), np.diff(one.edge_offsets))
        assert (np.diff(centers) >= 0).all()


def test_concatenate_undoes_splitting(graphs):
    assert_same(CrystalGraphs.concatenate([graphs[:3], graphs[3:5], graphs[5:]]), graphs)
    assert_same(CrystalGraphs.concatenate([graphs]), graphs)


@pytest.mark.parametrize("recipe", [{"cutoff": 7.0}, {"max_neighbors": 11}])
def test_other_recipes_are_not_mixed_in(graphs, structures, recipe):
    other = CrystalGraphTransformer(**recipe).transform(structures[:2])
    with pytest.raises(RecipeMismatchError, match="the graphs were built with"):
        CrystalGraphs.concatenate([graphs, other])


def test_concatenate_nothing():
    with pytest.raises(ValueError, match="no CrystalGraphs were given"):
        CrystalGraphs.concatenate([])


def test_check_recipe_says_how_to_build_the_right_ones(graphs):
    graphs.check_recipe(GraphRecipe(cutoff=8.0, max_neighbors=12))
    with pytest.raises(RecipeMismatchError, match=r"CrystalGraphTransformer\(cutoff=5.0, max_neighbors=7\)"):
        graphs.check_recipe(GraphRecipe(cutoff=5.0, max_neighbors=7))


@pytest.mark.parametrize("recipe", [GraphRecipe(5.0), GraphRecipe(8.0, 4), GraphRecipe(3.0, 12)], ids=str)
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_with_recipe_equals_building_from_the_structures(graphs, structures, recipe, n_jobs):
    # MEGNet's recipe is the one without a number of neighbours.
    encoder = "megnet" if recipe.max_neighbors is None else "cgcnn"
    transformer = CrystalGraphTransformer(cutoff=recipe.cutoff, max_neighbors=recipe.max_neighbors, encoder=encoder)
    built = transformer.transform(structures)
    before = pickle.loads(pickle.dumps(graphs))
    assert_same(graphs.with_recipe(recipe, n_jobs=n_jobs), built)
    assert_same(graphs, before)
    assert built.n_edges != graphs.n_edges
    assert_same(built.with_recipe(graphs.recipe), graphs)


def test_with_recipe_of_a_selection_of_one_crystal_and_of_read_only_graphs(graphs, structures, tmp_path):
    recipe = GraphRecipe(5.0)
    built = CrystalGraphTransformer(encoder="megnet").transform(structures)
    assert_same(graphs[3:9].with_recipe(recipe), built[3:9])
    assert_same(graphs[[7, 2, 2]].with_recipe(recipe), built[[7, 2, 2]])
    assert_same(graphs[4:5].with_recipe(recipe), built[4:5])
    graphs.save(tmp_path / "graphs")
    assert_same(CrystalGraphs.load(tmp_path / "graphs").with_recipe(recipe), built)


def test_with_the_same_recipe_nothing_is_built(graphs):
    assert graphs.with_recipe(GraphRecipe(8.0, 12)) is graphs


@pytest.mark.parametrize("name", [name for name in COLUMNS if name != "atom_offsets"])
def test_columns_that_do_not_fit_together_are_refused(graphs, name):
    columns = {column: getattr(graphs, column) for column in COLUMNS}
    columns[name] = columns[name][:-1]
    with pytest.raises(ValueError, match="has shape"):
        CrystalGraphs(graphs.recipe, **columns)


@pytest.mark.parametrize(
    ("starts", "lengths", "expected"),
    [
        ([3, 0, 7], [2, 3, 1], [3, 4, 0, 1, 2, 7]),
        ([5, 5], [0, 2], [5, 6]),
        ([1, 4, 2], [1, 0, 0], [1]),
        ([], [], []),
    ],
)
def test_concatenate_ranges(starts, lengths, expected):
    found = concatenate_ranges(np.array(starts, dtype=int), np.array(lengths, dtype=int))
    assert found.tolist() == expected


def test_repr_tells_the_sizes(graphs):
    assert repr(graphs) == (
        f"CrystalGraphs({N} crystals, {graphs.n_atoms} atoms, {graphs.n_edges} edges, cutoff=8.0, max_neighbors=12)"
    )


# ---------------------------------------------------------------------- scikit-learn


@pytest.mark.parametrize("key", [[2, 0], np.array([2, 0]), np.arange(N) > 8, slice(1, 4), (1, 3)])
def test_safe_indexing(graphs, key):
    rows = range(*key) if isinstance(key, tuple) else np.arange(N)[key]
    key = slice(*key) if isinstance(key, tuple) else key
    assert_same(_safe_indexing(graphs, key), graphs[list(rows)])


def test_train_test_split(graphs):
    rows = np.arange(N)
    train, test, train_rows, test_rows = train_test_split(graphs, rows, test_size=4, random_state=0)
    assert sorted([*train_rows, *test_rows]) == rows.tolist()
    assert_same(train, graphs[train_rows])
    assert_same(test, graphs[test_rows])


def test_folds(graphs):
    seen = []
    for train, test in KFold(5, shuffle=True, random_state=0).split(graphs):
        assert len(graphs[train]) + len(graphs[test]) == N
        seen += test.tolist()
    assert sorted(seen) == list(range(N))


def test_shuffle(graphs):
    shuffled, rows = shuffle(graphs, np.arange(N), random_state=3)
    assert_same(shuffled, graphs[rows])


# ---------------------------------------------------------------------- pickle and disk


@pytest.mark.parametrize("key", [slice(None), slice(3, 6), [4, 2]])
def test_pickle(graphs, key):
    assert_same(pickle.loads(pickle.dumps(graphs[key])), graphs[key])


def test_pickle_of_a_slice_does_not_carry_the_rest(graphs):
    assert len(pickle.dumps(graphs[4:5])) < 3000 < len(pickle.dumps(graphs))


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("key", [slice(None), slice(3, 9), [4], []])
def test_saved_graphs_are_the_same_when_loaded(graphs, key, mmap, tmp_path):
    graphs[key].save(tmp_path / "new" / "graphs")
    loaded = CrystalGraphs.load(tmp_path / "new" / "graphs", mmap=mmap)
    assert_same(loaded, graphs[key])
    assert_same(loaded[:1], graphs[key][:1])
    assert_same(pickle.loads(pickle.dumps(loaded)), graphs[key])


def test_memory_mapped_graphs_are_read_only_files(graphs, tmp_path):
    graphs.save(tmp_path / "graphs")
    loaded = CrystalGraphs.load(tmp_path / "graphs")
    for name, dtype in COLUMNS.items():
        column = getattr(loaded, name)
        assert isinstance(_get_backing_memmap(column), np.memmap), name
        assert not column.flags.writeable, name
        assert column.ctypes.data % np.dtype(dtype).itemsize == 0, name
    assert_same(loaded[[7, 1]], graphs[[7, 1]])
    assert loaded[7].z.tolist() == graphs[7].z.tolist()


def test_path_may_be_text(graphs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graphs.save("graphs")
    assert_same(CrystalGraphs.load("graphs"), graphs)


@pytest.mark.parametrize("kind", ["graphs", "empty folder", "file"])
def test_what_exists_is_not_overwritten(graphs, tmp_path, kind):
    target = tmp_path / "graphs"
    if kind == "graphs":
        graphs[:2].save(target)
    elif kind == "empty folder":
        target.mkdir()
    else:
        target.write_text("a file")
    with pytest.raises(FileExistsError, match="exists already"):
        graphs.save(target)
    assert [path.name for path in tmp_path.iterdir()] == ["graphs"]
    if kind == "graphs":
        assert_same(CrystalGraphs.load(target), graphs[:2])


def test_of_two_that_save_at_once_the_first_wins(graphs, tmp_path, monkeypatch):
    write = _storage._write

    def meanwhile(file, columns):
        monkeypatch.setattr(_storage, "_write", write)
        graphs[:2].save(tmp_path / "graphs")
        write(file, columns)

    monkeypatch.setattr(_storage, "_write", meanwhile)
    with pytest.raises(FileExistsError, match="by another process meanwhile"):
        graphs.save(tmp_path / "graphs")
    assert [path.name for path in tmp_path.iterdir()] == ["graphs"]
    assert_same(CrystalGraphs.load(tmp_path / "graphs"), graphs[:2])


@pytest.mark.parametrize("error", [OSError("no space left on device"), KeyboardInterrupt()])
def test_interrupted_save_leaves_nothing_behind(graphs, tmp_path, monkeypatch, error):
    def half(file, columns):
        assert not (tmp_path / "graphs").exists()
        file.write(b"half")
        raise error

    monkeypatch.setattr(_storage, "_write", half)
    with pytest.raises(DatasetError if isinstance(error, OSError) else KeyboardInterrupt):
        graphs.save(tmp_path / "graphs")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def folder(graphs, tmp_path):
    graphs.save(tmp_path / "graphs")
    return tmp_path / "graphs"


def assert_refused(folder, mmap):
    with pytest.raises(DatasetError, match="is not a complete folder of CrystalGraphs") as caught:
        CrystalGraphs.load(folder, mmap=mmap)
    assert str(folder) in str(caught.value)


def sign(folder, format_number=3):
    """Have graphs.json say the hash of what is there, so that what is behind the check is tested."""
    meta = json.loads((folder / "graphs.json").read_text())
    digest = hashlib.sha256(json.dumps(meta["recipe"], sort_keys=True).encode())
    for name in ["graphs.safetensors"] if format_number == 3 else [f"{name}.npy" for name in COLUMNS]:
        digest.update((folder / name).read_bytes())
    meta |= {"format": format_number, "sha256": digest.hexdigest()}
    (folder / "graphs.json").write_text(json.dumps(meta))


both = pytest.mark.parametrize("mmap", [True, False])


@both
@pytest.mark.parametrize("name", ["graphs.safetensors", "graphs.json"])
def test_missing_file_is_refused(folder, name, mmap):
    (folder / name).unlink()
    assert_refused(folder, mmap)


@both
@pytest.mark.parametrize("name", ["graphs.safetensors", "graphs.json"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_truncated_file_is_refused(folder, name, keep, mmap):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(keep * len(content))])
    assert_refused(folder, mmap)


@both
@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize(
    "alter",
    [
        lambda column: column.astype(np.float16),
        lambda column: column[:-1],
        lambda column: np.concatenate([column, column[-1:] + 1]),
        lambda column: column[..., None],
        lambda column: column[:0],
    ],
    ids=["type", "shorter", "longer", "axis", "empty"],
)
def test_altered_column_is_refused(folder, name, alter, mmap):
    columns = load_file(folder / "graphs.safetensors")
    save_file(columns | {name: np.ascontiguousarray(alter(columns[name]))}, folder / "graphs.safetensors")
    sign(folder)
    assert_refused(folder, mmap)


@pytest.fixture
def old_folder(folder):
    """As versions before this one wrote it: a .npy file for each column."""
    for name, column in load_file(folder / "graphs.safetensors").items():
        np.save(folder / f"{name}.npy", column)
    (folder / "graphs.safetensors").unlink()
    sign(folder, 2)
    return folder


@both
def test_folders_of_the_former_format_are_read(old_folder, graphs, mmap):
    assert_same(CrystalGraphs.load(old_folder, mmap=mmap), graphs)


@both
@pytest.mark.parametrize("kind", ["missing", "altered", "FIFO", "folder"])
def test_damaged_folder_of_the_former_format_is_refused(old_folder, kind, mmap):
    path = old_folder / "neighbors.npy"
    content = path.read_bytes()
    path.unlink()
    if kind == "altered":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    assert_refused(old_folder, mmap)


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.touch, ()


@both
def test_pickles_are_never_loaded(old_folder, tmp_path, mmap):
    array = np.empty(3, dtype=object)
    array[0] = Touch(tmp_path / "executed")
    np.save(old_folder / "distances.npy", array, allow_pickle=True)
    sign(old_folder, 2)
    assert_refused(old_folder, mmap)
    assert not (tmp_path / "executed").exists()


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts descriptors")
def test_mapped_graphs_hold_one_descriptor(folder, graphs):
    before = os.listdir("/proc/self/fd")
    loaded = CrystalGraphs.load(folder)
    held = [loaded[:2], loaded[[1, 0]]]
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    del loaded, held
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_mapped_graphs_go_to_workers_as_a_file(folder, graphs):
    """Joblib sends where the columns are in the file, not what is in them."""
    loaded = CrystalGraphs.load(folder)
    with tempfile.TemporaryDirectory() as place:
        reduce = ArrayMemmapForwardReducer(1, lambda: place, None, unlink_on_gc_collect=False)
        for name in COLUMNS:
            column = getattr(loaded, name)
            rebuild, arguments = reduce(column)
            assert str(folder / "graphs.safetensors") in map(str, arguments), name
            assert np.array_equal(rebuild(*arguments), column), name
    join = joblib.delayed(CrystalGraphs.concatenate)
    whole, part = joblib.Parallel(n_jobs=2)(join([part]) for part in (loaded, loaded[3:7]))
    assert_same(whole, graphs)
    assert_same(part, graphs[3:7])


@both
def test_offsets_that_go_backwards_are_refused(folder, graphs, mmap):
    """They would be taken for lengths, of which some are negative."""
    columns = load_file(folder / "graphs.safetensors")
    columns["edge_offsets"][1:-1] = columns["edge_offsets"][1:-1][::-1]
    save_file(columns, folder / "graphs.safetensors")
    sign(folder)
    assert_refused(folder, mmap)


@both
@pytest.mark.parametrize("kind", ["sparse file", "FIFO", "folder", "device", "link to a FIFO"])
@pytest.mark.parametrize("name", ["graphs.safetensors", "graphs.json"])
def test_what_is_no_file_is_refused(folder, hostile, name, kind, mmap):
    hostile(folder / name, kind)
    assert_refused(folder, mmap)


def test_permissions_are_those_that_the_umask_leaves(graphs, tmp_path, umask):
    umask(0o027)
    graphs.save(tmp_path / "graphs")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "graphs").iterdir()}
    assert modes == {"graphs.json": 0o640, "graphs.safetensors": 0o640}
    assert stat.S_IMODE((tmp_path / "graphs").stat().st_mode) == 0o750


@pytest.mark.parametrize("place", ["n" * 300, "file/graphs", "null\0byte"])
def test_place_that_cannot_be_written_to_is_named(graphs, tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"could not be written to .* choose a place") as caught:
        graphs.save(tmp_path / place)
    assert str(tmp_path / place) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(DatasetError, match="is not a complete folder"):
        CrystalGraphs.load(tmp_path / place)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"recipe": {}}',
        '{"recipe": {"cutoff": -1}}',
        '{"recipe": {"cutoff": 8.0, "radius": 3}}',
    ],
)
def test_description_that_makes_no_sense_is_refused(folder, content):
    (folder / "graphs.json").write_text(content)
    assert_refused(folder, mmap=True)


def test_folder_that_does_not_exist_is_refused(tmp_path):
    assert_refused(tmp_path / "nothing", mmap=True)


def test_recipe_is_stored(folder, graphs):
    recipe = json.loads((folder / "graphs.json").read_text())["recipe"]
    assert recipe == {"cutoff": 8.0, "max_neighbors": 12, "shell": 0.01, "version": 2}
    newer = copy.copy(graphs)
    newer.recipe = GraphRecipe(8.0, 12, version=3)
    newer.save(folder.with_name("newer"))
    with pytest.raises(RecipeMismatchError):
        CrystalGraphs.load(folder.with_name("newer")).check_recipe(graphs.recipe)


@both
@pytest.mark.parametrize("name", COLUMNS)
def test_a_single_wrong_bit_is_refused(folder, name, mmap):
    path = folder / "graphs.safetensors"
    with path.open("rb") as file:
        entries, _ = read_header(file, path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[entries[name].stop - 3] ^= 1
    path.write_bytes(content)
    assert_refused(folder, mmap)


@pytest.mark.parametrize(("old", "new"), [('"cutoff": 8.0', '"cutoff": 9.0'), ('"format": 3', '"format": 1')])
def test_altered_description_is_refused(folder, old, new):
    text = (folder / "graphs.json").read_text()
    assert old in text
    (folder / "graphs.json").write_text(text.replace(old, new))
    assert_refused(folder, mmap=True)


def test_indices_of_few_bits_reach_all_crystals(graphs):
    many = CrystalGraphs.concatenate([graphs] * (300 // len(graphs) + 1))
    for dtype, rows in ((np.uint8, [0, 1, 255]), (np.int8, [0, -1, 127])):
        found, expected = many[np.array(rows, dtype=dtype)], many[rows]
        assert np.array_equal(found.atomic_numbers, expected.atomic_numbers)
        assert np.array_equal(found.atom_offsets, expected.atom_offsets)
