import builtins

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from crystalssl.datasets import read_optimade_parquet
from crystalssl.exceptions import DatasetError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

CRYSTALS = [
    Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    Structure(Lattice.from_parameters(3, 4, 5, 80, 95, 110), ["Fe", "O"], [[0, 0, 0], [0.1, 0.4, 0.7]]),
    Structure(Lattice.cubic(3.35), ["Po"], [[0.25, -0.5, 1.5]]),
]


def table_of(crystals, **changes):
    columns = {
        "immutable_id": [f"id-{number}" for number in range(len(crystals))],
        "lattice_vectors": [crystal.lattice.matrix.tolist() for crystal in crystals],
        "species_at_sites": [[site.specie.symbol for site in crystal] for crystal in crystals],
        "cartesian_site_positions": [crystal.cart_coords.tolist() for crystal in crystals],
        "chemical_formula_reduced": [crystal.reduced_formula for crystal in crystals],
        "band_gap": [1.5, None, 0.0][: len(crystals)],
        "source": ["a", "b", "c"][: len(crystals)],
    }
    return columns | changes


@pytest.fixture
def write(tmp_path):
    def write(columns, **kwargs):
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        pq.write_table(table, tmp_path / "crystals.parquet", **kwargs)
        return tmp_path / "crystals.parquet"

    return write


def same(built, expected, atol=1e-9):
    assert built.species == expected.species
    assert built.lattice.matrix.dtype == built.frac_coords.dtype == np.float64
    np.testing.assert_allclose(built.lattice.matrix, expected.lattice.matrix, rtol=0, atol=atol)
    np.testing.assert_allclose(built.cart_coords, expected.cart_coords, rtol=0, atol=atol)


def test_round_trip(write):
    path = write(table_of(CRYSTALS))
    bunch = read_optimade_parquet(path)
    assert isinstance(bunch.data, list)
    assert len(bunch.data) == 3
    for built, expected in zip(bunch.data, CRYSTALS, strict=True):
        same(built, expected)
    assert bunch.ids.tolist() == ["id-0", "id-1", "id-2"]
    assert bunch.formulas.tolist() == ["NaCl", "FeO", "Po"]
    assert bunch.target_names == list(bunch.target.columns) == ["band_gap", "source"]
    assert bunch.target["band_gap"].isna().tolist() == [False, True, False]
    assert bunch.target["source"].tolist() == ["a", "b", "c"]
    assert bunch.filename == str(path)
    assert "3 crystals" in bunch.DESCR


def list_types(outer, inner):
    vectors = outer(inner(pa.float32()))
    return {
        "lattice_vectors": vectors,
        "cartesian_site_positions": pa.large_list(inner(pa.float32())),
        "species_at_sites": pa.list_(pa.dictionary(pa.int8(), pa.string())),
    }


@pytest.mark.parametrize("inner", [pa.list_, lambda kind: pa.list_(kind, 3)], ids=["list", "fixed"])
@pytest.mark.parametrize(
    "outer", [pa.list_, pa.large_list, lambda kind: pa.list_(kind, 3)], ids=["l", "large", "fixed"]
)
@pytest.mark.parametrize("row_group_size", [None, 1])
def test_float32_and_every_kind_of_list(write, outer, inner, row_group_size):
    columns = table_of(CRYSTALS)
    for name, kind in list_types(outer, inner).items():
        columns[name] = pa.array(columns[name], type=kind)
    bunch = read_optimade_parquet(write(columns, row_group_size=row_group_size))
    for built, expected in zip(bunch.data, CRYSTALS, strict=True):
        same(built, expected, atol=1e-5)


def test_columns_chooses_labels(write):
    path = write(table_of(CRYSTALS))
    assert list(read_optimade_parquet(path, columns=["source"]).target.columns) == ["source"]
    assert list(read_optimade_parquet(path, columns=["source", "band_gap"]).target.columns) == ["source", "band_gap"]
    assert read_optimade_parquet(path, columns=[]).target.shape == (3, 0)
    with pytest.raises(DatasetError, match="no label column 'gap'; its label columns are band_gap, source"):
        read_optimade_parquet(path, columns=["gap"])
    with pytest.raises(TypeError, match=r"columns=\['band_gap'\]"):
        read_optimade_parquet(path, columns="band_gap")


@pytest.mark.parametrize(
    "name",
    ["immutable_id", "lattice_vectors", "species_at_sites", "cartesian_site_positions", "chemical_formula_reduced"],
)
def test_missing_column_is_named(write, name):
    columns = table_of(CRYSTALS)
    del columns[name]
    with pytest.raises(DatasetError, match=f"no column '{name}'"):
        read_optimade_parquet(write(columns))


def edited(name, row, value):
    columns = table_of(CRYSTALS)
    columns[name] = [*columns[name][:row], value, *columns[name][row + 1 :]]
    return columns


@pytest.mark.parametrize(
    ("name", "row", "value", "message"),
    [
        (
            "cartesian_site_positions",
            1,
            [[0.0, 0.0, 0.0]],
            "cartesian_site_positions has the shape (1, 3), expected (2, 3)",
        ),
        ("species_at_sites", 2, ["Po", "Po"], "cartesian_site_positions has the shape (1, 3), expected (2, 3)"),
        ("lattice_vectors", 1, [[1.0, 0.0, 0.0]] * 2, "lattice_vectors has the shape (2, 3), expected (3, 3)"),
        ("lattice_vectors", 1, [[1.0, 0.0, 0.0]] * 3, "span no volume"),
        ("lattice_vectors", 2, [[1.0, 0.0]] * 3, "lattice_vectors has the shape (3, 2), expected (3, 3)"),
        ("cartesian_site_positions", 1, [[0.0, 0.0], [0.0] * 4], "cartesian_site_positions is not a list of vectors"),
        ("cartesian_site_positions", 1, [[0.0] * 3, [0.0, None, 0.0]], "cartesian_site_positions holds null"),
        ("cartesian_site_positions", 1, [[0.0] * 3, None], "cartesian_site_positions is not a list of vectors"),
        ("cartesian_site_positions", 0, None, "cartesian_site_positions is missing"),
        ("lattice_vectors", 2, None, "lattice_vectors is missing"),
        ("species_at_sites", 1, None, "species_at_sites is missing"),
        ("species_at_sites", 1, ["Fe", "Ox"], "'Ox' is not an element symbol"),
        ("species_at_sites", 1, ["Fe", None], "species_at_sites is not a list of names"),
    ],
)
def test_bad_row_is_named(write, name, row, value, message):
    path = write(edited(name, row, value))
    with pytest.raises(DatasetError) as caught:
        read_optimade_parquet(path)
    assert f"{path}, row {row} (immutable_id 'id-{row}'): " in str(caught.value)
    assert message in str(caught.value)


def test_column_of_another_type_is_named(write):
    columns = table_of(CRYSTALS) | {"lattice_vectors": ["a", "b", "c"]}
    with pytest.raises(DatasetError, match=r"row 0 .* lattice_vectors is not a list of vectors"):
        read_optimade_parquet(write(columns))
    columns = table_of(CRYSTALS) | {"species_at_sites": ["NaCl", "FeO", "Po"]}
    with pytest.raises(DatasetError, match=r"row 0 .* species_at_sites is not a list of names"):
        read_optimade_parquet(write(columns))


def test_empty_file(write):
    path = write(pa.table(table_of(CRYSTALS)).slice(0, 0))
    bunch = read_optimade_parquet(path)
    assert bunch.data == []
    assert len(bunch.target) == 0


def test_not_parquet_and_not_there(tmp_path, write):
    (tmp_path / "text.parquet").write_text("immutable_id,band_gap\n")
    with pytest.raises(DatasetError, match="cannot be read as a Parquet file"):
        read_optimade_parquet(tmp_path / "text.parquet")
    path = write(table_of(CRYSTALS))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match="cannot be read as a Parquet file"):
        read_optimade_parquet(path)
    with pytest.raises(DatasetError, match="There is no file"):
        read_optimade_parquet(tmp_path / "absent.parquet")


@pytest.mark.parametrize("old", [b"chemical_formula_reduced", b"made-up"])
def test_text_that_is_no_text(write, old):
    """In the names of the columns, and in a column that is handed through."""
    columns = table_of(CRYSTALS)
    columns["note"] = ["made-up"] * len(CRYSTALS)
    path = write(columns, compression="none", use_dictionary=False, write_statistics=False)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, b"\xe1" + old[1:]))
    with pytest.raises(DatasetError, match="cannot be read as a Parquet file") as caught:
        read_optimade_parquet(path)
    assert str(path) in str(caught.value)


def test_without_pyarrow(write, monkeypatch):
    path = write(table_of(CRYSTALS))
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install crystalssl\[parquet\]"):
        read_optimade_parquet(path)


@pytest.mark.parametrize(
    ("name", "rows", "labels"),
    [
        ("mp_elastic", 4173, ["log10_k_vrh", "log10_g_vrh"]),
        ("perovskites", 3787, ["heat_of_formation", "direct_gap"]),
    ],
)
def test_shared_files(data_home, name, rows, labels):
    path = data_home / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    bunch = read_optimade_parquet(path)
    assert len(bunch.data) == len(bunch.target) == len(bunch.ids) == rows
    assert bunch.target_names == labels
    assert bunch.target.notna().all(axis=None)
    # The slow way, row by row through Python lists, for the first and the last rows.
    head = pq.read_table(path)
    for row in [*range(40), rows - 1]:
        record = {column: head[column][row].as_py() for column in head.column_names}
        expected = Structure(
            record["lattice_vectors"],
            record["species_at_sites"],
            record["cartesian_site_positions"],
            coords_are_cartesian=True,
        )
        same(bunch.data[row], expected)
        assert bunch.ids[row] == record["immutable_id"]
        assert bunch.formulas[row] == record["chemical_formula_reduced"]
        assert [float(value) for value in bunch.target.iloc[row]] == [record[label] for label in labels]


def test_file_that_announces_too_much_is_refused(write):
    """Ten million rows of nothing take some hundred bytes on the disk."""
    path = write(pa.table({name: pa.nulls(10**7, pa.int8()) for name in table_of([])}))
    with pytest.raises(DatasetError, match=f"{path} cannot be read as a Parquet file .* bytes of it become .* or more"):
        read_optimade_parquet(path)


@pytest.mark.parametrize("kind", ["sparse file", "FIFO", "folder", "device", "link to a FIFO"])
def test_what_is_no_file_is_refused(tmp_path, hostile, kind):
    path = tmp_path / "crystals.parquet"
    path.touch()
    hostile(path, kind)
    with pytest.raises(DatasetError, match=f"{path} cannot be read as a Parquet file"):
        read_optimade_parquet(path)
