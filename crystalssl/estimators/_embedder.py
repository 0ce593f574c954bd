"""Pretrained encoders as a scikit-learn transformer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from joblib import Memory
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_consistent_length, check_is_fitted, check_memory

from crystalssl._config import to_json
from crystalssl._parameters import with_parameters
from crystalssl.augment import Augmentation
from crystalssl.encoders import ENCODERS, Encoder, resolve_encoder
from crystalssl.estimators._base import CrystalEstimator, check_encoder, check_known_elements, draw_seed, join
from crystalssl.estimators._embedder_files import read_embedder, save_embedder
from crystalssl.estimators._network import infer
from crystalssl.estimators._plain_state import PlainState
from crystalssl.pretext import PretextTask, resolve_task
from crystalssl.training import CrystalDataset, load_encoder, pretrain
from crystalssl.training._net import resolve_device
from crystalssl.training._precision import usual_torch
from crystalssl.training._pretrain import key_of, make_task
from crystalssl.training._seeding import seeded
from crystalssl.training._weights import build_encoder, bundled_folder, state_as_numpy

__all__ = ["PretrainedCrystalEmbedder"]


@with_parameters
class PretrainedCrystalEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, PlainState, CrystalEstimator):
    """Turn crystals into vectors with an encoder that was pretrained without labels.

    With ``weights="bundled"`` nothing is trained: `fit` loads the weights that ship with the package. With
    ``weights=None``, `fit` pretrains on the crystals it is given.

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
        the very weights it would have had. It stays when training is done.
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

    Attributes
    ----------
    encoder_ : Encoder
        The pretrained torch module, on the CPU, with the readout of pretraining.
    embedding_ : Encoder
        The same with the readout of `transform`.
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
            NaN where unknown, or a DataFrame of them with the columns "forces" and "virial" (see
            :class:`crystalssl.pretext.Forces`). Other methods ignore it.

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
        if self.weights is None:
            return self._set_fitted(*self._pretrain(X, y, None, ()))
        loaded, config = self._load(self.weights)
        if self.continue_training:
            return self._set_fitted(*self._pretrain(X, y, loaded, config["elements"]))
        for name, value in self._task_params().items():
            raise ValueError(
                f"{name}={value!r} has no effect where weights are loaded and not trained; leave it out, or set "
                "weights=None or continue_training=True"
            )
        return self._set_fitted(loaded, config, [])

    def _load(self, weights: str | os.PathLike) -> tuple[Encoder, dict[str, Any]]:
        folder = bundled_folder(resolve_task(self.method).name) if weights == "bundled" else weights
        encoder, config = load_encoder(folder)
        check_encoder(encoder.name, encoder.config, self.encoder, **self._encoder_params())
        return encoder, config

    def _encoder_params(self) -> dict[str, Any]:
        return _given(hidden_dim=self.hidden_dim, n_layers=self.n_layers) | (self.encoder_params or {})

    def _task_params(self) -> dict[str, Any]:
        names = ("projection_dim", "perturbation", "atom_masking", "edge_masking", "views")
        return _given(**{name: getattr(self, name) for name in names}) | (self.task_params or {})

    def _template(self, y: Any) -> tuple[PretextTask, Any]:
        """Return the task without weights, and the labels that it learns from."""
        task = resolve_task(self.method, **self._task_params())
        labels = task.encode_labels(y)
        params = task.label_params(labels)
        for name, value in params.items():
            if task.config[name] not in (0, value):
                raise ValueError(
                    f"{name}={task.config[name]!r}, but the labels make it {value!r}; leave it out, it follows from y"
                )
        return resolve_task(task, **params) if params else task, labels

    def _pretrain(
        self, X: Any, y: Any, start: Encoder | None, known: Iterable[int]
    ) -> tuple[Encoder, dict[str, Any], list[dict[str, Any]]]:
        """Return encoder, config and history of pretraining on X, from an encoder that knows some elements or none."""
        template, labels = self._template(y)
        if start is None:
            encoder_class, params = resolve_encoder(self.encoder or template.encoder_name)
            params, state = {**params, **self._encoder_params()}, None
        else:
            encoder_class, params, state = type(start), start.config, state_as_numpy(start)
        seed = draw_seed(check_random_state(self.random_state))
        task = make_task(template, encoder_class, params, state, seed)
        key = key_of(task, state)
        graphs = self._to_graphs(X, task.encoder.recipe)
        if len(graphs) < 4:
            raise ValueError(f"pretraining compares crystals: {len(graphs)} are too few, give at least 4")
        task.check_elements(graphs.elements)
        settings: dict[str, Any] = {
            "max_epochs": int(self.max_epochs),
            "batch_size": int(self.batch_size),
            "learning_rate": float(self.learning_rate),
            "weight_decay": float(self.weight_decay),
            "gradient_clip": self.gradient_clip,
            "validation_fraction": float(self.validation_fraction),
            "seed": seed,
            "precision": self.precision,
        }
        memory = os.fspath(self.memory) if isinstance(self.memory, os.PathLike) else self.memory
        cached = check_memory(memory).cache(pretrain, ignore=["task", "checkpoint", "verbose"])
        weights, history = cached(
            task,
            graphs,
            labels,
            key=key,
            device=resolve_device(self.device),
            checkpoint=None if self.checkpoint is None else os.fspath(self.checkpoint),
            verbose=self.verbose,
            **settings,
        )
        # What was found in the cache was not trained here.
        encoder = task.encoder.cpu()
        encoder.zero_grad(set_to_none=True)
        encoder.load_state_dict({name: torch.from_numpy(np.asarray(value)) for name, value in weights.items()})
        config = {
            "method": task.name,
            "elements": sorted({*graphs.elements, *known}),
            "n_crystals": len(graphs),
            "task_params": to_json(task.config),
            **settings,
        }
        return encoder, config, history

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # there is none to preserve; the vectors are float32
        return tags

    def _set_fitted(self, encoder: Any, config: dict[str, Any], history: list) -> PretrainedCrystalEmbedder:
        embedding = self._embedding(encoder.eval())
        self.encoder_ = encoder
        self.embedding_ = embedding
        self.config_ = config
        self.elements_ = np.array(config["elements"])
        self.history_ = history
        self.n_features_out_ = self._n_features_out = embedding.graph_dim
        return self

    def _embedding(self, encoder: Encoder) -> Encoder:
        """Return an encoder with the readout of `transform`; the one of pretraining may be good for training only."""
        chosen = _given(readout=self.readout, pooled_layers=self.pooled_layers)
        with seeded(0):
            embedding = type(encoder)(**{**encoder.config, **encoder.frozen_pooling, **chosen})
        embedding.load_pretrained(encoder.state_dict())
        return embedding.eval()

    def _state(self) -> dict[str, Any]:
        state = super()._state()
        state.pop("embedding_", None)  # follows from the rest, and would double the file
        return state

    def _learnt(self, state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
        encoder = state.pop("encoder_", None)
        return encoder and ({"encoder": encoder.name, "params": encoder.config}, encoder.state_dict())

    def _restore(self, learnt: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        with seeded(0):  # initial weights must not move torch's global generator
            encoder = build_encoder(ENCODERS[learnt["encoder"]], learnt["params"], tensors, "the stored embedder")
        self.encoder_ = encoder.eval()
        self.embedding_ = self._embedding(self.encoder_)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "encoder_" in state:
            self.embedding_ = self._embedding(self.encoder_)

    @usual_torch()
    def transform(self, X: Any) -> np.ndarray:
        """Return the crystals' vectors.

        Parameters
        ----------
        X : sequence or iterator of crystals, or CrystalGraphs
            As taken by :func:`crystalssl.check_structures`. Graphs are made of some thousand crystals at a time, so
            that an iterator may yield more than fit into memory.

        Returns
        -------
        ndarray of shape (n_crystals, n_features_out), float32

        Raises
        ------
        InvalidStructureError
            If a crystal is invalid or holds an element that pretraining has never seen.
        """
        check_is_fitted(self)
        device, known = resolve_device(self.device), set(self.elements_.tolist())
        items, n_items = self._items(X)

        def parts() -> Iterator[np.ndarray]:
            for graphs, indices in self._chunks(items, n_items, self.encoder_.recipe, "embedding"):
                check_known_elements(graphs, known, indices)
                yield infer(self.embedding_, CrystalDataset(graphs), device, self.precision, indices)

        return join(parts(), n_items)

    def save_pretrained(self, folder: str | os.PathLike, *, card: str | None = None) -> None:
        """Write the weights to a folder, from which :meth:`from_pretrained` and ``weights=folder`` read.

        Parameters
        ----------
        folder : path
            A weights folder in its place is replaced, if it holds nothing else.
        card : str or None, default=None
            Text of the folder's README.md; None writes the settings.

        Raises
        ------
        FileExistsError
            If anything else than a weights folder is in the way. The message says what.
        WeightsError
            If it cannot be written. Weights that `folder` held are left.
        """
        check_is_fitted(self)
        save_embedder(folder, self.encoder_, self.config_, self.readout, self.pooled_layers, card)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike, **params: Any) -> PretrainedCrystalEmbedder:
        """Return a fitted embedder with the weights of a folder.

        Parameters
        ----------
        folder : path
            Written by :meth:`save_pretrained`. It is never the name of weights that ship with crystalssl:
            ``PretrainedCrystalEmbedder("barlow")`` takes those, whatever the working directory holds.
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
        folder, saved = read_embedder(folder)
        return cls(weights=folder, **{**saved, **params}).fit([])


def _given(**params: Any) -> dict[str, Any]:
    """Return the parameters that were given a value."""
    return {name: value for name, value in params.items() if value is not None}
