"""The one training loop, with its batches, callbacks and weights."""

from __future__ import annotations

from crystalssl.training._batching import BatchIterator, CrystalDataset
from crystalssl.training._collate import collate
from crystalssl.training._jobs import distributed
from crystalssl.training._net import CrystalNet, PretrainingNet
from crystalssl.training._pretrain import pretrain
from crystalssl.training._weights import bundled_weights, load_encoder, save_encoder

__all__ = [
    "BatchIterator",
    "CrystalDataset",
    "CrystalNet",
    "PretrainingNet",
    "bundled_weights",
    "collate",
    "distributed",
    "load_encoder",
    "pretrain",
    "save_encoder",
]
