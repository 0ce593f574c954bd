from __future__ import annotations

import csv
import gzip
import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import Ridge

from crystalssl import matbench
from crystalssl.exceptions import ResultsError
from crystalssl.matbench._files import _json, _sha256

from .models import on_edges

PHONONS, IS_METAL = "matbench_phonons", "matbench_mp_is_metal"


@pytest.fixture
def dummy(tmp_path):
    return matbench.run(DummyRegressor(), PHONONS, out=tmp_path / "dummy", verbose=0)


@pytest.fixture
def ridge(tmp_path):
    return matbench.run(on_edges(Ridge(1e-3)), PHONONS, out=tmp_path / "ridge", verbose=0)


def yours(comparison):
    return comparison.table[comparison.table.source == "yours"].set_index("algorithm")


# ---------------------------------------------------------------------- table


def test_run_folder_and_file_are_the_same_results(dummy, tmp_path):
    other = tmp_path / "downloaded"
    other.mkdir()
    shutil.copy(dummy.results, other)
    (other / "plain.json").write_bytes(gzip.decompress(dummy.results.read_bytes()))
    expected = dummy.scores.mae.tolist()
    for item in (dummy, dummy.folder, str(dummy.folder), dummy.results, other, other / "plain.json", [dummy]):
        assert matbench.compare(item).folds.score.tolist() == expected
    assert set(yours(matbench.compare(dummy.results)).index) == {"DummyRegressor"}
    assert set(yours(matbench.compare(other)).index) == {"downloaded"}
    assert set(yours(matbench.compare({"mine": dummy})).index) == {"mine"}


def test_place_among_the_published(dummy):
    board = matbench.leaderboard()
    board = board[(board.task == PHONONS) & (board.source == "leaderboard")].reset_index(drop=True)
    for mean, rank, percentile in [(1.0, 1, 100.0), (28.8, 2, 93.75), (28.88741, 2, 87.5), (1000.0, 17, 0.0)]:
        folds = pd.DataFrame({"task": PHONONS, "algorithm": "a", "fold": range(5), "metric": "mae", "score": mean})
        row = yours(matbench.MatbenchComparison(folds)).loc["a"]
        assert (row["rank"], row["percentile"]) == (rank, percentile)
    table = matbench.compare(dummy).table
    assert table["mean"].is_monotonic_increasing
    assert len(table) == 1 + len(board) + 5
    row = yours(matbench.compare(dummy)).loc["DummyRegressor"]
    assert row["mean"] == pytest.approx(dummy.scores.mae.mean())
    assert row["std"] == pytest.approx(np.std(dummy.scores.mae))
    assert (row["unit"], row["n_folds"]) == ("1/cm", 5)


def test_task_with_fewer_folds_has_no_place(tmp_path):
    run = matbench.run(DummyRegressor(), PHONONS, out=tmp_path / "part", folds=[0, 1], verbose=0)
    row = yours(matbench.compare(run)).loc["DummyRegressor"]
    assert row["n_folds"] == 2
    assert pd.isna(row["rank"])
    assert pd.isna(row["percentile"])


def test_classes_are_compared_by_rocauc_with_the_largest_first(tmp_path):
    first = matbench.run(DummyClassifier(), IS_METAL, out=tmp_path / "a", verbose=0)
    second = matbench.run(DummyClassifier(strategy="uniform", random_state=0), IS_METAL, out=tmp_path / "b", verbose=0)
    comparison = matbench.compare({"a": first, "b": second})
    assert comparison.table.metric.tolist() == ["rocauc"] * 2
    assert comparison.table["mean"].is_monotonic_decreasing
    difference = (first.scores.rocauc - second.scores.rocauc).to_numpy()
    assert comparison.paired.wins.tolist() == [(difference > 0).sum()]
    assert "unit" in repr(comparison)


def test_published_numbers_are_those_of_the_reference(reference):
    with open(reference / "matbench_v0.1_leaderboard.csv", encoding="utf-8", newline="") as file:
        expected = [
            (r["task"], r["algorithm"], float(r["mean_mae"]), float(r["std_mae"])) for r in csv.DictReader(file)
        ]
    board = matbench.leaderboard().query("source == 'leaderboard'")
    assert list(board[["task", "algorithm", "mean", "std"]].itertuples(index=False, name=None)) == expected


def test_mean_of_the_targets_gets_the_place_of_dummy(tmp_path, data_home, reference):
    task = "matbench_jdft2d"
    run = matbench.run(DummyRegressor(), task, out=tmp_path / "out", data_home=data_home, verbose=0)
    comparison = matbench.compare(run)
    published = comparison.table[comparison.table.algorithm == "Dummy"].iloc[0]
    mine = yours(comparison).loc["DummyRegressor"]
    assert (mine["mean"], mine["std"]) == pytest.approx((published["mean"], published["std"]), abs=1e-4)
    assert (mine["rank"], mine["percentile"]) == (16, 0.0)
    folds = json.loads((reference / "matbench_v0.1_folds.json").read_text())[task]
    results = json.loads(gzip.decompress(run.results.read_bytes()))["tasks"][task]["results"]
    for name, fold in results.items():
        found = hashlib.sha256("\n".join(sorted(fold["data"])).encode()).hexdigest()
        assert found == folds[name]["sha256_of_sorted_test_ids"]


def test_published_numbers_have_references():
    board = matbench.leaderboard()
    assert board.reference.str.contains(r"doi:10\.|arXiv:").all()
    assert not board.duplicated(["task", "algorithm"]).any()


# ---------------------------------------------------------------------- pairs


def test_pairs_by_fold(dummy, ridge):
    comparison = matbench.compare([ridge, dummy])
    row = comparison.paired.iloc[0]
    assert len(comparison.paired) == 1
    assert (row["first"], row["second"], row["n_folds"], row["wins"]) == (
        "FunctionTransformer + Ridge", "DummyRegressor", 5, 5,
    )  # fmt: skip
    d = (ridge.scores.mae - dummy.scores.mae).to_numpy()
    assert row["difference"] == pytest.approx(d.mean())
    # Nadeau and Bengio: 1/k + n_test/n_train in place of 1/k.
    t = d.mean() / np.sqrt((1 / 5 + 1 / 4) * d.var(ddof=1))
    assert row["p_value"] == pytest.approx(2 * stats.t.sf(abs(t), 4))
    # The uncorrected test is surer than five overlapping folds allow.
    assert row["p_value"] > stats.ttest_rel(ridge.scores.mae, dummy.scores.mae).pvalue
    assert "DummyRegressor" in repr(comparison)
    assert "DummyRegressor" in comparison._repr_html_()


def test_equal_results_have_no_p_value(dummy):
    row = matbench.compare({"a": dummy, "b": dummy}).paired.iloc[0]
    assert (row["difference"], row["wins"]) == (0.0, 0)
    assert np.isnan(row["p_value"])


# ---------------------------------------------------------------------- what is wrong


def spoil(path, edit, *, rehash):
    document = json.loads(gzip.decompress(path.read_bytes()))
    edit(document)
    if rehash:
        document["hash"] = _sha256(_json({key: value for key, value in document.items() if key != "hash"}))
    path.write_bytes(gzip.compress(json.dumps(document).encode()))


@pytest.mark.parametrize(
    ("edit", "rehash", "message"),
    [
        (lambda d: d["tasks"][PHONONS]["results"]["fold_2"]["scores"].update(mae=0.1), False, "was changed"),
        (lambda d: d["tasks"][PHONONS]["results"].pop("fold_2"), True, "lacks fold_2 of matbench_phonons"),
        (lambda d: d["tasks"][PHONONS]["results"]["fold_2"]["data"].popitem(), True, "does not have the test crystals"),
        (lambda d: d.pop("datestamp"), True, "does not hold results of matbench_v0.1"),
        (lambda d: d.update(benchmark_name="matbench_v1"), True, "does not hold results of matbench_v0.1"),
    ],
)
def test_changed_results_are_refused(edit, rehash, message, dummy):
    spoil(dummy.results, edit, rehash=rehash)
    with pytest.raises(ResultsError, match=message):
        matbench.compare(dummy.results)


def test_results_of_others_hash_as_theirs(dummy):
    # Their metadata may hold objects in arrays, whose keys the official package does not sort.
    spoil(
        dummy.results, lambda d: d["user_metadata"].update(authors=[{"name": "Noether", "email": "e@n"}]), rehash=True
    )
    text = json.loads(gzip.decompress(dummy.results.read_bytes()))
    assert list(text["user_metadata"]["authors"][0]) == ["name", "email"]
    assert len(matbench.compare(dummy.results).folds) == 5


@pytest.mark.parametrize(
    ("results", "error", "message"),
    [
        ([], ValueError, "no results to compare"),
        (3, TypeError, "a folder, a results.json.gz, or several"),
        ("nowhere", ResultsError, "nowhere cannot be read"),
    ],
)
def test_wrong_results(results, error, message):
    with pytest.raises(error, match=message):
        matbench.compare(results)


def test_folder_without_results_truncated_file_and_equal_names(dummy, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsError, match="holds neither folds"):
        matbench.compare(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"the same name: \['DummyRegressor', 'DummyRegressor'\]"):
        matbench.compare([dummy, dummy])
    dummy.results.write_bytes(dummy.results.read_bytes()[:-30])
    with pytest.raises(ResultsError, match="cannot be read"):
        matbench.compare(dummy.results)


# ---------------------------------------------------------------------- figure


def test_figure(dummy, ridge, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    comparison = matbench.compare([ridge, dummy])
    ax = comparison.plot()
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == comparison.table.algorithm.tolist()
    bold = [label.get_text() for label in ax.get_yticklabels() if label.get_fontweight() == "bold"]
    assert set(bold) == {"FunctionTransformer + Ridge", "DummyRegressor"}
    assert ax.get_xlabel() == "MAE (1/cm)"
    assert ax.yaxis_inverted()
    ax.figure.canvas.draw()
    assert {"20", "50", "100"} <= {label.get_text() for label in ax.get_xticklabels()}
    assert {label.get_text() for label in ax.get_xticklabels(minor=True)} <= {""}
    _, given = pyplot.subplots()
    assert comparison.plot(PHONONS, ax=given) is given
    with pytest.raises(ValueError, match="task of these results"):
        comparison.plot("matbench_jdft2d")
    classes = matbench.run(DummyClassifier(), IS_METAL, out=tmp_path / "dummy", verbose=0)
    both = matbench.compare(classes)
    with pytest.raises(ValueError, match="name one of matbench_phonons, matbench_mp_is_metal"):
        both.plot()
    assert both.plot(IS_METAL).get_xlabel() == "ROC AUC"
    pyplot.close("all")
