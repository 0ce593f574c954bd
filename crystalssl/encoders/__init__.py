"""Batch in, vectors of atoms, edges and crystals out. Adding an encoder: one file, one line here, one in `RECIPES`."""

from __future__ import annotations

from crystalssl.encoders._base import POOLED_LAYERS, Encoded, Encoder, LayerOutputs
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
    "POOLED_LAYERS",
    "READOUTS",
    "DeeperGATGNN",
    "Encoded",
    "Encoder",
    "GatedGCN",
    "LayerOutputs",
    "MEGNet",
    "valence_electrons",
]

ENCODERS: dict[str, type[Encoder]] = {cls.name: cls for cls in (CGCNN, MEGNet, DeeperGATGNN, ALIGNN, GIN, GatedGCN)}
"""Encoders by the name that users pass as ``encoder=``."""
