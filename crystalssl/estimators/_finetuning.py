"""What the estimators that finetune share: the encoder, its weights and their training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight
from skorch.callbacks import EarlyStopping, LRScheduler
from torch import nn

from crystalssl._parameters import with_parameters
from crystalssl.estimators._base import (
    draw_seed,
    elements_of,
)
from crystalssl.estimators._cross_validated import CrossValidatedEnsemble
from crystalssl.estimators._network import PropertyNetwork, infer, release
from crystalssl.estimators._output import PredictionOutput
from crystalssl.estimators._predicting import NetworkEnsemble
from crystalssl.estimators._record import Part, TrainingRecord
from crystalssl.estimators._saving import SavedModel
from crystalssl.estimators._source import EncoderSource, fingerprint
from crystalssl.estimators._y import name_targets, nameless
from crystalssl.graphs import CrystalCorpus, CrystalGraphs
from crystalssl.graphs._given import as_graphs
from crystalssl.training import CrystalDataset, CrystalNet
from crystalssl.training._callbacks import copies_of
from crystalssl.training._fit import epochs_of, fit_network
from crystalssl.training._net import resolve_device
from crystalssl.training._precision import usual_torch
from crystalssl.training._seeding import derive_seed, seeded

__all__ = ["FinetunedEstimator"]

BUILT_IN = (
    "encoder",
    "pretrain",
    "readout",
    "pooled_layers",
    "cell_features",
    "head_dim",
    "dropout",
    "standardize",
    "target_transform",
    "target_per",
    "ensemble",
)
"""Parameters that are part of a network, or of the scale that it was trained on."""

ENOUGH_LABELS = 1000
LOWEST_RATIO = 0.25
"""With fewer labels a gentle encoder learns at a lower rate, in proportion, down to this part of the head's."""

REFUSED_CALLBACKS = {
    EarlyStopping: "ends training as Ctrl-C does; set early_stopping=True and patience instead",
    LRScheduler: (
        "would have no effect: the learning rate follows warm-up and cosine; set learning_rate and max_epochs instead"
    ),
}
"""Callbacks of skorch that cannot do here what they are for, and what does."""


@with_parameters
class FinetunedEstimator(SavedModel, PredictionOutput, NetworkEnsemble, CrossValidatedEnsemble):
    """Base class of estimators that train an encoder and a head on labelled crystals.

    A subclass says what its labels are. `_check_y` validates those of some rows. `_new_target` returns what turns them
    into numbers for the network and its outputs into predictions, such as
    :class:`crystalssl.estimators._target.TargetScaler`. `_loss` returns the torch loss that compares the two, as
    parameters of a skorch net. `_set_target` keeps what was learnt about them, and `_restore_target` has it from a
    file.

    Parameters
    ----------
    %(parameters)s

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The (first) fitted net; ``net_.module_`` is the torch module.
    nets_ : list of skorch.NeuralNet
        All nets of the ensemble.
    history_ : list of dict
        Losses of each epoch of the first net.
    elements_ : ndarray of int
        Atomic numbers that pretraining or training has seen; empty if any are allowed (``pretrain=None``).
    trained_elements_ : ndarray of int
        Atomic numbers in the crystals whose labels were trained on. Predictions for crystals that have others in a
        third of their atoms, or more, warn.
    target_names_ : list of str
        Names of the columns of y, where it is a frame or series; else "y", or "y0", "y1" and so on.
    target_units_ : list of str or None
        Their units, of ``y.attrs["unit"]``: a text, or a dict by name. None where that does not say.
    oof_score_ : float
        Score of the predictions of training crystals, each by the network that was not trained on it: R², or the
        accuracy. Only with ``ensemble="cross-validated"``. The mean of all networks mostly errs less.
    trained_on_ : dict
        How many crystals `fit` was given, trained on and held out, and what their targets are like; what the card of
        :meth:`save` says of them.
    """

    def _check_y(self, y: Any, n_crystals: int, rows: np.ndarray | None = None) -> np.ndarray:
        raise NotImplementedError

    def _new_target(self, names: list[str]) -> Any:
        raise NotImplementedError

    def _loss(self) -> dict[str, Any]:
        raise NotImplementedError

    def _set_target(self, target: Any, y: Any) -> None:
        self.target_ = target

    def _restore_target(self, config: dict[str, Any]) -> None:
        raise NotImplementedError

    @usual_torch()
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Any:
        """Finetune on labelled crystals.

        Parameters
        ----------
        X : sequence of crystals, CrystalGraphs, or CrystalCorpus
            As taken by :func:`crystalssl.check_structures`.
        y : array-like of shape (n_crystals,) or (n_crystals, n_targets)
            For a regressor one or several targets, in any unit. Of several, some may be missing, NaN, but not all of a
            crystal: a missing one has no part in the loss, and each that is known counts the same. For a classifier
            classes: numbers, strings or booleans.
        sample_weight : array-like of shape (n_crystals,) or None, default=None
            How much each crystal counts in the loss. Only ratios matter. A crystal of weight 0 is left out of
            everything, as if it had not been given, so that its target may be unknown.
        groups : array-like of shape (n_crystals,) or None, default=None
            For ``ensemble="cross-validated"``: crystals of the same value, such as the reduced formula, are left out
            together, so that errors are those of crystals unlike the ones of training. Values are texts, numbers or
            anything else that can be a key, such as a Composition of pymatgen. None groups none.

        Returns
        -------
        self

        Raises
        ------
        InvalidStructureError
            If a crystal is invalid.
        ValueError
            If targets, weights or parameters do not fit; the message names them.
        NonFiniteError
            If training diverges.
        WeightsError
            If the weights named by `pretrain` cannot be loaded.
        """
        self._validate_params()
        random_state = check_random_state(self.random_state)
        device = resolve_device(self.device)
        self._check_callbacks()
        warm = self.warm_start and hasattr(self, "nets_")
        built_with = {name: fingerprint(getattr(self, name)) for name in BUILT_IN if hasattr(self, name)}
        if warm:
            self._check_warm_start(built_with)
        self._check_ensemble(warm, groups)
        X = as_graphs(X)
        if len(X) < 2:
            raise ValueError(f"X holds {'one crystal' if len(X) else 'no crystals'}; training needs at least two")
        sample_weight = self._check_weights(sample_weight, len(X))
        rows = np.flatnonzero(sample_weight)  # the others are left out of everything
        values = self._check_y(y, len(X), rows)
        names, units = name_targets(y, values.shape[1] if values.ndim == 2 else 1)
        if warm:
            self._check_names(names)
        if warm and self.ensemble_size <= len(self.nets_):
            # No network starts from where the weights once came from, which may be gone.
            encoder, elements = self.nets_[0].module_.encoder, vars(self)["elements_"]
            source = EncoderSource.network(encoder, elements, self.pretrain is not None)
        else:
            source = EncoderSource.of(self.pretrain, self.encoder, _take(X, rows))
        graphs = self._to_graphs(X, source.recipe)
        target = self.target_ if warm else self._new_target(names)
        y_given, values = values, target.divide(values, graphs, rows)
        weight = self._weigh(sample_weight, values, rows)
        used = np.flatnonzero(weight)
        crystals = CrystalDataset(graphs, values, used, weight)
        if self.ensemble == "cross-validated":
            target = target.fit(values, used, rows)
            folds = self._folds(values, used, groups, random_state)
            parts = [self._part(crystals, rows, fold, target.of_rows, random_state) for fold in folds]
        else:
            # In a warm start, the scale that the head was trained on.
            learn = target.go_on if warm else target.fit
            parts = [self._part(crystals, rows, used[:0], lambda *y: learn(*y, rows), random_state)]
            target = parts[0].target

        loss = self._loss()
        nets = []
        for member in range(self.ensemble_size):
            part = parts[member % len(parts)]
            seed = draw_seed(random_state)
            if warm and member < len(self.nets_):
                module = copy.deepcopy(self.nets_[member].module_).freeze(self.freeze_encoder)
            else:
                module = self._new_module(source, part, device, derive_seed(seed, 0))
            net = fit_network(
                CrystalNet,
                module,
                part.training,
                part.validation,
                seed=derive_seed(seed, 1),
                description=self._description(member),
                # A copy for each net, as of every parameter: what a callback learns stays in the net.
                further_callbacks=copies_of(self.callbacks),
                device=device,
                **loss,
                **self._settings(source.is_gentle, len(part.training)),
            )
            nets.append(release(net))
        train_rows = np.unique(np.concatenate([part.training.indices for part in parts]))
        valid_rows = np.unique(
            np.concatenate([used[:0], *(part.validation.indices for part in parts if part.validation)])
        )
        record = TrainingRecord.of(crystals, y_given, nets, parts, target, device, self.precision)
        # Nothing of a fitted estimator changes before all is done.
        self.elements_, self.trained_elements_ = self._elements(source, graphs, rows, train_rows, warm)
        self.nets_: list[CrystalNet] = nets
        self.net_ = nets[0]
        self.history_ = epochs_of(self.net_)
        self.target_names_, self.target_units_ = names, units
        numbers = {"n_crystals": len(rows), "n_trained": len(train_rows), "n_held_out": len(valid_rows)}
        self.trained_on_ = {**numbers, **target.describe(y_given[rows])}
        self._built_with = built_with
        self._record, self._scales = record, [part.target for part in parts]
        self._set_target(target, y)
        self._forget_left_out()
        if record.left_out is not None:
            sizes = target.sizes(graphs[used], used)
            self._set_left_out(record.left_out, record.labels, sizes, used, len(X))
        return self

    def _part(
        self,
        crystals: CrystalDataset,
        rows: np.ndarray,
        left_out: np.ndarray,
        learn_scale: Callable[[np.ndarray, np.ndarray], Any],
        random_state: np.random.RandomState,
    ) -> Part:
        """Return what a network is trained on; `crystals` has the targets, not yet scaled, of all `rows` that count."""
        values, weight = crystals.y, crystals.sample_weight
        train_rows, valid_rows = self._split(values, np.setdiff1d(crystals.indices, left_out), random_state)
        target = learn_scale(values, train_rows)
        scaled = target.scale(values, rows)
        # On average over what is known the weights are 1.
        known = np.isfinite(scaled).reshape(len(scaled), -1).mean(axis=1)
        weight = (weight / (weight * known)[train_rows].mean()).astype(np.float32)
        training = crystals.select(train_rows, scaled, weight)
        validation = crystals.select(valid_rows, scaled, weight) if len(valid_rows) else None
        return Part(target, training, validation, left_out)

    def _check_names(self, names: list[str]) -> None:
        """Raise ValueError if the columns of y are named, and not as at the last fit."""
        before, default = getattr(self, "target_names_", names), nameless(len(names))
        if names != before and default not in (names, before):
            raise ValueError(
                f"the columns of y are {names}, those of the last fit are {before}; warm_start=True goes on with the "
                "same targets in the same order"
            )

    def _check_warm_start(self, built_with: dict[str, Any]) -> None:
        """Raise ValueError for a parameter that the networks of the last fit cannot follow."""
        for name, before in getattr(self, "_built_with", {}).items():  # files of version 0.1 do not say
            if built_with[name] != before:
                raise ValueError(
                    f"{name} has changed since the last fit, which warm_start=True goes on from, and its networks "
                    f"cannot follow; set {name} back, or warm_start=False"
                )

    def _elements(
        self,
        source: EncoderSource,
        graphs: CrystalGraphs | CrystalCorpus,
        rows: np.ndarray,
        train_rows: np.ndarray,
        warm: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the atomic numbers that the networks know, if that is a question, and those of their labels."""
        trained = set(elements_of(graphs, train_rows))
        known = source.elements and source.elements | set(elements_of(graphs, rows))
        if warm:
            trained |= set(getattr(self, "trained_elements_", self.elements_).tolist())
            known = known and known | set(self.elements_.tolist())
        return np.array(sorted(known), dtype=int), np.array(sorted(trained), dtype=int)

    def __sklearn_clone__(self) -> Any:
        # scikit-learn clones callbacks like any parameter, and some cannot be: the rest is cloned without them.
        bare = object.__new__(type(self))
        bare.__dict__.update(vars(self), callbacks=None)
        new = BaseEstimator.__sklearn_clone__(bare)
        new.callbacks = None if self.callbacks is None else type(self.callbacks)(copies_of(self.callbacks))
        return new

    def _check_callbacks(self) -> None:
        for callback in self.callbacks or []:
            callback = callback[1] if isinstance(callback, tuple) else callback
            kind = callback if isinstance(callback, type) else type(callback)
            for refused, reason in REFUSED_CALLBACKS.items():
                if issubclass(kind, refused):
                    raise ValueError(f"skorch's {refused.__name__} {reason}")

    def _check_weights(self, sample_weight: Any, n_crystals: int) -> np.ndarray:
        weights = _check_sample_weight(sample_weight, np.empty(n_crystals), dtype=np.float64, ensure_non_negative=True)
        n_used = np.count_nonzero(weights)
        if n_used < 2:
            raise ValueError(f"{n_used} of {len(weights)} sample weights are not zero; training needs at least two")
        return np.ldexp(weights, -np.frexp(weights.max())[1])  # so that sums are finite; no digit changes

    def _weigh(self, sample_weight: np.ndarray, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return sample_weight

    def _split(
        self, values: np.ndarray, rows: np.ndarray, random_state: np.random.RandomState
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows to train on, and those to hold out."""
        held_out = self._hold_out(values, rows, random_state) if self.early_stopping else rows[:0]
        train_rows = np.setdiff1d(rows, held_out)
        if len(train_rows) < 2:
            raise ValueError(
                f"of {len(rows)} crystals {len(held_out)} are held out, which leaves fewer than two to train on; lower "
                "validation_fraction or set early_stopping=False"
            )
        return train_rows, np.sort(held_out)

    def _hold_out(self, values: np.ndarray, rows: np.ndarray, random_state: np.random.RandomState) -> np.ndarray:
        return random_state.permutation(rows)[: self._n_held_out(len(rows))]

    def _n_held_out(self, n_crystals: int) -> int:
        return max(1, round(self.validation_fraction * n_crystals))

    def _settings(self, gentle: bool, n_crystals: int) -> dict[str, Any]:
        """Return what the training of all networks shares, as parameters of `fit_network`."""
        encoder_rate = self.encoder_learning_rate
        if encoder_rate is None:
            ratio = min(max(n_crystals / ENOUGH_LABELS, LOWEST_RATIO), 1.0) if gentle else 1.0
            encoder_rate = ratio * self.learning_rate
        return {
            "max_epochs": self.max_epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "gradient_clip": self.gradient_clip,
            "precision": self.precision,
            "ema_decay": self.ema_decay,
            "patience": self.patience,
            "optimizer__param_groups": [("encoder.*", {"lr": encoder_rate})],
        }

    def _new_module(self, source: EncoderSource, part: Part, device: str, seed: int) -> PropertyNetwork:
        """Return a network before training; its head may see vectors on the scale of the training crystals."""
        training = part.training
        with seeded(seed):
            encoder = source.build(readout=self.readout, pooled_layers=self.pooled_layers)
            module = PropertyNetwork(
                encoder,
                part.target.n_outputs_,
                self.head_dim,
                self.dropout,
                self.freeze_encoder,
                training.cell_features[training.indices] if self.cell_features else None,
            )
        standardize = source.is_gentle if self.standardize is None else self.standardize
        if standardize or encoder.n_properties:
            vectors = infer(encoder, training, device, self.precision)
            if standardize:
                module.standardize(vectors)
            self._start(module, vectors, part)
        return module

    def _start(self, module: PropertyNetwork, vectors: np.ndarray, part: Part) -> None:
        """Give a network weights to start from, by what the encoder says of the training crystals."""

    def _description(self, member: int) -> str | None:
        """Return the title of the progress bar."""
        if not self.verbose:
            return None
        title = "finetuning" if self.pretrain is not None else "training"
        return title if self.ensemble_size == 1 else f"{title} {member + 1}/{self.ensemble_size}"


def _take(X: Any, rows: np.ndarray) -> Any:
    """Return some of the crystals in a list or CrystalGraphs, which is not copied if that is all of them."""
    if len(rows) == len(X):
        return X
    return X[rows] if isinstance(X, (CrystalGraphs, CrystalCorpus)) else [X[row] for row in rows]


class WeightedLoss(nn.Module):
    """The criterion in nets of version 0.1, whose files could not be read without it. Nothing calls it."""
