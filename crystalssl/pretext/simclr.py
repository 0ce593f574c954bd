"""SimCLR, the contrastive baseline."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch_geometric.data import Batch

from crystalssl.pretext._base import TwoViews
from crystalssl.pretext._registry import register_task

__all__ = ["SimCLR", "simclr_loss"]


def simclr_loss(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """Return the normalised temperature-scaled cross entropy (NT-Xent) of two projections.

    Each of the 2n projections has to pick its other view among the 2n - 1 others, by cosine over temperature.

    Parameters
    ----------
    a, b : Tensor of shape (n_crystals, d)
        Projections of two views of the same crystals.
    temperature : float, default=0.1
        τ.

    Returns
    -------
    Tensor
        A scalar. It is ``log(2n - 1)`` if the encoder has collapsed to one vector.

    References
    ----------
    T. Chen, S. Kornblith, M. Norouzi and G. Hinton, ICML 2020, arXiv:2002.05709.
    """
    n = len(a)
    z = normalize(torch.cat([a, b]), dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(2 * n, device=z.device).roll(n)
    return cross_entropy(logits, partner)


@register_task
class SimCLR(TwoViews):
    """Contrastive learning: a crystal's two views find each other among all views of the batch.

    Parameters
    ----------
    temperature : float, default=0.1
        τ.
    %(parameters)s

    References
    ----------
    T. Chen, S. Kornblith, M. Norouzi and G. Hinton, ICML 2020, arXiv:2002.05709.
    """

    name = "simclr"

    def __init__(self, temperature: float = 0.1, **view_params: Any):
        super().__init__(**view_params)
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature!r}")
        self.temperature = temperature

    def compare(self, a: Tensor, b: Tensor, batch: Batch) -> Tensor:
        """Return :func:`simclr_loss`."""
        return simclr_loss(a, b, self.temperature)
