"""SimSiam, as Crystal Twins uses it."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cosine_similarity
from torch_geometric.data import Batch

from crystalssl.encoders import Encoder
from crystalssl.pretext._base import TwoViews, mlp

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


class SimSiam(TwoViews):
    """Crystal Twins with the SimSiam loss: one view predicts the other, through which no gradient flows.

    Parameters
    ----------
    encoder : Encoder
        The network to pretrain; CGCNN in the paper.
    predictor_dim : int, default=32
        Width of the predictor's hidden layer, a bottleneck.
    **view_params
        `projection_dim`, `perturbation`, `atom_masking` and `edge_masking` of :class:`TwoViews`.

    References
    ----------
    R. Magar, Y. Wang and A. Barati Farimani, npj Comput. Mater. 8, 231 (2022), doi:10.1038/s41524-022-00921-5.
    """

    name = "simsiam"

    def __init__(self, encoder: Encoder, predictor_dim: int = 32, **view_params: float):
        super().__init__(encoder, **view_params)  # type: ignore[arg-type]
        dim = self.projector[-1].out_features
        self.predictor = mlp(dim, predictor_dim, dim)  # type: ignore[arg-type]

    def compare(self, a: Tensor, b: Tensor, batch: Batch) -> Tensor:
        """Return :func:`simsiam_loss`."""
        return simsiam_loss(self.predictor(a), a, self.predictor(b), b)
