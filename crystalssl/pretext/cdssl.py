"""CDSSL: the distances of a crystal are recovered from a perturbed one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.utils import scatter

from crystalssl._ranks import global_mean
from crystalssl.augment import GaussianPerturbation
from crystalssl.encoders import Encoded, Encoder
from crystalssl.pretext._base import PretextTask
from crystalssl.pretext._registry import register_task

__all__ = ["CrystalDenoising", "standardised_distances"]

_EQUAL = 1e-4  # Å: distances that differ by less are those of one shell, whose copies carry rounding errors


def standardised_distances(batch: Batch) -> Tensor:
    """Return the distances of each crystal less their mean, over their standard deviation, eq. 2 of CDSSL.

    Parameters
    ----------
    batch : Batch
        Of crystals as they are, not of perturbed ones.

    Returns
    -------
    Tensor of shape (n_edges,)
        Zeros for a crystal whose distances are all equal.
    """
    crystal = batch.batch[batch.edge_index[1]]
    sizes = torch.bincount(crystal, minlength=batch.num_graphs).clamp(min=1)

    def mean(values: Tensor) -> Tensor:
        return scatter(values, crystal, dim=0, dim_size=batch.num_graphs, reduce="sum") / sizes

    centred = batch.distance.double()
    centred = centred - mean(centred)[crystal]
    deviation = mean(centred.square()).sqrt()
    scale = deviation.masked_fill(deviation < _EQUAL, torch.inf)
    return (centred / scale[crystal]).to(batch.distance.dtype)


@register_task
class CrystalDenoising(PretextTask):
    """Crystal denoising: predict the standardised distances from perturbed positions, eqs. 1-4 of CDSSL.

    The perturbed crystal keeps its edges; only their lengths change. The squared error is summed over the edges of a
    crystal and averaged over the crystals of the batch.

    Parameters
    ----------
    sigma : float, default=0.5
        Standard deviation of the noise on each Cartesian coordinate, in Å.

    References
    ----------
    A. New, N. Q. Le, M. J. Pekala and C. D. Stiles, ICML 2024 AI for Science workshop, arXiv:2408.17255.
    """

    name = "cdssl"
    encoder_name = "megnet"
    needs_edges = True

    def __init__(self, sigma: float = 0.5):
        super().__init__()
        self.views = [GaussianPerturbation(sigma)]

    def build(self, encoder: Encoder) -> None:
        """Make the layer that predicts distances."""
        self.regressor = nn.Linear(encoder.edge_dim or 0, 1)

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return the squared error of the predicted distances, summed over edges and averaged over crystals."""
        predicted = self.regressor(encoded[0].edge)[:, 0]
        error = (predicted - standardised_distances(batch)).square().sum() / batch.num_graphs
        return global_mean(error, batch.num_graphs)
