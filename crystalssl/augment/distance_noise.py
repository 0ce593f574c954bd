"""Noise on the lengths of edges."""

from __future__ import annotations

import torch
from torch_geometric.data import Batch

from crystalssl.augment._base import Augmentation, shallow_copy
from crystalssl.augment._registry import register_augmentation

__all__ = ["NeighborDistanceNoising"]


@register_augmentation
class NeighborDistanceNoising(Augmentation):
    """Graph-level neighbor distance noising (GNDN): add uniform noise to every edge's length, after the graph is built.

    Atoms stay where they are: no neighbour is lost, and the noisy lengths need not belong to any arrangement of atoms.

    Parameters
    ----------
    delta : float, default=0.5
        The noise of each directed edge is uniform between -delta and delta, in Å. No length falls below zero.

    References
    ----------
    Supervised Pretraining for Material Property Prediction (SPMat), arXiv:2504.20112.
    """

    name = "gndn"

    def __init__(self, delta: float = 0.5):
        if not delta >= 0:
            raise ValueError(f"delta must not be negative (Å), got {delta!r}")
        self.delta = delta

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a perturbed copy of `batch`."""
        noise = torch.rand(batch.distance.shape, generator=generator, device=batch.distance.device)
        noise.mul_(2 * self.delta).sub_(self.delta)
        return shallow_copy(batch, distance=(batch.distance + noise).clamp_(min=0))
