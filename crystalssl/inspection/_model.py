"""What all functions here need: the fitted estimator, the crystals as it reads them, and what it keeps of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from crystalssl._steps import split
from crystalssl.estimators._base import check_known_elements
from crystalssl.estimators._finetuning import FinetunedEstimator
from crystalssl.estimators._network import infer
from crystalssl.estimators._record import TrainingRecord
from crystalssl.estimators._surroundings import Seeing
from crystalssl.graphs import CrystalGraphs
from crystalssl.training import CrystalDataset
from crystalssl.training._net import resolve_device

__all__ = ["chunks_of", "record_of", "unwrap", "vectors_of"]


def unwrap(model: Any, X: Any) -> tuple[FinetunedEstimator, Any]:
    """Return a fitted estimator, the last step of a Pipeline or search, and X as the steps before make it."""
    steps, model = split(model)
    if not isinstance(model, FinetunedEstimator):
        raise TypeError(
            f"{type(model).__name__} is none of the estimators that can be looked into; give a CrystalSSLRegressor, a "
            "CrystalSSLClassifier, or a Pipeline or fitted search that ends in one"
        )
    check_is_fitted(model)
    for step in steps:
        X = step.transform(X)
    return model, X


def record_of(model: FinetunedEstimator) -> TrainingRecord:
    """Return what a model keeps of its training crystals, or raise a ValueError."""
    record = getattr(model, "_record", None)
    if record is None:
        raise ValueError(
            "the model is of an earlier version, which kept nothing of its training crystals; fit it again"
        )
    return record


def chunks_of(model: FinetunedEstimator, X: Any) -> Iterator[tuple[CrystalGraphs, np.ndarray]]:
    """Yield graphs of some crystals after others, checked as for predictions, and their positions."""
    for graphs, indices in model._chunks(*model._items(X), model.net_.module_.encoder.recipe, "looking"):
        if model.elements_.size:
            check_known_elements(graphs, set(model.elements_.tolist()), indices)
        yield graphs, indices


def vectors_of(model: FinetunedEstimator, member: int, crystals: CrystalDataset, indices: np.ndarray) -> np.ndarray:
    """Return the vectors of crystals that the head of a network sees, of shape (n_crystals, vector_dim)."""
    seen = infer(Seeing(model.nets_[member].module_), crystals, resolve_device(model.device), model.precision, indices)
    return seen[:, : -model.target_.n_outputs_]
