"""Hiding atoms and edges."""

from __future__ import annotations

import torch
from torch_geometric.data import Batch

from crystalssl.augment._base import Augmentation, bernoulli, check_rate, shallow_copy
from crystalssl.augment._registry import register_augmentation

__all__ = ["AtomMasking", "EdgeMasking"]


@register_augmentation
class AtomMasking(Augmentation):
    """Hide the element of randomly chosen atoms (atomic number 0, whose features are all zero).

    Each atom is drawn by itself, so that the expected share is `rate` in a cell of any size.

    Parameters
    ----------
    rate : float, default=0.1
        Probability of each atom to be masked.

    References
    ----------
    R. Magar, Y. Wang and A. Barati Farimani, npj Comput. Mater. 8, 231 (2022), doi:10.1038/s41524-022-00921-5.
    """

    name = "mask-atoms"

    def __init__(self, rate: float = 0.1):
        self.rate = check_rate(rate)

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a perturbed copy of `batch`."""
        return shallow_copy(batch, z=batch.z.masked_fill(bernoulli(batch.z.numel(), self.rate, generator), 0))


@register_augmentation
class EdgeMasking(Augmentation):
    """Hide the length of randomly chosen edges (infinite distance, which no Gaussian of the expansion reaches).

    Parameters
    ----------
    rate : float, default=0.1
        Probability of each directed edge to be masked.

    References
    ----------
    R. Magar, Y. Wang and A. Barati Farimani, npj Comput. Mater. 8, 231 (2022), doi:10.1038/s41524-022-00921-5.
    """

    name = "mask-edges"

    def __init__(self, rate: float = 0.1):
        self.rate = check_rate(rate)

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a perturbed copy of `batch`."""
        hidden = bernoulli(batch.distance.numel(), self.rate, generator)
        return shallow_copy(batch, distance=batch.distance.masked_fill(hidden, torch.inf))
