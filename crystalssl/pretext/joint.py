"""The package's own objective: masking, denoising and known properties in one forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl.augment import Compose
from crystalssl.encoders import Encoded, Encoder
from crystalssl.pretext._base import PretextTask
from crystalssl.pretext._labels import encode_properties
from crystalssl.pretext._registry import register_task
from crystalssl.pretext.composite import WeightedTasks
from crystalssl.pretext.denoise import DistanceDenoising
from crystalssl.pretext.mask import MaskedElements

__all__ = ["Joint", "KnownProperties"]


@register_task
class KnownProperties(PretextTask):
    """Predict the volume per atom, and whatever other properties are known of the crystals of the corpus.

    Parameters
    ----------
    n_properties : int, default=0
        Columns of the labels, NaN where unknown. The logarithm of the volume per atom is added to them.
    head_dim : int, default=128
        Width of the hidden layer between the crystal's vector and the predictions.
    """

    name = "properties"
    encoder_name = "gatedgcn"
    n_labels_param = "n_properties"

    def __init__(self, n_properties: int = 0, head_dim: int = 128):
        super().__init__()
        self.n_properties = n_properties
        self.head_dim = head_dim
        self.views = [Compose([])]

    def build(self, encoder: Encoder) -> None:
        """Make the head that predicts properties."""
        self.head = nn.Sequential(
            nn.Linear(encoder.graph_dim, self.head_dim), nn.SiLU(), nn.Linear(self.head_dim, self.n_properties + 1)
        )

    @classmethod
    def encode_labels(cls, y: Any) -> np.ndarray | None:
        """Return the properties, standardised."""
        return None if y is None else encode_properties(y)

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return the mean absolute error over known values."""
        # About 3 ± 0.5 for crystals, in units of log(Å³); standardised like the labels.
        volume = (torch.linalg.det(batch.cell).abs() / batch.ptr.diff()).log()
        target = torch.cat([batch.y, (volume[:, None] - 3) / 0.5], dim=1)
        known = ~target.isnan()
        error = (self.head(encoded[0].graph) - target.nan_to_num()).abs()
        return (error * known).sum() / known.sum()


@register_task
class Joint(WeightedTasks):
    """Masking, denoising and prediction of known properties, all from one perturbed view.

    ``L = L_properties + w_mask L_mask + w_denoise L_denoise``: the properties say what matters in a crystal, masking
    asks for its chemistry and denoising for its geometry. The labels are those of other properties than the one that is
    finetuned for, and may be missing: without any it is self-supervised.

    Parameters
    ----------
    n_properties : int, default=0
        Columns of the labels.
    mask_weight, denoise_weight : float, default=0.3
        Weights of masking and denoising beside the properties; 0 leaves the task and its perturbation out.
    atom_masking : float, default=0.15
        Share of atoms that are masked.
    sigma : float, default=0.1
        Standard deviation of the noise on each Cartesian coordinate, in Å.
    """

    name = "joint"
    encoder_name = "gatedgcn"
    needs_edges = True
    n_labels_param = "n_properties"

    def __init__(
        self,
        n_properties: int = 0,
        mask_weight: float = 0.3,
        denoise_weight: float = 0.3,
        atom_masking: float = 0.15,
        sigma: float = 0.1,
    ):
        parts: list[tuple[PretextTask, float]] = [
            (KnownProperties(n_properties), 1.0),
            (MaskedElements(atom_masking), mask_weight),
            (DistanceDenoising(sigma), denoise_weight),
        ]
        tasks, weights = zip(*((task, weight) for task, weight in parts if weight), strict=True)
        # Atoms move before some are hidden, and all tasks see both.
        super().__init__(tasks, weights, Compose([task.views[0] for task in reversed(tasks[1:])]))

    @classmethod
    def encode_labels(cls, y: Any) -> np.ndarray | None:
        """Return the properties, standardised."""
        return KnownProperties.encode_labels(y)
