"""BYOL: a network predicts what a slowly moving average of itself makes of the other view."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn, no_grad
from torch.nn.functional import mse_loss, normalize
from torch_geometric.data import Batch

from crystalssl.encoders import Encoded, Encoder
from crystalssl.pretext import TwoViews, global_mean, mlp, register_task


@register_task
class BYOL(TwoViews):
    """Bootstrap your own latent: two views agree, without negatives, by means of a target network.

    Parameters
    ----------
    momentum : float, default=0.99
        Share of the target's weights that a step leaves as it is. The paper raises it from 0.996 to 1.
    predictor_dim : int, default=256
        Width of the predictor's hidden layer.
    %(parameters)s

    References
    ----------
    J.-B. Grill et al., NeurIPS 2020, arXiv:2006.07733.
    """

    name = "byol"

    def __init__(self, momentum: float = 0.99, predictor_dim: int = 256, **view_params: Any):
        super().__init__(**view_params)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie between 0 and 1, got {momentum!r}")
        self.momentum, self.predictor_dim = momentum, predictor_dim

    def build(self, encoder: Encoder) -> None:
        """Make projector, predictor, and the target, which begins as a copy and has no gradient."""
        super().build(encoder)
        self.predictor = mlp(self.projection_dim, self.predictor_dim, self.projection_dim)
        self.target = copy.deepcopy(nn.ModuleList([encoder, self.projector])).requires_grad_(False)

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return eq. 2 of both views: each one's prediction against the target's projection of the other."""
        a, b = (normalize(self.predictor(self.projector(part.graph))) for part in encoded)
        of_a, of_b = (normalize(self.target[1](self.target[0](view).graph)) for view in views)
        return global_mean(self.projection_dim * (mse_loss(a, of_b) + mse_loss(b, of_a)), len(a))

    @no_grad()
    def after_step(self) -> None:
        """Move the target's weights towards those of the network that is trained."""
        # By their names, for another part of a composite may have given the encoder more weights.
        trained = dict(nn.ModuleList([self.encoder, self.projector]).named_parameters())
        for name, target in self.target.named_parameters():
            target.lerp_(trained[name], 1 - self.momentum)
