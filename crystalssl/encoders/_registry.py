"""Encoders by name, and what users may give in place of a name."""

from __future__ import annotations

import inspect
from typing import Any

from crystalssl._parameters import check_registered
from crystalssl._registry import Registry
from crystalssl.encoders._base import Encoder
from crystalssl.graphs import RECIPES

__all__ = ["ENCODERS", "register_encoder", "resolve_encoder"]


class _Encoders(Registry):
    """Encoders, whose recipes the graphs learn of."""

    def check(self, cls: Any) -> None:
        super().check(cls)
        RECIPES.check(cls)

    def _add(self, cls: Any) -> None:
        super()._add(cls)
        RECIPES.register(cls)


ENCODERS = _Encoders("encoder", "crystalssl.encoders", Encoder)
"""Encoders by the name that users pass as ``encoder=``."""

register_encoder = ENCODERS.register


def resolve_encoder(encoder: Any) -> tuple[type[Encoder], dict[str, Any]]:
    """Return the class of an encoder and the parameters of its constructor.

    Parameters
    ----------
    encoder : str, type or Encoder
        A name in `ENCODERS`, a class, or an instance as a template, whose weights are not used.

    Returns
    -------
    cls : type
        A subclass of `Encoder`.
    params : dict
        Those of the template; empty for a name or a class. `readout` and `pooled_layers` are among them where
        they differ from the constructor's defaults: whoever trains the encoder has defaults of their own.
        `n_properties` is not: a template without its weights has learnt to predict nothing.

    Raises
    ------
    InvalidParameterError
        If there is no such encoder.
    ValueError
        If the class bears the name of another encoder.

    Examples
    --------
    >>> from crystalssl.encoders import GIN, resolve_encoder
    >>> resolve_encoder("gin")
    (<class 'crystalssl.encoders.gin.GIN'>, {})
    >>> resolve_encoder(GIN(hidden_dim=8))[1]["hidden_dim"]
    8
    """
    check_registered("encoder", encoder, ENCODERS)
    if isinstance(encoder, str):
        return ENCODERS[encoder], {}
    cls = encoder if isinstance(encoder, type) else type(encoder)
    ENCODERS.check(cls)
    if cls is encoder:
        return cls, {}
    parameters = inspect.signature(cls).parameters
    usual = {name: parameters[name].default for name in ("readout", "pooled_layers")}
    chosen = {name: value for name, value in encoder.config.items() if name not in usual or value != usual[name]}
    chosen.pop("n_properties", None)
    return cls, chosen
