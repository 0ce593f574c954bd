"""What the estimators that finetune share: the encoder, its weights and their training."""

from __future__ import annotations

import copy
import os
from dataclasses import KW_ONLY
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import _check_sample_weight
from skorch.callbacks import EarlyStopping
from torch import nn

from crystalssl._parameters import with_parameters
from crystalssl.estimators._base import (
    CrystalEstimator,
    check_known_elements,
    draw_seed,
    elements_of,
    warn_of_unseen_elements,
)
from crystalssl.estimators._network import PropertyNetwork, infer, release
from crystalssl.estimators._source import EncoderSource, fingerprint
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
)
"""Parameters that are part of a network, or of the scale that it was trained on."""

ENOUGH_LABELS = 1000
LOWEST_RATIO = 0.25
"""With fewer labels a gentle encoder learns at a lower rate, in proportion, down to this part of the head's."""


@with_parameters
class FinetunedEstimator(CrystalEstimator):
    """Base class of estimators that train an encoder and a head on labelled crystals.

    A subclass says what its labels are. `_check_y` validates them. `_new_target` returns what turns them into numbers
    for the network and its outputs into predictions, such as :class:`crystalssl.estimators._target.TargetScaler`.
    `_loss` returns the class of the torch loss that compares the two. `_set_target` keeps what was learnt about them.

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
        Networks trained from different seeds, whose predictions are averaged.
    warm_start : bool, default=False
        Go on from the networks of the last `fit`.
    callbacks : list of skorch callbacks or None, default=None
        Called during training, before those of the estimator. Each net gets a copy, found afterwards in
        ``net_.callbacks_``; one that cannot be cloned shares what it holds with its copies. They see what the net
        learns: scaled targets, or codes of classes. The sample weights are in the field ``sample_weight`` of every
        batch.
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
    warm_start: bool = False
    callbacks: list | tuple | None = None
    device: str = "auto"
    precision: str = "highest"
    n_jobs: int | None = None
    random_state: Any = None
    verbose: int = 0

    def _check_y(self, y: Any, n_crystals: int) -> np.ndarray:
        raise NotImplementedError

    def _new_target(self) -> Any:
        raise NotImplementedError

    def _loss(self) -> type[nn.Module]:
        raise NotImplementedError

    def _set_target(self, target: Any, y: Any) -> None:
        self.target_ = target

    @usual_torch()
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Finetune on labelled crystals.

        Parameters
        ----------
        X : sequence of crystals, or CrystalGraphs
            As taken by :func:`crystalssl.check_structures`.
        y : array-like of shape (n_crystals,) or (n_crystals, n_targets)
            For a regressor one or several targets, in any unit. For a classifier classes: numbers, strings or booleans.
        sample_weight : array-like of shape (n_crystals,) or None, default=None
            How much each crystal counts in the loss. Only ratios matter. A crystal of weight 0 is left out of
            everything, as if it had not been given.

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
        X = as_graphs(X)
        if len(X) < 2:
            raise ValueError(f"X holds {'one crystal' if len(X) else 'no crystals'}; training needs at least two")
        values = self._check_y(y, len(X))
        sample_weight = self._check_weights(sample_weight, values)
        rows = np.flatnonzero(sample_weight)  # the others are left out of everything
        source = EncoderSource.of(self.pretrain, self.encoder, X if len(rows) == len(X) else _take(X, rows))
        graphs = self._to_graphs(X, source.recipe)

        weight = self._weigh(sample_weight, values, rows)
        train_rows, valid_rows = self._split(values, np.flatnonzero(weight), random_state)
        weight = (weight / weight[train_rows].mean()).astype(np.float32)
        if warm:  # the scale that the head was trained on
            target = self.target_.go_on(values, train_rows, rows)
        else:
            target = self._new_target().fit(values, train_rows, rows)
        training = CrystalDataset(graphs, target.scale(values, rows), train_rows, weight)
        validation = CrystalDataset(graphs, training.y, valid_rows, weight) if len(valid_rows) else None
        settings = {**self._settings(source.is_gentle, len(training)), "device": device}

        nets = []
        for member in range(self.ensemble_size):
            seed = draw_seed(random_state)
            if warm and member < len(self.nets_):
                module = copy.deepcopy(self.nets_[member].module_).freeze(self.freeze_encoder)
            else:
                module = self._new_module(source, target.n_outputs_, training, device, derive_seed(seed, 0))
            net = fit_network(
                CrystalNet,
                module,
                training,
                validation,
                seed=derive_seed(seed, 1),
                description=self._description(member),
                # A copy for each net, as of every parameter: what a callback learns stays in the net.
                further_callbacks=copies_of(self.callbacks),
                **settings,
            )
            nets.append(release(net))
        # Nothing of a fitted estimator changes before all is done.
        self.elements_, self.trained_elements_ = self._elements(source, graphs, rows, train_rows, warm)
        self.nets_: list[CrystalNet] = nets
        self.net_ = nets[0]
        self.history_ = epochs_of(self.net_)
        self._built_with = built_with
        self._set_target(target, y)
        return self

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
            "criterion": self._loss(),
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
        graphs = self._to_graphs(X, self.net_.module_.encoder.recipe)
        if self.elements_.size:
            check_known_elements(graphs, set(self.elements_.tolist()))
        if hasattr(self, "trained_elements_"):  # files of version 0.1 do not say
            warn_of_unseen_elements(graphs, set(self.trained_elements_.tolist()), stacklevel=4)
        device = resolve_device(self.device)
        dataset = CrystalDataset(graphs)
        outputs = (infer(net.module_, dataset, device, self.precision) for net in self.nets_)
        return np.stack([self.target_.restore(output) for output in outputs])


def _take(X: CrystalGraphs | list, rows: np.ndarray) -> CrystalGraphs | list:
    return X[rows] if isinstance(X, CrystalGraphs) else [X[row] for row in rows]


class WeightedLoss(nn.Module):
    """The criterion in nets of version 0.1, whose files could not be read without it. Nothing calls it."""
