"""What stands at the end of a Pipeline or a search, and what before it."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import Pipeline

__all__ = ["split"]


def split(estimator: Any) -> tuple[list[Any], Any]:
    """Return the steps before the last one of a Pipeline or fitted search, and that; of any other estimator itself."""
    steps: list[Any] = []
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            *before, (_, estimator) = estimator.steps
            steps += [step for _, step in before if step not in (None, "passthrough")]
        else:
            return steps, estimator
