"""Batch in, vectors of atoms, edges and crystals out. Adding an encoder: one file, one line here, one in `RECIPES`."""

from __future__ import annotations

from crystalssl.encoders._base import LAYERS, Encoded, Encoder
from crystalssl.encoders._elements import valence_electrons
from crystalssl.encoders._readout import READOUTS
from crystalssl.encoders.cgcnn import CGCNN
from crystalssl.encoders.gatedgcn import GatedGCN

__all__ = ["CGCNN", "ENCODERS", "LAYERS", "READOUTS", "Encoded", "Encoder", "GatedGCN", "valence_electrons"]

ENCODERS: dict[str, type[Encoder]] = {cls.name: cls for cls in (CGCNN, GatedGCN)}
"""Encoders by the name that users pass as ``encoder=``."""
