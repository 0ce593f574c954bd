import csv
import hashlib
import json
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.model_selection import GridSearchCV, StratifiedKFold, check_cv, cross_val_score

from crystalssl.datasets import MatbenchFolds, _folds, fetch_matbench, matbench_folds
from crystalssl.datasets._registry import load_registry

TASKS = [entry.name for entry in load_registry().values() if entry.is_matbench]
REGRESSION = [name for name in TASKS if name != "matbench_mp_is_metal"]
# As Matbench's results files write them.
EXAMPLE_IDS = {
    "matbench_jdft2d": ["mb-jdft2d-012", "mb-jdft2d-014", "mb-jdft2d-027"],
    "matbench_phonons": ["mb-phonons-0002", "mb-phonons-0003", "mb-phonons-0007"],
    "matbench_log_gvrh": ["mb-log-gvrh-00006", "mb-log-gvrh-00010", "mb-log-gvrh-00040"],
    "matbench_mp_e_form": ["mb-mp-e-form-000004", "mb-mp-e-form-000008", "mb-mp-e-form-000011"],
}


def test_every_task_has_folds_over_its_rows():
    assert set(_folds._published_folds()) == set(TASKS)
    for name in TASKS:
        folds = matbench_folds(name)
        assert folds.n_rows == load_registry()[name].rows
        assert folds.stratified == (load_registry()[name].unit == "bool")


@pytest.mark.parametrize("name", REGRESSION)
def test_folds_are_the_published_ones_and_partition_the_rows(name):
    folds = matbench_folds(name)
    splits = list(folds.split(np.zeros(folds.n_rows)))
    assert len(splits) == folds.get_n_splits() == 5
    assert np.array_equal(np.sort(np.concatenate([test for _, test in splits])), np.arange(folds.n_rows))
    for train, test in splits:
        assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(folds.n_rows))


@pytest.mark.parametrize("name", REGRESSION)
def test_test_ids_hash_to_the_published_values(name, reference):
    # Spelled out again here, against the published file, so that a mistake in the package's own check shows.
    published = json.loads((reference / "matbench_v0.1_folds.json").read_text())[name]
    rows = published["n_total"]
    for number, (_, test) in enumerate(matbench_folds(name).split(np.zeros(rows))):
        ids = sorted(
            "mb-" + name[len("matbench_") :].replace("_", "-") + "-" + str(row + 1).zfill(len(str(rows)))
            for row in test
        )
        assert len(ids) == published[f"fold_{number}"]["n_test"]
        found = hashlib.sha256("\n".join(ids).encode()).hexdigest()
        assert found == published[f"fold_{number}"]["sha256_of_sorted_test_ids"]


@pytest.mark.parametrize("name", EXAMPLE_IDS)
def test_ids_are_written_as_matbench_writes_them(name):
    folds = matbench_folds(name)
    _, test = next(folds.split(np.zeros(folds.n_rows)))
    assert folds.ids(test)[:3] == EXAMPLE_IDS[name]


def test_ids_keep_the_order_of_the_rows():
    folds = matbench_folds("matbench_jdft2d")
    assert folds.ids([635, 0, 9]) == ["mb-jdft2d-636", "mb-jdft2d-001", "mb-jdft2d-010"]
    assert folds.ids() == folds.ids(range(636))
    assert folds.ids([]) == []
    _, test = next(folds.split(np.zeros(636)))
    assert folds.is_fold(0, folds.ids(test[::-1]))
    assert not folds.is_fold(0, folds.ids(test[1:]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([636], "has no row 636: its rows are 0 to 635"),
        ([0, -1], "has no row -1"),
        (np.ones(636, dtype=bool), "list of row numbers; found bool"),
        ([0.0], "found float64"),
        (3, r"of shape \(\)"),
    ],
)
def test_ids_of_what_is_no_row(rows, message):
    with pytest.raises(ValueError, match=message):
        matbench_folds("matbench_jdft2d").ids(rows)


def test_a_fold_that_differs_is_refused_by_name(monkeypatch):
    changed = json.loads(json.dumps(_folds._published_folds()))
    changed["matbench_phonons"]["sha256"][3] = "0" * 64
    monkeypatch.setattr(_folds, "_published_folds", lambda: changed)
    splits = matbench_folds("matbench_phonons").split(np.zeros(1265))
    for _ in range(3):
        next(splits)
    with pytest.raises(ValueError, match="Fold 3 of matbench_phonons is not the published one"):
        next(splits)


@pytest.mark.parametrize("X", [np.zeros(1264), [0] * 1266, np.zeros((253, 5))])
def test_other_lengths_are_refused(X):
    with pytest.raises(ValueError, match=r"all 1265 rows in file order"):
        next(matbench_folds("matbench_phonons").split(X))


def test_stratified_task_needs_its_own_targets():
    folds = matbench_folds("matbench_mp_is_metal")
    X = np.zeros(folds.n_rows)
    with pytest.raises(ValueError, match="pass its targets as y"):
        next(folds.split(X))
    with pytest.raises(ValueError, match=r"Fold 0 of matbench_mp_is_metal .* y must be the task's own targets"):
        next(folds.split(X, np.arange(folds.n_rows) % 2 == 0))


def test_stratified_task_uses_stratified_folds(monkeypatch):
    y = np.random.default_rng(0).random(120) < 0.3
    expected = [test for _, test in StratifiedKFold(5, shuffle=True, random_state=18012019).split(np.zeros(120), y)]
    ids = ["\n".join(f"mb-mp-is-metal-{row + 1:03d}" for row in sorted(test)) for test in expected]
    published = {"n_rows": 120, "stratified": True, "sha256": [hashlib.sha256(i.encode()).hexdigest() for i in ids]}
    monkeypatch.setattr(_folds, "_published_folds", lambda: {"matbench_mp_is_metal": published})
    found = [test for _, test in matbench_folds("matbench_mp_is_metal").split(np.zeros(120), y)]
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_official_folds_of_is_metal(data_home):
    if not (data_home / "matbench_mp_is_metal.json.gz").exists():
        pytest.skip("matbench_mp_is_metal.json.gz is not there")
    X, y = fetch_matbench("matbench_mp_is_metal", data_home=data_home, return_X_y=True)
    assert len(list(matbench_folds("matbench_mp_is_metal").split(X, y))) == 5


def test_splits_do_not_depend_on_numpy_seed_and_repeat():
    folds = matbench_folds("matbench_jdft2d")
    np.random.seed(1)  # noqa: NPY002 - the legacy state is what a careless splitter would read
    first = [test for _, test in folds.split(np.zeros(636))]
    np.random.seed(2)  # noqa: NPY002
    second = [test for _, test in folds.split(np.zeros(636))]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_use_as_cv_in_scikit_learn():
    folds = matbench_folds("matbench_jdft2d")
    X, y = np.zeros((636, 1)), np.random.default_rng(0).normal(size=636)
    scores = cross_val_score(DummyRegressor(), X, y, cv=folds, scoring="neg_mean_absolute_error")
    by_hand = [-np.abs(y[test] - y[train].mean()).mean() for train, test in folds.split(X)]
    assert scores == pytest.approx(by_hand)
    search = GridSearchCV(DummyRegressor(), {"strategy": ["mean", "median"]}, cv=folds)
    assert clone(search).fit(X, y).n_splits_ == 5
    assert check_cv(folds) is folds


@pytest.mark.parametrize("name", ["matbench_phonons", "matbench_jdft2d"])
@pytest.mark.parametrize("as_frame", [False, True])
def test_dummy_regressor_on_structures_gets_its_leaderboard_score(name, as_frame, data_home, reference):
    with open(reference / "matbench_v0.1_leaderboard.csv", encoding="utf-8", newline="") as file:
        board = {(row["task"], row["algorithm"]): row for row in csv.DictReader(file)}
    X, y = fetch_matbench(name, data_home=data_home, return_X_y=True, as_frame=as_frame)
    scores = -cross_val_score(DummyRegressor(), X, y, cv=matbench_folds(name), scoring="neg_mean_absolute_error")
    assert scores.mean() == pytest.approx(float(board[name, "Dummy"]["mean_mae"]), abs=1e-4)
    assert scores.std() == pytest.approx(float(board[name, "Dummy"]["std_mae"]), abs=1e-4)


def test_repr_pickle_and_unknown_name():
    folds = matbench_folds("matbench_phonons")
    assert isinstance(folds, MatbenchFolds)
    assert repr(folds) == "MatbenchFolds('matbench_phonons')"
    assert repr(pickle.loads(pickle.dumps(folds))) == repr(folds)
    with pytest.raises(ValueError, match="Did you mean 'matbench_phonons'"):
        matbench_folds("phonons")
