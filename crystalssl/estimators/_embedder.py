"""Pretrained encoders as a scikit-learn transformer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, check_memory

from crystalssl._config import to_json
from crystalssl._parameters import with_parameters
from crystalssl.encoders import ENCODERS, Encoder, resolve_encoder
from crystalssl.estimators._base import check_encoder, check_known_elements, draw_seed, join
from crystalssl.estimators._embedder_files import read_embedder, save_embedder
from crystalssl.estimators._network import infer
from crystalssl.estimators._plain_state import PlainState
from crystalssl.estimators._pretraining_parameters import PretrainingParameters
from crystalssl.graphs import CrystalCorpus
from crystalssl.graphs._given import as_graphs
from crystalssl.pretext import PretextTask, resolve_task
from crystalssl.training import CrystalDataset, load_encoder, pretrain
from crystalssl.training._jobs import job
from crystalssl.training._net import resolve_device
from crystalssl.training._precision import usual_torch
from crystalssl.training._pretrain import key_of, make_task
from crystalssl.training._seeding import seeded
from crystalssl.training._weights import build_encoder, bundled_folder, state_as_numpy

__all__ = ["PretrainedCrystalEmbedder"]


@with_parameters
class PretrainedCrystalEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, PlainState, PretrainingParameters):
    """Turn crystals into vectors with an encoder that was pretrained without labels.

    With ``weights="bundled"`` nothing is trained: `fit` loads the weights that ship with the package. With
    ``weights=None``, `fit` pretrains on the crystals it is given.

    Parameters
    ----------
    %(parameters)s

    Attributes
    ----------
    encoder_ : Encoder
        The pretrained torch module, on the CPU, with the readout of pretraining.
    embedding_ : Encoder
        The same with the readout of `transform`.
    config_ : dict
        Method, encoder, elements and settings, as saved in config.json.
    history_ : list of dict
        Losses, learning rate, seconds and device of each epoch of `fit`; empty if nothing was trained.
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

    @usual_torch()
    def fit(self, X: Any, y: Any = None) -> PretrainedCrystalEmbedder:
        """Load the weights, or pretrain on X.

        Parameters
        ----------
        X : sequence of crystals, CrystalGraphs, or CrystalCorpus
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
            X = as_graphs(X)
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
        ignored = ["task", "checkpoint", "verbose"]
        if isinstance(graphs, CrystalCorpus):  # told by its content, not by its path
            key, ignored = [*key, *graphs.key], [*ignored, "graphs"]
        cached = check_memory(memory).cache(pretrain, ignore=ignored)
        if job().size > 1:  # one process may have it in its cache, and another may not
            cached = pretrain
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
        pooling = self._chosen_pooling()
        embedding = _embedding(encoder.eval(), pooling)
        self._pooling = pooling
        self.encoder_ = encoder
        self.embedding_ = embedding
        self.config_ = config
        self.elements_ = np.array(config["elements"])
        self.history_ = history
        self.n_features_out_ = self._n_features_out = embedding.vector_dim
        return self

    def _chosen_pooling(self) -> dict[str, str | None]:
        return {"readout": self.readout, "pooled_layers": self.pooled_layers}

    def _fitted_pooling(self) -> dict[str, str | None]:
        """Return what was chosen at `fit`; of what an earlier version stored, what the parameters say."""
        return getattr(self, "_pooling", None) or self._chosen_pooling()

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
        self.embedding_ = _embedding(self.encoder_, self._fitted_pooling())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "encoder_" in state:
            self.embedding_ = _embedding(self.encoder_, self._fitted_pooling())

    @usual_torch()
    def transform(self, X: Any) -> np.ndarray:
        """Return the crystals' vectors.

        Parameters
        ----------
        X : sequence or iterator of crystals, CrystalGraphs, or CrystalCorpus
            As taken by :func:`crystalssl.check_structures`. Graphs are made of some thousand crystals at a time, so
            that an iterator may yield more than fit into memory.

        Returns
        -------
        ndarray of shape (n_crystals, n_features_out), float32
            The pooled vectors. Behind them stand the properties that the encoder has learnt to predict, if any: those
            of the labels of "joint", in units of their deviation over the corpus, and the logarithm of the volume per
            atom, in units of 0.5.

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
        save_embedder(folder, self.encoder_, self.config_, self._fitted_pooling(), card)

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
        ValueError
            If `params` ask for training.
        """
        if params.get("continue_training"):
            raise ValueError(
                "from_pretrained trains nothing; go on with PretrainedCrystalEmbedder(weights=folder, "
                "continue_training=True).fit(X)"
            )
        folder, saved = read_embedder(folder)
        return cls(weights=folder, **{**saved, **params}).fit([])


def _embedding(encoder: Encoder, pooling: dict[str, str | None]) -> Encoder:
    """Return an encoder with the readout of `transform`; the one of pretraining may be good for training only."""
    with seeded(0):
        embedding = type(encoder)(**{**encoder.config, **encoder.frozen_pooling, **_given(**pooling)})
    embedding.load_pretrained(encoder.state_dict())
    return embedding.eval()


def _given(**params: Any) -> dict[str, Any]:
    """Return the parameters that were given a value."""
    return {name: value for name, value in params.items() if value is not None}
