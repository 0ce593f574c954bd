"""What the estimators that finetune share: the encoder, its weights and their training."""

from __future__ import annotations

import copy
import os
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import _check_sample_weight, check_is_fitted
from skorch.callbacks import EarlyStopping
from torch import Tensor, nn

from crystalssl.encoders import ENCODERS, Encoder
from crystalssl.estimators._base import CrystalEstimator, check_known_elements, draw_seed
from crystalssl.estimators._embedder import PretrainedCrystalEmbedder
from crystalssl.estimators._network import PropertyNetwork, evaluate, release
from crystalssl.graphs import CrystalGraphs
from crystalssl.training import CrystalDataset, CrystalNet, load_encoder
from crystalssl.training._fit import epochs_of, fit_network
from crystalssl.training._net import resolve_device
from crystalssl.training._seeding import derive_seed, seeded

__all__ = ["FinetunedEstimator"]

DEFAULT_ENCODER = "gatedgcn"
"""What is trained where neither weights nor an encoder are named: the encoder of the default weights."""

ENOUGH_LABELS = 1000
LOWEST_RATIO = 0.25
"""With fewer labels a gentle encoder learns at a lower rate, in proportion, down to this part of the head's."""


class FinetunedEstimator(CrystalEstimator):
    """Base class of estimators that train an encoder and a head on labelled crystals.

    A subclass says what its labels are: `_check_y` validates them, `_new_target` returns what turns them into numbers
    for the network and its outputs into predictions (such as :class:`crystalssl.estimators._target.TargetScaler`), and
    `_pointwise_loss` compares the two, one value per crystal.
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **CrystalEstimator._parameter_constraints,
        "pretrain": [str, os.PathLike, HasMethods(["fit", "transform"]), None],
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

    pretrain: Any
    encoder: str | None
    readout: str | None
    layers: str | None
    head_dim: int
    dropout: float
    standardize: bool | None
    freeze_encoder: bool
    max_epochs: int
    batch_size: int
    learning_rate: float
    encoder_learning_rate: float | None
    weight_decay: float
    gradient_clip: float | None
    ema_decay: float
    early_stopping: bool
    validation_fraction: float
    patience: int
    ensemble_size: int
    warm_start: bool
    callbacks: list | tuple | None
    device: str
    precision: str
    random_state: Any
    verbose: int

    nets_: list[CrystalNet]
    target_: Any
    elements_: np.ndarray

    def _new_target(self) -> Any:
        raise NotImplementedError

    def _check_y(self, y: Any, n_crystals: int) -> np.ndarray:
        raise NotImplementedError

    def _pointwise_loss(self) -> nn.Module:
        raise NotImplementedError

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> None:
        self._validate_params()
        random_state = check_random_state(self.random_state)
        device = resolve_device(self.device)
        self._check_callbacks()
        warm = self.warm_start and hasattr(self, "nets_")
        weights, elements, graphs = self._pretrained(X)
        values = self._check_y(y, len(graphs))
        if len(graphs) < 2:
            raise ValueError("X holds one crystal; training needs at least two")
        sample_weight = self._check_weights(sample_weight, values)

        # A crystal without weight is left out of everything: scale of the targets, batches, held-out crystals.
        rows = np.flatnonzero(sample_weight)
        n_valid = 0
        if self.early_stopping:
            rows = random_state.permutation(rows)
            n_valid = max(1, round(self.validation_fraction * len(rows)))
            if len(rows) - n_valid < 2:
                raise ValueError(
                    f"of {len(rows)} crystals {n_valid} are held out, which leaves fewer than two to train on; lower "
                    "validation_fraction or set early_stopping=False"
                )
        train_rows, valid_rows = np.sort(rows[n_valid:]), np.sort(rows[:n_valid])
        # A warm start keeps the scale that the head was trained on.
        target = self.target_ if warm else self._new_target().fit(values, train_rows)
        weight = sample_weight / sample_weight[train_rows].mean()
        labels = np.column_stack([target.scale(values), weight]).astype(np.float32)
        training = CrystalDataset(graphs, labels, train_rows)
        validation = CrystalDataset(graphs, labels, valid_rows) if n_valid else None

        nets = []
        for member in range(self.ensemble_size):
            seed = draw_seed(random_state)
            if warm and member < len(self.nets_):
                module = copy.deepcopy(self.nets_[member].module_).freeze(self.freeze_encoder)
            else:
                module = self._build_module(weights, target.n_outputs_, seed)
                if self._gentle(module.encoder) if self.standardize is None else self.standardize:
                    module.standardize(evaluate(module.encoder, graphs[train_rows], device, self.precision))
            nets.append(self._train(module, training, validation, device, seed, member))
        # Nothing of a fitted estimator changes before all is done.
        self.nets_ = nets
        self.net_ = nets[0]
        self.history_ = epochs_of(self.net_)
        self.target_ = target
        if elements:
            elements |= set(graphs.elements) | (set(self.elements_.tolist()) if warm else set())
        self.elements_ = np.array(sorted(elements), dtype=int)

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
        return weights

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
        chosen = {"readout": self.readout, "pooled_layers": self.layers}
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
            # A copy for each net, as of every parameter: what a callback learns stays in the net.
            further_callbacks=clone(list(self.callbacks or []), safe=False),
            criterion=WeightedLoss(self._pointwise_loss()),
            optimizer__param_groups=[("encoder.*", {"lr": self._encoder_rate(module.encoder, len(training))})],
        )
        return release(net)

    def _gentle(self, encoder: Encoder) -> bool:
        return self.pretrain is not None and encoder.gentle_finetuning

    def _encoder_rate(self, encoder: Encoder, n_crystals: int) -> float:
        if self.encoder_learning_rate is not None:
            return self.encoder_learning_rate
        if not self._gentle(encoder):
            return self.learning_rate
        return self.learning_rate * min(max(n_crystals / ENOUGH_LABELS, LOWEST_RATIO), 1.0)

    def _outputs(self, X: Any) -> np.ndarray:
        """Return what each network of the ensemble predicts, of shape (n_networks, n_crystals, n_outputs)."""
        graphs = self._to_graphs(X, self.net_.module_.encoder.recipe)
        if self.elements_.size:
            check_known_elements(graphs, set(self.elements_.tolist()))
        device = resolve_device(self.device)
        outputs = (evaluate(net.module_, graphs, device, self.precision) for net in self.nets_)
        return np.stack([self.target_.restore(output) for output in outputs])


class WeightedLoss(nn.Module):
    """The mean of a loss over crystals, each with its weight, which is the last column of the labels.

    Parameters
    ----------
    loss : torch.nn.Module
        Returns one value per crystal, or per crystal and target.
    """

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.loss = loss

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch."""
        losses = self.loss(outputs, labels[:, :-1])
        return torch.mean(losses.reshape(len(labels), -1).mean(dim=1) * labels[:, -1])
