"""What benchmarks/uncertainty.py measures of intervals and flags."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from crystalssl import CrystalGraphTransformer
from crystalssl.datasets import load_prototypes

pytestmark = pytest.mark.usefixtures("benchmarks")


@pytest.fixture
def normal():
    """Truths, their means, and the deviations that they are drawn with."""
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=20000), rng.uniform(0.1, 2, size=20000)
    return rng.normal(mean, std), mean, std


def test_true_deviations_are_the_best(normal):
    from uncertainty import scores

    truth, mean, std = normal
    found, half = (scores(truth, mean, lambda c, k=k: norm.interval(c, mean, k * std)) for k in (1, 0.5))
    for coverage in (50, 80, 90, 95):
        assert found[f"covered_{coverage}"] == pytest.approx(coverage / 100, abs=0.02)
        assert half[f"covered_{coverage}"] < found[f"covered_{coverage}"] - 0.1
    assert found["nll"] < half["nll"]
    assert found["crps"] < half["crps"]
    assert found["rank_correlation"] == pytest.approx(half["rank_correlation"])
    assert found["error_of_sure_half"] < 0.8


@pytest.mark.parametrize("name", ["forest", "gaussian process"])
def test_peers_cover_what_they_say(name):
    pytest.importorskip("quantile_forest")
    from uncertainty import PEERS

    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 8))
    y = X[:, 0] + 0.3 * rng.normal(size=300)
    mean, intervals = PEERS[name](X[:200], y[:200], X[200:], 0)
    assert np.corrcoef(mean, y[200:])[0, 1] > 0.7
    low, high = intervals(0.8)
    assert 0.6 < ((low <= y[200:]) & (y[200:] <= high)).mean() <= 1


def test_outputs_of_a_shared_encoder_leave_out_what_their_errors_are_of():
    from uncertainty import by_shared_encoder

    class Means:
        """Predicts, for each output, the mean of what it was given."""

        def fit(self, X, y):
            self.given = y
            return self

        def predict(self, X):
            return np.tile(np.nanmean(self.given, axis=0), (len(X), 1))

    y = np.random.default_rng(0).normal(size=140)
    model, train, test = Means(), np.arange(100), np.arange(100, 140)
    mean, intervals = by_shared_encoder(model, y, y, train, test)
    without = np.array([np.delete(y[:100], np.s_[fold::5]).mean() for fold in range(5)])
    np.testing.assert_allclose(np.nanmean(model.given, axis=0), without)
    assert np.isnan(model.given).sum(axis=0).tolist() == [20] * 5
    np.testing.assert_allclose(mean, without.mean())
    low, high = intervals(0.8)
    errors = np.sort(abs(y[:100] - np.tile(without, 20)))
    np.testing.assert_allclose((high - low) / 2, errors[79:81].mean(), atol=0.1)


def test_scaled_cells_and_molecules():
    from _domain import MOLECULES, molecules, scaled

    graphs = CrystalGraphTransformer().transform(load_prototypes(return_X_y=True)[0][:5])
    twice = scaled(graphs, 2.0)
    np.testing.assert_allclose(np.linalg.det(twice.lattice), 2 * np.linalg.det(graphs.lattice))
    np.testing.assert_array_equal(twice.atomic_numbers, graphs.atomic_numbers)
    assert len(molecules()) == len(MOLECULES)
