"""What is wrong is named: by id, row and file with `on_error="report"`, and in an error without."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import shutil
import sqlite3
import subprocess
import tarfile
import zipfile

import pandas as pd
import pytest

from crystalssl import LIMITS, _files
from crystalssl.exceptions import DatasetError, NotACrystalError, RecordError
from crystalssl.io import iter_crystals, read_crystals


def read(source, *args, **kwargs):
    return read_crystals(source, *args, **{"verbose": 0, "on_error": "report"} | kwargs)


def reasons(bunch):
    return dict(zip(bunch.report.id, bunch.report.reason, strict=True))


def fails(source, message, *args, error=RecordError, **kwargs):
    with pytest.raises(error, match=message) as caught:
        read(source, *args, on_error="raise", **kwargs)
    return caught.value


@pytest.fixture
def table(tmp_path, texts):
    """A function that writes a CSV table whose columns differ from those of a good one."""

    def write(**changes):
        columns = {"id": ["a", "b", "c"], "cif": texts["cif"], "gap": ["1.5", "0.25", "7"]} | changes
        path = tmp_path / "t.csv"
        pd.DataFrame({name: value for name, value in columns.items() if value is not None}).to_csv(path, index=False)
        return path

    return write


# ---------------------------------------------------------------------- targets

MISSING = "its target 'gap' is missing; leave it out, or keep it with keep_unlabelled=True"
CELLS = {
    "": MISSING,
    "NaN": MISSING,
    "na": MISSING,
    "None": MISSING,
    " - ": MISSING,
    "inf": "its target 'gap' is infinite",
    "1e999": "its target 'gap' is infinite",
    "abc": "its target 'gap' is 'abc', not a number",
    "1_000": "its target 'gap' is '1_000', not a number",
    "1,5": "its target 'gap' is '1,5', whose comma may be that of decimals or of thousands; write a point, or none",
    "1,234": "its target 'gap' is '1,234', whose comma may be that of decimals or of thousands; write a point, or none",
}


@pytest.mark.parametrize(("cell", "reason"), CELLS.items(), ids=repr)
def test_target_that_cannot_be_used(table, cell, reason):
    path = table(gap=["1.5", cell, "7"])
    bunch = read(path, "gap")
    assert bunch.ids.tolist() == ["a", "c"]
    assert bunch.target.tolist() == [1.5, 7.0]
    assert bunch.report.to_dict("records") == [{"id": "b", "row": 1, "file": str(path), "reason": reason}]
    error = fails(path, f"item 1, row 1 of {path} \\(id 'b'\\): {reason}. on_error='report' leaves out", "gap")
    assert (error.index, error.id, error.row, error.file) == (1, "b", 1, str(path))
    assert len(read(path).data) == 3  # crystals alone


def test_unlabelled_crystals_are_kept_if_asked_for(table):
    bunch = read(table(gap=["1.5", "", "7"]), "gap", keep_unlabelled=True, on_error="raise")
    assert bunch.target[[0, 2]].tolist() == [1.5, 7.0]
    assert bunch.target[1] != bunch.target[1]


def test_of_several_targets_some_may_be_missing(table):
    path = table(gap=["1.5", "", ""], bulk=["10", "20", ""])
    bunch = read(path, ["gap", "bulk"])
    assert bunch.target.shape == (2, 2)
    assert bunch.target[1, 0] != bunch.target[1, 0]
    assert reasons(bunch) == {"c": "its 2 targets are missing; leave it out, or keep it with keep_unlabelled=True"}


def test_classes_and_truth_values(table):
    assert read(table(gap=["metal", "insulator", "metal"]), "gap").target.tolist() == ["metal", "insulator", "metal"]
    assert read(table(gap=["True", "false", "TRUE"]), "gap").target.tolist() == [True, False, True]
    bunch = read(table(gap=["metal", "", "metal"]), "gap", keep_unlabelled=True)
    assert bunch.target.tolist() == ["metal", None, "metal"]
    bunch = read(table(gap=["True", "2", "false"]), "gap")
    assert reasons(bunch) == {"b": "its target 'gap' is 2.0, neither true nor false"}


def test_columns_of_one_name_in_a_frame(three):
    for name in ("gap", "structure"):
        frame = pd.DataFrame({"structure": three, "gap": [1.0, 2.0, 3.0]})
        twice = pd.concat([frame, frame[[name]]], axis=1)
        with pytest.raises(
            DatasetError, match=f"2 columns of the DataFrame are called '{name}'; give each its own name"
        ):
            read(twice, "gap")


def test_numbers_as_names_of_columns(three):
    frame = pd.DataFrame([[crystal, 1.5] for crystal in three])
    assert read(frame, "1").target.tolist() == [1.5] * 3
    with pytest.raises(DatasetError, match="the DataFrame has no column '2'; it has '0', '1'"):
        read(frame, "2")


def test_column_that_is_not_there(table, tmp_path, three):
    path = table()
    fails(
        path,
        f"{path} has no column 'gapp'; it has 'id', 'cif', 'gap'. Did you mean 'gap'\\?",
        "gapp",
        error=DatasetError,
    )
    fails(path, "has no column 'x'", structure="x", error=DatasetError)
    fails(path, "has no column 'x'", id="x", error=DatasetError)
    fails(pd.DataFrame({"s": three}), "the DataFrame has no column 'gap'; it has 's'", "gap", error=DatasetError)
    records = [{"structure": crystal, "gap": 1} for crystal in three]
    fails(records, "no record has a target 'gpa'; they have 'structure', 'gap'", "gpa", error=DatasetError)
    fails(three, "no record has a target 'gap'; they have no values besides the crystal", "gap", error=DatasetError)
    fails(path, "There is no table of targets x.csv in", "x.csv", error=DatasetError)


def test_column_with_a_unit(table):
    bunch = read(table(**{"gap": None, "gap (eV)": [1, 2, 3]}), "gap")
    assert (bunch.target.tolist(), bunch.unit, bunch.target_names) == ([1.0, 2.0, 3.0], "eV", ["gap"])


def test_records_of_different_columns(tmp_path, three):
    rows = [
        {"id": "a", "structure": three[0].as_dict(), "gap": 1.5},
        {"id": "b", "structure": three[1].as_dict(), "band": 2},
        {"id": "c", "gap": 1},
        {"id": "d", "atoms": three[2].as_dict(), "gap": None},
        7,
        {"id": "e", "atoms": three[2].as_dict(), "gap": [1, 2]},
    ]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    bunch = read(tmp_path / "t.json", "gap")
    assert bunch.ids.tolist() == ["a"]
    assert reasons(bunch) == {
        "b": MISSING,
        "c": "none of its values is a crystal ('id', 'gap'); if one is, name it by structure=",
        "d": MISSING,
        "t:4": "int is not a crystal",
        "e": "its target 'gap' is a list, not a number or the name of a class",
    }


# ---------------------------------------------------------------------- ids


def test_the_same_id_twice(table):
    path = table(id=["a", "b", "a"])
    assert reasons(read(path)) == {"a": "its id 'a' occurs before"}
    fails(path, "item 2, row 2 .* its id 'a' occurs before")


def test_the_same_id_in_two_files(tmp_path, texts):
    (tmp_path / "a.cif").write_text(texts["cif"][0])
    (tmp_path / "a.vasp").write_text(texts["poscar"][0])
    bunch = read(tmp_path)
    assert reasons(bunch) == {"a": f"its id 'a' occurs before in {tmp_path}/a.cif"}


def test_an_id_whose_first_crystal_cannot_be_used_is_free(table, texts):
    bunch = read(table(id=["a", "a", "b"], cif=["data_x\n1", *texts["cif"][1:]]))
    assert bunch.ids.tolist() == ["a", "b"]
    assert bunch.data[0].reduced_formula == "FeO"


def test_id_that_is_missing(table):
    assert read(table(id=["a", "", "c"])).ids.tolist() == ["a", "t:1", "c"]
    bunch = read(table(id=["a", "", "c"]), id="id")
    assert bunch.report.reason.tolist() == ["it has no id (column 'id')"]


def test_index_of_a_frame_that_repeats(three):
    frame = pd.DataFrame({"s": pd.Series(three, dtype=object)}, index=[0, 1, 1])
    assert reasons(read(frame)) == {"1": "its id '1' occurs before"}


# ---------------------------------------------------------------------- tables of targets


def test_table_and_folder_that_do_not_match(cifs, three):
    table = cifs / "id_prop.csv"
    table.write_text("a,1.5\nz,3\na,2\n,4\nb,2,2\nb.cif,NaN\n")
    with pytest.raises(RecordError, match=f"item 0, row 2 of {table} \\(id 'a'\\): the table lists 'a' before"):
        read(cifs, "id_prop.csv", on_error="raise")
    bunch = read(cifs, "id_prop.csv")
    assert bunch.ids.tolist() == ["a"]
    assert [tuple(row) for row in bunch.report.astype(object).where(bunch.report.notna(), None).values.tolist()] == [
        ("a", 2, str(table), "the table lists 'a' before"),
        (None, 3, str(table), "it has no id"),
        (None, 4, str(table), "it has 3 cells, where the table has 2 columns"),
        ("b", None, f"{cifs}/b.cif", MISSING.replace("gap", "target")),
        ("c", None, f"{cifs}/c.cif", "id_prop.csv does not list it"),
        ("z", 1, str(table), "there is no crystal of the name 'z'"),
    ]


def test_folder_with_files_that_the_table_does_not_list(cifs):
    (cifs / "id_prop.csv").write_text("a,1.5\nb,2\n")
    with pytest.warns(UserWarning, match="1 records or files .* id_prop.csv does not list it. See report"):
        bunch = read(cifs, "id_prop.csv", on_error="raise")
    assert bunch.ids.tolist() == ["a", "b"]
    assert bunch.report.file.tolist() == [f"{cifs}/c.cif"]


def test_two_files_of_one_name_in_the_table(cifs):
    (cifs / "more").mkdir()
    (cifs / "more" / "a.cif").write_bytes((cifs / "a.cif").read_bytes())
    (cifs / "id_prop.csv").write_text("a,1\nb,2\nc,3\n")
    bunch = read(cifs, "id_prop.csv")
    assert reasons(bunch) == {"more/a": f"{cifs}/id_prop.csv lists 'a' once, and another file has that name too"}


def test_table_without_numbers(cifs):
    (cifs / "t.csv").write_text("id,x,y\na,p,q\n")
    fails(cifs, "t.csv has no column of numbers beside 'id'", "t.csv", error=DatasetError)
    (cifs / "t.csv").write_text("")
    fails(cifs, "t.csv cannot be read: it is empty", "t.csv", error=DatasetError)


# ---------------------------------------------------------------------- crystals


def test_crystals_that_cannot_be_used(table, texts):
    disordered = texts["cif"][0].replace("  1\n", "  0.5\n")
    bunch = read(table(cif=[disordered, "", texts["cif"][2].replace("3.35", "0.01")]))
    found = reasons(bunch)
    assert "site 'Na0' is partially occupied" in found["a"]
    assert found["b"] == "its crystal is missing (column 'cif')"
    assert "Å³ per atom" in found["c"]
    assert bunch.data == []
    with pytest.raises(RecordError, match=r"item 0, row 0 of .*t.csv \(id 'a'\): site 'Na0'"):
        read(table(cif=[disordered] * 3), on_error="raise")


def test_atoms_that_coincide_in_structures_and_graphs(three):
    twice = three[2].copy()
    twice.append("Po", [0.25, 0.5, 0.5])
    for as_graphs in (False, True):
        bunch = read([three[0], twice, three[2]], as_graphs=as_graphs)
        assert bunch.ids.tolist() == ["0", "2"]
        assert len(bunch.data) == 2
        assert "Å apart (less than" in reasons(bunch)["1"]


def test_nothing_that_can_be_used(three, tmp_path):
    assert len(read([float("nan"), None], as_graphs=True).data) == 0
    assert reasons(read([float("nan"), None])) == {"0": "float is not a crystal", "1": "NoneType is not a crystal"}
    fails([], "the list holds no crystals", error=DatasetError)
    fails(tmp_path, "holds no files", error=DatasetError)


@pytest.mark.parametrize(
    ("source", "message"), [({"a": 1}, "single dict"), (b"data_x", "single bytes"), (7, "int is no source of crystals")]
)
def test_what_is_no_source(source, message):
    fails(source, message, error=NotACrystalError)


def test_single_structure_is_no_source(three):
    fails(three[0], r"a single Structure; wrap it in a list: \[source\]", error=NotACrystalError)


def test_frame_full_of_nan(three):
    frame = pd.DataFrame({"structure": [three[0], None, float("nan")], "gap": [1.0, 2.0, float("nan")]})
    assert reasons(read(frame)) == dict.fromkeys("12", "its crystal is missing (column 'structure')")
    fails(pd.DataFrame({"x": [None, None]}), r"none of its columns holds crystals .*\('x'\)", error=DatasetError)


def test_remarks_are_handed_on(table, texts):
    odd = texts["cif"][1].replace("'Fe1 O1'", "'Fe1 O1 H2'")
    with pytest.warns(UserWarning, match="1 crystals of .* are read with remarks, the first .*another composition"):
        bunch = read(table(cif=[texts["cif"][0], odd, texts["cif"][2]]))
    assert bunch.notes.id.tolist() == ["b"]


def test_limits_hold_in_other_processes(texts, monkeypatch):
    monkeypatch.setattr(LIMITS, "sites", 5)
    bunch = read([text for text in texts["cif"] for _ in range(30)], n_jobs=2)
    assert len(bunch.report) == 30
    assert bunch.report.reason[0].startswith("it holds 8 sites, more than the 5 of crystalssl.")


# ---------------------------------------------------------------------- files


def test_files_that_are_not_there(tmp_path, cifs):
    fails(tmp_path / "x.cif", "There is no file .*x.cif", error=DatasetError)
    fails(" ", "The source is an empty path", error=DatasetError)
    fails(str(tmp_path / "*.vasp"), r"There is no file .*\*.vasp", error=DatasetError)
    bunch = read([cifs / "a.cif", cifs / "x.cif"])
    assert reasons(bunch) == {None: "there is no such file"}
    fails([cifs / "x.cif"], f"item 0, {cifs}/x.cif: there is no such file")


def test_empty_files(tmp_path, cifs):
    for name in ("x.cif", "x.csv", "x.json", "x.parquet"):
        (tmp_path / name).write_bytes(b" \n")
        fails(tmp_path / name, f"{name} cannot be read: it is empty", error=DatasetError)
        (cifs / name).write_bytes(b"")
    bunch = read(cifs)
    assert bunch.ids.tolist() == ["a", "b", "c"]
    assert bunch.report.reason.tolist() == ["it is empty"] * 4
    fails(cifs, f"{cifs}/x.cif .*: it is empty")


@pytest.mark.parametrize(
    ("magic", "message"),
    [
        (b"\x80\x05", "it is a pickle, which executes what is in it; write JSON"),
        (b"\x89HDF", "it is HDF5; read it yourself, and pass a DataFrame"),
        (b"\xd0\xcf\x11\xe0", "it is an old Excel workbook; save it as CSV"),
        (b"\x93NUMPY", "it is an array of numpy; pass a DataFrame"),
        (b"FEA1", "it is Feather of the first version, which pyarrow gives up; write it anew"),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t.cif", "t.gz"])
def test_formats_that_are_refused(tmp_path, magic, message, name):
    content = magic + bytes(100)
    (tmp_path / name).write_bytes(gzip.compress(content) if name == "t.gz" else content)
    fails(tmp_path / name, f"{name} cannot be read: {message}", error=DatasetError)


def test_files_that_are_no_crystals_in_a_folder(cifs):
    (cifs / "README.md").write_text("# About\n\nthese\n")
    (cifs / "atom_init.json").write_text("{}")
    (cifs / ".hidden").write_text("x")
    (cifs / "model.pkl").write_bytes(pickle.dumps([1]))
    with pytest.warns(UserWarning, match="2 records or files"):
        bunch = read(cifs, on_error="raise")
    assert bunch.report.file.tolist() == [f"{cifs}/README.md", f"{cifs}/model.pkl"]
    assert bunch.report.reason[0].startswith("neither its content nor its name is that of CIF, POSCAR, JSON, CSV")
    assert bunch.report.reason[1].startswith("it is a pickle, which executes what is in it")
    fails(cifs / "model.pkl", "cannot be read: it is a pickle", error=DatasetError)
    fails(str(cifs / "*"), r"README.md .*: neither its content nor its name")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_truncated_files(table, tmp_path, compress):
    content = compress(table().read_bytes() * 1000)
    path = tmp_path / "t.csv.gz"
    for keep in (0.5, 0.99):
        path.write_bytes(content[: int(len(content) * keep)])
        fails(path, "t.csv.gz cannot be read: it ends within its compressed data", error=DatasetError)
    path.write_bytes(content[:30] + b"\0" * 30 + content[60:])
    fails(path, "t.csv.gz cannot be read: its compressed data are damaged|it ends within", error=DatasetError)


def test_table_that_ends_within_a_cell(table):
    path = table()
    text = path.read_text()
    path.write_text(text[: text.rindex("loop_")])
    bunch = read(path)
    assert bunch.ids.tolist() == ["a", "b"]
    assert bunch.report.reason.tolist() == ["it and all after it cannot be read (unexpected end of data)"]
    fails(path, r"item 2, row 2 of .*t.csv \(id 't:2'\): it and all after it cannot be read")


def test_rows_of_other_lengths(table):
    path = table()
    path.write_text(path.read_text() + "d,x\ne,x,1,2\n")
    assert reasons(read(path)) == {
        "t:3": "it has 2 cells, where the table has 3 columns",
        "t:4": "it has 4 cells, where the table has 3 columns",
    }


def test_columns_of_one_name(table):
    path = table()
    path.write_text(path.read_text().replace("id,cif,gap", "id,cif,id"))
    fails(path, "two of its columns are called 'id'", error=DatasetError)


@pytest.mark.parametrize("layout", ["records", "split", "lines"])
def test_truncated_json(tmp_path, three, layout):
    frame = pd.DataFrame({"id": list("abc"), "structure": [crystal.as_dict() for crystal in three]})
    orient = "records" if layout == "lines" else layout
    text = frame.to_json(orient=orient, lines=layout == "lines")
    (tmp_path / "t.json").write_text(text[:-150])
    bunch = read(tmp_path / "t.json")
    assert bunch.ids.tolist() == ["a", "b"]
    assert len(bunch.report) == 1
    assert "not complete JSON" in bunch.report.reason[0]
    assert bunch.report.row[0] == 2
    fails(tmp_path / "t.json", r"item 2, row 2 of .*t.json .*not complete JSON")


def test_json_lines_of_which_one_is_damaged(tmp_path, texts):
    lines = [texts["json"][0], texts["json"][1][:-9], texts["json"][2]]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    bunch = read(tmp_path / "t.jsonl")
    assert bunch.ids.tolist() == ["t:0", "t:2"]
    assert "its line is not complete JSON" in reasons(bunch)["t:1"]


def test_json_of_something_else(tmp_path):
    for text, message in {
        '{"a": [1, 2]}': r"it is JSON without the keys of a crystal \(it has 'a'\)",
        "[": "it is not complete JSON",
        "{": "it is not complete JSON",
        '{"columns": ["a"], "data": 3}': 'in the "split" layout of pandas, but its "data" are no list',
        "[" * 10**5: "recursion",
    }.items():
        (tmp_path / "t.json").write_text(text)
        fails(tmp_path / "t.json", f"t.json cannot be read: .*{message}", error=DatasetError)


def test_truncated_and_damaged_parquet(tmp_path, texts):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"cif": texts["cif"]}), path)
    path.write_bytes(path.read_bytes()[:-20])
    fails(path, "t.parquet cannot be read: ", error=DatasetError)
    (tmp_path / "t.arrow").write_bytes(b"ARROW1\0\0" + bytes(100))
    fails(tmp_path / "t.arrow", "t.arrow cannot be read: ", error=DatasetError)


def test_rows_of_parquet_that_cannot_be_used(tmp_path, three):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    n = 20
    columns = {
        "immutable_id": [f"m{i}" for i in range(n)],
        "lattice_vectors": [three[2].lattice.matrix.tolist() for _ in range(n)],
        "species_at_sites": [["Po"] for _ in range(n)],
        "cartesian_site_positions": [[[0.0, 0.0, 0.0]] for _ in range(n)],
        "nperiodic_dimensions": [3] * n,
        "dimension_types": [[1, 1, 1] for _ in range(n)],
        "nsites": [1] * n,
        "species": [[{"name": "Po", "chemical_symbols": ["Po"], "concentration": [1.0]}] for _ in range(n)],
        "structure_features": [None if i != 17 else ["disorder"] for i in range(n)],
    }
    columns["species_at_sites"][1] = ["Ox"]
    columns["cartesian_site_positions"][3] = [[0.0, float("nan"), 0.0]]
    columns["lattice_vectors"][5] = None
    columns["nperiodic_dimensions"][7] = 2
    columns["dimension_types"][9] = [1, 1, 0]
    columns["nsites"][11] = 2
    columns["species"][13] = [{"name": "Po", "chemical_symbols": ["Po", "Bi"], "concentration": [0.5, 0.5]}]
    columns["lattice_vectors"][15] = [[1.0, 0, 0]] * 3
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    bunch = read(tmp_path / "t.parquet", as_graphs=True)
    assert len(bunch.data) == n - 9
    assert reasons(bunch) == {
        "m1": "species does not describe 'Ox' of species_at_sites",
        "m3": "cartesian_site_positions holds null, NaN or infinite numbers",
        "m5": "lattice_vectors is missing",
        "m7": "not periodic in three dimensions (nperiodic_dimensions 2)",
        "m9": "not periodic in three dimensions (dimension_types [1, 1, 0])",
        "m11": "nsites is 2, but species_at_sites has 1 entries",
        "m13": "disordered: species 'Po' is Po 0.5, Bi 0.5",
        "m15": "lattice_vectors span no volume",
        "m17": "the sites do not describe it in full (structure_features ['disorder'])",
    }


def test_frames_that_cannot_be_used(tmp_path):
    pytest.importorskip("ase")
    frame = '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3 pbc="{}"\nPo 0 0 0\n'
    (tmp_path / "t.xyz").write_text(frame.format("T T T") + frame.format("T T F") + frame.format("T T T")[:-9])
    bunch = read(tmp_path / "t.xyz")
    assert bunch.ids.tolist() == ["t:0"]
    assert "periodic along [True, True, False] only" in reasons(bunch)["t:1"]
    assert bunch.report.reason[1].startswith("it and all after it cannot be read (")


def test_a_file_that_lacks_a_column_among_others(tmp_path, texts):
    pd.DataFrame({"cif": texts["cif"][:2], "gap": [1, 2]}).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame({"cif": texts["cif"][2:], "band": [1]}).to_csv(tmp_path / "b.csv", index=False)
    bunch = read(tmp_path, "gap")
    assert bunch.ids.tolist() == ["a:0", "a:1"]
    assert bunch.report.reason.tolist() == [f"{tmp_path}/b.csv has no column 'gap'; it has 'cif', 'band'."]
    fails(tmp_path, "b.csv has no column 'gap'", "gap")


def test_folder_that_cannot_be_read(cifs, forbidden):
    (cifs / "closed").mkdir()
    forbidden(cifs / "closed")
    bunch = read(cifs)
    assert len(bunch.data) == 3
    assert "the folder cannot be read" in bunch.report.reason[0]


def test_broken_link(cifs):
    (cifs / "d.cif").symlink_to(cifs / "nowhere")
    (cifs / "id_prop.csv").write_text("a,1\nb,1\nc,1\nd,1\n")
    bunch = read(cifs, "id_prop.csv")
    assert bunch.ids.tolist() == ["a", "b", "c"]
    assert bunch.report.reason.tolist() == ["there is no such file", "there is no crystal of the name 'd'"]


def test_other_databases_are_refused_and_left_alone(tmp_path):
    pytest.importorskip("ase")
    with sqlite3.connect(tmp_path / "t.db") as database:
        database.execute("CREATE TABLE other (x)")
    database.close()
    before = (tmp_path / "t.db").read_bytes()
    fails(tmp_path / "t.db", "a database of SQLite, but none that ASE wrote", error=DatasetError)
    assert (tmp_path / "t.db").read_bytes() == before


def test_what_is_no_regular_file(cifs, hostile):
    hostile(cifs / "a.cif", "FIFO")
    hostile(cifs / "b.cif", "device")
    bunch = read(cifs)
    assert bunch.ids.tolist() == ["c"]
    assert [reason.rsplit(" is ")[-1] for reason in bunch.report.reason] == [
        "a FIFO, not a file",
        "a device, not a file",
    ]
    fails(cifs / "a.cif", "is a FIFO, not a file", error=DatasetError)


@pytest.mark.parametrize(
    ("name", "content", "package", "extra"),
    [
        ("t.parquet", b"PAR1", "pyarrow", "parquet"),
        ("t.traj", b"- of Ulm", "ase", "ase"),
        ("t.xyz", b'1\nLattice="1 0 0 0 1 0 0 0 1"\nH 0 0 0\n', "ase", "ase"),
        ("t.db", b"SQLite format 3\0", "ase", "ase"),
    ],
)
def test_packages_that_are_not_installed(tmp_path, monkeypatch, name, content, package, extra):
    import importlib

    real = importlib.import_module

    def refuse(module, *args):
        if module.split(".")[0] == package:
            raise ImportError(module)
        return real(module, *args)

    monkeypatch.setattr(importlib, "import_module", refuse)
    (tmp_path / name).write_bytes(content)
    fails(tmp_path / name, rf"pip install crystalssl\[{extra}\]", error=ImportError)


# ---------------------------------------------------------------------- hostile files


@pytest.mark.parametrize("name", ["../secret.cif", "/etc/passwd", "inner/../../secret.cif", "link.cif", "deep/x"])
def test_tables_lead_to_no_file_outside_of_their_folder(tmp_path, texts, name):
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "secret.cif").write_text(texts["cif"][0])
    (folder / "link.cif").symlink_to(tmp_path / "secret.cif")
    (folder / "deep").symlink_to(tmp_path)
    (folder / "a.cif").write_text(texts["cif"][1])
    (folder / "t.csv").write_text(f"id,file\na,a.cif\nb,{name}\n")
    bunch = read(folder / "t.csv")
    assert bunch.ids.tolist() == ["a"]
    expected = f"it names {name!r}, a file outside of the folder {folder}; nothing is read from there"
    assert reasons(bunch) == {"b": expected}
    fails(folder / "t.csv", "a file outside of the folder")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_write_to_no_place_outside(tmp_path, texts, kind):
    content = texts["cif"][0].encode()
    names = ["../out.cif", "/tmp/out-of-archive.cif", "a/../../b.cif", "C:/x.cif", "good.cif", "good.cif"]
    path = tmp_path / f"t.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names[:-1]:
                archive.writestr(name, content)
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr(names[-1], content)
    else:
        with tarfile.open(path, "w") as archive:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            info = tarfile.TarInfo("link.cif")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    bunch = read(path)
    assert bunch.ids.tolist() == ["good"]
    outside = "its name leads out of the archive; nothing is read from there"
    expected = [outside] * 4 + ["the archive holds a file of this name before"]
    assert bunch.report.reason.tolist() == expected + ["it is a link; links are not followed"] * (kind == "tar")
    assert not os.path.exists("/tmp/out-of-archive.cif")
    assert {file.name for file in tmp_path.iterdir()} == {path.name, "cifs"} & {f.name for f in tmp_path.iterdir()}
    fails(path, "out.cif: its name leads out of the archive")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "json.gz", "csv.xz", "cif.bz2", "db.gz"])
def test_bombs(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(_files, "_SLACK", 2**20)
    path = tmp_path / f"bomb.{kind}"
    zeros = bytes(2**24)
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.cif", zeros)
    elif kind == "tar.gz":
        with tarfile.open(path, "w:gz") as archive:
            info = tarfile.TarInfo("x.cif")
            info.size = len(zeros)
            archive.addfile(info, io.BytesIO(zeros))
    else:
        start = {"json.gz": b'[{"a": "', "csv.xz": b"id,cif\n", "cif.bz2": b"data_x\n", "db.gz": b"SQLite format 3\0"}[
            kind
        ]
        packed = {"gz": gzip.compress, "xz": lzma.compress, "z2": bz2.compress}[kind[-2:]]
        path.write_bytes(packed(start + zeros))
    if kind == "db.gz":
        pytest.importorskip("ase")
    with pytest.raises((DatasetError, RecordError), match=r"bytes of it become .* or more|it holds more than 8 MiB"):
        read(path, on_error="raise")


def test_sparse_files_in_archives(tmp_path, monkeypatch):
    if shutil.which("tar") is None:
        pytest.skip("no tar here, which Python's own cannot stand in for: it makes no sparse files")
    monkeypatch.setattr(_files, "_SLACK", 2**20)
    with (tmp_path / "x.cif").open("wb") as file:
        file.truncate(2**26)
    subprocess.run(["tar", "-C", tmp_path, "-cSf", tmp_path / "t.tar", "x.cif"], check=True)
    assert (tmp_path / "t.tar").stat().st_size < 2**16
    fails(tmp_path / "t.tar", "t.tar cannot be unpacked: .* bytes of it become .* or more", error=DatasetError)


def test_archives_that_cannot_be_unpacked(tmp_path, cifs):
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "x")
        archive.writestr("xl/workbook.xml", "x")
    fails(path, "t.zip cannot be unpacked: it is an Excel workbook or the like; save it as CSV", error=DatasetError)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(cifs / "a.cif", "a.cif")
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    fails(path, "t.zip cannot be unpacked: ", error=DatasetError)
    path.write_bytes(content)
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(path, "inner.zip")
        archive.write(cifs / "a.cif", "a.cif")
    bunch = read(tmp_path / "outer.zip")
    assert bunch.ids.tolist() == ["a"]
    assert bunch.report.reason.tolist() == ["it is an archive among other files; unpack it first, or read it by itself"]


def test_nothing_is_left_behind(tmp_path, cifs, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        for file in cifs.iterdir():
            archive.write(file, file.name)
    chunks = iter_crystals(tmp_path / "t.zip", chunk_size=1, verbose=0)
    next(chunks)
    assert list(scratch.iterdir())
    chunks.close()
    assert not list(scratch.iterdir())


# ---------------------------------------------------------------------- parameters


def test_parameters(three):
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'report', got 'skip'"):
        read_crystals(three, on_error="skip")
    with pytest.raises(ValueError, match="chunk_size must be a positive integer, got 0"):
        iter_crystals(three, chunk_size=0)
    with pytest.raises(ValueError, match="target is an empty list"):
        read(three, [])
    with pytest.raises(KeyError, match="gatedgnc"):
        read(three, as_graphs=True, encoder="gatedgnc")


def test_bar_on_stderr_after_three_seconds(three, monkeypatch, capsys):
    monkeypatch.setattr("crystalssl.io._stream._BAR_AFTER", 0)
    read_crystals(three)
    shown = capsys.readouterr()
    assert "reading" in shown.err
    assert not shown.out
    read_crystals(three, verbose=0)
    assert not capsys.readouterr().err
