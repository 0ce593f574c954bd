"""Finetuning as a scikit-learn classifier."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_sample_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from crystalssl.estimators._finetuning import FinetunedEstimator
from crystalssl.estimators._target import ClassCodes, check_classes

__all__ = ["CrystalSSLClassifier"]


class CrystalSSLClassifier(ClassifierMixin, FinetunedEstimator):
    """Classify crystals by finetuning a pretrained encoder.

    Parameters
    ----------
    pretrain : str, path, PretrainedCrystalEmbedder, FrozenEstimator or None, default="joint"
        Where the encoder's weights come from: a method whose weights ship with crystalssl
        (:func:`crystalssl.training.bundled_weights` lists them), a weights folder, an embedder (cloned and fitted on X;
        a fitted one goes in as ``FrozenEstimator(embedder)``), or None for random weights. A method's name that is also
        a weights folder in the working directory means that folder, with a warning; ``"./joint"`` is always a folder.
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
    standardize : bool or None, default=None
        Have the head see the vectors of the encoder standardised, by what they are for the training crystals before
        training. None does so for pretrained encoders that declare it, which GatedGCN does.
    freeze_encoder : bool, default=False
        Train the head only.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes in the loss, by label; "balanced" weighs a class inversely to how often it occurs.
    max_epochs : int, default=100
        Passes over the training crystals.
    batch_size : int, default=32
        Crystals per step.
    learning_rate : float, default=2e-3
        Peak rate of AdamW, after a linear warm-up over a tenth of the steps and before a cosine decay.
    encoder_learning_rate : float or None, default=None
        Peak rate of the encoder's weights; None is `learning_rate`. Where a pretrained encoder declares it, as GatedGCN
        does, None is lower for fewer than 1,000 training crystals, in proportion to their number, down to a quarter.
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
    callbacks : list of skorch callbacks or None, default=None
        Called during training, before those of the estimator. Each net gets a copy, found afterwards in
        ``net_.callbacks_``. They see what the net learns: scaled targets, and in a last column the sample weights.
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
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    net_ : skorch.NeuralNet
        The (first) fitted net; ``net_.module_`` is the torch module.
    nets_ : list of skorch.NeuralNet
        All nets of the ensemble.
    history_ : list of dict
        Losses of each epoch of the first net.
    elements_ : ndarray of int
        Atomic numbers that pretraining or training has seen; empty if any are allowed (``pretrain=None``).

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

    def __init__(
        self,
        pretrain: Any = "joint",
        *,
        encoder: str | None = None,
        readout: str | None = None,
        layers: str | None = None,
        head_dim: int = 128,
        dropout: float = 0.0,
        standardize: bool | None = None,
        freeze_encoder: bool = False,
        class_weight: dict | str | None = None,
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
        callbacks: list | tuple | None = None,
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
        self.standardize = standardize
        self.freeze_encoder = freeze_encoder
        self.class_weight = class_weight
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
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CrystalSSLClassifier:
        """Finetune on labelled crystals.

        Parameters
        ----------
        X : sequence of crystals, or CrystalGraphs
            As taken by :func:`crystalssl.check_structures`.
        y : array-like of shape (n_crystals,)
            Classes: numbers, strings or booleans.
        sample_weight : array-like of shape (n_crystals,) or None, default=None
            How much each crystal counts in the loss, times the weight of its class; a crystal of weight 0 is left out.

        Returns
        -------
        self

        Raises
        ------
        InvalidStructureError
            If a crystal is invalid.
        ValueError
            If there are fewer than two classes.
        WeightsError
            If the weights named by `pretrain` cannot be loaded.
        """
        self._fit(X, y, sample_weight)
        self.classes_ = self.target_.encoder_.classes_
        return self

    def _new_target(self) -> ClassCodes:
        return ClassCodes()

    def _check_y(self, y: Any, n_crystals: int) -> np.ndarray:
        return check_classes(y, n_crystals)

    def _check_weights(self, sample_weight: Any, values: np.ndarray) -> np.ndarray:
        return super()._check_weights(sample_weight, values) * compute_sample_weight(self.class_weight, values)

    def _pointwise_loss(self) -> nn.Module:
        return _CrossEntropy()

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of the classes, averaged over the ensemble.

        Parameters
        ----------
        X : sequence of crystals, or CrystalGraphs
            As taken by :func:`crystalssl.check_structures`.

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
            As taken by :func:`crystalssl.check_structures`.

        Returns
        -------
        ndarray of shape (n_crystals,)
        """
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]


class _CrossEntropy(nn.Module):
    def forward(self, outputs: Tensor, codes: Tensor) -> Tensor:
        return cross_entropy(outputs, codes[:, 0].long(), reduction="none")
