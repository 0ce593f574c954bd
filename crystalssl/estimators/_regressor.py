"""Finetuning as a scikit-learn regressor."""

from __future__ import annotations

import warnings
from dataclasses import KW_ONLY
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted
from torch import nn

from crystalssl._parameters import with_parameters
from crystalssl.estimators._finetuning import FinetunedEstimator
from crystalssl.estimators._left_out import ONE_SIGMA, LeftOut, check_enough, conformal_interval
from crystalssl.estimators._network import PropertyNetwork
from crystalssl.estimators._record import Part
from crystalssl.estimators._target import TargetScaler
from crystalssl.estimators._target_per import TARGET_PER
from crystalssl.estimators._y import as_numbers, check_y

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
    target_per : {"atom", "area", "volume"} or None, default=None
        What targets are divided by before they are learnt, and predictions multiplied by: the number of atoms in the
        cell; the area per atom of a layer, in Å²; or the volume per atom, in Å³. A quantity per atom that follows the
        area, such as the exfoliation energy of a monolayer, is then learnt per area. Crystals without a gap of 5 Å
        between their atoms have no area, and are refused.

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
        "target_per": [StrOptions(set(TARGET_PER)), None],
    }

    _: KW_ONLY
    loss: str = "absolute_error"
    target_transform: str | None = "auto"
    target_per: str | None = None

    _check_y = staticmethod(check_y)

    def _new_target(self, names: list[str]) -> TargetScaler:
        return TargetScaler(self.target_transform, names, self.target_per)

    def _hold_out(self, values: np.ndarray, rows: np.ndarray, random_state: np.random.RandomState) -> np.ndarray:
        known = ~np.isnan(values)
        if known[rows].all():
            return super()._hold_out(values, rows, random_state)
        order = random_state.permutation(rows)
        held_out, others = np.split(order, [self._n_held_out(len(rows))])
        left = known[rows].sum(axis=0) - known[held_out].sum(axis=0)
        kept = []
        for row in held_out:  # the last crystals of which a target is known are trained on
            if (left[known[row]] == 0).any():
                kept.append(row)
                left += known[row]
        if len(kept) < len(held_out):
            return np.setdiff1d(held_out, kept)
        for row in others:
            if (left[known[row]] > 1).all():
                return np.array([row])
        raise ValueError(
            f"early_stopping=True can hold out none of {len(rows)} crystals, as each is the only one of which some "
            "target is known; add crystals, or set early_stopping=False"
        )

    def _start(self, module: PropertyNetwork, vectors: np.ndarray, part: Part) -> None:
        y, weight, rows = part.training.y, part.training.sample_weight, part.training.indices
        module.start_from_properties(vectors, y[rows], weight[rows], part.target.log_)

    def _loss(self) -> dict[str, Any]:
        if self.loss in _OLD_NAMES:
            new = _OLD_NAMES[self.loss]
            warnings.warn(f"loss={self.loss!r} is now called {new!r}; set loss={new!r}", FutureWarning, stacklevel=4)
        return {"criterion": _LOSSES[_OLD_NAMES.get(self.loss, self.loss)]}

    def _set_target(self, target: TargetScaler, y: Any) -> None:
        super()._set_target(target, y)
        self.n_targets_ = target.n_outputs_
        self.single_target_ = np.asarray(y).ndim == 1

    def _set_left_out(
        self, left_out: LeftOut, labels: np.ndarray, sizes: np.ndarray, rows: np.ndarray, n_crystals: int
    ) -> None:
        self._oof = np.full((n_crystals, labels.shape[1]), np.nan)
        self._oof[rows] = self.target_.to_unit(left_out.outputs, sizes)
        self.oof_score_ = _mean_r2(labels, self._oof[rows], np.ones(len(rows)))

    @property
    def oof_prediction_(self) -> np.ndarray:
        """What training crystals are predicted to be by the network that was not trained on them.

        Of shape (n_crystals,) or (n_crystals, n_targets), in the unit of the training targets, in the order of `fit`;
        NaN for crystals of weight 0. Only with ``ensemble="cross-validated"``.
        """
        if "_oof" not in vars(self):
            raise AttributeError('oof_prediction_ is there after `fit` with ensemble="cross-validated"')
        return self._oof[:, 0] if self.single_target_ else self._oof

    def _restore_target(self, config: dict[str, Any]) -> None:
        self.target_ = TargetScaler.from_config(config)

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict the property of crystals.

        Parameters
        ----------
        X : sequence or iterator of crystals, CrystalGraphs, or CrystalCorpus
            As taken by :func:`crystalssl.check_structures`. Graphs are made of some thousand crystals at a time, so
            that an iterator may yield more than fit into memory.
        return_std : bool, default=False
            Return a standard deviation as well. With ``ensemble="cross-validated"`` it is that of the error to be
            expected: half the width of :meth:`predict_interval` at a coverage of 68.3 %. Of other ensembles it is the
            standard deviation over the networks, which is no error bar: it leaves out all errors that the networks
            have in common, and is several times too small.

        Returns
        -------
        y_pred : ndarray of shape (n_crystals,) or (n_crystals, n_targets)
            Predictions in the unit of the training targets. A frame with the columns `target_names_`, if
            :meth:`set_output` says so.
        y_std : ndarray of the same shape
            Only with ``return_std=True``.

        Raises
        ------
        InvalidStructureError
            If a crystal is invalid, or holds an element that neither pretraining nor training has seen.
        ValueError
            If a standard deviation is asked of one network, or of one that has left out fewer than three crystals.
        """
        check_is_fitted(self)
        if not return_std:
            return self._finish(self._outputs(X).mean(axis=0), X)
        if len(self.nets_) < 2:
            raise ValueError("return_std=True takes an ensemble; set ensemble_size to at least 2 and fit again")
        record = getattr(self, "_record", None)
        if record is not None and record.left_out is not None:
            mean, lower, upper = self._predict_interval(X, ONE_SIGMA)
            return self._finish(mean, X), self._finish((upper - lower) / 2, X)
        members = self._outputs(X)
        unit = np.ldexp(1.0, np.frexp(abs(members).max())[1])  # squares of very large or small numbers are none
        std = unit * (members / unit).std(axis=0, ddof=1)
        return self._finish(members.mean(axis=0), X), self._finish(std, X)

    def predict_interval(self, X: Any, coverage: float = 0.9) -> tuple[Any, Any]:
        """Return intervals that hold the true values of a share of crystals.

        They are CV+ intervals (Barber et al.) of the errors of left-out training crystals. An error is taken relative
        to what is expected at the distance of the crystal from those of training, as the encoder of each network sees
        it. So intervals are wider for crystals far from training, and where networks disagree. Of logarithms that are
        learnt it is done on these, and of targets that are divided by sizes, on the quotients.

        The guarantee: if new crystals and training crystals are drawn alike and independently, and are n with equally
        many left out of each of K networks, an interval holds the true value with a probability of at least ``1 - 2 α
        - min(2 (1 - 1/K) / (n/K + 1), (1 - K/n) / (K + 1))``, where ``α = 1 - coverage``, on average over crystals and
        training sets. Usually it is about `coverage` or more. It is no guarantee for crystals of another kind than
        those of training, nor for each single crystal, nor with `groups`. It also takes that what is chosen from all
        crystals at once does not matter: the logarithm, under ``target_transform="auto"``, and the encoder, where
        `pretrain` is an embedder that is fitted on them.

        Parameters
        ----------
        X : sequence or iterator of crystals, CrystalGraphs, or CrystalCorpus
            As for :meth:`predict`.
        coverage : float, default=0.9
            The share, between 0 and 1.

        Returns
        -------
        lower, upper : ndarray of shape (n_crystals,) or (n_crystals, n_targets)
            Ends of the intervals, in the unit of the training targets. Frames, if :meth:`set_output` says so.

        Raises
        ------
        ValueError
            If `coverage` is not between 0 and 1; if the model was not fitted with ``ensemble="cross-validated"``; if
            so few crystals were left out that the interval would be infinite.
        InvalidStructureError
            If a crystal is invalid, or holds an element that neither pretraining nor training has seen.

        References
        ----------
        R. F. Barber, E. J. Candès, A. Ramdas and R. J. Tibshirani, Ann. Statist. 49, 486 (2021), theorem 4,
        doi:10.1214/20-AOS1965.
        """
        check_is_fitted(self)
        if not (isinstance(coverage, Real) and 0 < coverage < 1):
            raise ValueError(f"coverage must be a number between 0 and 1, such as 0.9; got {coverage!r}")
        _, lower, upper = self._predict_interval(X, float(coverage))
        return self._finish(lower, X), self._finish(upper, X)

    def _predict_interval(self, X: Any, coverage: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return means and ends of intervals, all of shape (n_crystals, n_targets)."""
        left_out = self._left_out("predict_interval")
        check_enough(left_out, coverage, self.target_names_)  # before anything is computed
        learnt, sizes, distances = self._apply(X, with_distances=True)
        ends = conformal_interval(learnt, distances[:, :, 0], left_out, coverage)
        mean = np.mean([self.target_.to_unit(output, sizes) for output in learnt], axis=0)
        lower, upper = (self.target_.to_unit(end, sizes) for end in ends)
        return mean, lower, upper

    def _finish(self, values: np.ndarray, X: Any) -> Any:
        """Return predictions, of shape (n_crystals, n_targets), in the shape and container that is asked for."""
        return self._as_output(values[:, 0] if self.single_target_ else values, self.target_names_, X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R², the coefficient of determination.

        Parameters
        ----------
        X : sequence of crystals, CrystalGraphs, or CrystalCorpus
            As for :meth:`predict`.
        y : array-like of shape (n_crystals,) or (n_crystals, n_targets)
            True values. Of several targets some may be missing, NaN: each target then has the R² of its known values.
        sample_weight : array-like of shape (n_crystals,) or None, default=None
            Weights of the crystals.

        Returns
        -------
        float
            The mean over targets, of those that are known for at least two crystals if any is missing.
        """
        values = as_numbers(y)
        if values.ndim != 2 or values.shape[1] == 1 or not np.isnan(values).any():
            return super().score(X, y, sample_weight)
        predicted = np.asarray(self.predict(X))
        weights = _check_sample_weight(sample_weight, predicted, dtype=np.float64)
        if predicted.shape != values.shape:
            raise ValueError(f"y has shape {values.shape}, but predictions have {predicted.shape}")
        score = _mean_r2(values, predicted, weights)
        if np.isnan(score):
            raise ValueError("no target has two known values in y, which R² asks for; score on more crystals")
        return score

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _mean_r2(values: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> float:
    """Return R² of the known values of each target, on average over those of which two are known; NaN if none has."""
    scores = [
        r2_score(values[rows, target], predicted[rows, target], sample_weight=weights[rows])
        for target, rows in enumerate((~np.isnan(values)).T)
        if rows.sum() > 1
    ]
    return float(np.mean(scores)) if scores else np.nan
