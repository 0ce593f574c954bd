"""Estimators of crystals that take no time."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.dummy import DummyRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer


def edges(structures):
    return np.array([[structure.lattice.a] for structure in structures])


def on_edges(estimator):
    return make_pipeline(FunctionTransformer(edges), estimator)


class Interrupted(DummyRegressor):
    """Fits as often as it is told, then raises."""

    left = 0

    def fit(self, X, y):
        if type(self).left == 0:
            raise RuntimeError("out of power")
        type(self).left -= 1
        return super().fit(X, y)


class Spy(RegressorMixin, BaseEstimator):
    """Notes down what it is given, and predicts what it is told."""

    seen: list = []
    answer = staticmethod(lambda X: np.zeros(len(X)))

    def fit(self, X, y):
        type(self).seen.append(("fit", [x.lattice.a for x in X], y))
        return self

    def predict(self, X):
        type(self).seen.append(("predict", [x.lattice.a for x in X]))
        return type(self).answer(X)
