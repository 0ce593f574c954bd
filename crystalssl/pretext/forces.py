"""Forces on atoms and the virial of the cell, from the vectors of edges."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl._geometry import edge_vectors
from crystalssl.augment import Compose
from crystalssl.encoders import Encoded, Encoder
from crystalssl.pretext._base import PretextTask
from crystalssl.pretext._labels import Labels, encode_labels, mean_where
from crystalssl.pretext._registry import register_task

__all__ = ["Forces"]


@register_task
class Forces(PretextTask):
    """Predict the force on every atom, and the virial of the cell, as sums over edges.

    With the unit vector r of an edge from neighbour j to centre i, and two numbers g and h that a small network makes
    of the edge's vector, the force is ``F_i = Σ_j f_ij g_ij r_ij`` and the virial per atom the mean over atoms of
    ``Σ_j f_ij h_ij r_ij r_ijᵀ``. Both turn with the crystal. The weight f lets an edge fade out before it is cut off.
    The loss is the mean length of the error of a force plus that of a virial, each in units of the root mean square of
    its components over the corpus. The labels are given as a DataFrame with the columns

    - ``"forces"``: arrays of shape (n_atoms, 3), in eV/Å or any other unit, and
    - ``"virial"``: arrays of shape (3, 3), the stress times the volume per atom; optional.

    The forces of crystals at rest vanish: the corpus must be displaced from its minimum.

    Parameters
    ----------
    head_dim : int, default=64
        Width of the hidden layer between an edge's vector and its two numbers.
    n_labels : int, default=0
        9 with virials, 0 without; it follows from the labels.

    References
    ----------
    N. Shoghi et al., From molecules to materials: pre-training large generalizable models for atomic property
    prediction, ICLR 2024, arXiv:2310.16802.
    """

    name = "forces"
    encoder_name = "gatedgcn"
    needs_edges = True
    needs_labels = True
    n_labels_param = "n_labels"

    def __init__(self, head_dim: int = 64, n_labels: int = 0):
        super().__init__()
        self.head_dim = head_dim
        self.n_labels = n_labels
        self.views = [Compose([])]

    def build(self, encoder: Encoder) -> None:
        """Make the network that turns edges into numbers."""
        self.head = nn.Sequential(
            nn.Linear(encoder.edge_dim or 0, self.head_dim), nn.SiLU(), nn.Linear(self.head_dim, 2)
        )

    @classmethod
    def encode_labels(cls, y: Any) -> Labels:
        """Return forces and virials in units of their root mean squares.

        Raises
        ------
        ValueError
            If there are no forces, or other labels beside them.
        """
        labels = encode_labels(y)
        if labels is None or labels.atoms is None or labels.n_properties:
            raise ValueError(
                'the pretext task "forces" learns from forces; give y as a DataFrame with the column "forces", whose '
                'items have the shape (n_atoms, 3), and, if they are known, "virial"; "joint" takes properties too'
            )
        return labels

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return the loss over the known forces and virials."""
        view = views[0]
        centers = view.edge_index[1]
        directions = nn.functional.normalize(edge_vectors(view), dim=1)
        pull, push = (self.head(encoded[0].edge) * view.edge_weight[:, None]).split(1, dim=1)
        total = view.pos.new_zeros(())
        if "atom_y" in batch:  # "joint" may have virials alone
            forces = view.pos.new_zeros(len(view.z), 3).index_add(0, centers, pull * directions)
            error = (forces - batch.atom_y.nan_to_num()).norm(dim=1)
            total = total + mean_where(~batch.atom_y.isnan().any(dim=1), error)
        if self.n_labels:
            dyads = push[:, :, None] * directions[:, :, None] * directions[:, None, :]
            crystals = view.batch[centers]
            virial = view.pos.new_zeros(view.num_graphs, 9).index_add(0, crystals, dyads.flatten(1))
            target = batch.y[:, -9:]
            error = (virial / view.ptr.diff()[:, None] - target.nan_to_num()).norm(dim=1)
            total = total + mean_where(~target.isnan().any(dim=1), error)
        return total
