"""Batch in, vectors of atoms, edges and crystals out. Adding an encoder: one file, one line in each table below."""

from __future__ import annotations

from crystalssl.encoders._base import LAYERS, READOUTS, Encoded, Encoder, make_readout
from crystalssl.encoders.cgcnn import CGCNN

__all__ = ["CGCNN", "ENCODERS", "LAYERS", "READOUTS", "Encoded", "Encoder", "make_readout"]

ENCODERS: dict[str, type[Encoder]] = {
    "cgcnn": CGCNN,
}
"""Encoders by the name that users pass as ``encoder=``."""
