"""What several encoders read: the features of the elements, and lengths in Gaussians."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from crystalssl.encoders._base import Encoder, element_table
from crystalssl.encoders._layers import gaussian_expansion

__all__ = ["FeatureEncoder"]


class FeatureEncoder(Encoder):
    """Base of the encoders whose atoms start as a linear map of the features of their elements.

    Parameters
    ----------
    hidden_dim : int
        Width of the atoms' vectors.
    n_gaussians : int
        Number of Gaussians, evenly spaced from 0 to the cutoff and as wide as their spacing, in which lengths are
        expanded.
    %(parameters)s
    """

    element_features: Tensor
    gaussian_centers: Tensor

    def __init__(self, hidden_dim: int, n_gaussians: int, **shared: Any):
        super().__init__(**shared)
        table, cutoff = element_table(), self.recipe.cutoff
        # Both tables are saved with the weights, which mean nothing without them.
        self.register_buffer("element_features", table)
        self.register_buffer("gaussian_centers", torch.linspace(0, cutoff, n_gaussians))
        self.gaussian_width = cutoff / max(n_gaussians - 1, 1)
        self.embedding = nn.Linear(table.shape[1], hidden_dim)

    def expand(self, lengths: Tensor) -> Tensor:
        """Return lengths in Gaussians, of shape (n_lengths, n_gaussians)."""
        return gaussian_expansion(lengths, self.gaussian_centers, self.gaussian_width)
