"""Random displacements of atoms."""

from __future__ import annotations

import torch
from torch_geometric.data import Batch

from crystalssl.augment._base import Augmentation, move_atoms
from crystalssl.augment._registry import register_augmentation

__all__ = ["GaussianPerturbation", "RandomPerturbation"]


@register_augmentation
class RandomPerturbation(Augmentation):
    """Move every atom by the same distance, each in a random direction; edges are kept, their lengths recomputed.

    Parameters
    ----------
    distance : float, default=0.05
        In Å.

    References
    ----------
    R. Magar, Y. Wang and A. Barati Farimani, npj Comput. Mater. 8, 231 (2022), doi:10.1038/s41524-022-00921-5.
    """

    name = "perturb"

    def __init__(self, distance: float = 0.05):
        if not distance >= 0:
            raise ValueError(f"distance must not be negative (Å), got {distance!r}")
        self.distance = distance

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a perturbed copy of `batch`."""
        # Normal deviates have no preferred direction.
        step = torch.randn(batch.pos.shape, generator=generator, device=batch.pos.device)
        return move_atoms(batch, pos=batch.pos + torch.nn.functional.normalize(step, dim=1).mul_(self.distance))


@register_augmentation
class GaussianPerturbation(Augmentation):
    """Move every atom by a normally distributed step; edges are kept, their lengths recomputed.

    Parameters
    ----------
    sigma : float, default=0.5
        Standard deviation of each Cartesian coordinate, in Å.

    References
    ----------
    A. New, N. Q. Le, M. J. Pekala and C. D. Stiles, ICML 2024 AI for Science workshop, arXiv:2408.17255.
    """

    name = "perturb-gaussian"

    def __init__(self, sigma: float = 0.5):
        if not sigma > 0:
            raise ValueError(f"sigma must be positive (Å), got {sigma!r}")
        self.sigma = sigma

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a perturbed copy of `batch`."""
        step = torch.randn(batch.pos.shape, generator=generator, device=batch.pos.device)
        return move_atoms(batch, pos=batch.pos + step.mul_(self.sigma))
