"""Barlow Twins, as Crystal Twins uses it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, inf
from torch_geometric.data import Batch

from crystalssl.pretext._base import TwoViews
from crystalssl.pretext._registry import register_task

__all__ = ["BarlowTwins", "barlow_loss"]


def barlow_loss(a: Tensor, b: Tensor, redundancy_weight: float = 0.0051) -> Tensor:
    """Return the Barlow Twins loss of two projections, eqs. 3-4 of Crystal Twins.

    With ``C_ij = Σ_n a_ni b_nj / (√Σ_n a_ni² √Σ_n b_nj²)``, a and b centred over the batch as in Barlow Twins, it is
    ``Σ_i (1 - C_ii)² + λ Σ_i Σ_{j≠i} C_ij²``.

    Parameters
    ----------
    a, b : Tensor of shape (n_crystals, d)
        Projections of two views of the same crystals.
    redundancy_weight : float, default=0.0051
        λ.

    Returns
    -------
    Tensor
        A scalar. It is 0 for decorrelated features that agree between the views, and d if the encoder has collapsed to
        one vector.

    References
    ----------
    R. Magar, Y. Wang and A. Barati Farimani, npj Comput. Mater. 8, 231 (2022), doi:10.1038/s41524-022-00921-5.
    J. Zbontar et al., ICML 2021, arXiv:2103.03230.
    """
    (a, norm_a), (b, norm_b) = _centred(a), _centred(b)
    correlation = (a.T @ b) / (norm_a[:, None] * norm_b)
    squares = correlation.square().sum()
    diagonal = correlation.diagonal()
    return (1 - diagonal).square().sum() + redundancy_weight * (squares - diagonal.square().sum())


def _centred(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return `x` less its mean over the batch, and the norm of each feature."""
    centred = x - x.mean(dim=0)
    norm = centred.norm(dim=0)
    # A feature that is constant but for rounding has no correlation: 0, not NaN, and not the 1 of its rounding errors.
    return centred, norm.masked_fill(norm <= 1e-5 * x.norm(dim=0), inf)


@register_task
class BarlowTwins(TwoViews):
    """Crystal Twins with the Barlow Twins loss: two views agree, and no two features say the same.

    Parameters
    ----------
    redundancy_weight : float, default=0.0051
        λ, the weight of the off-diagonal terms.
    %(parameters)s

    References
    ----------
    R. Magar, Y. Wang and A. Barati Farimani, npj Comput. Mater. 8, 231 (2022), doi:10.1038/s41524-022-00921-5.
    """

    name = "barlow"

    def __init__(self, redundancy_weight: float = 0.0051, **view_params: Any):
        super().__init__(**view_params)
        self.redundancy_weight = redundancy_weight

    def compare(self, a: Tensor, b: Tensor, batch: Batch) -> Tensor:
        """Return :func:`barlow_loss`."""
        return barlow_loss(a, b, self.redundancy_weight)
