from __future__ import annotations

import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from crystalssl import CrystalSSLRegressor
from crystalssl.matbench._describe import describe, differences


def key(estimator):
    """As after the way through a file."""
    return json.loads(json.dumps(describe(estimator), allow_nan=False))


def same(first, second):
    return differences(key(first), key(second)) == []


def with_function(function, **kwargs):
    return FunctionTransformer(function, **kwargs)


def scale_by(factor):
    return lambda X: X * factor


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Ridge(alpha=1.0), Ridge(alpha=2.0)),
        (Ridge(alpha=1.0), Ridge(alpha=1)),
        (Ridge(alpha=np.array([1.0, 2.0])), Ridge(alpha=np.array([1.0, 3.0]))),
        (Ridge(alpha=float("nan")), Ridge(alpha=float("inf"))),
        (Ridge(random_state=0), Ridge(random_state=np.random.RandomState(0))),
        (Ridge(random_state=np.random.RandomState(0)), Ridge(random_state=np.random.RandomState(1))),
        (make_pipeline(Ridge()), make_pipeline(Ridge(), Ridge())),
        (with_function(np.log1p), with_function(np.exp)),
        (with_function(lambda X: X + 1), with_function(lambda X: X + 2)),
        (with_function(lambda X: X.max()), with_function(lambda X: X.min())),
        (with_function(lambda X, s=1: X * s), with_function(lambda X, s=2: X * s)),
        (with_function(lambda X: [x + 1 for x in X]), with_function(lambda X: [x + 2 for x in X])),
        (with_function(scale_by(2)), with_function(scale_by(3))),
        (with_function("a".join), with_function("b".join)),
        (with_function(np.random.RandomState(0).permutation), with_function(np.random.RandomState(1).permutation)),
        (with_function(Ridge(1.0).predict), with_function(Ridge(2.0).predict)),
        (with_function(functools.partial(max, 1)), with_function(functools.partial(max, 2))),
        (with_function(None, kw_args={"a": 1}), with_function(None, kw_args={"a": 2})),
        (CrystalSSLRegressor(), CrystalSSLRegressor(pretrain="barlow")),
    ],
)
def test_what_differs_is_another_estimator(first, second):
    assert same(first, first)
    assert same(second, second)
    assert not same(first, second)


def test_names_and_lines_of_a_function_do_not_matter():
    # fmt: off
    first = with_function(lambda X: X + 1)

    second = with_function(lambda X: X + 1)
    # fmt: on
    assert same(first, second)


def test_classes_without_a_version_count_by_their_code():
    def model(step, of="fit"):
        def fit(self, X, y):
            return self

        def predict(self, X):
            return len(X) + step if step == 1 else len(X) - step

        def other(self, X):
            return len(X)

        methods = {"fit": fit, "predict": predict if of == "predict" else other}
        return type("Model", (BaseEstimator,), methods)()

    assert same(model(1), model(1))
    assert not same(model(1), model(1, of="predict"))
    assert "code" not in key(Ridge())["estimator"]


def test_what_was_learnt_counts_when_frozen_only():
    X = np.arange(6.0).reshape(3, 2)
    first, second = Ridge().fit(X, [0.0, 1.0, 2.0]), Ridge().fit(X, [0.0, 1.0, 3.0])
    assert same(first, second)
    assert not same(FrozenEstimator(first), FrozenEstimator(second))
    assert same(FrozenEstimator(first), FrozenEstimator(Ridge().fit(X, [0.0, 1.0, 2.0])))


def test_paths_count_by_what_is_in_the_files(tmp_path):
    file, weights, other = tmp_path / "file", tmp_path / "weights", tmp_path / "other"
    weights.mkdir()
    other.mkdir()
    for path in (file, str(file), weights):
        file.write_text("1")
        (weights / "config.json").write_text('{"sha256": "1"}')
        before = key(Ridge(solver=path))
        assert differences(before, key(Ridge(solver=path))) == []
        file.write_text("2")
        (weights / "config.json").write_text('{"sha256": "2"}')
        assert "solver.sha256" in differences(before, key(Ridge(solver=path)))[0]
    assert key(Ridge(solver=other))["estimator"]["solver"] == str(other)
    assert key(Ridge(solver="a" * 5000))["estimator"]["solver"] == "a" * 5000


def test_tensors_count_by_their_numbers():
    def net(bias):
        layer = torch.nn.Linear(2, 1)
        torch.nn.init.ones_(layer.weight)
        torch.nn.init.constant_(layer.bias, bias)
        return FrozenEstimator(Ridge(solver=layer))

    assert same(net(0.0), net(0.0))
    assert not same(net(0.0), net(1.0))


def test_same_in_another_process():
    code = """
import json, numpy as np
from sklearn.preprocessing import FunctionTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from crystalssl.matbench._describe import describe
frozen = FrozenEstimator(Ridge().fit(np.eye(3), [1.0, 2.0, 4.0]))
model = FunctionTransformer(lambda X: X in {"a", "b", "c"}, kw_args={"s": {"x", "y", "z"}, "f": frozen})
print(json.dumps(describe(model), sort_keys=True))
"""
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1]
    assert "content" in printed[0]


def test_what_cannot_be_told_is_refused():
    class Odd:
        def __init__(self):
            self.file = sys.stderr

    with pytest.raises(ValueError, match=r"Ridge\.alpha is <.*Odd.* of which nobody can tell"):
        describe(Ridge(alpha=Odd()))


def test_description_is_for_readers_too():
    class Model(BaseEstimator):
        def __init__(self, inner=None):
            self.inner = inner

    text = key(Model(inner={"b": (DummyRegressor(quantile=np.float32(0.5)), np.mean)}))
    assert text["estimator"]["inner"]["b"][0]["quantile"] == 0.5
    assert text["estimator"]["inner"]["b"][0]["class"] == "sklearn.dummy.DummyRegressor"
    assert set(text["versions"]) >= {"sklearn", "numpy"}
