"""Finetuning as a scikit-learn regressor."""

from __future__ import annotations

import copy
import os
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from crystalssl.encoders import ENCODERS, LAYERS, READOUTS, Encoder
from crystalssl.estimators._base import CrystalEstimator, check_known_elements, draw_seed
from crystalssl.estimators._embedder import PretrainedCrystalEmbedder
from crystalssl.estimators._network import PropertyNetwork, evaluate, release
from crystalssl.estimators._target import TargetScaler, check_y
from crystalssl.graphs import CrystalGraphs
from crystalssl.training import CrystalDataset, CrystalNet, load_encoder
from crystalssl.training._fit import epochs_of, fit_network
from crystalssl.training._net import resolve_device
from crystalssl.training._precision import PRECISIONS
from crystalssl.training._seeding import derive_seed, seeded

__all__ = ["CrystalSSLRegressor"]

DEFAULT_ENCODER = "gatedgcn"
"""What is trained where neither weights nor an encoder are named: the encoder of the default weights."""

_LOSSES: dict[str, type[nn.Module]] = {"l1": nn.L1Loss, "mse": nn.MSELoss, "huber": nn.SmoothL1Loss}


class CrystalSSLRegressor(RegressorMixin, CrystalEstimator):
    """Predict properties of crystals by finetuning a pretrained encoder.

    Parameters
    ----------
    pretrain : str, path, PretrainedCrystalEmbedder, FrozenEstimator or None, default="joint"
        Where the encoder's weights come from: a method whose weights ship with crystalssl
        (:func:`crystalssl.training.bundled_weights` lists them), a weights folder, an embedder (cloned and fitted on X;
        a fitted one goes in as ``FrozenEstimator(embedder)``), or None for random weights.
    encoder : str or None, default=None
        Name of the encoder where ``pretrain=None``; None is "gatedgcn". With pretrained weights it must be theirs.
    readout : {"mean", "mean+max+min", "set2set", "attention"} or None, default=None
        How atoms are pooled into crystals; None takes what the encoder declares for finetuning.
    layers : {"all", "last"} or None, default=None
        Pool the outputs of all layers side by side, so that the head sees what an atom is beside what surrounds it, or
        those of the last one; None takes what the encoder declares.
    head_dim : int, default=128
        Width of the hidden layer between the crystal's vector and the prediction.
    dropout : float, default=0.0
        Dropout in the head.
    freeze_encoder : bool, default=False
        Train the head only.
    loss : {"l1", "mse", "huber"}, default="l1"
        Loss of the scaled targets.
    target_transform : {"auto", "log", None}, default="auto"
        "log" learns the logarithm of the target; "auto" does so if the training values are all positive and span more
        than a decade between their 5th and 95th percentiles. Either way targets are standardised on training rows.
    max_epochs : int, default=100
        Passes over the training crystals.
    batch_size : int, default=32
        Crystals per step.
    learning_rate : float, default=2e-3
        Peak rate of AdamW, after a linear warm-up over a tenth of the steps and before a cosine decay.
    encoder_learning_rate : float or None, default=None
        Peak rate of the encoder's weights; None is `learning_rate`.
    weight_decay : float, default=0.01
        Of AdamW.
    gradient_clip : float or None, default=1.0
        Largest norm of the gradient.
    ema_decay : float, default=0.995
        Predictions use an exponential moving average of the weights with this decay per step; 0 uses the weights.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the training crystals, stop when their loss has not improved for `patience`
        epochs, and restore the best epoch.
    validation_fraction : float, default=0.1
        Share held out if `early_stopping`.
    patience : int, default=20
        Epochs without improvement.
    ensemble_size : int, default=1
        Networks trained from different seeds, whose predictions are averaged.
    warm_start : bool, default=False
        Go on from the networks of the last `fit`.
    device : str, default="auto"
        Torch device; "auto" is the GPU if there is one.
    precision : {"highest", "high", "medium"}, default="highest"
        How exactly matrices are multiplied, as in :func:`torch.set_float32_matmul_precision`, which is set for the
        length of the call only. "high" allows TensorFloat-32 on GPUs that have it, "medium" bfloat16 on CPUs: faster
        for wide networks, with relative errors of some 1e-3 in predictions.
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
    n_targets_ : int
        Number of targets.
    elements_ : ndarray of int
        Atomic numbers that pretraining or training has seen; empty if any are allowed (``pretrain=None``).

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
    >>> model.fit(X[130:180], y[130:180]).predict(X[180:190]).shape
    (10,)
    """

    _parameter_constraints = {
        "pretrain": [str, os.PathLike, HasMethods(["fit", "transform"]), None],
        "encoder": [StrOptions(set(ENCODERS)), None],
        "readout": [StrOptions(set(READOUTS)), None],
        "layers": [StrOptions(set(LAYERS)), None],
        "head_dim": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "freeze_encoder": ["boolean"],
        "loss": [StrOptions(set(_LOSSES))],
        "target_transform": [StrOptions({"auto", "log"}), None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "encoder_learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "gradient_clip": [Interval(Real, 0, None, closed="neither"), None],
        "ema_decay": [Interval(Real, 0, 1, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "ensemble_size": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "device": [str],
        "precision": [StrOptions(set(PRECISIONS))],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    nets_: list[CrystalNet]
    scaler_: TargetScaler
    n_targets_: int
    elements_: np.ndarray

    def __init__(
        self,
        pretrain: Any = "joint",
        *,
        encoder: str | None = None,
        readout: str | None = None,
        layers: str | None = None,
        head_dim: int = 128,
        dropout: float = 0.0,
        freeze_encoder: bool = False,
        loss: str = "l1",
        target_transform: str | None = "auto",
        max_epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 2e-3,
        encoder_learning_rate: float | None = None,
        weight_decay: float = 0.01,
        gradient_clip: float | None = 1.0,
        ema_decay: float = 0.995,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 20,
        ensemble_size: int = 1,
        warm_start: bool = False,
        device: str = "auto",
        precision: str = "highest",
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.pretrain = pretrain
        self.encoder = encoder
        self.readout = readout
        self.layers = layers
        self.head_dim = head_dim
        self.dropout = dropout
        self.freeze_encoder = freeze_encoder
        self.loss = loss
        self.target_transform = target_transform
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.encoder_learning_rate = encoder_learning_rate
        self.weight_decay = weight_decay
        self.gradient_clip = gradient_clip
        self.ema_decay = ema_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.ensemble_size = ensemble_size
        self.warm_start = warm_start
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> CrystalSSLRegressor:
        """Finetune on labelled crystals.

        Parameters
        ----------
        X : sequence of crystals, or CrystalGraphs
            As taken by :func:`crystalssl.check_structures`.
        y : array-like of shape (n_crystals,) or (n_crystals, n_targets)
            Targets, in any unit.

        Returns
        -------
        self

        Raises
        ------
        InvalidStructureError
            If a crystal is invalid.
        WeightsError
            If the weights named by `pretrain` cannot be loaded.
        """
        self._validate_params()
        random_state = check_random_state(self.random_state)
        device = resolve_device(self.device)
        warm = self.warm_start and hasattr(self, "nets_")
        weights, elements, graphs = self._pretrained(X)
        values = check_y(y, len(graphs))
        if len(graphs) < 2:
            raise ValueError("X holds one crystal; training needs at least two")

        rows = np.arange(len(graphs))
        n_valid = 0
        if self.early_stopping:
            rows = random_state.permutation(rows)
            n_valid = max(1, round(self.validation_fraction * len(graphs)))
            if len(graphs) - n_valid < 2:
                raise ValueError(
                    f"of {len(graphs)} crystals {n_valid} are held out, which leaves fewer than two to train on; lower "
                    "validation_fraction or set early_stopping=False"
                )
        train_rows, valid_rows = np.sort(rows[n_valid:]), np.sort(rows[:n_valid])
        if warm and values.shape[1] != self.n_targets_:
            raise ValueError(
                f"y has {values.shape[1]} targets but the last fit had {self.n_targets_}; warm_start=True goes on with "
                "the same targets"
            )
        # A warm start keeps the scale that the head was trained on.
        scaler = self.scaler_ if warm else TargetScaler(self.target_transform).fit(values, train_rows)
        scaled = scaler.scale(values)
        training = CrystalDataset(graphs, scaled, train_rows)
        validation = CrystalDataset(graphs, scaled, valid_rows) if n_valid else None

        nets = []
        for member in range(self.ensemble_size):
            seed = draw_seed(random_state)
            if warm and member < len(self.nets_):
                module = copy.deepcopy(self.nets_[member].module_).freeze(self.freeze_encoder)
            else:
                module = self._build_module(weights, values.shape[1], seed)
            nets.append(self._train(module, training, validation, device, seed, member))
        # Nothing of a fitted estimator changes before all is done.
        self.nets_ = nets
        self.net_ = nets[0]
        self.history_ = epochs_of(self.net_)
        self.scaler_ = scaler
        self.n_targets_ = values.shape[1]
        self.single_target_ = np.ndim(y) == 1
        if elements:
            elements |= set(graphs.elements) | (set(self.elements_.tolist()) if warm else set())
        self.elements_ = np.array(sorted(elements), dtype=int)
        return self

    def _pretrained(self, X: Any) -> tuple[Any, set[int], CrystalGraphs]:
        """Return a factory of encoders, the elements that its weights have seen, and the graphs of X."""
        source = self.pretrain
        if source is None:
            encoder_class = ENCODERS[self.encoder or DEFAULT_ENCODER]
            graphs = self._to_graphs(X, encoder_class.recipe)
            return lambda: encoder_class(**self._pooling(encoder_class)), set(), graphs
        if isinstance(source, (str, os.PathLike)):
            loaded, config = load_encoder(source)
            graphs = self._to_graphs(X, loaded.recipe)
            elements = set(config["elements"])
        else:
            embedder = source.estimator if isinstance(source, FrozenEstimator) else source
            if not isinstance(embedder, PretrainedCrystalEmbedder):
                raise TypeError(
                    f"pretrain is a {type(embedder).__name__}; expected None, the name of a method, a weights folder, "
                    "a PretrainedCrystalEmbedder or a FrozenEstimator of one"
                )
            if embedder is source:
                source = clone(source).fit(X)
            check_is_fitted(source)
            loaded = source.encoder_
            graphs = self._to_graphs(X, loaded.recipe)
            elements = set(source.elements_.tolist())
        if self.encoder not in (None, loaded.name):
            raise ValueError(
                f"the pretrained weights are of the encoder {loaded.name!r}, not {self.encoder!r}; leave encoder=None"
            )

        def build() -> Encoder:
            encoder = type(loaded)(**{**loaded.config, **self._pooling(type(loaded))})
            encoder.load_pretrained(loaded.state_dict())
            return encoder

        return build, elements, graphs

    def _pooling(self, encoder_class: type[Encoder]) -> dict[str, str]:
        chosen = {"readout": self.readout, "layers": self.layers}
        return {**encoder_class.pooling, **{name: value for name, value in chosen.items() if value is not None}}

    def _build_module(self, build_encoder: Any, n_targets: int, seed: int) -> PropertyNetwork:
        with seeded(derive_seed(seed, 0)):
            return PropertyNetwork(build_encoder(), n_targets, self.head_dim, self.dropout, self.freeze_encoder)

    def _train(self, module, training, validation, device: str, seed: int, member: int) -> CrystalNet:
        description = None
        if self.verbose:
            description = "finetuning" if self.pretrain is not None else "training"
            if self.ensemble_size > 1:
                description += f" {member + 1}/{self.ensemble_size}"
        encoder_rate = self.learning_rate if self.encoder_learning_rate is None else self.encoder_learning_rate
        net = fit_network(
            CrystalNet,
            module,
            training,
            validation,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            gradient_clip=self.gradient_clip,
            device=device,
            precision=self.precision,
            seed=derive_seed(seed, 1),
            ema_decay=self.ema_decay,
            patience=self.patience,
            description=description,
            criterion=_LOSSES[self.loss],
            optimizer__param_groups=[("encoder.*", {"lr": encoder_rate})],
        )
        return release(net)

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
        graphs = self._to_graphs(X, self.net_.module_.encoder.recipe)
        if self.elements_.size:
            check_known_elements(graphs, set(self.elements_.tolist()))
        device = resolve_device(self.device)
        outputs = (evaluate(net.module_, graphs, device, self.precision) for net in self.nets_)
        members = np.stack([self.scaler_.restore(output) for output in outputs])
        if self.single_target_:
            members = members[:, :, 0]
        mean = members.mean(axis=0)
        return (mean, members.std(axis=0, ddof=1)) if return_std else mean

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
