"""Finetuning as a scikit-learn classifier."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_sample_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from crystalssl._parameters import with_parameters
from crystalssl.estimators._finetuning import FinetunedEstimator
from crystalssl.estimators._left_out import LeftOut, temperature_of
from crystalssl.estimators._target import ClassCodes
from crystalssl.estimators._y import check_classes

__all__ = ["CrystalSSLClassifier"]


@with_parameters
class CrystalSSLClassifier(ClassifierMixin, FinetunedEstimator):
    """Classify crystals by finetuning a pretrained encoder.

    Parameters
    ----------
    %(parameters)s
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes in the loss, by label; a class that is not named has 1. They multiply the sample weights.
        "balanced" weighs a class inversely to how often it occurs.
    label_smoothing : float, default=0.1
        Share of every label that is given to all classes alike, in [0, 1): with 0.1 the network learns to be 95 % sure
        of one of two classes. Without it (0), networks are far too sure of what they say (Szegedy et al., CVPR 2016,
        arXiv:1512.00567; Müller et al., NeurIPS 2019, arXiv:1906.02629).

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
    >>> model = CrystalSSLClassifier(max_epochs=2, random_state=0).fit(X[30:80], heavy[30:80])
    >>> model.classes_
    array(['heavy', 'light'], dtype='<U5')
    >>> model.predict_proba(X[10:20]).shape
    (10, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **FinetunedEstimator._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    _: KW_ONLY
    class_weight: dict | str | None = None
    label_smoothing: float = 0.1

    _check_y = staticmethod(check_classes)

    def _new_target(self, names: list[str]) -> ClassCodes:
        return ClassCodes()

    def _loss(self) -> dict[str, Any]:
        return {"criterion": nn.CrossEntropyLoss, "criterion__label_smoothing": self.label_smoothing}

    def _set_target(self, target: ClassCodes, y: Any) -> None:
        super()._set_target(target, y)
        self.classes_ = target.encoder_.classes_

    def _strata(self, values: np.ndarray) -> np.ndarray:
        return np.unique(values, return_inverse=True)[1]

    def _set_left_out(
        self, left_out: LeftOut, labels: np.ndarray, sizes: np.ndarray, rows: np.ndarray, n_crystals: int
    ) -> None:
        self.target_.temperature = temperature_of(left_out.outputs, labels)
        self._oof = np.full((n_crystals, len(self.classes_)), np.nan)
        self._oof[rows] = self.target_.to_unit(left_out.outputs)
        self.oof_score_ = float((self._oof[rows].argmax(axis=1) == labels).mean())

    @property
    def oof_probability_(self) -> np.ndarray:
        """Probabilities of the classes of training crystals by the network that was not trained on them.

        Of shape (n_crystals, n_classes), calibrated, in the order of `fit`; NaN for crystals of weight 0. Only with
        ``ensemble="cross-validated"``.
        """
        if "_oof" not in vars(self):
            raise AttributeError('oof_probability_ is there after `fit` with ensemble="cross-validated"')
        return self._oof

    def _restore_target(self, config: dict[str, Any]) -> None:
        self.target_ = ClassCodes.from_config(config)
        self.classes_ = self.target_.encoder_.classes_

    def _weigh(self, sample_weight: np.ndarray, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        if isinstance(self.class_weight, dict):
            _check_class_weight(self.class_weight, np.unique(values[rows]).tolist())
        weight = sample_weight.copy()
        weight[rows] *= compute_sample_weight(self.class_weight, values[rows])
        return weight

    def _hold_out(self, values: np.ndarray, rows: np.ndarray, random_state: np.random.RandomState) -> np.ndarray:
        held_out = []
        for label in np.unique(values[rows]).tolist():
            members = random_state.permutation(rows[values[rows] == label])
            if len(members) < 2:
                raise ValueError(
                    f"the class {label!r} has one crystal, and early_stopping=True holds out some of each class and "
                    "trains on the others; add crystals, leave the class out, or set early_stopping=False"
                )
            held_out.append(members[: min(max(1, round(self.validation_fraction * len(members))), len(members) - 1)])
        return np.concatenate(held_out)

    def predict_proba(self, X: Any) -> Any:
        """Return the probabilities of the classes, averaged over the ensemble.

        With ``ensemble="cross-validated"`` they are calibrated: what networks say is divided by the temperature that
        fits the classes of the left-out training crystals best (Guo et al., ICML 2017, arXiv:1706.04599). Others are
        as sure as `label_smoothing` has them be.

        Parameters
        ----------
        X : sequence or iterator of crystals, CrystalGraphs, or CrystalCorpus
            What to classify, as taken by :func:`crystalssl.check_structures`. Graphs are made of some thousand crystals
            at a time, so that an iterator may yield more than fit into memory.

        Returns
        -------
        ndarray of shape (n_crystals, n_classes)
            In the order of `classes_`. A frame with these columns, if :meth:`set_output` says so.

        Raises
        ------
        InvalidStructureError
            If a crystal is invalid, or holds an element that neither pretraining nor training has seen.
        """
        check_is_fitted(self)
        return self._as_output(self._outputs(X).mean(axis=0), self.classes_, X)

    def predict(self, X: Any) -> Any:
        """Return the most probable class of each crystal.

        Parameters
        ----------
        X : sequence or iterator of crystals, CrystalGraphs, or CrystalCorpus
            As for :meth:`predict_proba`.

        Returns
        -------
        ndarray of shape (n_crystals,)
            Labels of the kind that `fit` was given. A frame of one column, if :meth:`set_output` says so.
        """
        check_is_fitted(self)
        probabilities = self._outputs(X).mean(axis=0)
        return self._as_output(self.classes_[probabilities.argmax(axis=1)], self.target_names_, X)


def _check_class_weight(class_weight: dict, classes: list) -> None:
    """Raise a ValueError that names what is no weight or no class, or leaves nothing to tell apart."""
    for label, weight in class_weight.items():
        if label not in classes:
            raise ValueError(f"class_weight names {label!r}, which is no class of y; its classes are {classes}")
        if not (isinstance(weight, Real) and 0 <= float(weight) < math.inf):
            raise ValueError(f"class_weight[{label!r}] is {weight!r}; weights are finite numbers of at least 0")
    weighed = [label for label in classes if class_weight.get(label, 1) > 0]
    if len(weighed) < 2:
        raise ValueError(f"class_weight leaves {len(weighed)} of the classes {classes}; training needs at least two")
