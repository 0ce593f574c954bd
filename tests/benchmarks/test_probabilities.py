"""What benchmarks/probabilities.py measures of a classifier."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("benchmarks")


def test_what_is_said_of_probabilities():
    from probabilities import scores

    rng = np.random.default_rng(0)
    p = rng.uniform(size=20_000)
    truth = np.where(rng.uniform(size=len(p)) < p, "yes", "no")
    classes = np.array(["no", "yes"])
    said = scores(np.column_stack([1 - p, p]), truth, classes)
    assert said["accuracy"] == pytest.approx(0.75, abs=0.01)
    assert said["top_probability"] == pytest.approx(0.75, abs=0.01)
    assert said["calibration_error"] < 0.015
    assert said["log_loss"] == pytest.approx(0.5, abs=0.01)
    surer = p**3 / (p**3 + (1 - p) ** 3)
    too_sure = scores(np.column_stack([1 - surer, surer]), truth, classes)
    assert too_sure["accuracy"] == said["accuracy"]
    assert too_sure["top_probability"] > 0.85
    assert too_sure["calibration_error"] > 0.1
    assert too_sure["log_loss"] > said["log_loss"] + 0.1
