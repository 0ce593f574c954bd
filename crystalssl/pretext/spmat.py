"""SPMat: two views of each crystal are compared, and surrogate classes say which crystals are alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize
from torch_geometric.data import Batch

from crystalssl.augment import AtomMasking, Augmentation, Compose, EdgeMasking, NeighborDistanceNoising
from crystalssl.pretext._base import TwoViews
from crystalssl.pretext._labels import encode_classes
from crystalssl.pretext._registry import register_task
from crystalssl.pretext.simclr import SimCLR

__all__ = ["SPMatBarlow", "SPMatSimCLR", "supervised_barlow_loss", "supervised_contrastive_loss"]


def same_class(classes: Tensor) -> Tensor:
    """Return which pairs of crystals have the same class.

    A crystal without a class (-1) is like itself only. Nothing says that two such crystals are alike.

    Parameters
    ----------
    classes : Tensor of shape (n_crystals,)
        Surrogate classes; -1 for none.

    Returns
    -------
    Tensor of shape (n_crystals, n_crystals), bool
    """
    same = (classes[:, None] == classes) & (classes >= 0)
    return same.fill_diagonal_(True)


def supervised_contrastive_loss(a: Tensor, b: Tensor, classes: Tensor, temperature: float = 0.1) -> Tensor:
    """Return the supervised contrastive loss of two projections.

    Each of the 2n projections has to find the others of its class among the 2n - 1 others. The cross entropy of
    finding one of them is averaged over all of them, and then over the 2n projections.

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
        A scalar. If no crystal has a class, it is :func:`simclr_loss`. If all projections are equal, it is
        ``log(2n - 1)``.

    References
    ----------
    P. Khosla et al., NeurIPS 2020, arXiv:2004.11362.
    """
    z = normalize(torch.cat([a, b]), dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    log_probability = log_softmax((z @ z.T / temperature).masked_fill(itself, -torch.inf), dim=1)
    alike = same_class(classes).repeat(2, 2) & ~itself
    # The logarithm is -inf where a projection meets itself. Multiplying by zero would give NaN there.
    picked = log_probability.masked_fill(~alike, 0).sum(dim=1)
    return -(picked / alike.sum(dim=1)).mean()


def supervised_barlow_loss(a: Tensor, b: Tensor, classes: Tensor, different_weight: float = 1.0) -> Tensor:
    """Return the supervised Barlow Twins loss, which correlates samples instead of features.

    ``C_ij`` is the cosine of projection i of one view and projection j of the other. The loss is the mean of
    ``(1 - C_ij)²`` over the pairs of the same class, plus λ times the mean of ``C_ij²`` over all other pairs.

    Parameters
    ----------
    a, b, classes
        As in :func:`supervised_contrastive_loss`.
    different_weight : float, default=1.0
        λ.

    Returns
    -------
    Tensor
        A scalar. It is 0 if the projections of a class are equal and those of different classes are orthogonal. If all
        projections are equal, it is λ.

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
    %(parameters)s
    **view_params
        `atom_masking`, `edge_masking` and `distance_noise` of :meth:`default_view`, where `views` is None.
    """

    needs_labels = True

    @staticmethod
    def default_view(  # type: ignore[override]  # its parameters are others
        atom_masking: float = 0.1, edge_masking: float = 0.1, distance_noise: float = 0.5
    ) -> Augmentation:
        """Return what makes a view where a user does not say so.

        Parameters
        ----------
        atom_masking, edge_masking : float, default=0.1
            Share of atoms and edges that are masked.
        distance_noise : float, default=0.5
            Largest noise on the length of each edge, in Å (GNDN).
        """
        return Compose([AtomMasking(atom_masking), EdgeMasking(edge_masking), NeighborDistanceNoising(distance_noise)])

    @classmethod
    def encode_labels(cls, y: Any) -> np.ndarray:
        """Return the classes as integers, -1 where there is none."""
        return encode_classes(y, cls.name)


@register_task
class SPMatSimCLR(SPMat, SimCLR):
    """SPMat with the supervised contrastive loss: crystals of the same surrogate class find each other.

    Parameters
    ----------
    temperature : float, default=0.1
        τ, as of :class:`SimCLR`.
    %(parameters)s

    References
    ----------
    Supervised Pretraining for Material Property Prediction (SPMat), arXiv:2504.20112.
    """

    name = "spmat-simclr"

    def compare(self, a: Tensor, b: Tensor, batch: Batch) -> Tensor:
        """Return :func:`supervised_contrastive_loss`."""
        return supervised_contrastive_loss(a, b, batch.y[:, 0], self.temperature)


@register_task
class SPMatBarlow(SPMat):
    """SPMat with the supervised Barlow Twins loss: crystals of a class become equal, those of others orthogonal.

    Parameters
    ----------
    different_weight : float, default=1.0
        λ, the weight of the pairs of different classes.
    %(parameters)s

    References
    ----------
    Supervised Pretraining for Material Property Prediction (SPMat), arXiv:2504.20112.
    """

    name = "spmat-barlow"

    def __init__(self, different_weight: float = 1.0, **view_params: Any):
        super().__init__(**view_params)
        self.different_weight = different_weight

    def compare(self, a: Tensor, b: Tensor, batch: Batch) -> Tensor:
        """Return :func:`supervised_barlow_loss`."""
        return supervised_barlow_loss(a, b, batch.y[:, 0], self.different_weight)
