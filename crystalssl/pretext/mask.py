"""Masked atoms: their elements are predicted from what surrounds them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch_geometric.data import Batch

from crystalssl._ranks import global_mean
from crystalssl.augment import AtomMasking
from crystalssl.encoders import Encoded, Encoder
from crystalssl.graphs import N_ELEMENTS
from crystalssl.pretext._base import PretextTask
from crystalssl.pretext._registry import register_task

__all__ = ["MaskedElements"]


class MaskedAtoms(PretextTask):
    """Base of the tasks that predict from one view, in which some atoms are masked.

    Parameters
    ----------
    atom_masking : float, default=0.15
        Share of atoms that are masked.
    """

    def __init__(self, atom_masking: float = 0.15):
        super().__init__()
        self.views = [AtomMasking(atom_masking)]
        if not atom_masking:
            raise ValueError("atom_masking must be more than 0: where no atom is masked nothing is learnt")


@register_task
class MaskedElements(MaskedAtoms):
    """Predict the elements of masked atoms, as in DSSL.

    Parameters
    ----------
    %(parameters)s

    References
    ----------
    N. Fu, L. Wei and J. Hu, J. Phys. Chem. Lett. 15, 2841 (2024), doi:10.1021/acs.jpclett.4c00100, eq. 2.
    """

    name = "mask"
    encoder_name = "cgcnn"

    def build(self, encoder: Encoder) -> None:
        """Make the layer that predicts elements."""
        self.classifier = nn.Linear(encoder.node_dim, N_ELEMENTS)

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return the mean cross entropy over masked atoms; 0 if there are none."""
        masked = (views[0].z == 0).nonzero()[:, 0]
        logits = self.classifier(encoded[0].node.index_select(0, masked))
        error = cross_entropy(logits, batch.z[masked] - 1, reduction="sum") / max(len(masked), 1)
        return global_mean(error, len(masked))
