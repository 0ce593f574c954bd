"""Pretrained encoders as a scikit-learn transformer."""

from __future__ import annotations

import os
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from joblib import Memory
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted, check_memory

from crystalssl._version import __version__
from crystalssl.encoders import ENCODERS, LAYERS, READOUTS, Encoder
from crystalssl.estimators._base import CrystalEstimator, check_known_elements, draw_seed
from crystalssl.estimators._network import infer
from crystalssl.exceptions import WeightsError
from crystalssl.pretext import TASKS
from crystalssl.training import CrystalDataset, load_encoder, pretrain, save_encoder
from crystalssl.training._net import resolve_device
from crystalssl.training._precision import usual_torch
from crystalssl.training._pretrain import make_task
from crystalssl.training._seeding import seeded
from crystalssl.training._weights import state_as_numpy

__all__ = ["PretrainedCrystalEmbedder"]


class PretrainedCrystalEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, CrystalEstimator):
    """Turn crystals into vectors with an encoder that was pretrained without labels.

    With ``weights="bundled"`` nothing is trained: `fit` loads the weights that ship with the package. With
    ``weights=None``, `fit` pretrains on the crystals it is given.

    Parameters
    ----------
    method : str, default="barlow"
        Pretext task, one of those in :data:`crystalssl.pretext.TASKS`: "barlow" and "simsiam" (Crystal Twins), "cdssl",
        "spmat-simclr" and "spmat-barlow" (SPMat), "dssl", "dssl-ve" and "dssl-as" (DSSL), "joint" (the package's own),
        "simclr", "mask", "cosine", and others that are parts of these.
    encoder : str or None, default=None
        Name of the encoder; None takes the one of the method's paper.
    weights : "bundled", path or None, default="bundled"
        Weights to load: those that ship with crystalssl, a folder written by :meth:`save_pretrained`, or None to
        pretrain from random ones.
    continue_training : bool, default=False
        Go on pretraining from the loaded weights on the X given to `fit`.
    readout : {"mean", "mean+max+min", "set2set", "attention"} or None, default=None
        How `transform` pools atoms into crystals; None takes what the encoder declares as its embedding: eq. 6 of CDSSL
        for MEGNet, "mean+max+min" for CGCNN and GatedGCN. Pretraining itself pools as in the method's paper.
    layers : {"all", "last"} or None, default=None
        Whether `transform` pools the outputs of all layers side by side, or those of the last one, as pretraining does;
        None takes what the encoder declares.
    hidden_dim, n_layers : int or None, default=None
        Width and depth of the encoder, where ``weights=None``; None takes the encoder's defaults.
    encoder_params : dict or None, default=None
        Further parameters of the encoder, where ``weights=None``.
    projection_dim, perturbation, atom_masking, edge_masking : default=None
        Parameters that several methods share: width of the projections that views are compared in, displacement of
        every atom in Å, share of atoms and of edges that are masked. None takes the method's default.
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
        the very weights it would have had. It stays when training is done.
    memory : path, joblib.Memory or None, default=None
        Cache of pretrainings, keyed by the content of the corpus and all settings, so that cross-validation and grid
        search pretrain once on the same crystals.
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

    Attributes
    ----------
    encoder_ : Encoder
        The pretrained torch module, on the CPU, with the readout of pretraining.
    config_ : dict
        Method, encoder, elements and settings, as saved in config.json.
    history_ : list of dict
        Losses of each epoch of `fit`; empty if nothing was trained.
    elements_ : ndarray of int
        Atomic numbers that pretraining has seen.
    n_features_out_ : int
        Length of the vectors.

    See Also
    --------
    CrystalSSLRegressor : Finetunes the encoder together with a regression head.

    References
    ----------
    R. Magar, Y. Wang and A. Barati Farimani, npj Comput. Mater. 8, 231 (2022), doi:10.1038/s41524-022-00921-5.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from crystalssl import PretrainedCrystalEmbedder
    >>> from crystalssl.datasets import load_prototypes
    >>> X, y = load_prototypes(return_X_y=True)
    >>> PretrainedCrystalEmbedder("barlow").fit_transform(X[:10]).shape
    (10, 768)
    >>> probe = make_pipeline(PretrainedCrystalEmbedder("barlow"), StandardScaler(), Ridge())
    >>> probe.fit(X[130:200], y[130:200]).predict(X[200:210]).shape
    (10,)
    """

    _parameter_constraints: ClassVar[dict[str, list]] = {
        **CrystalEstimator._parameter_constraints,
        "method": [StrOptions(set(TASKS))],
        "weights": [str, os.PathLike, None],
        "continue_training": ["boolean"],
        "hidden_dim": [Interval(Integral, 1, None, closed="left"), None],
        "n_layers": [Interval(Integral, 1, None, closed="left"), None],
        "encoder_params": [dict, None],
        "projection_dim": [Interval(Integral, 1, None, closed="left"), None],
        "perturbation": [Interval(Real, 0, None, closed="left"), None],
        "atom_masking": [Interval(Real, 0, 1, closed="both"), None],
        "edge_masking": [Interval(Real, 0, 1, closed="both"), None],
        "task_params": [dict, None],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "checkpoint": [str, os.PathLike, None],
        "memory": [str, os.PathLike, Memory, None],
    }

    def __init__(
        self,
        method: str = "barlow",
        *,
        encoder: str | None = None,
        weights: str | os.PathLike | None = "bundled",
        continue_training: bool = False,
        readout: str | None = None,
        layers: str | None = None,
        hidden_dim: int | None = None,
        n_layers: int | None = None,
        encoder_params: dict[str, Any] | None = None,
        projection_dim: int | None = None,
        perturbation: float | None = None,
        atom_masking: float | None = None,
        edge_masking: float | None = None,
        task_params: dict[str, Any] | None = None,
        max_epochs: int = 15,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-6,
        gradient_clip: float | None = 1.0,
        validation_fraction: float = 0.05,
        checkpoint: str | os.PathLike | None = None,
        memory: Any = None,
        device: str = "auto",
        precision: str = "highest",
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.method = method
        self.encoder = encoder
        self.weights = weights
        self.continue_training = continue_training
        self.readout = readout
        self.layers = layers
        self.hidden_dim = hidden_dim
        self.n_layers = n_layers
        self.encoder_params = encoder_params
        self.projection_dim = projection_dim
        self.perturbation = perturbation
        self.atom_masking = atom_masking
        self.edge_masking = edge_masking
        self.task_params = task_params
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.gradient_clip = gradient_clip
        self.validation_fraction = validation_fraction
        self.checkpoint = checkpoint
        self.memory = memory
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @usual_torch()
    def fit(self, X: Any, y: Any = None) -> PretrainedCrystalEmbedder:
        """Load the weights, or pretrain on X.

        Parameters
        ----------
        X : sequence of crystals, or CrystalGraphs
            The corpus, as taken by :func:`crystalssl.check_structures`. Not used where weights are only loaded.
        y : array-like of shape (n_crystals,) or (n_crystals, n_properties), default=None
            For methods that learn from labels: surrogate classes of any kind for "spmat-simclr" and "spmat-barlow", -1
            where unknown, for example from :func:`crystalssl.pretext.surrogate_classes`; known properties for "joint",
            NaN where unknown. Other methods ignore it.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the encoder lacks what the method needs, labels are missing or do not fit, or the elements of the corpus
            leave the method nothing to learn from; all before any training starts.
        WeightsError
            If `weights` cannot be loaded.
        """
        self._validate_params()
        if y is not None:
            check_consistent_length(X, y)
        loaded, config = (None, {}) if self.weights is None else self._load(self.weights)
        if loaded is None or self.continue_training:
            return self._set_fitted(*self._pretrain(X, y, loaded, config.get("elements", ())))
        return self._set_fitted(loaded, config, [])

    def _load(self, weights: str | os.PathLike) -> tuple[Encoder, dict[str, Any]]:
        source = self.method if weights == "bundled" else weights
        encoder, config = load_encoder(source)
        if self.encoder not in (None, encoder.name):
            raise ValueError(f"the weights {str(source)!r} are of the encoder {encoder.name!r}, not {self.encoder!r}")
        return encoder, config

    def _pretrain(
        self, X: Any, y: Any, start: Encoder | None, known: Iterable[int]
    ) -> tuple[Encoder, dict[str, Any], list[dict[str, Any]]]:
        """Return encoder, config and history of pretraining on X, from an encoder that knows some elements or none."""
        task = TASKS[self.method]
        if start is None:
            name = self.encoder or task.encoder_name
            params = _given(hidden_dim=self.hidden_dim, n_layers=self.n_layers) | (self.encoder_params or {})
        else:
            name, params = start.name, start.config
        labels = task.encode_labels(y)
        task_params = _given(
            projection_dim=self.projection_dim,
            perturbation=self.perturbation,
            atom_masking=self.atom_masking,
            edge_masking=self.edge_masking,
        ) | (self.task_params or {})
        if task.n_labels_param is not None:
            task_params[task.n_labels_param] = 0 if labels is None else labels.shape[1]
        with seeded(0):  # initial weights must not move torch's global generator
            probe = make_task(self.method, name, params, task_params)
        graphs = self._to_graphs(X, ENCODERS[name].recipe)
        if len(graphs) < 4:
            raise ValueError(f"pretraining compares crystals: {len(graphs)} are too few, give at least 4")
        probe.check_elements(graphs.elements)
        settings: dict[str, Any] = {
            "task_params": task_params,
            "max_epochs": int(self.max_epochs),
            "batch_size": int(self.batch_size),
            "learning_rate": float(self.learning_rate),
            "weight_decay": float(self.weight_decay),
            "gradient_clip": self.gradient_clip,
            "validation_fraction": float(self.validation_fraction),
            "seed": draw_seed(check_random_state(self.random_state)),
            "precision": self.precision,
        }
        memory = os.fspath(self.memory) if isinstance(self.memory, os.PathLike) else self.memory
        cached = check_memory(memory).cache(pretrain, ignore=["checkpoint", "verbose"])
        state, history = cached(
            graphs,
            labels,
            method=self.method,
            encoder=name,
            encoder_params=params,
            encoder_state=None if start is None else state_as_numpy(start),
            device=resolve_device(self.device),
            checkpoint=None if self.checkpoint is None else os.fspath(self.checkpoint),
            verbose=self.verbose,
            **settings,
        )
        encoder = probe.encoder
        encoder.load_state_dict({key: torch.from_numpy(np.asarray(value)) for key, value in state.items()})
        elements = sorted({*graphs.elements, *known})
        return encoder, {"method": self.method, "elements": elements, "n_crystals": len(graphs), **settings}, history

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # there is none to preserve; the vectors are float32
        return tags

    def _set_fitted(self, encoder: Any, config: dict[str, Any], history: list) -> PretrainedCrystalEmbedder:
        self.encoder_ = encoder.eval()
        self.config_ = config
        self.elements_ = np.array(config["elements"])
        self.history_ = history
        self.n_features_out_ = self._n_features_out = self._embedding().graph_dim
        return self

    def _embedding(self) -> Encoder:
        """Return the encoder with the readout of `transform`; the one of pretraining may be good for training only."""
        chosen = _given(readout=self.readout, layers=self.layers)
        with seeded(0):
            encoder = type(self.encoder_)(**{**self.encoder_.config, **self.encoder_.frozen_pooling, **chosen})
        encoder.load_pretrained(self.encoder_.state_dict())
        return encoder

    @usual_torch()
    def transform(self, X: Any) -> np.ndarray:
        """Return the crystals' vectors.

        Parameters
        ----------
        X : sequence of crystals, or CrystalGraphs
            As taken by :func:`crystalssl.check_structures`.

        Returns
        -------
        ndarray of shape (n_crystals, n_features_out), float32

        Raises
        ------
        InvalidStructureError
            If a crystal is invalid or holds an element that pretraining has never seen.
        """
        check_is_fitted(self)
        graphs = self._to_graphs(X, self.encoder_.recipe)
        check_known_elements(graphs, set(self.elements_.tolist()))
        return infer(self._embedding(), CrystalDataset(graphs), resolve_device(self.device), self.precision)

    def save_pretrained(self, folder: str | os.PathLike, *, card: str | None = None) -> None:
        """Write the weights to a folder, from which :meth:`from_pretrained` and ``weights=folder`` read.

        Parameters
        ----------
        folder : path
            A weights folder in its place is replaced.
        card : str or None, default=None
            Text of the folder's README.md; None writes the settings.
        """
        check_is_fitted(self)
        if card is None:
            lines = [f"- {key}: {value}" for key, value in self.config_.items() if key not in ("elements", "sha256")]
            card = "\n".join([f"# {self.config_['method']}, {self.encoder_.name}", "", *lines, ""])
        embedding = {"readout": self.readout, "layers": self.layers}
        save_encoder(folder, self.encoder_, {"version": __version__, **self.config_, "embedding": embedding}, card)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike, **params: Any) -> PretrainedCrystalEmbedder:
        """Return a fitted embedder with the weights of a folder.

        Parameters
        ----------
        folder : path
            Written by :meth:`save_pretrained`.
        **params
            Parameters of the constructor.

        Returns
        -------
        PretrainedCrystalEmbedder

        Raises
        ------
        WeightsError
            If the folder is incomplete or was altered.
        """
        _, config = load_encoder(folder)
        embedding = config.get("embedding", {})
        saved = {"method": config["method"], **(embedding if isinstance(embedding, dict) else {"embedding": embedding})}
        choices: dict[str, tuple] = {"method": (*TASKS,), "readout": (*READOUTS, None), "layers": (*LAYERS, None)}
        for name, value in saved.items():
            if value not in choices.get(name, ()):
                raise WeightsError(f"the config.json of {folder} has {name} = {value!r}, which this version cannot use")
        params = {**saved, **params}
        return cls(weights=os.fspath(folder), **params).fit([])


def _given(**params: Any) -> dict[str, Any]:
    """Return the parameters that were given a value."""
    return {name: value for name, value in params.items() if value is not None}
