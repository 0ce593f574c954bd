"""Batch in, perturbed batch out. Adding an augmentation: one file, one line in the table below."""

from __future__ import annotations

from crystalssl.augment._base import Augmentation, Compose, recompute_distances
from crystalssl.augment.distance_noise import NeighborDistanceNoising
from crystalssl.augment.mask import AtomMasking, EdgeMasking
from crystalssl.augment.perturb import GaussianPerturbation, RandomPerturbation

__all__ = [
    "AUGMENTATIONS",
    "AtomMasking",
    "Augmentation",
    "Compose",
    "EdgeMasking",
    "GaussianPerturbation",
    "NeighborDistanceNoising",
    "RandomPerturbation",
    "recompute_distances",
]

AUGMENTATIONS: dict[str, type[Augmentation]] = {
    cls.name: cls
    for cls in (RandomPerturbation, GaussianPerturbation, AtomMasking, EdgeMasking, NeighborDistanceNoising)
}
"""Augmentations by name."""
