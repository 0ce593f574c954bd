"""The package's own objective: known properties, forces, masking and denoising in one forward pass."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from crystalssl.augment import Compose
from crystalssl.encoders import Encoded, Encoder
from crystalssl.pretext._base import PretextTask
from crystalssl.pretext._labels import Labels, encode_labels, encode_properties, mean_where
from crystalssl.pretext._registry import register_task
from crystalssl.pretext.composite import WeightedTasks
from crystalssl.pretext.denoise import DistanceDenoising
from crystalssl.pretext.forces import Forces
from crystalssl.pretext.mask import MaskedElements

__all__ = ["Joint", "KnownProperties"]


@register_task
class KnownProperties(PretextTask):
    """Predict the volume per atom, and whatever other properties are known of the crystals of the corpus.

    The predictions are the encoder's own, :meth:`~crystalssl.encoders.Encoder.learn_properties`. So they are a part of
    its vectors, and finetuning starts from them.

    Parameters
    ----------
    n_properties : int, default=0
        Columns of the labels, NaN where unknown. The logarithm of the volume per atom is added to them.
    """

    name = "properties"
    encoder_name = "gatedgcn"
    n_labels_param = "n_properties"

    def __init__(self, n_properties: int = 0):
        super().__init__()
        self.n_properties = n_properties
        self.views = [Compose([])]

    def build(self, encoder: Encoder) -> None:
        """Have the encoder predict the properties: what it has learnt of them stays with it.

        Without labels one that predicts some already goes on to do so, and learns of the volume alone.
        """
        n_before, n_properties = encoder.n_properties, self.n_properties + 1
        if n_before and not self.n_properties:
            return
        if n_before not in (0, n_properties):
            warnings.warn(
                f"the weights predict {n_before} properties, the volume among them, and the labels have "
                f"{self.n_properties} columns: what is predicted is learnt anew; give the labels that the weights have "
                "learnt, NaN where unknown, or none, to keep it",
                UserWarning,
                stacklevel=2,
            )
        encoder.learn_properties(n_properties)

    @classmethod
    def encode_labels(cls, y: Any) -> np.ndarray | None:
        """Return the properties, standardised."""
        return None if y is None else encode_properties(y)

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return the mean absolute error over known values, the mean over properties."""
        # About 3 ± 0.5 for crystals, in units of log(Å³); standardised like the labels.
        volume = (torch.linalg.det(batch.cell).abs() / batch.ptr.diff()).log()
        target = torch.cat([batch.y[:, : self.n_properties], (volume[:, None] - 3) / 0.5], dim=1)
        known = ~target.isnan()
        predicted = encoded[0].properties
        assert predicted is not None  # since `build`
        errors = (predicted[:, -target.shape[1] :] - target.nan_to_num()).abs()
        # In a batch each property counts the same, of however many crystals it is known; of none it counts as right.
        return torch.stack([mean_where(*column) for column in zip(known.T, errors.T, strict=True)]).mean()


@register_task
class Joint(WeightedTasks):
    """Known properties, forces, masking and denoising, all from one view of each crystal.

    ``L = L_properties + w_force L_forces + w_mask L_mask + w_denoise L_denoise``: properties and forces say what
    matters in a crystal, masking asks for its chemistry and denoising for its geometry. The labels are those of other
    properties than the one that is finetuned for, and may be missing: without any it is self-supervised. They are an
    array of shape (n_crystals, n_properties), or a DataFrame, which may have the columns "forces" and "virial" of
    :class:`~crystalssl.pretext.forces.Forces` as well, both or one of them.

    Parameters
    ----------
    n_properties : int, default=0
        Columns of the properties; it follows from the labels.
    n_virials : int, default=0
        9 with virials, 0 without; it follows from the labels.
    has_forces : bool, default=False
        Whether there are forces; it follows from the labels.
    force_weight : float, default=1.0
        Weight of forces and virials beside the properties.
    mask_weight, denoise_weight : float, default=0.3
        Weights of masking and denoising; 0 leaves the task and its perturbation out.
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
        n_virials: int = 0,
        has_forces: bool = False,
        force_weight: float = 1.0,
        mask_weight: float = 0.3,
        denoise_weight: float = 0.3,
        atom_masking: float = 0.15,
        sigma: float = 0.1,
    ):
        parts: list[tuple[PretextTask, float]] = [
            (KnownProperties(n_properties), 1.0),
            (Forces(n_labels=n_virials), force_weight if has_forces or n_virials else 0.0),
            (MaskedElements(atom_masking), mask_weight),
            (DistanceDenoising(sigma), denoise_weight),
        ]
        tasks, weights = zip(*((task, weight) for task, weight in parts if weight), strict=True)
        # Atoms move before some are hidden, and all tasks see both.
        views = [task.views[0] for task in reversed(tasks) if isinstance(task, MaskedElements | DistanceDenoising)]
        super().__init__(tasks, weights, Compose(views))

    @classmethod
    def encode_labels(cls, y: Any) -> Labels | None:
        """Return the properties standardised, forces and virials by their size."""
        return encode_labels(y)

    @classmethod
    def label_params(cls, labels: Any) -> dict[str, Any]:
        """Return which labels there are."""
        if labels is None:
            return {"n_properties": 0, "n_virials": 0, "has_forces": False}
        n_virials = labels.crystals.shape[1] - labels.n_properties
        return {"n_properties": labels.n_properties, "n_virials": n_virials, "has_forces": labels.atoms is not None}
