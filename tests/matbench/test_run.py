from __future__ import annotations

import gzip
import hashlib
import json
import shutil

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import BayesianRidge, LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import LinearSVC

from crystalssl import matbench
from crystalssl.datasets import fetch_matbench, matbench_folds
from crystalssl.exceptions import DatasetError, ResultsError

from .models import Interrupted, Spy, on_edges

PHONONS, IS_METAL = "matbench_phonons", "matbench_mp_is_metal"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "submission"


def submission(out):
    return json.loads(gzip.decompress((out / "results.json.gz").read_bytes()))


def fold_files(out):
    return {path.name: path.read_bytes() for path in sorted(out.glob("folds/*/*.json"))}


def change(path, *keys, value):
    """Put another value into a JSON file, however deep."""
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(content))


# ---------------------------------------------------------------------- what is written


def test_layout_of_a_submission(out, small):
    y, tests = small[PHONONS]
    run = matbench.run(DummyRegressor(), PHONONS, out=out, verbose=0)
    assert run.complete == [PHONONS]
    assert (run.folder, run.results, run.info) == (out, out / "results.json.gz", out / "info.json")
    document = submission(out)
    # The hash of the official package: of the text of everything else, keys sorted.
    found = document.pop("hash")
    assert found == hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    assert set(document) == {
        "@module", "@class", "version", "benchmark_name", "datestamp", "tasks", "user_metadata",
    }  # fmt: skip
    assert document["@module"], document["@class"] == ("matbench.bench", "MatbenchBenchmark")
    assert (document["version"], document["benchmark_name"]) == ("0.6", "matbench_v0.1")
    assert list(document["tasks"]) == [PHONONS]
    task = document["tasks"][PHONONS]
    assert set(task) == {"@module", "@class", "benchmark_name", "dataset_name", "results"}
    assert (task["@module"], task["@class"]) == ("matbench.task", "MatbenchTask")
    assert (task["benchmark_name"], task["dataset_name"]) == ("matbench_v0.1", PHONONS)
    assert list(task["results"]) == [f"fold_{number}" for number in range(5)]
    for number, test in enumerate(tests):
        fold = task["results"][f"fold_{number}"]
        assert set(fold) == {"data", "uncertainty", "parameters", "scores"}
        mean = np.delete(y, test).mean()
        assert fold["data"] == pytest.approx({f"mb-phonons-{row + 1:02d}": mean for row in test})
        assert fold["uncertainty"] is None
        assert fold["parameters"]["estimator"]["strategy"] == "mean"
        assert fold["parameters"]["versions"] == {"sklearn": sklearn.__version__}
        error = np.abs(y[test] - mean)
        expected = {"mae": error.mean(), "rmse": np.sqrt((error**2).mean()), "max_error": error.max()}
        assert fold["scores"] == pytest.approx({**expected, "mape": (error / y[test]).mean()})
        assert all(type(score) is float for score in fold["scores"].values())


def test_errors_are_those_of_cross_val_score(out):
    X, y = fetch_matbench(PHONONS, return_X_y=True)
    model = on_edges(RandomForestRegressor(5, random_state=3))
    run = matbench.run(model, PHONONS, out=out, verbose=0)
    folds = matbench_folds(PHONONS)
    assert (
        run.scores.mae.tolist() == (-cross_val_score(model, X, y, cv=folds, scoring="neg_mean_absolute_error")).tolist()
    )
    recorded = submission(out)["tasks"][PHONONS]["results"]["fold_3"]["parameters"]["estimator"]
    assert recorded["class"] == "sklearn.pipeline.Pipeline"
    assert recorded["steps"][1][1]["random_state"] == 3


def test_estimator_sees_training_targets_only_and_is_not_changed(out, small, monkeypatch):
    monkeypatch.setattr(Spy, "seen", [])
    X, _ = fetch_matbench(PHONONS, return_X_y=True)
    y, tests = small[PHONONS]
    model = Spy()
    matbench.run(model, PHONONS, out=out, verbose=0)
    assert [step for step, *_ in Spy.seen] == ["fit", "predict"] * 5
    for test, (_, X_fit, y_fit), (_, X_predict) in zip(tests, Spy.seen[::2], Spy.seen[1::2], strict=True):
        assert y_fit.tolist() == np.delete(y, test).tolist()
        assert sorted(X_fit + X_predict) == sorted(x.lattice.a for x in X)
        assert X_predict == [X[row].lattice.a for row in test]
    assert vars(model) == {}


def test_probabilities_of_the_class_true(out, small):
    y, tests = small[IS_METAL]
    run = matbench.run(on_edges(LogisticRegression(C=0.5)), out=out, verbose=0)
    assert run.complete == [IS_METAL]
    X, _ = fetch_matbench(IS_METAL, return_X_y=True)
    rows = np.setdiff1d(np.arange(len(y)), tests[1])
    model = on_edges(LogisticRegression(C=0.5)).fit([X[row] for row in rows], y[rows])
    expected = model.predict_proba([X[row] for row in tests[1]])[:, 1]
    fold = submission(out)["tasks"][IS_METAL]["results"]["fold_1"]
    assert list(fold["data"].values()) == pytest.approx(expected.tolist())
    assert set(fold["scores"]) == {"accuracy", "balanced_accuracy", "f1", "rocauc"}
    # As Matbench computes it: of the classes.
    assert fold["scores"]["rocauc"] == pytest.approx(balanced_accuracy_score(y[tests[1]], expected > 0.5))


def test_classes_where_there_are_no_probabilities(out):
    matbench.run(on_edges(LinearSVC(random_state=0)), IS_METAL, out=out, verbose=0)
    results = submission(out)["tasks"][IS_METAL]["results"]
    assert {type(value) for fold in results.values() for value in fold["data"].values()} == {bool}


def test_uncertainties(out):
    matbench.run(on_edges(BayesianRidge()), PHONONS, out=out, return_std=True, verbose=0)
    fold = submission(out)["tasks"][PHONONS]["results"]["fold_0"]
    assert list(fold["uncertainty"]) == list(fold["data"])
    for id, value in fold["uncertainty"].items():
        assert set(value) == {"ci_lower", "ci_upper", "std"}
        assert value["std"] > 0
        half = 1.959964 * value["std"]
        assert (value["ci_lower"], value["ci_upper"]) == pytest.approx(
            (fold["data"][id] - half, fold["data"][id] + half)
        )


def test_info_is_made_kept_and_completed(out):
    model = on_edges(Ridge())
    matbench.run(model, PHONONS, out=out, folds=0, info={"authors": "A. Einstein"}, verbose=0)
    info = json.loads((out / "info.json").read_text())
    assert set(info) == {"authors", "algorithm", "algorithm_long", "bibtex_refs", "notes", "requirements"}
    assert (info["authors"], info["algorithm"]) == ("A. Einstein", "FunctionTransformer + Ridge")
    assert f"sklearn=={sklearn.__version__}" in info["requirements"]["python"]
    change(out / "info.json", "notes", value="written by hand")
    matbench.run(model, PHONONS, out=out, info={"algorithm": "Edge ridge"}, verbose=0)
    info = json.loads((out / "info.json").read_text())
    assert (info["authors"], info["algorithm"], info["notes"]) == ("A. Einstein", "Edge ridge", "written by hand")
    assert submission(out)["user_metadata"]["algorithm"] == "Edge ridge"


def test_progress_is_on_stderr(out, capsys):
    matbench.run(DummyRegressor(), PHONONS, out=out, folds=[0, 1])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "matbench_phonons fold 1: MAE" in captured.err
    assert "2/2" in captured.err
    matbench.run(DummyRegressor(), PHONONS, out=out, verbose=0)
    assert capsys.readouterr() == ("", "")


def test_backends_that_yield_nothing_before_all_is_done(out):
    with joblib.parallel_config("multiprocessing", n_jobs=2):  # as that of ray
        run = matbench.run(DummyRegressor(), PHONONS, out=out, verbose=0)
    assert run.complete == [PHONONS]


# ---------------------------------------------------------------------- going on


def test_interrupted_run_goes_on_and_ends_with_the_same_results(out, tmp_path, monkeypatch):
    monkeypatch.setattr(Interrupted, "left", 2)
    with pytest.raises(RuntimeError, match="out of power") as caught:
        matbench.run(Interrupted(), PHONONS, out=out, verbose=0)
    if hasattr(caught.value, "__notes__"):
        assert "matbench_phonons fold 2" in caught.value.__notes__[0]
    before = fold_files(out)
    assert list(before) == ["fold_0.json", "fold_1.json"]
    assert not (out / "results.json.gz").exists()

    monkeypatch.setattr(Interrupted, "left", 3)  # a fourth fit would raise
    matbench.run(Interrupted(), PHONONS, out=out, verbose=0)
    assert Interrupted.left == 0
    assert {name: fold_files(out)[name] for name in before} == before

    monkeypatch.setattr(Interrupted, "left", 5)
    matbench.run(Interrupted(), PHONONS, out=tmp_path / "at once", verbose=0)
    assert submission(out)["tasks"] == submission(tmp_path / "at once")["tasks"]


def test_finished_run_needs_no_data_and_writes_the_same_bytes(out, tasks):
    run = matbench.run(DummyRegressor(), PHONONS, out=out, verbose=0)
    before = run.results.read_bytes()
    (tasks / f"{PHONONS}.json.gz").unlink()
    again = matbench.run(DummyRegressor(), PHONONS, out=out, verbose=0)
    assert again.results.read_bytes() == before
    assert again.scores.equals(run.scores)


def test_task_is_in_the_submission_when_it_has_all_folds(out):
    run = matbench.run(DummyRegressor(), PHONONS, out=out, folds=[4, 1, 1], verbose=0)
    assert run.scores.fold.tolist() == [1, 4]
    assert (run.complete, run.results) == ([], None)
    assert matbench.run(DummyClassifier(), IS_METAL, out=out, verbose=0).complete == [IS_METAL]
    run = matbench.run(DummyRegressor(), PHONONS, out=out, folds=range(5), verbose=0)
    assert run.complete == [PHONONS, IS_METAL]
    assert set(submission(out)["tasks"]) == {PHONONS, IS_METAL}


def test_processes_record_what_a_serial_run_records(out, tmp_path):
    matbench.run(DummyRegressor(), PHONONS, out=out, n_jobs=2, verbose=0)
    matbench.run(DummyRegressor(), PHONONS, out=tmp_path / "serial", verbose=0)
    assert submission(out)["tasks"] == submission(tmp_path / "serial")["tasks"]


@pytest.mark.parametrize(
    ("model", "changed", "message"),
    [
        (Ridge(), Ridge(alpha=2.0), r"steps\[1\]\[1\]\.alpha: 1\.0 then, 2\.0 now"),
        (Ridge(), Ridge(alpha=1), "alpha: 1.0 then, 1 now"),
        (Ridge(), BayesianRidge(), "class: 'sklearn.linear_model._ridge.Ridge' then"),
        (Ridge(), GridSearchCV(Ridge(), {"alpha": [1.0]}), "GridSearchCV' now"),
    ],
)
def test_another_estimator_is_refused(model, changed, message, out):
    matbench.run(on_edges(model), PHONONS, out=out, folds=0, verbose=0)
    with pytest.raises(ResultsError, match=r"fold_0\.json is of another estimator") as caught:
        matbench.run(on_edges(changed), PHONONS, out=out, verbose=0)
    assert caught.match(message)
    # Nothing was run, and the first one can go on.
    assert list(fold_files(out)) == ["fold_0.json"]
    matbench.run(on_edges(clone(model)), PHONONS, out=out, verbose=0)


def test_number_of_processes_is_no_other_estimator(out):
    matbench.run(on_edges(RandomForestRegressor(2, random_state=0)), PHONONS, out=out, folds=0, verbose=0)
    louder = on_edges(RandomForestRegressor(2, random_state=0, n_jobs=1)).set_params(verbose=True)
    matbench.run(louder, PHONONS, out=out, folds=1, verbose=0)


def test_another_version_or_kind_of_record_is_refused(out, monkeypatch):
    model = on_edges(BayesianRidge())
    matbench.run(model, PHONONS, out=out, folds=0, verbose=0)
    with pytest.raises(ResultsError, match="return_std: False then, True now"):
        matbench.run(model, PHONONS, out=out, return_std=True, verbose=0)
    monkeypatch.setattr(sklearn, "__version__", "9.9")
    with pytest.raises(ResultsError, match=r"versions\.sklearn: .* '9\.9' now"):
        matbench.run(model, PHONONS, out=out, verbose=0)


def test_another_data_set_is_refused(out):
    matbench.run(DummyRegressor(), PHONONS, out=out, folds=0, verbose=0)
    path = out / "folds" / PHONONS / "fold_0.json"
    content = json.loads(path.read_text())
    content["fold"]["data"]["sha256"] = "0" * 64
    content["sha256"] = hashlib.sha256(json.dumps(content["fold"], sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(content))
    with pytest.raises(ResultsError, match=r"was run on matbench_phonons.json.gz \(sha256 000.* but now there is"):
        matbench.run(DummyRegressor(), PHONONS, out=out, verbose=0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: change(path, "fold", "result", "scores", "mae", value=0.1), "was changed after it was written"),
        (lambda path: change(path, "fold", "number", value=1), "was changed after it was written"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "cannot be read"),
        (lambda path: path.write_text("[]"), "is no fold that crystalssl has written"),
        (lambda path: path.rename(path.with_name("fold_1.json")), "fold_1.json was changed"),
    ],
)
def test_changed_fold_is_refused(spoil, message, out):
    matbench.run(DummyRegressor(), PHONONS, out=out, folds=0, verbose=0)
    spoil(out / "folds" / PHONONS / "fold_0.json")
    with pytest.raises(ResultsError, match=message):
        matbench.run(DummyRegressor(), PHONONS, out=out, verbose=0)


def test_files_of_others_are_not_overwritten(out, tmp_path):
    matbench.run(DummyRegressor(), PHONONS, out=out, verbose=0)
    theirs = submission(out)
    theirs["user_metadata"] = {}
    del theirs["hash"]
    theirs["hash"] = hashlib.sha256(json.dumps(theirs, sort_keys=True).encode()).hexdigest()
    other = tmp_path / "other"
    other.mkdir()
    for content, message in [(json.dumps(theirs).encode(), "not written by crystalssl"), (b"text", "cannot be read")]:
        (other / "results.json.gz").write_bytes(content)
        with pytest.raises(ResultsError, match=message):
            matbench.run(DummyRegressor(), PHONONS, out=other, verbose=0)
        assert (other / "results.json.gz").read_bytes() == content


def test_deleted_folds_are_run_again(out):
    first = matbench.run(DummyRegressor(), PHONONS, out=out, verbose=0)
    shutil.rmtree(out / "folds" / PHONONS)
    part = matbench.run(DummyRegressor(strategy="median"), PHONONS, out=out, folds=0, verbose=0)
    assert (part.complete, part.results) == ([], None)
    assert not first.results.exists()
    again = matbench.run(DummyRegressor(strategy="median"), PHONONS, out=out, verbose=0)
    assert len(again.scores) == 5
    assert submission(out)["tasks"][PHONONS]["results"]["fold_4"]["parameters"]["estimator"]["strategy"] == "median"


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="could not be written"):
        matbench.run(DummyRegressor(), PHONONS, out=tmp_path / "file" / "out", verbose=0)


# ---------------------------------------------------------------------- wrong arguments and predictions


@pytest.mark.parametrize(
    ("estimator", "arguments", "error", "message"),
    [
        (DummyRegressor, {}, TypeError, "must be a scikit-learn estimator"),
        ("ridge", {}, TypeError, "must be a scikit-learn estimator"),
        (DummyRegressor(), {"tasks": []}, ValueError, "tasks is empty"),
        (DummyRegressor(), {"tasks": "phonons"}, ValueError, "Did you mean 'matbench_phonons'"),
        (DummyRegressor(), {"tasks": ["matbench_steels"]}, ValueError, "gives compositions, not structures"),
        (DummyRegressor(), {"tasks": IS_METAL}, ValueError, "needs a classifier, but DummyRegressor is a regressor"),
        (DummyClassifier(), {"tasks": PHONONS}, ValueError, "needs a regressor, but DummyClassifier is a classifier"),
        (DummyRegressor(), {"folds": 5}, ValueError, "numbers from 0 to 4, or None for all; found 5"),
        (DummyRegressor(), {"folds": [-1, 0]}, ValueError, "numbers from 0 to 4"),
        (DummyRegressor(), {"folds": []}, ValueError, "numbers from 0 to 4"),
        (DummyRegressor(), {"folds": [True]}, ValueError, "numbers from 0 to 4"),
        (DummyRegressor(), {"folds": "01"}, ValueError, "numbers from 0 to 4"),
        (on_edges(Ridge()), {"return_std": True}, ValueError, r"Ridge\(\) has none"),
        (DummyClassifier(), {"tasks": IS_METAL, "return_std": True}, ValueError, "is for regressors"),
        (DummyRegressor(), {"info": {"author": "me"}}, ValueError, "Did you mean 'authors'"),
    ],
)
def test_wrong_arguments(estimator, arguments, error, message, out):
    with pytest.raises(error, match=message):
        matbench.run(estimator, **{"tasks": PHONONS, **arguments}, out=out, verbose=0)
    assert not out.exists()


def test_missing_data_set(out, tmp_path, monkeypatch):
    monkeypatch.setattr("crystalssl.datasets._files._download", lambda *args: (_ for _ in ()).throw(DatasetError("no")))
    with pytest.raises(DatasetError):
        matbench.run(DummyRegressor(), PHONONS, out=out, data_home=tmp_path, verbose=0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda X: np.r_[np.zeros(len(X) - 1), np.nan], "the prediction of mb-phonons-.* is nan"),
        (lambda X: np.zeros((len(X), 2)), r"one prediction for each of 8 test crystals; found the shape \(8, 2\)"),
        (lambda X: np.zeros(len(X) - 1), r"found the shape \(7,\)"),
    ],
)
def test_predictions_that_cannot_be_recorded(answer, message, out, monkeypatch):
    monkeypatch.setattr(Spy, "answer", staticmethod(answer))
    with pytest.raises(ValueError, match=message):
        matbench.run(Spy(), PHONONS, out=out, verbose=0)
    assert fold_files(out) == {}


def test_column_of_predictions_is_taken(out, monkeypatch):
    monkeypatch.setattr(Spy, "answer", staticmethod(lambda X: np.ones((len(X), 1), dtype=np.float32)))
    matbench.run(Spy(), PHONONS, out=out, folds=0, verbose=0)
    assert len(fold_files(out)) == 1
