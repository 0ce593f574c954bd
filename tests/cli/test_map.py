from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from crystalssl import load
from crystalssl.cli import _records
from crystalssl.inspection import domain
from crystalssl.plotting._embedding import project

from .conftest import rows_of


def data_of(path="map.html"):
    text = re.search(r'id="data">(.*?)</script>', Path(path).read_text(), re.DOTALL)[1]
    data = json.loads(text)
    columns = {}
    for column in data["columns"]:
        if "numbers" in column:
            columns[column["name"]] = np.frombuffer(base64.b64decode(column["numbers"]), "<f4")
        else:
            codes = np.frombuffer(base64.b64decode(column["codes"]), "<u2")
            columns[column["name"]] = [column["classes"][code] for code in codes]
    points = np.frombuffer(base64.b64decode(data["points"]), "<f4").reshape(-1, 2)
    return data["ids"], points, columns


def test_vectors_of_weights_and_columns_of_a_table(cifs, labelled, run, tiny):
    X, y = labelled
    lines = [f"c{number:02d},{value:.6f},{'heavy' if value > 5 else 'light'}" for number, value in enumerate(y)]
    Path("t.csv").write_text(
        "\n".join(["id,density (g/cm3),kind,file", *(f"{line},cifs/{line[:3]}.cif" for line in lines)])
    )
    run("map", "t.csv", "-t", "density (g/cm3)", "-t", "kind", "-w", tiny / "weights", "-o", "map.html", "-q")
    ids, points, columns = data_of()
    assert ids == [f"c{number:02d}" for number in range(24)]
    np.testing.assert_allclose(columns["density (g/cm3)"], y, rtol=1e-5)
    assert columns["kind"] == ["heavy" if value > 5 else "light" for value in y]
    expected = project(load(tiny / "weights").transform(X), "pca", 0)
    distances = [np.linalg.norm(those - those[0], axis=1) for those in (points, expected)]
    np.testing.assert_allclose(distances[0] / distances[0].max(), distances[1] / distances[1].max(), atol=1e-3)


def test_columns_of_a_model(cifs, run, tiny):
    run("map", "cifs", "-m", tiny / "model", "-o", "map.html", "--title", "mine")
    ids, _, columns = data_of()
    predicted = rows_of(run("predict", tiny / "model", "cifs").stdout)
    assert ids == [row["id"] for row in predicted]
    np.testing.assert_allclose(columns["prediction"], [float(row["prediction"]) for row in predicted], rtol=1e-5)
    np.testing.assert_allclose(columns["std"], [float(row["std"]) for row in predicted], rtol=1e-4)
    known = domain(load(tiny / "model"), sorted(str(path) for path in cifs.glob("*.cif")))
    np.testing.assert_allclose(columns["distance from training (percentile)"], known.percentile, atol=1e-3)
    assert columns["domain"] == known.verdict.tolist()
    assert "<title>mine</title>" in Path("map.html").read_text()


def test_graphs_folder(cifs, run, tiny):
    run("graphs", "cifs", "-o", "graphs")
    run("map", "graphs", "-w", tiny / "weights", "-o", "map.html")
    assert data_of()[0] == [f"c{number:02d}" for number in range(24)]


@pytest.mark.parametrize("target", [(), ("-t", "cifs/id_prop.csv")])
def test_failed_records(cifs, run, tiny, target):
    from pymatgen.core import Lattice, Structure

    Structure(Lattice.cubic(3), ["Og"], [[0, 0, 0]]).to(filename="cifs/c05.cif")
    (cifs / "c06.cif").write_text("")
    run("map", "cifs", *target, "-w", tiny / "weights", "-o", "map.html", status=3)
    assert not {"c05", "c06"} & set(data_of()[0])
    failed = {row["id"]: row["reason"] for row in rows_of(Path("map.failed.csv"))}
    assert "never seen Og" in failed["c05"]
    assert "c06" in failed
    assert _records._failed_path("a/map.html") == Path("a/map.failed.csv")


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("-o", "map.png"), 2, "must end in .html"),
        (("-o", "map.html", "-m", "model", "-w", "joint"), 2, "give a model or weights, not both"),
        (("-o", "map.html", "-w", "single"), 1, "give it as --model"),
        (("-o", "map.html", "-m", "weights"), 1, "holds an encoder, which predicts nothing"),
    ],
)
def test_errors(cifs, run, tiny, options, status, message):
    options = [tiny / option if option in ("single", "weights", "model") else option for option in options]
    result = run("map", "cifs", *options, status=status)
    assert message in " ".join(result.stderr.split())


def test_no_column_of_the_source_is_replaced(cifs, run, tiny):
    lines = [f"c{number:02d},{number},cifs/c{number:02d}.cif" for number in range(24)]
    Path("t.csv").write_text("\n".join(["id,prediction,file", *lines]))
    found = run("map", "t.csv", "-t", "prediction", "-m", tiny / "single", "-o", "map.html", status=2)
    assert "the model's columns have the name 'prediction' too; rename it in the source" in " ".join(
        found.stderr.split()
    )


def test_too_few(cifs, run, tiny):
    found = run("map", "cifs/c00.cif", "cifs/c01.cif", "-w", tiny / "weights", "-o", "map.html", status=1)
    assert "2 crystals can be used; a map takes at least 3" in found.stderr
    assert not Path("map.html").exists()
