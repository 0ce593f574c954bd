"""The weights folder of an embedder: the encoder, and with which readout it embeds."""

from __future__ import annotations

import os
from typing import Any

from crystalssl._version import __version__
from crystalssl.encoders import POOLED_LAYERS, READOUTS, Encoder
from crystalssl.encoders._base import current_config
from crystalssl.exceptions import WeightsError
from crystalssl.training import save_encoder
from crystalssl.training._weights import read_weights

__all__ = ["read_embedder", "save_embedder"]

_CHOICES = {"readout": (*READOUTS, None), "pooled_layers": (*POOLED_LAYERS, None)}


def save_embedder(
    folder: str | os.PathLike,
    encoder: Encoder,
    config: dict[str, Any],
    pooling: dict[str, str | None],
    card: str | None,
) -> None:
    """Write a weights folder, as :meth:`crystalssl.PretrainedCrystalEmbedder.save_pretrained` says."""
    if card is None:
        lines = [f"- {key}: {value}" for key, value in config.items() if key not in ("elements", "sha256")]
        card = "\n".join([f"# {config['method']}, {encoder.name}", "", *lines, ""])
    save_encoder(folder, encoder, {"version": __version__, **config, "embedding": pooling}, card)


def read_embedder(folder: str | os.PathLike) -> tuple[str, dict[str, Any]]:
    """Return the folder as a path that is no name, and the parameters of the embedder that it is of.

    Raises
    ------
    WeightsError
        If there is no such folder, it is damaged, or it says what this version cannot use.
    """
    folder = os.path.join(os.path.dirname(folder) or os.curdir, os.path.basename(folder))
    _, config, _ = read_weights(folder)
    embedding = config.get("embedding", {})
    embedding = current_config(embedding) if isinstance(embedding, dict) else {"embedding": embedding}
    saved = {"method": config["method"], **embedding}
    for name, value in saved.items():
        # A method that is not registered is missed where it is used, which is in further training only.
        if value not in _CHOICES.get(name, ()) and not (name == "method" and isinstance(value, str)):
            raise WeightsError(f"the config.json of {folder} has {name} = {value!r}, which this version cannot use")
    return folder, saved
