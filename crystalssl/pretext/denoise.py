"""Denoising as a part of other objectives: the shift of every distance is predicted."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl._ranks import global_mean
from crystalssl.augment import GaussianPerturbation
from crystalssl.encoders import Encoded, Encoder
from crystalssl.pretext._base import PretextTask
from crystalssl.pretext._registry import register_task

__all__ = ["DistanceDenoising"]


@register_task
class DistanceDenoising(PretextTask):
    """Predict by how much a perturbation of the atoms has changed every distance, in units of its size.

    Unlike CDSSL, whose target is the distance itself, all crystals and all edges count alike, and small perturbations
    leave the input a crystal that other tasks can share.

    Parameters
    ----------
    sigma : float, default=0.1
        Standard deviation of the noise on each Cartesian coordinate, in Å.

    References
    ----------
    S. Zaidi et al., ICLR 2023, arXiv:2206.00133.
    """

    name = "denoise"
    encoder_name = "gatedgcn"
    needs_edges = True

    def __init__(self, sigma: float = 0.1):
        super().__init__()
        self.sigma = sigma
        self.views = [GaussianPerturbation(sigma)]

    def build(self, encoder: Encoder) -> None:
        """Make the layer that predicts shifts."""
        self.regressor = nn.Linear(encoder.edge_dim or 0, 1)

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return the mean absolute error of the predicted shifts; 0 without edges."""
        shift = (views[0].distance - batch.distance) / self.sigma
        error = (self.regressor(encoded[0].edge)[:, 0] - shift).abs().sum() / max(len(shift), 1)
        return global_mean(error, len(shift))
