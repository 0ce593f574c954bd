"""The public estimators, found by discovery: a new class cannot forget what the tests beside this file ask for."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, is_classifier, is_regressor

import crystalssl

PUBLIC = [getattr(crystalssl, name) for name in crystalssl._DEFINED_IN]
ESTIMATORS = [cls for cls in PUBLIC if isinstance(cls, type) and issubclass(cls, BaseEstimator)]
# Their answers depend on what was fitted; CrystalGraphTransformer learns nothing.
LEARNERS = [cls for cls in ESTIMATORS if cls().__sklearn_tags__().requires_fit]


def quick(cls):
    """An estimator with default parameters, but for those that make it quick and repeatable."""
    known = cls().get_params()
    return cls(**{name: value for name, value in {"random_state": 0, "max_epochs": 1}.items() if name in known})


CASES = {cls.__name__: quick(cls) for cls in ESTIMATORS} | {
    "embedder that pretrains": crystalssl.PretrainedCrystalEmbedder(
        weights=None, hidden_dim=8, n_layers=1, max_epochs=2, random_state=0
    ),
    "embedder that continues": crystalssl.PretrainedCrystalEmbedder(
        "simsiam", continue_training=True, max_epochs=1, random_state=0
    ),
    "regressor without pretraining": crystalssl.CrystalSSLRegressor(None, max_epochs=1, random_state=0),
    "classifier with everything": crystalssl.CrystalSSLClassifier(
        "simsiam", early_stopping=True, ensemble_size=2, class_weight="balanced", max_epochs=2, random_state=0
    ),
    "regressor with everything": crystalssl.CrystalSSLRegressor(
        "simsiam", early_stopping=True, ensemble_size=2, freeze_encoder=True, dropout=0.2, max_epochs=2, random_state=0
    ),
}


def output(estimator, X):
    """What an estimator makes of X: probabilities, predictions, vectors or graphs."""
    if is_classifier(estimator):
        return estimator.predict_proba(X)
    return estimator.predict(X) if is_regressor(estimator) else estimator.transform(X)


def as_numbers(result):
    """An output as an array, graphs too."""
    if isinstance(result, crystalssl.CrystalGraphs):
        return np.concatenate([result.distances, result.atomic_numbers, result.positions.ravel()])
    return np.asarray(result)
