"""What a user can set of the estimators that finetune."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY
from numbers import Integral, Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from crystalssl._parameters import with_parameters
from crystalssl.estimators._base import CrystalEstimator

__all__ = ["FinetuningParameters"]


@with_parameters
class FinetuningParameters(CrystalEstimator):
    """Base class of estimators that train an encoder and a head on labelled crystals: their parameters.

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
        errors of other crystals are to be expected. It takes no longer than "seeds". Five networks of ``max_epochs=40``
        take 1.6 times as long as one of 100.
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
