from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import crystalssl
from crystalssl import CrystalSSLClassifier
from crystalssl.inspection import neighbors


def test_a_training_crystal_is_its_own_nearest(plain, known):
    X, y = known
    frame = neighbors(plain, X[10:20], k=3)
    assert frame.crystal.tolist() == np.repeat(np.arange(10), 3).tolist()
    first = frame[::3]
    assert first.neighbor.tolist() == list(range(10, 20))
    np.testing.assert_allclose(first.distance, 0, atol=1e-4)
    np.testing.assert_array_equal(frame.y, y[frame.neighbor])
    assert (frame.groupby("crystal").distance.diff().dropna() >= 0).all()


def test_positions_are_those_of_fit(known):
    X, y = known
    weight = np.ones(len(X))
    weight[:20] = 0
    labels = np.where(y > np.median(y), "heavy", "light")
    model = CrystalSSLClassifier(None, encoder="cgcnn", head_dim=8, max_epochs=1, random_state=0)
    model.fit(X, labels, sample_weight=weight)
    frame = neighbors(model, X[30:33], k=1)
    assert frame.neighbor.tolist() == [30, 31, 32]
    assert frame.y.tolist() == labels[30:33].tolist()


def test_what_the_first_network_left_out_is_found_too(cross_validated, known, tmp_path):
    X, _ = known
    assert cross_validated._record.surroundings[0].n_trained == 40
    cross_validated.save(tmp_path / "model")
    for model in (cross_validated, crystalssl.load(tmp_path / "model")):
        assert neighbors(model, X, k=1).neighbor.tolist() == list(range(60))


def test_targets_that_are_called_like_other_columns_or_alike(tiny_regressor, known):
    X, y = known
    targets = pd.DataFrame(np.c_[y, -y, 2 * y, 3 * y], columns=["distance", "crystal", "gap", "gap"])
    model = tiny_regressor(max_epochs=1).fit(X, targets)
    frame = neighbors(model, X[10:13], k=2)
    plain = ["crystal", "neighbor", "distance"]
    assert frame.columns.tolist() == [*plain, "distance (target)", "crystal (target)", "gap", "gap"]
    assert frame.crystal.tolist() == [0, 0, 1, 1, 2, 2]
    assert frame.neighbor[::2].tolist() == [10, 11, 12]
    np.testing.assert_array_equal(frame.iloc[:, 3:], targets.iloc[frame.neighbor])


@pytest.mark.parametrize("k", [0, 61, 1.5, True, "all"])
def test_wrong_k(plain, known, k):
    with pytest.raises(ValueError, match="k must be an integer from 1 to 60"):
        neighbors(plain, known[0], k=k)
