from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crystalssl.cli import _records

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
    import crystalssl.io

    everything = sorted(all_rows("model"), key=lambda row: -float(row["prediction"]))
    original = crystalssl.io.iter_crystals
    monkeypatch.setattr(crystalssl.io, "iter_crystals", lambda *args, **kwargs: original(*args, chunk_size=5, **kwargs))
    found = rows_of(run("screen", tiny / "model", "cifs", "--top", 4).stdout)
    assert [row["id"] for row in found] == [row["id"] for row in everything][:4]


def test_of_equal_ones_the_earlier_is_kept(cifs, run, tiny, monkeypatch):
    import crystalssl.io
    from crystalssl import CrystalSSLRegressor

    original = crystalssl.io.iter_crystals
    monkeypatch.setattr(crystalssl.io, "iter_crystals", lambda *args, **kwargs: original(*args, chunk_size=5, **kwargs))
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
