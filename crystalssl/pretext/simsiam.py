"""SimSiam, as Crystal Twins uses it."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import cosine_similarity
from torch_geometric.data import Batch

from crystalssl._ranks import global_mean
from crystalssl.encoders import Encoded, Encoder
from crystalssl.pretext._base import TwoViews, mlp
from crystalssl.pretext._registry import register_task

__all__ = ["SimSiam", "simsiam_loss"]


def simsiam_loss(predicted_a: Tensor, a: Tensor, predicted_b: Tensor, b: Tensor) -> Tensor:
    """Return the mean negative cosine between each view's prediction and the other view's projection.

    Parameters
    ----------
    predicted_a, a, predicted_b, b : Tensor of shape (n_crystals, d)
        Predictions and projections of the two views; no gradient flows into the projections.

    Returns
    -------
    Tensor
        A scalar between -1 (perfect agreement, or a collapsed encoder) and 1.

    References
    ----------
    X. Chen and K. He, CVPR 2021, arXiv:2011.10566.
    """
    return -0.5 * (
        cosine_similarity(predicted_a, b.detach(), dim=1).mean()
        + cosine_similarity(predicted_b, a.detach(), dim=1).mean()
    )


@register_task
class SimSiam(TwoViews):
    """Crystal Twins with the SimSiam loss: one view predicts the other, through which no gradient flows.

    Parameters
    ----------
    predictor_dim : int, default=32
        Width of the predictor's hidden layer, a bottleneck.
    %(parameters)s

    References
    ----------
    R. Magar, Y. Wang and A. Barati Farimani, npj Comput. Mater. 8, 231 (2022), doi:10.1038/s41524-022-00921-5.
    """

    name = "simsiam"

    def __init__(self, predictor_dim: int = 32, **view_params: Any):
        super().__init__(**view_params)
        self.predictor_dim = predictor_dim

    def build(self, encoder: Encoder) -> None:
        """Make projector and predictor."""
        super().build(encoder)
        self.predictor = mlp(self.projection_dim, self.predictor_dim, self.projection_dim)

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return the loss of two views of the batch: it is a mean over crystals, of which no two are compared."""
        a, b = (self.projector(part.graph) for part in encoded)
        return global_mean(self.compare(a, b, batch), len(a))

    def compare(self, a: Tensor, b: Tensor, batch: Batch) -> Tensor:
        """Return :func:`simsiam_loss`."""
        return simsiam_loss(self.predictor(a), a, self.predictor(b), b)
