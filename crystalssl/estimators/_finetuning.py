"""What the estimators that finetune share: the encoder, its weights and their training."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted
from skorch.callbacks import EarlyStopping
from torch import Tensor, nn

from crystalssl._parameters import with_parameters
from crystalssl.estimators._base import (
    CrystalEstimator,
    UnseenElements,
    check_known_elements,
    draw_seed,
    elements_of,
    join,
)
from crystalssl.estimators._left_out import LeftOut, check_groups, deal_out
from crystalssl.estimators._network import PropertyNetwork, infer, release
from crystalssl.estimators._output import CONTAINERS
from crystalssl.estimators._plain_state import PlainState
from crystalssl.estimators._record import TrainingRecord, geometry
from crystalssl.estimators._source import EncoderSource, fingerprint
from crystalssl.estimators._surroundings import Seeing, Surroundings
from crystalssl.estimators._target import name_targets, nameless
from crystalssl.graphs import CrystalGraphs
from crystalssl.graphs._crystal_graphs import as_graphs
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


class Part(NamedTuple):
    """What a network is trained on, and what it is not."""

    target: Any
    training: CrystalDataset
    validation: CrystalDataset | None
    left_out: np.ndarray


@with_parameters
class FinetunedEstimator(PlainState, CrystalEstimator):
    """Base class of estimators that train an encoder and a head on labelled crystals.

    A subclass says what its labels are. `_check_y` validates them. `_new_target` returns what turns them into numbers
    for the network and its outputs into predictions, such as :class:`crystalssl.estimators._target.TargetScaler`.
    `_loss` returns the class of the torch loss that compares the two. `_set_target` keeps what was learnt about them,
    and `_restore_target` has it from a file.

    Parameters
    ----------
    pretrain : str, path, PretrainedCrystalEmbedder, FrozenEstimator or None, default="joint"
        Where the weights of the encoder come from. A name means weights that ship with crystalssl
        (:func:`crystalssl.training.bundled_weights` lists them), a path means a weights folder. An embedder is cloned
        and fitted on X; a fitted one goes in as ``FrozenEstimator(embedder)``. None means random weights. A name that
        is also a weights folder in the working directory means that folder, with a warning; ``"./joint"`` is always a
        folder.
    encoder : str or None, default=None
        Name of the encoder where ``pretrain=None``; None is "gatedgcn". With pretrained weights it must be theirs.
    readout : {"mean", "mean+max+min", "set2set", "attention"} or None, default=None
        How atoms are pooled into crystals. None takes what the encoder declares for finetuning.
    pooled_layers : {"all", "last"} or None, default=None
        Whose outputs are pooled. "all" puts those of all layers side by side: the head then sees what an atom is,
        beside what surrounds it. "last" takes those of the last layer. None takes what the encoder declares.
    cell_features : bool, default=True
        Whether the head also sees :func:`crystalssl.graphs.cell_features`, standardised over the training crystals.
    head_dim : int, default=128
        Width of the hidden layer between the vector of a crystal and the prediction.
    dropout : float, default=0.0
        Dropout in the head.
    standardize : bool or None, default=None
        Whether the head sees standardised vectors. Their means and deviations are those of the training crystals,
        taken once, before training. None means True for pretrained encoders that declare it (GatedGCN does), and False
        for all others.
    freeze_encoder : bool, default=False
        Train the head only.
    max_epochs : int, default=100
        Passes over the training crystals.
    batch_size : int, default=32
        Crystals per step.
    learning_rate : float, default=2e-3
        Peak rate of AdamW. The rate rises linearly over a tenth of the steps and then falls along a cosine.
    encoder_learning_rate : float or None, default=None
        Peak rate of the encoder's weights. None is `learning_rate`, with one exception. Pretrained encoders that
        declare it (GatedGCN does) learn more slowly from fewer than 1,000 crystals: in proportion to their number, down
        to a quarter of the rate.
    weight_decay : float, default=0.01
        Of AdamW.
    gradient_clip : float or None, default=1.0
        Largest norm of the gradient.
    ema_decay : float, default=0.995
        Predictions use an exponential moving average of the weights with this decay per step. 0 uses the weights.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the training crystals. Stop when their loss has not improved for `patience`
        epochs, and restore the best epoch.
    validation_fraction : float, default=0.1
        Share held out if `early_stopping`.
    patience : int, default=20
        Epochs without improvement.
    ensemble_size : int, default=1
        Networks whose predictions are averaged.
    ensemble : {"seeds", "cross-validated"}, default="seeds"
        In what the networks differ. "seeds" trains each on all crystals. "cross-validated" leaves another part of the
        crystals out of each, one in `ensemble_size`, which must be at least 2. Every crystal then has a prediction by
        the network that was not trained on it. From these follow an error estimate without a further fit, and what
        errors of other crystals are to be expected. It takes no longer than "seeds".
    warm_start : bool, default=False
        Go on from the networks of the last `fit`. It is refused for a cross-validated ensemble, whose networks would
        get to see what they had left out.
    callbacks : list of skorch callbacks or None, default=None
        Called during training, before those of the estimator. Each net gets a copy, found afterwards in
        ``net_.callbacks_``; one that cannot be cloned shares what it holds with its copies. They see what the net
        learns: scaled targets, NaN where one is missing, or codes of classes. The sample weights are in the field
        ``sample_weight`` of every batch.
    device : str, default="auto"
        Torch device. "auto" is the GPU if there is one.
    precision : {"highest", "high", "medium"}, default="highest"
        How exactly matrices are multiplied, as in :func:`torch.set_float32_matmul_precision`, which is set for the
        length of the call only. "high" allows TensorFloat-32 on GPUs that have it, "medium" bfloat16 on CPUs. Both are
        faster for wide networks, with relative errors of some 1e-3 in predictions.
    n_jobs : int or None, default=None
        Processes that turn structures into graphs.
    random_state : int, RandomState instance or None, default=None
        Seed of head, shuffling, dropout and held-out crystals.
    verbose : int, default=0
        1 shows a progress bar.

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
        Atomic numbers in the crystals whose labels were trained on. Predictions for others warn.
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

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **CrystalEstimator._parameter_constraints,
        "pretrain": [str, os.PathLike, HasMethods(["fit", "transform"]), None],
        "cell_features": ["boolean"],
        "head_dim": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "freeze_encoder": ["boolean"],
        "standardize": ["boolean", None],
        "encoder_learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "ema_decay": [Interval(Real, 0, 1, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "ensemble_size": [Interval(Integral, 1, None, closed="left")],
        "ensemble": [StrOptions({"seeds", "cross-validated"})],
        "warm_start": ["boolean"],
        "callbacks": [list, tuple, None],
    }

    pretrain: Any = "joint"
    _: KW_ONLY
    encoder: str | None = None
    readout: str | None = None
    pooled_layers: str | None = None
    cell_features: bool = True
    head_dim: int = 128
    dropout: float = 0.0
    standardize: bool | None = None
    freeze_encoder: bool = False
    max_epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 2e-3
    encoder_learning_rate: float | None = None
    weight_decay: float = 0.01
    gradient_clip: float | None = 1.0
    ema_decay: float = 0.995
    early_stopping: bool = False
    validation_fraction: float = 0.1
    patience: int = 20
    ensemble_size: int = 1
    ensemble: str = "seeds"
    warm_start: bool = False
    callbacks: list | tuple | None = None
    device: str = "auto"
    precision: str = "highest"
    n_jobs: int | None = None
    random_state: Any = None
    verbose: int = 0

    def _check_y(self, y: Any, n_crystals: int) -> np.ndarray:
        raise NotImplementedError

    def _new_target(self, names: list[str]) -> Any:
        raise NotImplementedError

    def _loss(self) -> type[nn.Module]:
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
        X : sequence of crystals, or CrystalGraphs
            As taken by :func:`crystalssl.check_structures`.
        y : array-like of shape (n_crystals,) or (n_crystals, n_targets)
            For a regressor one or several targets, in any unit. Of several, some may be missing, NaN, but not all of a
            crystal: a missing one has no part in the loss, and each that is known counts the same. For a classifier
            classes: numbers, strings or booleans.
        sample_weight : array-like of shape (n_crystals,) or None, default=None
            How much each crystal counts in the loss. Only ratios matter. A crystal of weight 0 is left out of
            everything, as if it had not been given.
        groups : array-like of shape (n_crystals,) or None, default=None
            For ``ensemble="cross-validated"``: crystals of the same value, such as the reduced formula, are left out
            together, so that errors are those of crystals unlike the ones of training. None groups none.

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
        values = self._check_y(y, len(X))
        names, units = name_targets(y, values.shape[1] if values.ndim == 2 else 1)
        if warm:
            self._check_names(names)
        sample_weight = self._check_weights(sample_weight, values)
        rows = np.flatnonzero(sample_weight)  # the others are left out of everything
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

        criterion = self._loss()
        nets = []
        for member in range(self.ensemble_size):
            part = parts[member % len(parts)]
            seed = draw_seed(random_state)
            if warm and member < len(self.nets_):
                module = copy.deepcopy(self.nets_[member].module_).freeze(self.freeze_encoder)
            else:
                module = self._new_module(source, target.n_outputs_, part.training, device, derive_seed(seed, 0))
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
                criterion=criterion,
                **self._settings(source.is_gentle, len(part.training)),
            )
            nets.append(release(net))
        train_rows = np.unique(np.concatenate([part.training.indices for part in parts]))
        valid_rows = np.unique(
            np.concatenate([used[:0], *(part.validation.indices for part in parts if part.validation)])
        )
        record = self._record_of(crystals, y_given, nets, parts, target, device)
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

    def _check_ensemble(self, warm: bool, groups: Any) -> None:
        """Raise ValueError for parameters that ask for nothing, or for what cannot be."""
        if self.ensemble == "seeds":
            if groups is not None:
                raise ValueError(
                    'groups are what a cross-validated ensemble leaves out; set ensemble="cross-validated"'
                )
            return
        if self.ensemble_size < 2:
            raise ValueError(
                'ensemble="cross-validated" leaves a part of the crystals out of each network; set ensemble_size to at '
                f"least 2, it is {self.ensemble_size}"
            )
        if warm:
            raise ValueError(
                'the networks of ensemble="cross-validated" must not see what they left out, so that none goes on; set '
                "warm_start=False"
            )

    def _folds(
        self, values: np.ndarray, used: np.ndarray, groups: Any, random_state: np.random.RandomState
    ) -> list[np.ndarray]:
        """Return the rows that each network of a cross-validated ensemble leaves out."""
        if groups is not None:
            groups = check_groups(groups, len(values))[used]
        return deal_out(self.ensemble_size, used, self._strata(values[used]), groups, random_state)

    def _strata(self, values: np.ndarray) -> np.ndarray:
        return np.zeros(len(values), dtype=int)

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

    def _record_of(
        self,
        crystals: CrystalDataset,
        labels: np.ndarray,
        nets: list[CrystalNet],
        parts: list[Part],
        target: Any,
        device: str,
    ) -> TrainingRecord:
        """Return what is kept of the training crystals."""
        used, values = crystals.indices, target.learnt(crystals.y[crystals.indices])
        bare = crystals.select(used, np.empty((len(crystals.y), 0), np.float32))
        outputs, distances = np.empty((len(used), target.n_outputs_)), np.empty(len(used))
        members, surroundings = np.full(len(used), -1), []
        for member, (net, part) in enumerate(zip(nets, parts, strict=False)):
            rows = np.concatenate([part.training.indices, part.left_out])
            seen = infer(Seeing(net.module_), bare.select(rows), device, self.precision)
            vectors, predicted = np.split(seen, [-target.n_outputs_], axis=1)
            n_trained = len(part.training)
            surroundings.append(Surroundings.of(vectors[:n_trained], np.searchsorted(used, rows[:n_trained])))
            if len(part.left_out):
                left_out = np.searchsorted(used, part.left_out)
                members[left_out] = member
                outputs[left_out] = part.target.unscale(predicted[n_trained:])
                distances[left_out] = surroundings[member].distances(vectors[n_trained:])
        return TrainingRecord(
            used,
            labels[used] if labels.ndim == 2 else values,
            geometry(crystals.graphs[used], crystals.cell_features[used]),
            surroundings,
            LeftOut(members, outputs, values, distances) if (members >= 0).all() else None,
        )

    def _set_left_out(
        self, left_out: LeftOut, labels: np.ndarray, sizes: np.ndarray, rows: np.ndarray, n_crystals: int
    ) -> None:
        raise NotImplementedError

    def _forget_left_out(self) -> None:
        """Drop what a cross-validated ensemble of an earlier fit had learnt."""
        for name in ("oof_score_", "_oof"):
            self.__dict__.pop(name, None)

    def _left_out(self, asked: str) -> LeftOut:
        """Return the predictions of left-out crystals, or raise a ValueError that says what was asked of them."""
        record = getattr(self, "_record", None)
        if record is None or record.left_out is None:
            raise ValueError(
                f"{asked} takes predictions of training crystals that were left out, which this model has none of; "
                'set ensemble="cross-validated" and ensemble_size to 5, and fit again'
            )
        return record.left_out

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
        self, source: EncoderSource, graphs: CrystalGraphs, rows: np.ndarray, train_rows: np.ndarray, warm: bool
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

    def _learnt(self, state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        from crystalssl.estimators._model_files import learnt_of

        if "nets_" not in state:
            return None
        for name in state.keys() - {*self.get_params(deep=False), "_sklearn_output_config"}:
            del state[name]
        return learnt_of(self)

    def _restore(self, learnt: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        from crystalssl.estimators._model_files import restore

        restore(self, learnt, tensors)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if hasattr(self, "nets_") and not hasattr(self, "target_names_"):  # of a version in which targets had no names
            n_targets = getattr(self, "n_targets_", 1)
            self.target_names_, self.target_units_ = nameless(n_targets), [None] * n_targets

    def _check_callbacks(self) -> None:
        for callback in self.callbacks or []:
            callback = callback[1] if isinstance(callback, tuple) else callback
            if isinstance(callback, EarlyStopping) or callback is EarlyStopping:
                raise ValueError(
                    "skorch's EarlyStopping ends training as Ctrl-C does; set early_stopping=True and patience instead"
                )

    def _check_weights(self, sample_weight: Any, values: np.ndarray) -> np.ndarray:
        weights = _check_sample_weight(sample_weight, values, dtype=np.float64, ensure_non_negative=True)
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
        return random_state.permutation(rows)[: max(1, round(self.validation_fraction * len(rows)))]

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

    def _new_module(
        self, source: EncoderSource, n_outputs: int, training: CrystalDataset, device: str, seed: int
    ) -> PropertyNetwork:
        """Return a network before training; its head may see vectors on the scale of the training crystals."""
        with seeded(seed):
            encoder = source.build(readout=self.readout, pooled_layers=self.pooled_layers)
            module = PropertyNetwork(
                encoder,
                n_outputs,
                self.head_dim,
                self.dropout,
                self.freeze_encoder,
                training.cell_features[training.indices] if self.cell_features else None,
            )
        if source.is_gentle if self.standardize is None else self.standardize:
            module.standardize(infer(encoder, training, device, self.precision))
        return module

    def _description(self, member: int) -> str | None:
        """Return the title of the progress bar."""
        if not self.verbose:
            return None
        title = "finetuning" if self.pretrain is not None else "training"
        return title if self.ensemble_size == 1 else f"{title} {member + 1}/{self.ensemble_size}"

    def _outputs(self, X: Any) -> np.ndarray:
        """Return what each network of the ensemble predicts, of shape (n_networks, n_crystals, n_outputs)."""
        learnt, sizes, _ = self._apply(X)
        return np.stack([self.target_.to_unit(output, sizes) for output in learnt])

    def _apply(self, X: Any, with_distances: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what each network predicts on the scale that is learnt, sizes, and distances from its training.

        Their shapes are (n_networks, n_crystals, n_outputs), (n_crystals, 1), and (n_networks, n_crystals, 1), whose
        last axis is empty unless distances are asked for.
        """
        device = resolve_device(self.device)
        items, n_items = self._items(X)
        sizes = []
        unseen = UnseenElements(getattr(self, "trained_elements_", None))  # files of version 0.1 do not say

        def parts() -> Iterator[np.ndarray]:
            for graphs, indices in self._chunks(items, n_items, self.net_.module_.encoder.recipe, "predicting"):
                if self.elements_.size:
                    check_known_elements(graphs, set(self.elements_.tolist()), indices)
                unseen.add(graphs)
                sizes.append(self.target_.sizes(graphs, indices))
                dataset = CrystalDataset(graphs)
                yield np.stack([look(member, dataset, indices) for member in range(len(self.nets_))], axis=1)

        def look(member: int, dataset: CrystalDataset, indices: np.ndarray) -> np.ndarray:
            module = self.nets_[member].module_
            if not with_distances:
                return infer(module, dataset, device, self.precision, indices)
            seen = infer(Seeing(module), dataset, device, self.precision, indices)
            vectors, predicted = np.split(seen, [-self.target_.n_outputs_], axis=1)
            return np.column_stack([predicted, self._record.surroundings[member].distances(vectors)])

        outputs = join(parts(), n_items)
        unseen.warn(stacklevel=5)
        outputs, distances = np.split(outputs, [self.target_.n_outputs_], axis=2)
        scales = getattr(self, "_scales", [self.target_])  # files of earlier versions have one
        learnt = [scales[k % len(scales)].unscale(output) for k, output in enumerate(outputs.swapaxes(0, 1))]
        return np.stack(learnt), np.concatenate(sizes), distances.swapaxes(0, 1).astype(float)

    def save(
        self,
        folder: str | os.PathLike,
        *,
        cross_validation: Any = None,
        command: str | None = None,
        card: str | None = None,
    ) -> None:
        """Write the fitted model to a folder, from which :meth:`load` and :func:`crystalssl.load` read.

        It holds ``model.safetensors`` with all networks, ``config.json`` with the rest, and a card, ``README.md``.
        There is no pickle in it. Predictions after loading are the same to the bit. What JSON cannot say is left out,
        with a warning: callbacks; a RandomState; an embedder as `pretrain`, which is needed only to fit anew.

        Parameters
        ----------
        folder : path
            A model folder in its place is replaced, if it holds nothing else.
        cross_validation : str, dict or None, default=None
            Errors that were found by cross-validation, for the card: a text, or numbers and texts by name.
        command : str or None, default=None
            What the model was made with, for the card.
        card : str or None, default=None
            Text of README.md; None writes one: of the crystals and targets, the settings, the training, the errors,
            the versions and the command.

        Raises
        ------
        FileExistsError
            If anything else than a model folder is in the way. The message says what.
        ValueError
            If classes are neither numbers nor texts, or the encoder's class bears the name of another one.
        WeightsError
            If it cannot be written. A model that `folder` held is left.
        """
        from crystalssl.estimators._model_files import save_model

        check_is_fitted(self)
        save_model(self, folder, cross_validation, command, card)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> Any:
        """Return the fitted model that :meth:`save` wrote to a folder.

        Nothing in the folder is executed, and all of it is checked.

        Parameters
        ----------
        folder : path
            The model folder.

        Returns
        -------
        estimator
            It predicts, and with ``warm_start=True`` it is trained further.

        Raises
        ------
        WeightsError
            If there is no such folder; if it holds another estimator, or the weights of an encoder; if a file in it is
            missing, truncated or altered, or is of a newer version; if its encoder is not registered here.
        """
        from crystalssl.estimators._model_files import load_model

        return load_model(folder, cls)

    def set_output(self, *, predict: str | None = None) -> Any:
        """Choose what predictions come in, as scikit-learn's `set_output` does for transformers.

        Parameters
        ----------
        predict : {"default", "pandas", "polars"} or None, default=None
            Whether :meth:`predict` returns arrays, or frames with the columns `target_names_`; frames of pandas have
            the index of X, if that is a series or frame. None leaves the choice as it is. A clone keeps it.

        Returns
        -------
        self
        """
        if predict is not None:
            if predict not in CONTAINERS:
                raise ValueError(f"predict must be one of {sorted(CONTAINERS)}, got {predict!r}")
            self._sklearn_output_config = {"predict": predict}
        return self

    def _as_output(self, values: np.ndarray, names: Sequence[Any], X: Any) -> Any:
        """Return predictions in the container that `set_output` chose."""
        config = getattr(self, "_sklearn_output_config", {})
        return CONTAINERS[config.get("predict", "default")](values, names, X)


def _take(X: Any, rows: np.ndarray) -> Any:
    """Return some of the crystals in a list or CrystalGraphs, which is not copied if that is all of them."""
    if len(rows) == len(X):
        return X
    return X[rows] if isinstance(X, CrystalGraphs) else [X[row] for row in rows]


class WeightedLoss(nn.Module):
    """The criterion in nets of version 0.1, whose files could not be read without it. Nothing calls it."""
