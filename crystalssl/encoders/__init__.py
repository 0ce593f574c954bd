"""Batch in, vectors of atoms, edges and crystals out. Adding an encoder: one file, one line here, one in `RECIPES`.

Encoders of other people are registered with :func:`register_encoder`, or found by entry points.
"""

from __future__ import annotations

from crystalssl.encoders._base import POOLED_LAYERS, Encoded, Encoder, LayerOutputs, Sight
from crystalssl.encoders._elements import valence_electrons
from crystalssl.encoders._readout import READOUTS
from crystalssl.encoders._registry import ENCODERS, register_encoder, resolve_encoder
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
    "Sight",
    "register_encoder",
    "resolve_encoder",
    "valence_electrons",
]

for _encoder in (CGCNN, MEGNet, DeeperGATGNN, ALIGNN, GIN, GatedGCN):
    register_encoder(_encoder)
