"""Where the encoder of a network comes from."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import joblib
import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from crystalssl.encoders import Encoder, resolve_encoder
from crystalssl.estimators._base import check_encoder
from crystalssl.estimators._embedder import PretrainedCrystalEmbedder
from crystalssl.graphs import GraphRecipe
from crystalssl.training._weights import build_encoder, read_weights, state_as_numpy

__all__ = ["EncoderSource", "NotStored", "fingerprint"]

DEFAULT_ENCODER = "gatedgcn"
"""What is trained where neither weights nor an encoder are named: the encoder of the default weights."""


class NotStored:
    """What is in the place of an embedder where a model was read from a folder, which holds none.

    Parameters
    ----------
    description : str
        What was there when the model was saved.
    fingerprint : object
        The `fingerprint` of that.
    """

    def __init__(self, description: str, fingerprint: Any):
        self.description = description
        self.fingerprint = fingerprint

    def fit(self, X: Any = None, y: Any = None) -> None:
        """Raise ValueError."""
        raise ValueError(
            f"pretrain was {self.description} when the model was saved, which a model folder does not hold; "
            "set pretrain before fitting anew. With warm_start=True the networks of the model are trained further "
            "without it"
        )

    transform = fit  # what is fitted and transforms is allowed as a parameter

    def __repr__(self) -> str:
        return f"<not stored: {self.description}>"


@dataclass(frozen=True)
class EncoderSource:
    """An encoder before it is built: its class, its parameters, and its weights if it is pretrained.

    Parameters
    ----------
    encoder_class : type
        Class of the encoder.
    params : dict
        What its constructor takes.
    state : dict of Tensor or None, default=None
        Pretrained weights; None leaves the random ones.
    elements : set of int, default=set()
        Atomic numbers that the weights have seen.
    origin : str, default=""
        What errors call the weights.
    """

    encoder_class: type[Encoder]
    params: dict[str, Any]
    state: dict[str, Tensor] | None = None
    elements: set[int] = field(default_factory=set)
    origin: str = ""

    @classmethod
    def of(cls, pretrain: Any, encoder: Any, X: Any) -> EncoderSource:
        """Return the source that two parameters of an estimator name.

        Parameters
        ----------
        pretrain : None, str, path, PretrainedCrystalEmbedder or FrozenEstimator of one
            An embedder is cloned and fitted on `X`, a frozen one is used as it is.
        encoder : None or what :func:`crystalssl.encoders.resolve_encoder` takes
            Which encoder to train from random weights, or the one that the weights must be of.
        X : sequence of crystals, CrystalGraphs, or CrystalCorpus
            What an embedder is fitted on.
        """
        if pretrain is None:
            return cls.random(encoder or DEFAULT_ENCODER)
        if isinstance(pretrain, NotStored):
            pretrain.fit()
        if isinstance(pretrain, (str, os.PathLike)):
            source = cls.folder(pretrain)
        else:
            source = cls.embedder(pretrain, X)
        if encoder is not None:
            check_encoder(source.name, source.params, encoder)
        return source

    @classmethod
    def random(cls, encoder: Any) -> EncoderSource:
        """Return the source of an encoder with random weights."""
        encoder_class, params = resolve_encoder(encoder)
        return cls(encoder_class, {**encoder_class.pooling, **params})

    @classmethod
    def folder(cls, weights: str | os.PathLike) -> EncoderSource:
        """Return the source of bundled weights, by name, or of those in a folder."""
        encoder_class, config, state = read_weights(weights)
        params = {**config["encoder_params"], **encoder_class.pooling}
        return cls(encoder_class, params, state, set(config["elements"]), f"the weights folder {weights}")

    @classmethod
    def embedder(cls, embedder: Any, X: Any) -> EncoderSource:
        """Return the source of the encoder of an embedder: of a frozen one, or of one that is fitted on `X`."""
        inner = embedder.estimator if isinstance(embedder, FrozenEstimator) else embedder
        if not isinstance(inner, PretrainedCrystalEmbedder):
            raise TypeError(
                f"pretrain is a {type(inner).__name__}; expected None, the name of a method, a weights folder, "
                "a PretrainedCrystalEmbedder or a FrozenEstimator of one"
            )
        fitted = clone(embedder).fit(X) if embedder is inner else embedder
        check_is_fitted(fitted)
        encoder = fitted.encoder_
        params = {**encoder.config, **encoder.pooling}
        elements = set(fitted.elements_.tolist())
        return cls(type(encoder), params, encoder.state_dict(), elements, "the embedder's weights")

    @classmethod
    def network(cls, encoder: Encoder, elements: np.ndarray, is_pretrained: bool) -> EncoderSource:
        """Return the source that a network's encoder was built from, but for its weights, which are those of now."""
        state = encoder.state_dict() if is_pretrained else None
        return cls(type(encoder), encoder.config, state, set(elements.tolist()), "the network's weights")

    def untrained(self) -> EncoderSource:
        """Return the source of such an encoder with random weights."""
        return EncoderSource.random(self.build())

    @property
    def name(self) -> str:
        """Name of the encoder."""
        return self.encoder_class.name

    @property
    def recipe(self) -> GraphRecipe:
        """Recipe of the graphs that the encoder reads."""
        return self.encoder_class.recipe

    @property
    def is_gentle(self) -> bool:
        """Whether the encoder is pretrained, and declares that it is then to be finetuned gently."""
        return self.state is not None and self.encoder_class.gentle_finetuning

    def build(self, **pooling: str | None) -> Encoder:
        """Return a new encoder, pooled as it declares for finetuning unless `readout` or `pooled_layers` say else."""
        chosen = {name: value for name, value in pooling.items() if value is not None}
        return build_encoder(self.encoder_class, {**self.params, **chosen}, self.state, self.origin)


def fingerprint(value: Any) -> Any:
    """Return what equals that of another value if an encoder of the one is an encoder of the other.

    An estimator is told by its parameters, as they are now, and a frozen one by its weights.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, NotStored):
        return value.fingerprint
    if isinstance(value, FrozenEstimator):
        weights = getattr(value.estimator, "encoder_", None)
        return fingerprint(value.estimator), None if weights is None else joblib.hash(state_as_numpy(weights))
    if isinstance(value, BaseEstimator):
        return type(value).__name__, repr(value.get_params())
    return value if isinstance(value, (str, int, float, type(None))) else repr(value)
