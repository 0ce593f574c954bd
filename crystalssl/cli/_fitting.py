"""Which estimator a property asks for, and how well it does."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["cross_validate", "describe", "make_model"]


def make_model(task: str, target: Any, target_per: str | None, params: dict[str, Any]) -> Any:
    """Return an unfitted regressor or classifier."""
    import click

    from crystalssl import CrystalSSLClassifier, CrystalSSLRegressor

    if task == "auto":
        several = getattr(target, "ndim", 1) == 2 and target.shape[1] > 1
        kind = np.asarray(target).dtype.kind
        task = "classification" if kind in "bOUST" and not several else "regression"
    if task == "regression":
        return CrystalSSLRegressor(target_per=target_per, **params)
    if target_per is not None:
        raise click.BadParameter("classes cannot be divided by a size", param_hint="--target-per")
    return CrystalSSLClassifier(**params)


def cross_validate(model: Any, X: Any, y: Any, n_folds: int, seed: int) -> dict[str, str]:
    """Return errors over random folds, as texts by name."""
    from sklearn.base import clone, is_classifier
    from sklearn.metrics import accuracy_score, balanced_accuracy_score
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.utils import _safe_indexing

    from crystalssl.estimators._y import as_numbers, name_targets

    values = np.asarray(y) if is_classifier(model) else as_numbers(y).reshape(len(X), -1)
    predicted = np.empty_like(values)
    kind = StratifiedKFold if is_classifier(model) else KFold
    for train, test in kind(n_folds, shuffle=True, random_state=seed).split(np.zeros(len(X)), values):
        fitted = clone(model).fit(_safe_indexing(X, train), _safe_indexing(y, train))
        predicted[test] = fitted.predict(_safe_indexing(X, test)).reshape(predicted[test].shape)
    title = f", {n_folds} random folds"
    if is_classifier(model):
        return {
            f"accuracy{title}": f"{accuracy_score(values, predicted):.4f}",
            f"balanced accuracy{title}": f"{balanced_accuracy_score(values, predicted):.4f}",
        }
    errors = {}
    for target, (name, unit) in enumerate(zip(*name_targets(y, values.shape[1]), strict=True)):
        known = ~np.isnan(values[:, target])
        error = np.abs(predicted[known, target] - values[known, target]).mean()
        plain = np.abs(values[known, target] - np.median(values[known, target])).mean()
        unit = f" {unit}" if unit else ""
        errors[f"mean absolute error of {name}{title}"] = f"{error:.4g}{unit} (of the median alone: {plain:.4g}{unit})"
    return errors


def describe(model: Any, folder: str) -> str:
    """Return a line about a model that was written."""
    numbers = model.trained_on_
    targets = ", ".join(model.target_names_)
    return f"{folder}: {type(model).__name__} of {targets}, trained on {numbers['n_trained']} crystals"
