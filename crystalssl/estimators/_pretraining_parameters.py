"""What a user can set of the embedder."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY
from numbers import Integral, Real
from typing import Any, ClassVar

from joblib import Memory
from sklearn.utils._param_validation import Interval

from crystalssl._parameters import with_parameters
from crystalssl.augment import Augmentation
from crystalssl.estimators._base import CrystalEstimator
from crystalssl.pretext import PretextTask

__all__ = ["PretrainingParameters"]


@with_parameters
class PretrainingParameters(CrystalEstimator):
    """Base class of the estimator that pretrains an encoder: its parameters.

    Parameters
    ----------
    method : str, PretextTask or type, default="joint"
        Pretext task: its name, its class, or an instance as a template. The names are those in
        :data:`crystalssl.pretext.TASKS`: "joint" (the package's own), "barlow" and "simsiam" (Crystal Twins), "cdssl",
        "spmat-simclr" and "spmat-barlow" (SPMat), "dssl", "dssl-ve" and "dssl-as" (DSSL), "simclr", "byol", "mask",
        "cosine", "composite", others that are parts of these, and those that were registered.
    encoder : str, Encoder, type or None, default=None
        Encoder: its name, its class, or an instance as a template, whose weights are not used. None takes the one of
        the method's paper.
    weights : "bundled", path or None, default="bundled"
        Weights to load: those of the method that ship with crystalssl, a folder written by :meth:`save_pretrained`, or
        None to pretrain from random ones. A folder called "bundled", or by the name of a method, is ``"./bundled"``.
    continue_training : bool, default=False
        Go on pretraining from the loaded weights on the X given to `fit`.
    readout : {"mean", "mean+max+min", "set2set", "attention"} or None, default=None
        How `transform` pools atoms into crystals; None takes what the encoder declares as its embedding: eq. 6 of CDSSL
        for MEGNet, "mean+max+min" for CGCNN and GatedGCN. Pretraining itself pools as in the method's paper.
    pooled_layers : {"all", "last"} or None, default=None
        Whether `transform` pools the outputs of all layers side by side, or those of the last one, as pretraining does;
        None takes what the encoder declares.
    hidden_dim, n_layers : int or None, default=None
        Width and depth of the encoder, where ``weights=None``; None takes the encoder's defaults. They are refused
        where weights of another width or depth are loaded.
    encoder_params : dict or None, default=None
        Further parameters of the encoder, likewise.
    projection_dim, perturbation, atom_masking, edge_masking : default=None
        Parameters that several methods share: width of the projections that views are compared in, displacement of
        every atom in Å, share of atoms and of edges that are masked. None takes the method's default. They are refused
        where they have no effect, as are `views` and `task_params`.
    views : str, Augmentation, type, list of these, pair of lists, or None, default=None
        How the views are made, for methods that compare two: augmentations, by name, class or instance, in the order of
        application; two lists make two different views. It replaces `perturbation`, `atom_masking` and `edge_masking`.
        None takes the method's own.
    task_params : dict or None, default=None
        Further parameters of the method, e.g. ``{"sigma": 0.1}`` of CDSSL.
    max_epochs : int, default=15
        Passes over the corpus.
    batch_size : int, default=128
        Crystals per step; Crystal Twins has 64.
    learning_rate : float, default=1e-3
        Peak rate of AdamW, after a linear warm-up and before a cosine decay. Crystal Twins has 1e-5, for a corpus 15
        times larger than the one of the bundled weights.
    weight_decay : float, default=1e-6
        Of AdamW.
    gradient_clip : float or None, default=1.0
        Largest norm of the gradient.
    validation_fraction : float, default=0.05
        Share of the corpus on which the loss is followed; the weights of the best epoch are kept. 0 keeps the last,
        and so does a share of fewer than two crystals, which could not be compared.
    checkpoint : path or None, default=None
        File to which the state of pretraining is saved after every epoch, and from which an interrupted one goes on to
        the very weights it would have had. SIGTERM, which schedulers send before they take a machine away, ends the
        process after the state was saved within the epoch. The file stays when training is done.
    memory : path, joblib.Memory or None, default=None
        Cache of pretrainings, keyed by the content of the corpus and all settings, so that cross-validation and grid
        search pretrain once on the same crystals. Of classes that other people bring, their own methods are part of the
        key, and what these call is not: clear the cache when that changes.
    device : str, default="auto"
        Torch device; "auto" is the GPU if there is one.
    precision : {"highest", "high", "medium"}, default="highest"
        How exactly matrices are multiplied, as in :func:`torch.set_float32_matmul_precision`, which is set for the
        length of the call only. "high" allows TensorFloat-32 on GPUs that have it, "medium" bfloat16 on CPUs: faster
        for wide networks, with relative errors of some 1e-3 in the vectors.
    n_jobs : int or None, default=None
        Processes that turn structures into graphs.
    random_state : int, RandomState instance or None, default=None
        Seed of initial weights, validation split, shuffling and views.
    verbose : int, default=0
        1 shows a progress bar.
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **CrystalEstimator._parameter_constraints,
        "method": [str, PretextTask, type],  # whether there is such a name is known where it is used
        "weights": [str, os.PathLike, None],
        "continue_training": ["boolean"],
        "hidden_dim": [Interval(Integral, 1, None, closed="left"), None],
        "n_layers": [Interval(Integral, 1, None, closed="left"), None],
        "encoder_params": [dict, None],
        "projection_dim": [Interval(Integral, 1, None, closed="left"), None],
        "perturbation": [Interval(Real, 0, None, closed="left"), None],
        "atom_masking": [Interval(Real, 0, 1, closed="both"), None],
        "edge_masking": [Interval(Real, 0, 1, closed="both"), None],
        "views": [str, Augmentation, type, dict, list, tuple, None],
        "task_params": [dict, None],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "checkpoint": [str, os.PathLike, None],
        "memory": [str, os.PathLike, Memory, None],
    }

    method: Any = "joint"
    _: KW_ONLY
    encoder: Any = None
    weights: str | os.PathLike | None = "bundled"
    continue_training: bool = False
    readout: str | None = None
    pooled_layers: str | None = None
    hidden_dim: int | None = None
    n_layers: int | None = None
    encoder_params: dict[str, Any] | None = None
    projection_dim: int | None = None
    perturbation: float | None = None
    atom_masking: float | None = None
    edge_masking: float | None = None
    views: Any = None
    task_params: dict[str, Any] | None = None
    max_epochs: int = 15
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-6
    gradient_clip: float | None = 1.0
    validation_fraction: float = 0.05
    checkpoint: str | os.PathLike | None = None
    memory: Any = None
    device: str = "auto"
    precision: str = "highest"
    n_jobs: int | None = None
    random_state: Any = None
    verbose: int = 0
