"""Two perturbed views of a crystal are to have the same direction."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch_geometric.data import Batch

from crystalssl._ranks import global_mean
from crystalssl.augment import Augmentation, RandomPerturbation
from crystalssl.encoders import Encoded, Encoder
from crystalssl.pretext._base import PretextTask, two_views
from crystalssl.pretext._registry import register_task

__all__ = ["CosineContrast", "cosine_loss"]


def cosine_loss(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean of ``1 - cos(a, b)``, eq. 3 of DSSL.

    Parameters
    ----------
    a, b : Tensor of shape (n_crystals, d)
        Vectors of two views of the same crystals.

    Returns
    -------
    Tensor
        A scalar between 0 and 2. Nothing keeps it from 0 but other tasks: it is 0 if the encoder has collapsed.

    References
    ----------
    N. Fu, L. Wei and J. Hu, J. Phys. Chem. Lett. 15, 2841 (2024), doi:10.1021/acs.jpclett.4c00100.
    """
    return 1 - cosine_similarity(a, b, dim=1).mean()


@register_task
class CosineContrast(PretextTask):
    """Maximise the cosine of two perturbed views of a crystal, eq. 3 of DSSL.

    The encoder is DeeperGATGNN in the paper, and CGCNN in the bundled weights.

    Parameters
    ----------
    views : str, type, Augmentation, dict, list of these, or pair of lists, default=None
        How the two views are made, as :func:`crystalssl.augment.resolve_views` takes it; None perturbs the atoms.
    **view_params
        `perturbation`, the displacement of every atom, 0.05 Å by default, where `views` is None.

    References
    ----------
    N. Fu, L. Wei and J. Hu, J. Phys. Chem. Lett. 15, 2841 (2024), doi:10.1021/acs.jpclett.4c00100.
    """

    name = "cosine"
    encoder_name = "cgcnn"

    def __init__(self, views: Any = None, **view_params: Any):
        super().__init__()
        self.views = two_views(views, self.default_view, view_params)

    @staticmethod
    def default_view(perturbation: float = 0.05) -> Augmentation:
        """Return what makes a view where a user does not say so."""
        return RandomPerturbation(perturbation)

    def build(self, encoder: Encoder) -> None:
        """Make the projector."""
        self.projector = nn.Linear(encoder.graph_dim, encoder.graph_dim)

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return :func:`cosine_loss`."""
        a, b = (self.projector(part.graph) for part in encoded)
        return global_mean(cosine_loss(a, b), len(a))
