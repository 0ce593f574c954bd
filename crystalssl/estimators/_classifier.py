"""Finetuning as a scikit-learn classifier."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_sample_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from crystalssl._parameters import with_parameters
from crystalssl.estimators._finetuning import FinetunedEstimator
from crystalssl.estimators._target import ClassCodes, check_classes

__all__ = ["CrystalSSLClassifier"]


@with_parameters
class CrystalSSLClassifier(ClassifierMixin, FinetunedEstimator):
    """Classify crystals by finetuning a pretrained encoder.

    Parameters
    ----------
    %(parameters)s
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes in the loss, by label. They multiply the sample weights. "balanced" weighs a class
        inversely to how often it occurs.

    Attributes
    ----------
    %(attributes)s
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.

    See Also
    --------
    CrystalSSLRegressor : The same for numbers.

    Examples
    --------
    >>> from crystalssl import CrystalSSLClassifier
    >>> from crystalssl.datasets import load_prototypes
    >>> X, density = load_prototypes(return_X_y=True)
    >>> heavy = ["heavy" if value > 5 else "light" for value in density]
    >>> model = CrystalSSLClassifier(max_epochs=2, random_state=0).fit(X[130:180], heavy[130:180])
    >>> model.classes_
    array(['heavy', 'light'], dtype='<U5')
    >>> model.predict_proba(X[180:190]).shape
    (10, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **FinetunedEstimator._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    _: KW_ONLY
    class_weight: dict | str | None = None

    _check_y = staticmethod(check_classes)

    def _new_target(self) -> ClassCodes:
        return ClassCodes()

    def _loss(self) -> type[nn.Module]:
        return nn.CrossEntropyLoss

    def _set_target(self, target: ClassCodes, y: Any) -> None:
        super()._set_target(target, y)
        self.classes_ = target.encoder_.classes_

    def _check_weights(self, sample_weight: Any, values: np.ndarray) -> np.ndarray:
        return super()._check_weights(sample_weight, values) * compute_sample_weight(self.class_weight, values)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of the classes, averaged over the ensemble.

        Parameters
        ----------
        X : sequence of crystals, or CrystalGraphs
            What to classify, as taken by :func:`crystalssl.check_structures`.

        Returns
        -------
        ndarray of shape (n_crystals, n_classes)
            In the order of `classes_`.

        Raises
        ------
        InvalidStructureError
            If a crystal is invalid, or holds an element that neither pretraining nor training has seen.
        """
        check_is_fitted(self)
        return self._outputs(X).mean(axis=0)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each crystal.

        Parameters
        ----------
        X : sequence of crystals, or CrystalGraphs
            As for :meth:`predict_proba`.

        Returns
        -------
        ndarray of shape (n_crystals,)
            Labels of the kind that `fit` was given.
        """
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]
