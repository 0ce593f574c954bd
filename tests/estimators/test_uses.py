"""What design.md shows to users, on real data: folds, probing, model selection."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_predict,
    cross_val_score,
    train_test_split,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import matbench_folds
from crystalssl.exceptions import InvalidStructureError
from crystalssl.training import bundled_weights

# Some folds hold elements that others lack.
pytestmark = pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")

MAE = "neg_mean_absolute_error"


def pipeline(**params):
    return Pipeline(
        [
            ("graphs", CrystalGraphTransformer()),
            ("model", CrystalSSLRegressor(**{"pretrain": "barlow", "max_epochs": 1, "random_state": 0, **params})),
        ]
    )


# ------------------------------------------------------------------ 1. finetuning inside a Pipeline


def test_finetuning_on_the_official_folds(phonons):
    X, y = phonons
    scores = cross_val_score(pipeline(), X, y, cv=matbench_folds("matbench_phonons"), scoring=MAE, error_score="raise")
    assert scores.shape == (5,)
    folds = [y[test] for _, test in matbench_folds("matbench_phonons").split(X)]
    for score, held_out in zip(scores, folds, strict=True):
        # After one epoch it is better than the best constant, on crystals that it has not seen.
        assert -score < np.abs(held_out - np.median(y)).mean()


def test_fold_of_a_search_predicts_what_a_fit_by_hand_predicts(X, y):
    cv = KFold(3)
    predicted = cross_val_predict(pipeline(), X, y, cv=cv)
    for train, test in cv.split(X):
        model = pipeline().fit([X[row] for row in train], y[train])
        # Graphs, features and weights alike: nothing of the held-out crystals has a part in it.
        assert predicted[test].tobytes() == model.predict([X[row] for row in test]).tobytes()


def test_structures_and_graphs_give_the_same_scores(X, y, graphs):
    from_structures = cross_val_score(pipeline(), X, y, cv=3, scoring=MAE)
    model = pipeline()["model"]
    from_graphs = cross_val_score(model, graphs, y, cv=3, scoring=MAE)
    assert from_structures.tolist() == from_graphs.tolist()
    assert cross_val_score(model, X, y, cv=3, scoring=MAE).tolist() == from_graphs.tolist()


# ------------------------------------------------------------------ 2. linear probing


@pytest.mark.parametrize("method", bundled_weights())
def test_linear_probing(real_crystals, real_graphs, method):
    X, _ = real_crystals
    y = np.log([crystal.volume / len(crystal) for crystal in X])  # which every objective has to do with
    probe = make_pipeline(PretrainedCrystalEmbedder(method), StandardScaler(), RidgeCV(np.logspace(-1, 4, 6)))
    train, test = train_test_split(np.arange(len(y)), random_state=0)
    probe.fit(real_graphs[train], y[train])
    # Medians, for one crystal with hardly a neighbour within MEGNet's 5 Å may be far off.
    error = np.median(np.abs(probe.predict(real_graphs[test]) - y[test]))
    assert error < 0.3 * np.median(np.abs(np.median(y[train]) - y[test]))
    structures = [X[row] for row in test]
    assert probe.predict(structures).tobytes() == probe.predict(real_graphs[test]).tobytes()


def test_any_estimator_takes_the_vectors(X, y):
    union = FeatureUnion([(method, PretrainedCrystalEmbedder(method)) for method in ("barlow", "simsiam")])
    probe = make_pipeline(union, VarianceThreshold(), RandomForestRegressor(10, random_state=0))
    assert probe.fit(X, y).score(X, y) > 0.5
    assert len(union.fit(X).get_feature_names_out()) == union.transform(X).shape[1]


# ------------------------------------------------------------------ 3. model selection


def test_search_over_pretraining_methods_in_worker_processes(X, y):
    grid = {"model__pretrain": [None, "barlow", "simsiam"]}
    search = GridSearchCV(pipeline(), grid, n_jobs=2, cv=2, scoring=MAE, error_score="raise").fit(X, y)
    assert [params["model__pretrain"] for params in search.cv_results_["params"]] == [None, "barlow", "simsiam"]
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(set(search.cv_results_["mean_test_score"])) == 3
    assert search.predict(X).shape == y.shape
    # Workers compute what this process computes.
    here = [
        cross_val_score(pipeline(pretrain=name), X, y, cv=2, scoring=MAE).mean() for name in grid["model__pretrain"]
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], here, rtol=1e-4)


def test_search_over_everything_flat(graphs, y):
    grid = {
        "freeze_encoder": [True, False],
        "encoder_learning_rate": [None, 1e-4],
        "early_stopping": [True],
        "readout": ["mean", "mean+max+min"],
    }
    search = GridSearchCV(pipeline()["model"], grid, cv=2, error_score="raise").fit(graphs, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_errors_in_worker_processes_name_the_item(X, y):
    sick = X[8].copy()
    sick.append(sick[0].specie, sick[0].coords + 0.01, coords_are_cartesian=True)
    X = [*X[:8], sick, *X[9:16]]
    with pytest.raises(InvalidStructureError, match="apart") as caught:
        cross_val_score(pipeline(), X, y[:16], cv=KFold(2), n_jobs=2, error_score="raise")
    assert caught.value.index == 0  # of the rows that the worker was given


# ------------------------------------------------------------------ processes and threads

THREADS = """
import joblib
from crystalssl import CrystalGraphTransformer
from crystalssl.datasets import load_prototypes

def work(graphs, y):
    import torch
    from crystalssl import CrystalSSLRegressor
    CrystalSSLRegressor(None, max_epochs=1).fit(graphs, y)
    return torch.get_num_threads()

if __name__ == "__main__":
    X, y = load_prototypes(return_X_y=True)
    graphs = CrystalGraphTransformer().transform(X[:8])
    counts = joblib.Parallel(n_jobs=2)(joblib.delayed(work)(graphs, y[:8]) for _ in range(2))
    print(*counts, joblib.cpu_count())
"""


def test_workers_share_the_cores(tmp_path):
    script = tmp_path / "threads.py"
    script.write_text(THREADS)
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    root = str(Path(__file__).resolve().parents[2])
    environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    *counts, n_cores = map(int, done.stdout.split())
    assert len(counts) == 2
    assert 2 * max(counts) <= max(n_cores, 2)
