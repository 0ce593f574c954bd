"""Batch in, perturbed batch out. Adding an augmentation: one file, registered, and imported here.

Those of other people are registered with :func:`register_augmentation`, or found by entry points.
"""

from __future__ import annotations

from crystalssl.augment._base import Augmentation, Compose, move_atoms, recompute_distances, shallow_copy
from crystalssl.augment._registry import AUGMENTATIONS, register_augmentation, resolve_view, resolve_views
from crystalssl.augment.distance_noise import NeighborDistanceNoising
from crystalssl.augment.mask import AtomMasking, EdgeMasking
from crystalssl.augment.perturb import GaussianPerturbation, RandomPerturbation
from crystalssl.augment.strain import RandomStrain

__all__ = [
    "AUGMENTATIONS",
    "AtomMasking",
    "Augmentation",
    "Compose",
    "EdgeMasking",
    "GaussianPerturbation",
    "NeighborDistanceNoising",
    "RandomPerturbation",
    "RandomStrain",
    "move_atoms",
    "recompute_distances",
    "register_augmentation",
    "resolve_view",
    "resolve_views",
    "shallow_copy",
]
