"""Batch in, vectors of atoms, edges and crystals out. Adding an encoder: one file, one line here, one in `RECIPES`."""

from __future__ import annotations

from typing import Any

from crystalssl.encoders._base import LAYERS, Encoded, Encoder
from crystalssl.encoders._elements import valence_electrons
from crystalssl.encoders._readout import READOUTS
from crystalssl.encoders.alignn import ALIGNN
from crystalssl.encoders.cgcnn import CGCNN
from crystalssl.encoders.deepergatgnn import DeeperGATGNN
from crystalssl.encoders.gatedgcn import GatedGCN
from crystalssl.encoders.gin import GIN
from crystalssl.encoders.megnet import MEGNet

__all__ = [
    "ALIGNN",
    "CGCNN",
    "ENCODERS",
    "GIN",
    "LAYERS",
    "READOUTS",
    "DeeperGATGNN",
    "Encoded",
    "Encoder",
    "GatedGCN",
    "MEGNet",
    "resolve_encoder",
    "valence_electrons",
]

ENCODERS: dict[str, type[Encoder]] = {cls.name: cls for cls in (CGCNN, MEGNet, DeeperGATGNN, ALIGNN, GIN, GatedGCN)}
"""Encoders by the name that users pass as ``encoder=``."""


def resolve_encoder(encoder: str) -> tuple[type[Encoder], dict[str, Any]]:
    """Return the class that a name means, and the parameters that differ from its defaults.

    Parameters
    ----------
    encoder : str
        Key of `ENCODERS`.

    Returns
    -------
    encoder_class : type
    params : dict
    """
    return ENCODERS[encoder], {}
