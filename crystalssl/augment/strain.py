"""Random strain of the lattice."""

from __future__ import annotations

import torch
from torch_geometric.data import Batch

from crystalssl.augment import Augmentation, move_atoms, register_augmentation

__all__ = ["RandomStrain"]


@register_augmentation
class RandomStrain(Augmentation):
    """Strain the lattice of every crystal; atoms follow, edges are kept, their lengths recomputed.

    A vector r becomes r + ε r with a random symmetric tensor ε, one for each crystal. It has no preferred direction.

    Parameters
    ----------
    sigma : float, default=0.02
        Standard deviation of the strain along any direction.
    """

    name = "strain"

    def __init__(self, sigma: float = 0.02):
        if not sigma >= 0:
            raise ValueError(f"sigma must not be negative, got {sigma!r}")
        self.sigma = sigma

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a perturbed copy of `batch`."""
        strain = torch.empty_like(batch.cell).normal_(std=self.sigma, generator=generator)
        strain = (strain + strain.mT) / 2
        moved = torch.bmm(batch.pos[:, None], strain[batch.batch])[:, 0]
        return move_atoms(batch, pos=batch.pos + moved, cell=batch.cell + batch.cell @ strain)
