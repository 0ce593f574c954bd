"""The choices of examples/active_learning.py, and what is said of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

ROOT = Path(__file__).resolve().parents[2]
KERNEL = ConstantKernel(1.0) * Matern(1.0, nu=1.5) + WhiteKernel(0.01)


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem + "_tested", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def example():
    return load(ROOT / "examples" / "active_learning.py")


def test_least_certain_is_far_and_most_informative_is_among_many(example):
    # One known crystal, one far from all others, and a crowd around 3.
    points = np.array([[0.0], [-20.0], *([3 + 0.1 * k] for k in range(-4, 5))])
    known, rest = np.array([0]), np.arange(1, 11)
    chosen = {name: example.choose(name, KERNEL, points, known, rest, 2, None) for name in example.STRATEGIES[1:]}
    assert chosen["least certain"][0] == 1
    assert chosen["most informative"][0] == 6  # the middle of the crowd
    assert 2 <= chosen["least certain"][1] <= 10  # after the far one is known, as if it were, the crowd is less certain
    assert chosen["most informative"][1] == 1  # and after the crowd's middle, the far one


def test_runs_begin_alike_and_choose_from_the_pool_once(example, monkeypatch):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(80, 40))
    y = np.exp(vectors[:, 0])
    asked = []
    choose = example.choose

    def watched(strategy, kernel, points, known, rest, n, rng):
        chosen = choose(strategy, kernel, points, known, rest, n, rng)
        assert set(chosen) <= set(rest)
        assert not set(rest) & set(known)
        assert len(set(chosen)) == n
        asked.append(known)
        return chosen

    monkeypatch.setattr(example, "choose", watched)
    found = {
        name: example.run(name, vectors, y, log=True, seed=3, first=40, step=10, last=64) for name in example.STRATEGIES
    }
    assert {tuple(sizes) for sizes, _ in found.values()} == {(40, 50, 60, 64)}
    assert len({errors[0] for _, errors in found.values()}) == 1
    np.testing.assert_array_equal(asked[0], asked[3])


def test_with_how_many_labels_an_error_is_reached(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    benchmark = load(ROOT / "benchmarks" / "active_learning.py")
    sys.modules.pop("active_learning", None)
    errors = pd.Series([4.0, 2.0, 1.0], index=[20, 40, 60])
    assert benchmark.first_below(errors, 3.0) == "30"
    assert benchmark.first_below(errors, 5.0) == "20"
    assert benchmark.first_below(errors, 0.5) == "more than 60"
