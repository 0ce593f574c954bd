from __future__ import annotations

import numpy as np
import pytest

from crystalssl.matbench._scores import classification_scores, regression_scores


def test_relative_error_leaves_out_targets_near_zero():
    y = np.array([0.0, 1e-5, -1e-5, -2e-5, 4.0])
    scores = regression_scores(y, np.array([9.0, 9.0, 9.0, -3e-5, 3.0]))
    assert scores["mape"] == pytest.approx((0.5 + 0.25) / 2)


def test_one_half_is_not_yet_true():
    y = np.array([False, True, True, True])
    scores = classification_scores(y, np.array([0.5, 0.5000001, 0.4, 1.0]))
    assert scores == classification_scores(y, np.array([False, True, False, True]))
    assert scores == pytest.approx({"accuracy": 0.75, "balanced_accuracy": 5 / 6, "f1": 0.8, "rocauc": 5 / 6})
