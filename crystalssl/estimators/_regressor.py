"""Finetuning as a scikit-learn regressor."""

from __future__ import annotations

import warnings
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from crystalssl._parameters import with_parameters
from crystalssl.estimators._finetuning import FinetunedEstimator
from crystalssl.estimators._target import TargetScaler, check_y

__all__ = ["CrystalSSLRegressor"]

_LOSSES: dict[str, type[nn.Module]] = {
    "absolute_error": nn.L1Loss,
    "squared_error": nn.MSELoss,
    "huber": nn.SmoothL1Loss,
}
_OLD_NAMES = {"l1": "absolute_error", "mse": "squared_error"}
"""Of version 0.1, whose files carry them."""


@with_parameters
class CrystalSSLRegressor(RegressorMixin, FinetunedEstimator):
    """Predict properties of crystals by finetuning a pretrained encoder.

    Parameters
    ----------
    %(parameters)s
    loss : {"absolute_error", "squared_error", "huber"}, default="absolute_error"
        Loss of the scaled targets.
    target_transform : {"auto", "log", None}, default="auto"
        "log" learns the logarithm of the target. "auto" does so if the training values are all positive and span more
        than a decade between their 5th and 95th percentiles. Either way targets are standardised on training rows.

    Attributes
    ----------
    %(attributes)s
    n_targets_ : int
        Number of targets.

    See Also
    --------
    PretrainedCrystalEmbedder : The encoder's vectors, for other estimators.

    Examples
    --------
    >>> from sklearn.pipeline import Pipeline
    >>> from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor
    >>> from crystalssl.datasets import load_prototypes
    >>> X, y = load_prototypes(return_X_y=True)
    >>> model = Pipeline([
    ...     ("graphs", CrystalGraphTransformer()),
    ...     ("model", CrystalSSLRegressor(max_epochs=2, random_state=0)),
    ... ])
    >>> model.fit(X[30:80], y[30:80]).predict(X[10:20]).shape
    (10,)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **FinetunedEstimator._parameter_constraints,
        "loss": [StrOptions({*_LOSSES, *_OLD_NAMES}, deprecated=set(_OLD_NAMES))],
        "target_transform": [StrOptions({"auto", "log"}), None],
    }

    _: KW_ONLY
    loss: str = "absolute_error"
    target_transform: str | None = "auto"

    _check_y = staticmethod(check_y)

    def _new_target(self) -> TargetScaler:
        return TargetScaler(self.target_transform)

    def _loss(self) -> type[nn.Module]:
        if self.loss in _OLD_NAMES:
            new = _OLD_NAMES[self.loss]
            warnings.warn(f"loss={self.loss!r} is now called {new!r}; set loss={new!r}", FutureWarning, stacklevel=5)
        return _LOSSES[_OLD_NAMES.get(self.loss, self.loss)]

    def _set_target(self, target: TargetScaler, y: Any) -> None:
        super()._set_target(target, y)
        self.n_targets_ = target.n_outputs_
        self.single_target_ = np.asarray(y).ndim == 1

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict the property of crystals.

        Parameters
        ----------
        X : sequence of crystals, or CrystalGraphs
            As taken by :func:`crystalssl.check_structures`.
        return_std : bool, default=False
            Return the standard deviation over the ensemble as well.

        Returns
        -------
        y_pred : ndarray of shape (n_crystals,) or (n_crystals, n_targets)
            Predictions in the unit of the training targets.
        y_std : ndarray of the same shape
            Only with ``return_std=True``.

        Raises
        ------
        InvalidStructureError
            If a crystal is invalid, or holds an element that neither pretraining nor training has seen.
        """
        check_is_fitted(self)
        if return_std and len(self.nets_) < 2:
            raise ValueError("return_std=True takes an ensemble; set ensemble_size to at least 2 and fit again")
        members = self._outputs(X)
        if self.single_target_:
            members = members[:, :, 0]
        mean = members.mean(axis=0)
        if not return_std:
            return mean
        unit = np.ldexp(1.0, np.frexp(abs(members).max())[1])  # squares of very large or small numbers are none
        return mean, unit * (members / unit).std(axis=0, ddof=1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
