"""Each format gives the crystals, ids and targets that went into it."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.io.vasp import Poscar

from crystalssl import LIMITS, CrystalGraphs, CrystalGraphTransformer, check_structures
from crystalssl.graphs import GraphRecipe
from crystalssl.io import iter_crystals, read_crystals

GAPS = [1.5, 0.25, 7.0]


def read(source, *args, **kwargs):
    return read_crystals(source, *args, **{"verbose": 0} | kwargs)


def check(bunch, three, ids=None, gaps=GAPS, name="gap"):
    assert [crystal.reduced_formula for crystal in bunch.data] == ["NaCl", "FeO", "Po"]
    for built, expected in zip(bunch.data, three, strict=True):
        assert built.volume == pytest.approx(expected.volume, rel=1e-4)
        assert len(built) == len(expected)
        distances = [np.sort(crystal.distance_matrix, axis=None) for crystal in (built, expected)]
        np.testing.assert_allclose(*distances, atol=1e-3)
    assert len(bunch.report) == 0
    if ids is not None:
        assert bunch.ids.tolist() == ids
    if gaps is None:
        assert bunch.target is None
    else:
        assert bunch.target.tolist() == gaps
        assert bunch.target_names == [name]


# ---------------------------------------------------------------------- files, folders, globs, lists


def test_folder_glob_list_and_file(cifs, three):
    check(read(cifs), three, ["a", "b", "c"], None)
    check(read(str(cifs / "*.cif")), three, ["a", "b", "c"], None)
    check(read(sorted(cifs.iterdir())), three, ["a", "b", "c"], None)
    assert read(cifs / "b.cif").ids.tolist() == ["b"]
    assert read(cifs).files == [f"{cifs}/{name}.cif" for name in "abc"]
    assert read(cifs).rows == [None] * 3


def test_nested_folder_and_recursive_glob(cifs, three):
    (cifs / "deep" / "er").mkdir(parents=True)
    (cifs / "c.cif").rename(cifs / "deep" / "er" / "c.cif")
    check(read(cifs), three, ["a", "b", "deep/er/c"], None)
    check(read(f"{cifs}/**/*.cif"), three, ["a", "b", "deep/er/c"], None)


def test_mixed_folder_and_names_that_mislead(tmp_path, three, texts):
    (tmp_path / "a.json").write_text(texts["cif"][0])
    (tmp_path / "b.cif").write_text(texts["poscar"][1])
    (tmp_path / "c.vasp").write_text(texts["json"][2])
    check(read(tmp_path), three, ["a", "b", "c"], None)


@pytest.mark.parametrize("name", ["x.cif", "x.parquet", "x.csv", "x", "x.vasp"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_tables_under_any_name(tmp_path, three, texts, name, compress):
    frame = pd.DataFrame({"material_id": ["a", "b", "c"], "cif": texts["cif"], "gap": GAPS})
    (tmp_path / name).write_bytes(compress(frame.to_csv(index=False).encode()))
    check(read(tmp_path / name, target="gap"), three, ["a", "b", "c"])
    (tmp_path / name).write_bytes(compress(frame.to_json(orient="records").encode()))
    check(read(tmp_path / name, target="gap"), three, ["a", "b", "c"])


def test_each_structure_of_a_cif_file(tmp_path, three, texts):
    (tmp_path / "all.cif").write_text("\n".join(texts["cif"]))
    bunch = read(tmp_path / "all.cif")
    check(bunch, three, ["all:NaCl", "all:FeO", "all:Po"], None)
    assert bunch.rows == [0, 1, 2]


def test_cif_in_utf16(tmp_path, texts):
    (tmp_path / "a.cif").write_bytes(texts["cif"][0].encode("utf-16"))
    assert read(tmp_path / "a.cif").data[0].reduced_formula == "NaCl"


def test_crystals_and_texts_in_memory(three, texts):
    check(read(three), three, ["0", "1", "2"], None)
    for kind in texts.values():
        check(read(kind), three, ["0", "1", "2"], None)
    check(read(pd.Series(three, index=["a", "b", "c"], dtype=object)), three, ["a", "b", "c"], None)
    check(read(iter(three)), three, ["0", "1", "2"], None)
    records = [
        {"id": f"m{i}", "structure": crystal, "gap": gap}
        for i, (crystal, gap) in enumerate(zip(three, GAPS, strict=True))
    ]
    check(read(records, target="gap"), three, ["m0", "m1", "m2"])


def test_documents_and_entries_with_a_structure(three):
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    entries = [
        ComputedStructureEntry(crystal, -gap, entry_id=f"mp-{gap}", data={"gap": gap})
        for crystal, gap in zip(three, GAPS, strict=True)
    ]
    check(read(entries, target="data.gap"), three, ["mp-1.5", "mp-0.25", "mp-7.0"], name="data.gap")
    assert read(entries, target="energy").target.tolist() == [-gap for gap in GAPS]


def test_table_of_arrow_in_memory(three):
    check(read(optimade_table(three), target="gap"), three, ["a", "b", "c"])


def test_binary_stream(three, texts):
    content = json.dumps([json.loads(text) for text in texts["json"]]).encode()
    check(read(io.BytesIO(content)), three, ["stream:0", "stream:1", "stream:2"], None)


# ---------------------------------------------------------------------- CGCNN


@pytest.mark.parametrize("header", ["", "id,target\n", "material_id,target\r\n"])
def test_cgcnn_folder(cifs, three, header):
    (cifs / "id_prop.csv").write_text(header + "a,1.5\nb,0.25\nc,7\n", newline="")
    (cifs / "atom_init.json").write_text('{"1": [0, 1], "2": [1, 0]}')
    check(read(cifs, target="id_prop.csv"), three, ["a", "b", "c"], name="target")
    check(read(cifs, target="target"), three, ["a", "b", "c"], name="target")
    check(read(cifs), three, ["a", "b", "c"], None)
    check(read(cifs / "id_prop.csv", target="target"), three, ["a", "b", "c"], name="target")


def test_alignn_folder_lists_names_of_files(tmp_path, three):
    for name, crystal in zip("abc", three, strict=True):
        Poscar(crystal).write_file(tmp_path / f"POSCAR-JVASP-{name}.vasp")
    (tmp_path / "config_example.json").write_text('{"version": "1", "batch_size": 64}')
    (tmp_path / "id_prop.csv").write_text(
        "".join(f"POSCAR-JVASP-{n}.vasp,{g}\n" for n, g in zip("abc", GAPS, strict=True))
    )
    with pytest.warns(
        UserWarning, match=r"1 records or files of .* are left out, the first \(.*config_example.json"
    ) as caught:
        bunch = read(tmp_path, target="id_prop.csv")
    assert len(caught) == 1
    assert bunch.report.reason.tolist() == [
        "it is JSON without the keys of a crystal (it has 'version', 'batch_size'): those of pymatgen's "
        "Structure.as_dict(), of jarvis, OPTIMADE or ASE, or of a table of these"
    ]
    bunch.report = bunch.report[:0]
    check(bunch, three, name="target")


def test_table_of_several_targets(cifs, three):
    (cifs / "props.csv").write_text("name;gap (eV);metal;bulk\na;1,5;no;10\nb;;no;20\nc;7,0;yes;\n")
    bunch = read(cifs, target="props.csv")
    assert bunch.target_names == ["gap (eV)", "bulk"]
    assert bunch.unit == ["eV", None]
    np.testing.assert_array_equal(bunch.target, [[1.5, 10], [np.nan, 20], [7, np.nan]])


# ---------------------------------------------------------------------- text tables


@pytest.mark.parametrize("kind", ["cif", "poscar", "json"])
@pytest.mark.parametrize("sep", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_csv(tmp_path, three, texts, kind, sep, encoding):
    frame = pd.DataFrame({"Größe": ["é", "ö", "°"], "crystal": texts[kind], "gap": GAPS})
    decimal = "." if sep == "," else ","
    frame.to_csv(tmp_path / "t.csv", sep=sep, index=False, encoding=encoding, decimal=decimal)
    check(read(tmp_path / "t.csv", target="gap"), three, ["t:0", "t:1", "t:2"])
    assert read(tmp_path / "t.csv", "gap", structure="crystal", id="Größe").ids.tolist() == ["é", "ö", "°"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_csv_without_a_mark_of_its_encoding(tmp_path, three, texts, encoding):
    frame = pd.DataFrame({"id": list("abc"), "cif": texts["cif"], "gap": GAPS})
    frame.to_csv(tmp_path / "t.csv", index=False, encoding=encoding)
    check(read(tmp_path / "t.csv", target="gap"), three, ["a", "b", "c"])


def test_table_of_classes_with_and_without_header(cifs):
    (cifs / "id_prop.csv").write_text("a,metal\nb,metal\nc,other\n")
    bunch = read(cifs / "id_prop.csv", target="target")
    assert (bunch.ids.tolist(), bunch.target.tolist()) == (["a", "b", "c"], ["metal", "metal", "other"])
    (cifs / "t.csv").write_text("material;what\na.cif;metal\nb;metal\n.\\c.cif;other\n")
    bunch = read(cifs / "t.csv", target="what")
    assert (bunch.ids.tolist(), bunch.target.tolist()) == (["a", "b", "c"], ["metal", "metal", "other"])


def test_csv_of_excel(tmp_path, three, texts):
    rows = "".join(
        f'{n};"{text}";1.234,5\r\n' for n, text in zip("abc", [t.replace('"', '""') for t in texts["cif"]], strict=True)
    )
    (tmp_path / "t.csv").write_text(f"sep=;\r\nid;cif;gap\r\n{rows}", newline="")
    check(read(tmp_path / "t.csv", target="gap"), three, ["a", "b", "c"], [1234.5] * 3)
    frame = pd.DataFrame({"cif": texts["cif"], "gap": ["1,234.5", "2.5", "-1,234,567.0"]})
    check(read(frame, target="gap"), three, gaps=[1234.5, 2.5, -1234567.0])


@pytest.mark.parametrize("delimiter", ["\t", "|"])
def test_commas_of_thousands_are_not_taken_for_decimals(tmp_path, three, texts, delimiter):
    path = tmp_path / "t.tsv"
    rows = [(name, text.replace("\n", "\\n")) for name, text in zip("abc", texts["poscar"], strict=True)]
    for number, is_clear in (("1,5", True), ("1234,567", True), ("1,234", False), ("-12,345,678", False)):
        path.write_text(delimiter.join(["id", "structure", "gap"]) + "\n")
        with path.open("a") as file:
            file.writelines(f"{name}{delimiter}{text}{delimiter}{number}\n" for name, text in rows)
        if is_clear:
            check(read(path, target="gap"), three, ["a", "b", "c"], [float(number.replace(",", "."))] * 3)
        else:
            with pytest.raises(ValueError, match="whose comma may be that of decimals or of thousands"):
                read(path, target="gap")


def test_csv_whose_first_column_is_called_as_a_block_of_cif(tmp_path, three, texts):
    for kind in ("poscar", "cif"):
        frame = pd.DataFrame({"data_id": ["a", "b", "c"], "structure": texts[kind], "gap": GAPS})
        for separator in (",", "\t"):
            frame.to_csv(tmp_path / "t.csv", index=False, sep=separator)
            check(read(tmp_path / "t.csv", target="gap", id="data_id"), three, ["a", "b", "c"])


def test_frame_as_pandas_reads_parquet(tmp_path, three):
    """Lists are arrays in it."""
    records = [
        {
            "immutable_id": name,
            "lattice_vectors": crystal.lattice.matrix.tolist(),
            "cartesian_site_positions": crystal.cart_coords.tolist(),
            "species_at_sites": [site.specie.symbol for site in crystal],
            "gap": gap,
        }
        for name, crystal, gap in zip("abc", three, GAPS, strict=True)
    ]
    pd.DataFrame(records).to_parquet(tmp_path / "t.parquet")
    check(read(pd.read_parquet(tmp_path / "t.parquet"), target="gap"), three, ["a", "b", "c"])
    dicts = []
    for crystal, gap in zip(three, GAPS, strict=True):
        sites = [{"species": site["species"], "abc": site["abc"]} for site in crystal.as_dict()["sites"]]
        dicts.append({"x": {"lattice": {"matrix": crystal.lattice.matrix.tolist()}, "sites": sites}, "gap": gap})
    pd.DataFrame(dicts).to_parquet(tmp_path / "d.parquet")
    frame = pd.read_parquet(tmp_path / "d.parquet")
    assert isinstance(frame.x[0]["sites"], np.ndarray)
    check(read(frame, target="gap"), three)
    assert [crystal.formula for crystal in check_structures(frame.x)] == [crystal.formula for crystal in three]


def test_sodium_is_a_class(three):
    frame = pd.DataFrame({"structure": three, "cation": ["Na", "NA", "K"]})
    bunch = read(frame, target="cation", keep_unlabelled=True)
    assert bunch.target.tolist() == ["Na", None, "K"]


def test_files_of_one_name_in_several_folders(tmp_path, three, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, crystal in zip("abc", three, strict=True):
        (tmp_path / name).mkdir()
        crystal.to(filename=str(tmp_path / name / "POSCAR"), fmt="poscar")
    names = [f"{name}/POSCAR" for name in "abc"]
    for source in (names, [tmp_path / name for name in names], "*/POSCAR"):
        assert read(source).ids.tolist() == names
    assert read(names[:1]).ids.tolist() == ["POSCAR"]


def test_names_that_are_not_utf_8(tmp_path, three):
    (tmp_path / "cifs").mkdir()
    three[0].to(filename=str(tmp_path / "a.cif"))
    odd = os.fsencode(tmp_path / "cifs") + b"/M\xfcller.cif"
    try:
        os.rename(os.fsencode(tmp_path / "a.cif"), odd)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    bunch = read(tmp_path / "cifs")
    assert bunch.ids.tolist() == ["M\\xfcller"]
    bunch.ids[0].encode()


def test_csv_with_names_of_files(cifs, three):
    (cifs.parent / "t.csv").write_text("which,file,gap\nx,cifs/a.cif,1.5\ny,cifs/b.cif,0.25\nz,cifs/c.cif,7\n")
    check(read(cifs.parent / "t.csv", target="gap", id="which"), three, ["x", "y", "z"])


def test_names_of_files_in_a_frame(cifs, three):
    frame = pd.DataFrame({"where": [str(cifs / f"{name}.cif") for name in "abc"], "gap": GAPS})
    check(read(frame, target="gap"), three, ["0", "1", "2"])
    check(read(frame, target="gap", structure="where"), three, ["0", "1", "2"])


def test_csv_with_escaped_lines_and_with_dicts_as_python_prints_them(tmp_path, three, texts):
    escaped = [text.replace("\n", "\\n") for text in texts["cif"]]
    for cells in (escaped, [str(crystal.as_dict()) for crystal in three]):
        pd.DataFrame({"structure": cells, "gap": GAPS}).to_csv(tmp_path / "t.csv", index=False)
        check(read(tmp_path / "t.csv", target="gap"), three)


# ---------------------------------------------------------------------- frames


def cells(three, texts):
    from pymatgen.io.ase import AseAtomsAdaptor

    return {
        "structures": three,
        "dicts": [crystal.as_dict() for crystal in three],
        "atoms": [AseAtomsAdaptor.get_atoms(crystal) for crystal in three],
        **texts,
    }


@pytest.mark.parametrize("kind", ["structures", "dicts", "atoms", "cif", "poscar", "json"])
def test_pandas_frame(three, texts, kind):
    pytest.importorskip("ase")
    frame = pd.DataFrame({"x": pd.Series(cells(three, texts)[kind], dtype=object), "gap": GAPS})
    frame.index = ["a", "b", "c"]
    check(read(frame, target="gap"), three, ["a", "b", "c"])


@pytest.mark.parametrize("kind", ["structures", "dicts", "cif", "json"])
def test_polars_frame(three, texts, kind):
    polars = pytest.importorskip("polars")
    values = cells(three, texts)[kind]
    if kind == "dicts":
        values = [json.loads(json.dumps(value)) for value in values]
    column = polars.Series("x", values, dtype=polars.Object if kind == "structures" else None, strict=True)
    frame = polars.DataFrame([column, polars.Series("gap", GAPS), polars.Series("jid", ["a", "b", "c"])])
    check(read(frame, target="gap"), three, ["a", "b", "c"])
    if kind == "cif":
        check(read(frame.lazy(), target="gap"), three, ["a", "b", "c"])


# ---------------------------------------------------------------------- JSON


def json_layouts(three):
    structures = [crystal.as_dict() for crystal in three]
    rows = [{"material_id": name, "structure": s, "gap": g} for name, s, g in zip("abc", structures, GAPS, strict=True)]
    frame = pd.DataFrame(rows)
    attributes = [
        {
            "lattice_vectors": crystal.lattice.matrix.tolist(),
            "species_at_sites": [site.specie.symbol for site in crystal],
            "cartesian_site_positions": crystal.cart_coords.tolist(),
            "gap": gap,
        }
        for crystal, gap in zip(three, GAPS, strict=True)
    ]
    split = json.loads(frame.to_json(orient="split"))
    atoms = [
        {
            "lattice_mat": crystal.lattice.matrix.tolist(),
            "coords": crystal.frac_coords.tolist(),
            "elements": [site.specie.symbol for site in crystal],
            "cartesian": False,
            "props": ["", ""],
        }
        for crystal in three
    ]
    return {
        "records": json.dumps(rows),
        "split": json.dumps(split),
        "split, data first": json.dumps({key: split[key] for key in ("data", "index", "columns")}),
        "columns": frame.to_json(),
        "index": frame.to_json(orient="index"),
        "table": frame.to_json(orient="table"),
        "lines": frame.to_json(orient="records", lines=True),
        "indented": json.dumps(rows, indent=1),
        "by id": json.dumps({row.pop("material_id"): row for row in json.loads(json.dumps(rows))}),
        "OPTIMADE": json.dumps(
            {
                "data": [
                    {"id": n, "type": "structures", "attributes": a} for n, a in zip("abc", attributes, strict=True)
                ],
                "meta": {},
            }
        ),
        "jarvis": json.dumps([{"jid": n, "atoms": a, "gap": g} for n, a, g in zip("abc", atoms, GAPS, strict=True)]),
        "entries": json.dumps(
            {
                "entries": [
                    {"@module": "os", "@class": "system", "entry_id": n, "structure": s, "energy": -1.0, "gap": g}
                    for n, s, g in zip("abc", structures, GAPS, strict=True)
                ]
            }
        ),
        "bare OPTIMADE": json.dumps([{"immutable_id": n, **a} for n, a in zip("abc", attributes, strict=True)]),
        "NaN elsewhere": json.dumps([row | {"other": float("nan")} for row in rows]),
    }


LAYOUTS = [
    *("records", "split", "split, data first", "columns", "index", "table", "lines", "indented", "by id", "OPTIMADE"),
    *("jarvis", "entries", "bare OPTIMADE", "NaN elsewhere"),
]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_json(tmp_path, three, layout, compress):
    text = json_layouts(three)[layout]
    (tmp_path / "t.json").write_bytes(compress(text.encode()))
    no_ids = layout in ("columns", "index", "by id")
    check(read(tmp_path / "t.json", target="gap"), three, None if no_ids else ["a", "b", "c"])


def test_a_column_of_json_may_be_longer_than_a_crystal(tmp_path, three, monkeypatch):
    (tmp_path / "t.json").write_text(json_layouts(three)["columns"])
    monkeypatch.setattr(LIMITS, "bytes", 2 * len(json.dumps(three[0].as_dict())))
    monkeypatch.setattr("crystalssl.io._json_stream._BLOCK", 100)
    check(read(tmp_path / "t.json", target="gap"), three)


def test_every_layout_is_tested(three):
    assert list(json_layouts(three)) == LAYOUTS


def test_one_crystal_or_document_as_json(tmp_path, three):
    (tmp_path / "a.json").write_text(json.dumps(three[0].as_dict()))
    bunch = read(tmp_path / "a.json")
    assert (bunch.ids.tolist(), bunch.rows) == (["a"], [None])
    document = {"@module": "m", "material_id": "mp-1", "structure": three[0].as_dict(), "output": {"gap": 3}}
    (tmp_path / "a.json").write_text(json.dumps(document, indent=2))
    bunch = read(tmp_path / "a.json", target="output.gap")
    assert (bunch.ids.tolist(), bunch.target.tolist()) == (["mp-1"], [3.0])


def test_nothing_that_json_names_is_imported(tmp_path, three, monkeypatch):
    imported = []
    monkeypatch.setattr("importlib.import_module", lambda *args: imported.append(args))
    document = {"@module": "antigravity", "@class": "x", "structure": three[0].as_dict() | {"@module": "this"}}
    (tmp_path / "a.json").write_text(json.dumps(document))
    read(tmp_path / "a.json")
    assert not imported


def test_json_in_a_stream_holds_one_record_at_a_time(tmp_path, three):
    import tracemalloc

    from crystalssl.io._json import read_json
    from crystalssl.io._rows import Wanted
    from crystalssl.io._source_file import SourceFile

    record = json.dumps({"structure": three[0].as_dict(), "note": "x" * 20_000})
    path = tmp_path / "t.json"
    path.write_text("[" + ",".join([record] * 1000) + "]")
    tracemalloc.start()
    assert sum(1 for _ in read_json(SourceFile(path, "t", "t"), Wanted())) == 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 4


# ---------------------------------------------------------------------- ASE


@pytest.fixture
def atoms(three):
    pytest.importorskip("ase")
    from ase.calculators.singlepoint import SinglePointCalculator
    from pymatgen.io.ase import AseAtomsAdaptor

    frames = [AseAtomsAdaptor.get_atoms(crystal) for crystal in three]
    for frame, gap in zip(frames, GAPS, strict=True):
        frame.calc = SinglePointCalculator(frame, energy=-gap)
        frame.info["gap"] = gap
    return frames


@pytest.mark.parametrize("name", ["t.xyz", "t.extxyz", "t.traj", "t.db", "t.json", "t.cif"])
def test_ase(tmp_path, three, atoms, name):
    from ase.db import connect
    from ase.io import write

    path = tmp_path / name
    if name in ("t.db", "t.json"):
        with connect(path) as database:
            for frame in atoms:
                database.write(frame, gap=frame.info["gap"], data={"nested": {"gap": frame.info["gap"]}})
        check(read(path, target="nested.gap"), three, ["t:1", "t:2", "t:3"], name="nested.gap")
    else:
        write(path, atoms, format="traj" if name == "t.traj" else "extxyz")
    before = path.read_bytes()
    check(read(path, target="gap"), three)
    assert read(path, target="energy").target.tolist() == [-gap for gap in GAPS]
    assert path.read_bytes() == before
    path.rename(tmp_path / "other")
    check(read(tmp_path / "other", target="gap"), three)
    (tmp_path / "t.gz").write_bytes(gzip.compress(before))
    check(read(tmp_path / "t.gz", target="gap"), three)


def test_frames_of_other_programs(tmp_path, three, atoms):
    from ase.io import write

    write(tmp_path / "XDATCAR", [atoms[2]] * 2, format="vasp-xdatcar")
    bunch = read(tmp_path / "XDATCAR")
    assert [crystal.formula for crystal in bunch.data] == ["Po1", "Po1"]
    assert bunch.ids.tolist() == ["XDATCAR:0", "XDATCAR:1"]


# ---------------------------------------------------------------------- Parquet and Arrow


def optimade_table(three, **more):
    pa = pytest.importorskip("pyarrow")
    return pa.table(
        {
            "immutable_id": ["a", "b", "c"],
            "lattice_vectors": [crystal.lattice.matrix.tolist() for crystal in three],
            "species_at_sites": [[site.specie.symbol for site in crystal] for crystal in three],
            "cartesian_site_positions": [crystal.cart_coords.tolist() for crystal in three],
            "gap": GAPS,
            **more,
        }
    )


def lemat(three):
    """The further columns of LeMat-Bulk."""
    return {
        "nsites": [len(crystal) for crystal in three],
        "nperiodic_dimensions": [3] * 3,
        "dimension_types": [[1, 1, 1]] * 3,
        "species": [
            [
                {"name": s, "chemical_symbols": [s], "concentration": [1.0], "mass": None, "attached": None}
                for s in sorted({site.specie.symbol for site in crystal})
            ]
            for crystal in three
        ],
        "functional": ["pbe"] * 3,
    }


@pytest.mark.parametrize("more", [{}, "lemat"])
@pytest.mark.parametrize("kind", ["parquet", "feather", "stream"])
def test_optimade_columns(tmp_path, three, kind, more, monkeypatch):
    import pyarrow as pa
    from pyarrow import feather, parquet

    table = optimade_table(three, **(lemat(three) if more else {}))
    path = tmp_path / "t"
    if kind == "parquet":
        parquet.write_table(table, path, row_group_size=2)
    elif kind == "feather":
        feather.write_feather(table, path)
    else:
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    monkeypatch.setattr("crystalssl.io._arrow.structure_from_record", None)  # all is plain: no row is read by itself
    check(read(path, target="gap"), three, ["a", "b", "c"])


@pytest.mark.parametrize("kind", ["cif", "json", "dicts"])
@pytest.mark.parametrize("layout", ["parquet", "feather", "stream"])
def test_column_of_crystals(tmp_path, three, texts, kind, layout):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    values = [json.loads(text) for text in texts["json"]] if kind == "dicts" else texts[kind]
    if kind == "dicts":  # Parquet knows no dict without keys
        values = [{"lattice": value["lattice"], "sites": value["sites"]} for value in values]
        values = [{**value, "sites": [{**site, "properties": None} for site in value["sites"]]} for value in values]
    table, path = pa.table({"n": [1, 2, 3], "what": values, "gap": GAPS}), tmp_path / "t.bin"
    if layout == "parquet":
        parquet.write_table(table, path)
    elif layout == "stream":
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    else:
        feather.write_feather(table, path)
    check(read(path, target="gap"), three, ["t.bin:0", "t.bin:1", "t.bin:2"])


def test_folder_of_parquet_files(tmp_path, three):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = optimade_table(three)
    (tmp_path / "part=1").mkdir()
    parquet.write_table(table.slice(0, 2), tmp_path / "0.parquet")
    parquet.write_table(table.slice(2), tmp_path / "part=1" / "1.parquet")
    check(read(tmp_path, target="gap"), three, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        *itertools.product(["list", "frame", "csv", "jsonl", "parquet", "folder"], ["gap", "gap (eV)", ["gap (eV)"]]),
        ("list", "output.gap (eV)"),
        ("jsonl", "output.gap (eV)"),
        ("folder", "props.csv"),
    ],
)
def test_unit_in_the_name_of_a_column(tmp_path, three, kind, target, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nested, beside = target == "output.gap (eV)", target == "props.csv"
    cifs, gaps = [crystal.to(fmt="cif") for crystal in three], [1.0, 2.0, 3.0]
    frame = pd.DataFrame({"id": ["0", "1", "2"], "cif": cifs, "gap (eV)": gaps})
    records = frame.to_dict("records")
    if nested:
        records = [{"id": name, "cif": cif, "output": {"gap (eV)": gap}} for name, cif, gap in frame.values.tolist()]
    source = {"list": records, "frame": frame}.get(kind, f"t.{kind}")
    if kind == "csv":
        frame.to_csv("t.csv", index=False)
    elif kind == "jsonl":
        Path("t.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    elif kind == "parquet":
        frame.to_parquet("t.parquet")
    elif kind == "folder":
        Path("t.folder").mkdir()
        for number, cif in enumerate(cifs):
            Path(f"t.folder/{number}.cif").write_text(cif)
        frame[["id", "gap (eV)"]].to_csv(f"t.folder/{target if beside else 'id_prop.csv'}", index=False)
    bunch = read(source, target=target)
    assert bunch.unit == (["eV"] if isinstance(target, list) else "eV")


def test_unit_of_a_parquet_field(tmp_path, three):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    table = optimade_table(three)
    field = pa.field("gap", pa.float64(), metadata={"unit": "eV"})
    parquet.write_table(table.set_column(4, field, table["gap"]), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet", target="gap").unit == "eV"
    assert read(tmp_path / "t.parquet", target=["gap"]).unit == ["eV"]


# ---------------------------------------------------------------------- archives


def pack(folder, path):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, f"inner/{file.name}")
    else:
        with tarfile.open(path, f"w:{path.suffix[1:]}" if path.suffix != ".tar" else "w") as archive:
            archive.add(folder, "inner")


@pytest.mark.parametrize("name", ["t.zip", "t.tar", "t.tar.gz", "t.tar.bz2", "t.tar.xz"])
def test_archives(tmp_path, cifs, three, name):
    (cifs / "id_prop.csv").write_text("a,1.5\nb,0.25\nc,7\n")
    pack(cifs, tmp_path / name)
    check(read(tmp_path / name), three, ["inner/a", "inner/b", "inner/c"], None)
    check(read(tmp_path / name, target="inner/id_prop.csv"), three, name="target")
    assert read(tmp_path / name).files[0] == f"{tmp_path}/{name}/inner/a.cif"
    (tmp_path / name).rename(tmp_path / "misleading.csv")
    check(read(tmp_path / "misleading.csv"), three, gaps=None)


# ---------------------------------------------------------------------- graphs, processes, chunks


def test_graphs_are_those_of_the_transformer(cifs, three, monkeypatch):
    monkeypatch.setattr("crystalssl.io._reader.plain_structure", None)  # no Structure is made
    bunch = read(cifs, as_graphs=True)
    expected = CrystalGraphTransformer().transform(sorted(cifs.iterdir()))
    assert isinstance(bunch.data, CrystalGraphs)
    np.testing.assert_array_equal(bunch.data.distances, expected.distances)
    assert read(cifs, as_graphs=True, encoder="megnet").data.recipe.cutoff == 5.0
    assert read(cifs, as_graphs=True, encoder=CrystalGraphTransformer(cutoff=4)).data.recipe.cutoff == 4.0
    assert read(cifs, as_graphs=True, encoder=GraphRecipe(3.5)).data.recipe == GraphRecipe(3.5)


@pytest.mark.parametrize("as_graphs", [False, True])
def test_processes_change_nothing(prototypes, as_graphs):
    texts = [crystal.to(fmt="cif") for crystal in prototypes[:80]]
    texts[70] = "data_x\n"
    one, two = (read(texts, as_graphs=as_graphs, on_error="report", n_jobs=jobs) for jobs in (1, 2))
    assert one.ids.tolist() == two.ids.tolist()
    assert one.report.equals(two.report)
    if as_graphs:
        np.testing.assert_array_equal(one.data.distances, two.data.distances)
    else:
        assert one.data == two.data


def test_chunks(cifs, three):
    (cifs / "b.cif").write_text("data_b\n")
    chunks = list(iter_crystals(cifs, on_error="report", chunk_size=1, verbose=0))
    assert [chunk.ids for chunk in chunks] == [["a"], [], ["c"]]
    assert [chunk.positions for chunk in chunks] == [[0], [], [2]]
    assert [len(chunk.report) for chunk in chunks] == [0, 1, 0]
    chunks = list(iter_crystals(cifs, on_error="report", chunk_size=1, as_graphs=True, verbose=0))
    assert [len(chunk.data) for chunk in chunks] == [1, 0, 1]


def test_return_X_y(cifs):
    (cifs / "id_prop.csv").write_text("a,1.5\nb,0.25\nc,7\n")
    X, y = read(cifs, "id_prop.csv", return_X_y=True)
    assert (len(X), y.tolist()) == (3, GAPS)
