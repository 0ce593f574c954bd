from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crystalssl import CrystalSSLRegressor, load
from crystalssl.cli import _records
from crystalssl.cli._applying import Predictor
from crystalssl.inspection import domain

from .conftest import rows_of


@pytest.fixture
def all_rows(cifs, run, tiny):
    """What `predict` says of all crystals."""
    return lambda model: rows_of(run("predict", tiny / model, "cifs").stdout)


@pytest.mark.parametrize(("options", "sign"), [((), -1), (("--smallest",), 1)])
@pytest.mark.parametrize("top", [1, 5, 100])
def test_best_of_all(all_rows, run, tiny, options, sign, top):
    everything = sorted(all_rows("model"), key=lambda row: sign * float(row["prediction"]))
    found = rows_of(run("screen", tiny / "model", "cifs", "--top", top, *options).stdout)
    assert [row["id"] for row in found] == [row["id"] for row in everything][:top]
    assert [row["rank"] for row in found] == [str(rank) for rank in range(1, min(top, 24) + 1)]
    assert [row["std"] for row in found] == [row["std"] for row in everything][:top]


def test_in_parts(all_rows, run, tiny, monkeypatch):
    everything = sorted(all_rows("model"), key=lambda row: -float(row["prediction"]))
    monkeypatch.setattr(_records, "_AT_A_TIME", 5)
    found = rows_of(run("screen", tiny / "model", "cifs", "--top", 4).stdout)
    assert [row["id"] for row in found] == [row["id"] for row in everything][:4]


def test_of_equal_ones_the_earlier_is_kept(cifs, run, tiny, monkeypatch):
    monkeypatch.setattr(_records, "_AT_A_TIME", 5)
    monkeypatch.setattr(CrystalSSLRegressor, "predict", lambda self, X: np.zeros(len(X)))
    for options in ((), ("--smallest",)):
        found = rows_of(run("screen", tiny / "single", "cifs", "--top", 3, *options).stdout)
        assert [row["id"] for row in found] == ["c00", "c01", "c02"]


def test_target_and_class(all_rows, run, tiny):
    by_target = sorted(all_rows("several"), key=lambda row: -float(row["prediction_minus"]))
    found = rows_of(run("screen", tiny / "several", "cifs", "--target", "minus", "--top", 3).stdout)
    assert [row["id"] for row in found] == [row["id"] for row in by_target[:3]]
    for label in ("heavy", "light"):
        by_class = sorted(all_rows("classes"), key=lambda row: -float(row[f"probability_{label}"]))
        found = rows_of(run("screen", tiny / "classes", "cifs", "--class", label, "--top", 3).stdout)
        assert [row["id"] for row in found] == [row["id"] for row in by_class[:3]]
    assert found == rows_of(run("screen", tiny / "classes", "cifs", "--top", 3).stdout)  # of two classes the second


def test_failed_records(cifs, run, tiny):
    (cifs / "c05.cif").write_text("")
    run("screen", tiny / "model", "cifs", "--top", 2, "-o", "best.csv", status=3)
    assert len(rows_of(Path("best.csv"))) == 2
    failed = rows_of(Path("best.failed.csv"))
    assert [row["id"] for row in failed][:1] == ["c05"]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("several", (), "name one of the targets density, minus"),
        ("several", ("--target", "mass"), "name one of the targets density, minus"),
        ("classes", ("--class", "medium"), "name one of the classes heavy, light"),
        ("classes", ("--target", "heavy"), "the model is a classifier: name a class with --class"),
        ("single", ("--class", "heavy"), "the model is a regressor and has no classes"),
        ("single", ("--top", 0), "0 is not in the range x>=1"),
    ],
)
def test_errors(cifs, run, tiny, model, options, message):
    assert message in " ".join(run("screen", tiny / model, "cifs", *options, status=2).stderr.split())


def test_graphs_folder(all_rows, run, tiny):
    run("graphs", "cifs", "-o", "graphs")
    found = rows_of(run("screen", tiny / "model", "graphs", "--top", 3).stdout)
    everything = sorted(all_rows("model"), key=lambda row: -float(row["prediction"]))
    assert [row["id"] for row in found] == [row["id"] for row in everything[:3]]


def test_failures_are_written_as_they_come(tmp_path):
    with _records.Failures(str(tmp_path / "out.parquet")) as failures:
        failures.add([("a", None, "a.cif", "it is\nempty"), ("b", np.int64(3), None, "no")])
        failures.add([])
    rows = rows_of(tmp_path / "out.failed.csv")
    assert rows == [
        {"id": "a", "row": "", "file": "a.cif", "reason": "it is empty"},
        {"id": "b", "row": "3", "file": "", "reason": "no"},
    ]


# ---------------------------------------------------------------- all predictions


def frame_of(folder):
    """What any reader of data sets makes of the folder."""
    return pd.read_parquet(folder).to_dict("records")


@pytest.fixture
def in_fives(monkeypatch):
    monkeypatch.setattr(_records, "_AT_A_TIME", 5)


def test_all_predictions_are_kept(all_rows, in_fives, run, tiny):
    run("screen", tiny / "model", "cifs", "--top", 3, "--all", "all", "-o", "best.parquet")
    expected = all_rows("model")
    found = frame_of("all")
    assert [row["id"] for row in found] == [row["id"] for row in expected]
    np.testing.assert_allclose([row["prediction"] for row in found], [float(row["prediction"]) for row in expected])
    np.testing.assert_allclose([row["std"] for row in found], [float(row["std"]) for row in expected])
    assert len(list(Path("all").iterdir())) == 5
    best = sorted(expected, key=lambda row: -float(row["prediction"]))[:3]
    assert pd.read_parquet("best.parquet")["id"].tolist() == [row["id"] for row in best]


def test_screening_goes_on_where_it_stopped(cifs, in_fives, run, tiny, monkeypatch):
    (cifs / "c03.cif").write_text("")
    command = ("screen", tiny / "model", "cifs", "--top", 3, "--all", "all", "-o")
    run("screen", tiny / "model", "cifs", "--top", 3, "--all", "whole", "-o", "whole.csv", status=3)
    original, calls = Predictor.__call__, []

    def interrupted(self, graphs):
        if len(calls) == 2:
            calls.append("stop")
            raise KeyboardInterrupt
        calls.append(len(graphs))
        return original(self, graphs)

    monkeypatch.setattr(Predictor, "__call__", interrupted)
    result = run(*command, "best.csv", status=130)
    assert "What was predicted is in all; go on with: crystalssl screen" in result.stderr
    assert not Path("best.csv").exists()
    run(*command, "best.csv", status=3)
    assert calls == [4, 5, "stop", 5, 5, 4]
    assert Path("best.csv").read_text() == Path("whole.csv").read_text()
    assert frame_of("all") == frame_of("whole")
    assert [row["id"] for row in rows_of(Path("best.failed.csv"))][:1] == ["c03"]
    run(*command, "best.csv", status=3)  # nothing is left to predict
    assert len(calls) == 6


def test_predictions_of_something_else_are_left_alone(cifs, in_fives, run, tiny):
    run("screen", tiny / "model", "cifs", "--all", "all", "-o", "best.csv")
    for other in ((tiny / "single", "cifs"), (tiny / "model", "cifs/c01.cif")):
        stderr = run("screen", *other, "--all", "all", "-o", "best.csv", status=1).stderr
        assert "was predicted by another model, or for another source" in stderr
    Path("all/part-000001.parquet").unlink()
    assert (
        "which is no next part"
        in run("screen", tiny / "model", "cifs", "--all", "all", "-o", "best.csv", status=1).stderr
    )
    Path("damaged").mkdir()
    Path("damaged/part-000000.parquet").write_bytes(b"PAR1")
    assert (
        "is not a file of predictions"
        in run("screen", tiny / "model", "cifs", "--all", "damaged", "-o", "best.csv", status=1).stderr
    )
    assert "cannot be gone on with" in run("screen", tiny / "model", "-", "--all", "all", status=2, input=b"").stderr


def test_predictions_of_a_source_that_has_changed_are_left_alone(cifs, in_fives, run, tiny):
    columns = {"id": ["a", "b"], "one": ["c00", "c01"], "other": ["c02", "c03"]}
    pd.DataFrame(columns).replace(r"^(c\d+)$", r"cifs/\1.cif", regex=True).to_csv("t.csv", index=False)
    for number, source in enumerate(("cifs", "t.csv")):
        how = ("--structure", "one") if source == "t.csv" else ()
        command = ("screen", tiny / "model", source, "--all", f"all{number}", "-o", "best.csv")
        run(*command, *how)
        run(*command, *how)
        if source == "t.csv":
            run(*command, "--structure", "other", status=1)
        Path("cifs/new.cif").write_text(Path("cifs/c00.cif").read_text())
        os.utime("t.csv", ns=(number, number))
        assert "or one that has changed since" in run(*command, *how, status=1).stderr


@pytest.mark.parametrize("kind", ["model", "classes"])
def test_parts_of_which_nothing_can_be_used_are_read_with_the_others(cifs, in_fives, run, tiny, kind):
    for number in range(5):  # the first part
        (cifs / f"c0{number}.cif").write_text("nothing")
    (cifs / "id_prop.csv").unlink()
    which = ("--class", "heavy") if kind == "classes" else ()
    run("screen", tiny / kind, "cifs", "--domain", *which, "--all", "all", "-o", "best.csv", status=3)
    assert [row["id"] for row in frame_of("all")] == [f"c{number:02d}" for number in range(5, 24)]


def test_domain(cifs, in_fives, run, tiny):
    rows = rows_of(run("screen", tiny / "model", "cifs", "--top", 24, "--domain").stdout)
    expected = domain(load(tiny / "model"), sorted(cifs.glob("*.cif")))
    for row in rows:
        known = expected.iloc[int(row["id"][1:])]
        assert float(row["distance"]) == pytest.approx(known.distance, rel=1e-4)
        assert row["verdict"] == known.verdict
