"""SPMat: the two views are compared with surrogate classes in mind."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize
from torch_geometric.data import Batch

from crystalssl.augment import AtomMasking, Compose, EdgeMasking, NeighborDistanceNoising
from crystalssl.encoders import Encoder
from crystalssl.pretext._base import TwoViews
from crystalssl.pretext._labels import encode_classes

__all__ = ["SPMatBarlow", "SPMatSimCLR", "supervised_barlow_loss", "supervised_contrastive_loss"]


def same_class(classes: Tensor) -> Tensor:
    """Return which pairs of crystals share a class.

    A crystal without class (-1) is a class of its own: only its other view is like it. Taking all crystals without
    class for one class would pull together what nothing is known of.

    Parameters
    ----------
    classes : Tensor of shape (n_crystals,)

    Returns
    -------
    Tensor of shape (n_crystals, n_crystals), bool
    """
    same = (classes[:, None] == classes) & (classes >= 0)
    return same.fill_diagonal_(True)


def supervised_contrastive_loss(a: Tensor, b: Tensor, classes: Tensor, temperature: float = 0.1) -> Tensor:
    """Return the supervised contrastive loss of two projections.

    For each of the 2n projections it is the mean, over all others of the same class, of the cross entropy with which it
    picks them among the 2n - 1 others.

    Parameters
    ----------
    a, b : Tensor of shape (n_crystals, d)
        Projections of two views of the same crystals.
    classes : Tensor of shape (n_crystals,)
        Surrogate classes; -1 for none.
    temperature : float, default=0.1
        τ.

    Returns
    -------
    Tensor
        A scalar. Without classes it is :func:`simclr_loss`; it is ``log(2n - 1)`` if the encoder has collapsed.

    References
    ----------
    P. Khosla et al., NeurIPS 2020, arXiv:2004.11362.
    """
    z = normalize(torch.cat([a, b]), dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    log_probability = log_softmax((z @ z.T / temperature).masked_fill(itself, -torch.inf), dim=1)
    alike = same_class(classes).repeat(2, 2) & ~itself
    # Where a projection meets itself the logarithm is -inf, which no product with zero would remove.
    picked = log_probability.masked_fill(~alike, 0).sum(dim=1)
    return -(picked / alike.sum(dim=1)).mean()


def supervised_barlow_loss(a: Tensor, b: Tensor, classes: Tensor, different_weight: float = 1.0) -> Tensor:
    """Return the supervised Barlow Twins loss: correlation of samples, not of features, with a mask of equal classes.

    With the cosines ``C_ij`` of the i-th projection of one view and the j-th of the other, it is the mean of
    ``(1 - C_ij)²`` over pairs of the same class plus λ times the mean of ``C_ij²`` over pairs of different classes.

    Parameters
    ----------
    a, b : Tensor of shape (n_crystals, d)
        Projections of two views of the same crystals.
    classes : Tensor of shape (n_crystals,)
        Surrogate classes; -1 for none.
    different_weight : float, default=1.0
        λ.

    Returns
    -------
    Tensor
        A scalar. It is 0 if the views of a class agree and classes are orthogonal, and λ if the encoder has collapsed
        to one vector.

    References
    ----------
    Supervised Pretraining for Material Property Prediction (SPMat), arXiv:2504.20112.
    """
    correlation = normalize(a, dim=1) @ normalize(b, dim=1).T
    same = same_class(classes)
    alike = ((1 - correlation).square() * same).sum() / same.sum()
    different = (correlation.square() * ~same).sum() / (~same).sum().clamp(min=1)
    return alike + different_weight * different


class SPMat(TwoViews):
    """Base of the two tasks of SPMat.

    Parameters
    ----------
    encoder : Encoder
        The network to pretrain; CGCNN in the paper.
    projection_dim : int, default=128
        Width of the projections that are compared.
    atom_masking, edge_masking : float, default=0.1
        Share of atoms and edges that are masked.
    distance_noise : float, default=0.5
        Largest noise on each edge's length in Å (GNDN).
    """

    needs_labels = True

    def __init__(
        self,
        encoder: Encoder,
        projection_dim: int = 128,
        atom_masking: float = 0.1,
        edge_masking: float = 0.1,
        distance_noise: float = 0.5,
    ):
        super().__init__(encoder, projection_dim)
        view = Compose([AtomMasking(atom_masking), EdgeMasking(edge_masking), NeighborDistanceNoising(distance_noise)])
        self.views = [view, view]

    @classmethod
    def encode_labels(cls, y: Any) -> np.ndarray:
        """Return the classes as integers, -1 where there is none."""
        return encode_classes(y, cls.name)


class SPMatSimCLR(SPMat):
    """SPMat with the supervised contrastive loss: views of the same surrogate class find each other.

    Parameters
    ----------
    encoder : Encoder
        The network to pretrain; CGCNN in the paper.
    temperature : float, default=0.1
        τ.
    **view_params
        `projection_dim`, `atom_masking`, `edge_masking` and `distance_noise` of :class:`SPMat`.

    References
    ----------
    Supervised Pretraining for Material Property Prediction (SPMat), arXiv:2504.20112.
    """

    name = "spmat-simclr"

    def __init__(self, encoder: Encoder, temperature: float = 0.1, **view_params: float):
        super().__init__(encoder, **view_params)  # type: ignore[arg-type]
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature!r}")
        self.temperature = temperature

    def compare(self, a: Tensor, b: Tensor, batch: Batch) -> Tensor:
        """Return :func:`supervised_contrastive_loss`."""
        return supervised_contrastive_loss(a, b, batch.y[:, 0], self.temperature)


class SPMatBarlow(SPMat):
    """SPMat with the supervised Barlow Twins loss: views of the same surrogate class agree, others are orthogonal.

    Parameters
    ----------
    encoder : Encoder
        The network to pretrain; CGCNN in the paper.
    different_weight : float, default=1.0
        λ, the weight of pairs of different classes.
    **view_params
        `projection_dim`, `atom_masking`, `edge_masking` and `distance_noise` of :class:`SPMat`.

    References
    ----------
    Supervised Pretraining for Material Property Prediction (SPMat), arXiv:2504.20112.
    """

    name = "spmat-barlow"

    def __init__(self, encoder: Encoder, different_weight: float = 1.0, **view_params: float):
        super().__init__(encoder, **view_params)  # type: ignore[arg-type]
        self.different_weight = different_weight

    def compare(self, a: Tensor, b: Tensor, batch: Batch) -> Tensor:
        """Return :func:`supervised_barlow_loss`."""
        return supervised_barlow_loss(a, b, batch.y[:, 0], self.different_weight)
