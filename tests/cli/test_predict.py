from __future__ import annotations

import bz2
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import crystalssl
from crystalssl.cli import _records
from crystalssl.graphs import CorpusWriter

from .conftest import rows_of


@pytest.fixture
def paths(cifs):
    return sorted(cifs.glob("*.cif"))


def predictions(model, paths):
    return crystalssl.load(model).predict(paths)


def test_table_of_an_ensemble(paths, run, tiny):
    run("predict", tiny / "model", *reversed(paths), "-o", "out.csv")
    rows = rows_of(Path("out.csv"))
    assert [*rows[0]] == ["id", "prediction", "std"]
    assert [row["id"] for row in rows] == [path.stem for path in reversed(paths)]
    mean, std = crystalssl.load(tiny / "model").predict(paths[::-1], return_std=True)
    np.testing.assert_allclose([float(row["prediction"]) for row in rows], mean, rtol=1e-5)
    np.testing.assert_allclose([float(row["std"]) for row in rows], std, rtol=1e-3)
    assert not Path("out.failed.csv").exists()


def test_single_network_has_no_deviation(paths, run, tiny):
    rows = rows_of(run("predict", tiny / "single", "cifs").stdout)
    assert [*rows[0]] == ["id", "prediction"]
    np.testing.assert_allclose(
        [float(row["prediction"]) for row in rows], predictions(tiny / "single", paths), rtol=1e-5
    )


def test_several_targets(paths, run, tiny):
    rows = rows_of(run("predict", tiny / "several", "cifs").stdout)
    assert [*rows[0]] == ["id", "prediction_density", "prediction_minus"]
    found = [[float(row["prediction_density"]), float(row["prediction_minus"])] for row in rows]
    np.testing.assert_allclose(found, predictions(tiny / "several", paths), rtol=1e-5)


def test_classes(paths, run, tiny):
    rows = rows_of(run("predict", tiny / "classes", "cifs").stdout)
    assert [*rows[0]] == ["id", "prediction", "probability_heavy", "probability_light"]
    assert [row["prediction"] for row in rows] == predictions(tiny / "classes", paths).tolist()
    sums = [float(row["probability_heavy"]) + float(row["probability_light"]) for row in rows]
    np.testing.assert_allclose(sums, 1)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_formats_of_tables(paths, run, tiny, suffix):
    expected = predictions(tiny / "single", paths)
    output = Path("results", f"out.{suffix}")
    run("predict", tiny / "single", "cifs", "-o", output)
    if suffix == "parquet":
        frame = pd.read_parquet(output)
    elif suffix == "jsonl":
        frame = pd.DataFrame(map(json.loads, output.read_text().splitlines()))
    else:
        frame = pd.read_csv(output, sep="\t" if suffix == "tsv" else ",")
    assert frame.columns.tolist() == ["id", "prediction"]
    np.testing.assert_allclose(frame["prediction"], expected, rtol=1e-5)
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_parquet_without_pyarrow(paths, run, tiny, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("predict", tiny / "single", *paths[:1], "-o", "out.parquet", status=1)
    assert "Error: writing Parquet takes pyarrow: pip install 'crystalssl[parquet]'" in result.stderr
    assert not Path("out.parquet").exists()


@pytest.fixture
def mixed(paths, salt):
    """Five files: good, empty, of an element that nobody knows, overlapping atoms, good."""
    folder = Path("mixed")
    folder.mkdir()
    shutil.copy(paths[0], folder / "a.cif")
    (folder / "b.cif").write_text("")
    salt.copy().replace_species({"Na": "Og"}).to(filename=str(folder / "c.cif"))
    close = salt.copy()
    close.translate_sites([4], [0.5, 0.5, 0.5002])
    close.to(filename=str(folder / "d.cif"))
    shutil.copy(paths[1], folder / "e.cif")
    return folder


def test_failed_records_have_a_file_of_their_own(mixed, paths, run, tiny):
    result = run("predict", tiny / "single", *sorted(mixed.iterdir()), "-o", "out.csv", status=3)
    assert result.stderr.splitlines()[-1] == "3 records could not be used; see out.failed.csv"
    rows = rows_of(Path("out.csv"))
    assert [row["id"] for row in rows] == ["a", "e"]
    np.testing.assert_allclose(
        [float(row["prediction"]) for row in rows], predictions(tiny / "single", paths[:2]), rtol=1e-5
    )
    failed = {row["id"]: row for row in rows_of(Path("out.failed.csv"))}
    assert sorted(failed) == ["b", "c", "d"]
    assert failed["c"]["file"] == "mixed/c.cif"
    assert failed["c"]["reason"].startswith("the encoder's weights have never seen Og")
    assert "Å apart" in failed["d"]["reason"]


def test_failed_records_of_stdout_are_on_stderr(mixed, run, tiny):
    result = run("predict", tiny / "single", *sorted(mixed.iterdir()), status=3)
    assert [row["id"] for row in rows_of(result.stdout)] == ["a", "e"]
    lines = [line for line in result.stderr.splitlines() if line.startswith("Failed: ")]
    assert len(lines) == 3
    assert any(line.startswith("Failed: c (mixed/c.cif): the encoder's weights") for line in lines)


def test_nothing_can_be_used(mixed, run, tiny):
    run("predict", tiny / "single", mixed / "b.cif", mixed / "c.cif", "-o", "out.csv", status=3)
    assert Path("out.csv").read_text() == "id,prediction\n"
    assert len(rows_of(Path("out.failed.csv"))) == 2


def test_former_list_of_failed_records_goes(mixed, paths, run, tiny):
    run("predict", tiny / "single", mixed, "-o", "out.csv", status=3)
    run("predict", tiny / "single", "cifs", "-o", "out.csv")
    assert not Path("out.failed.csv").exists()
    Path("out.failed.csv").write_text("mine\n")
    run("predict", tiny / "single", "cifs", "-o", "out.csv")
    assert Path("out.failed.csv").read_text() == "mine\n"


def test_crystal_without_area_fails_alone(paths, run, tiny, labelled):
    """What the model refuses for another reason than the readers."""
    from pymatgen.core import Lattice, Structure

    from crystalssl import CrystalSSLRegressor

    sheets = [Structure(Lattice.tetragonal(a, 20), ["Fe", "O"], [[0, 0, 0.5], [0.5, 0.5, 0.5]]) for a in (3, 3.5, 4)]
    params = {"target_per": "area", "max_epochs": 1, "head_dim": 8, "pretrain": None, "random_state": 0}
    CrystalSSLRegressor(**params).fit(sheets, [1.0, 2.0, 3.0]).save("layers")
    for number, sheet in enumerate(sheets):
        sheet.to(filename=f"sheet{number}.cif")
    run("predict", "layers", "sheet0.cif", paths[0], "sheet1.cif", paths[1], "sheet2.cif", "-o", "out.csv", status=3)
    assert [row["id"] for row in rows_of(Path("out.csv"))] == ["sheet0", "sheet1", "sheet2"]
    assert [row["reason"][:11] for row in rows_of(Path("out.failed.csv"))] == ["has no area"] * 2


def test_pipes(paths, run, tiny):
    """A stream of one file, whatever it is; it is told by its content."""
    expected = predictions(tiny / "single", paths[:3])
    from pymatgen.core import Structure

    records = [{"id": f"x{i}", "structure": Structure.from_file(path).as_dict()} for i, path in enumerate(paths[:3])]
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    for content in (lines, bz2.compress(lines)):
        rows = rows_of(run("predict", tiny / "single", "-", "-o", "-", input=content).stdout)
        assert [row["id"] for row in rows] == ["x0", "x1", "x2"]
        np.testing.assert_allclose([float(row["prediction"]) for row in rows], expected, rtol=1e-5)
    assert len(rows_of(run("predict", tiny / "single", "-", input=paths[0].read_bytes()).stdout)) == 1


def test_names_of_columns(paths, run, tiny):
    table = pd.DataFrame({"name": ["p", "q"], "other": ["a", "b"], "text": [path.read_text() for path in paths[:2]]})
    table.to_csv("table.csv", index=False)
    args = ("predict", tiny / "single", "table.csv", "--structure", "text")
    assert [row["id"] for row in rows_of(run(*args, "--id", "other").stdout)] == ["a", "b"]
    assert "has no column 'nam'" in run(*args, "--id", "nam", status=1).stderr


def test_graphs_that_were_made_before(paths, run, tiny):
    result = run("graphs", "cifs", "-o", "graphs", "--encoder", "cgcnn", "--shard-size", 10)
    assert "graphs: CrystalCorpus(24 crystals in 3 shards" in result.stderr
    expected = rows_of(run("predict", tiny / "single", *paths).stdout)
    assert rows_of(run("predict", tiny / "single", "graphs").stdout) == expected
    assert "holds graphs without targets" in run("fit", "graphs", "-t", "x", "-o", "m", status=1).stderr


def test_graphs_that_a_former_version_made(paths, run, tiny):
    crystalssl.CrystalGraphTransformer("cgcnn").transform(paths).save("graphs")
    Path("graphs.ids.csv").write_text("id\n" + "".join(f"c{row:02d}\n" for row in range(24)))
    expected = rows_of(run("predict", tiny / "single", *paths).stdout)
    assert rows_of(run("predict", tiny / "single", "graphs").stdout) == expected
    Path("graphs.ids.csv").write_text("id\na\n")
    assert (
        "graphs.ids.csv has 1 ids, graphs has 24 graphs" in run("predict", tiny / "single", "graphs", status=1).stderr
    )
    Path("graphs.ids.csv").unlink()
    assert rows_of(run("predict", tiny / "single", "graphs").stdout)[5]["id"] == "5"


def test_graphs_of_what_can_be_used(mixed, run):
    for _ in range(2):  # the second time there is nothing to do
        run("graphs", mixed, "-o", "graphs", "--cutoff", 5, "--max-neighbors", 6, status=3)
        corpus = crystalssl.CrystalCorpus.load("graphs")
        assert (len(corpus), corpus.recipe.cutoff, corpus.recipe.max_neighbors) == (3, 5.0, 6)
        assert corpus.ids.tolist() == ["a", "c", "e"]
        assert [row["id"] for row in rows_of(Path("graphs.failed.csv"))] == ["b", "d"]
    assert "was begun by GraphRecipe" in run("graphs", mixed, "-o", "graphs", status=1).stderr
    assert "exists and is not a corpus" in run("graphs", mixed, "-o", mixed, status=1).stderr
    assert "no crystal was written" in run("graphs", mixed / "b.cif", mixed / "d.cif", "-o", "g", status=1).stderr


def test_graphs_by_several_processes(paths, run):
    assert (
        "part 2/2 is finished, 1 of 2 are not"
        in run("graphs", "cifs", "-o", "graphs", "--shard-size", 5, "--part", "2/2").stderr
    )
    assert "24 crystals in 5 shards" in run("graphs", "cifs", "-o", "graphs", "--shard-size", 5, "--part", "1/2").stderr
    assert sorted(crystalssl.CrystalCorpus.load("graphs").ids) == [f"c{row:02d}" for row in range(24)]
    for wrong in ("3/2", "0/2", "1-2"):
        assert "is not of the form K/N" in run("graphs", "cifs", "-o", "graphs", "--part", wrong, status=2).stderr


def test_interrupted_graphs(paths, run, monkeypatch):
    original = CorpusWriter.write

    def interrupted(self, *args, **options):
        if self.n_shards == 2:
            raise KeyboardInterrupt
        original(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(CorpusWriter, "write", interrupted)
        result = run("graphs", "cifs", "-o", "graphs", "--shard-size", 10, status=130)
    assert "What was made is in graphs; go on with: crystalssl graphs cifs -o graphs --shard-size 10" in result.stderr
    run("graphs", "cifs", "-o", "graphs", "--shard-size", 10)
    assert len(crystalssl.CrystalCorpus.load("graphs")) == 24


WRONG = {
    "no model": (("predict", "modl", "cifs"), 1, "there is no folder 'modl'"),
    "weights": (("predict", "{tiny}/weights", "cifs"), 1, "holds an encoder, which predicts nothing"),
    "a source that is not there": (("predict", "{tiny}/single", "cif"), 1, "There is no file cif"),
    "an output of no format": (
        ("predict", "{tiny}/single", "cifs", "-o", "out.xls"),
        2,
        "out.xls must end in .csv, .tsv",
    ),
    "an output that is a folder": (
        ("predict", "{tiny}/single", "cifs", "-o", "a.csv"),
        2,
        "a.csv is a folder; name a file",
    ),
    "no device": (("predict", "{tiny}/single", "cifs", "--device", "cuda:9"), 1, "cannot be used here"),
}


@pytest.mark.parametrize(("args", "status", "message"), WRONG.values(), ids=WRONG)
def test_errors(paths, run, tiny, args, status, message):
    Path("a.csv").mkdir()
    result = run(*(str(arg).format(tiny=tiny) for arg in args), status=status)
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["a.csv", "cifs"]


def test_table_is_written_in_one_step(paths, run, tiny, monkeypatch):
    from crystalssl import CrystalSSLRegressor

    Path("out.csv").write_text("former\n")

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(CrystalSSLRegressor, "predict", interrupted)
    assert run("predict", tiny / "single", "cifs", "-o", "out.csv", status=130).stderr == "Interrupted.\n"
    assert Path("out.csv").read_text() == "former\n"
    assert sorted(path.name for path in Path().iterdir()) == ["cifs", "out.csv"]


def test_warnings_are_one_line(run, labelled, cifs, salt, monkeypatch):
    from crystalssl import CrystalSSLRegressor

    X, y = labelled
    params = {"pretrain": None, "max_epochs": 1, "head_dim": 8, "random_state": 0}
    CrystalSSLRegressor(**params).fit(X[:3], y[:3]).save("narrow")
    salt.replace_species({"Na": "Og", "Cl": "Og"})
    salt.to(filename="rare.cif")
    for number in range(3):
        shutil.copy("rare.cif", f"rare{number}.cif")
    monkeypatch.setattr(_records, "_AT_A_TIME", 2)  # in parts, of which the warning is one
    lines = run("predict", "narrow", *(f"rare{number}.cif" for number in range(3)), "-o", "out.csv").stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Warning: 3 of 3 crystals hold elements that no training label has seen, Og")


def test_crystals_unlike_those_of_training_are_told_once_for_all_parts(labelled, tiny, recwarn):
    from crystalssl import CrystalGraphTransformer
    from crystalssl.cli._applying import load_predictor
    from crystalssl.exceptions import OutsideDomainWarning

    ordinary = labelled[0][:3]
    blown_up = [crystal.copy().scale_lattice(50 * crystal.volume) for crystal in ordinary]
    predictor = load_predictor(str(tiny / "model"), "cpu")
    for part in (ordinary, blown_up, blown_up):
        predictor(CrystalGraphTransformer("cgcnn").transform(part))
    assert not [warning for warning in recwarn if issubclass(warning.category, OutsideDomainWarning)]
    with pytest.warns(OutsideDomainWarning, match=r"6 of 9 have cells unlike all of training, item [3-8] the most"):
        predictor.finish()
    # A model that nobody gathers for warns at every call.
    with pytest.warns(OutsideDomainWarning, match="3 of 3"):
        crystalssl.load(tiny / "model").predict(blown_up)
