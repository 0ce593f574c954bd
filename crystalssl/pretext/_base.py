"""What all pretext tasks share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl.augment import AtomMasking, Augmentation, Compose, EdgeMasking, RandomPerturbation
from crystalssl.encoders import Encoded, Encoder

__all__ = ["PretextTask", "TwoViews", "mlp"]


class PretextTask(nn.Module):
    """Base class: encoder and batch in, loss out.

    A subclass sets `name` and `encoder_name` (the paper's encoder), takes the encoder and JSON values in its
    constructor, fills `views`, and writes :meth:`loss`. It owns the layers that turn what the encoder makes into what
    is compared or predicted; they are thrown away after pretraining.

    Parameters
    ----------
    encoder : Encoder
        The network to pretrain.

    Raises
    ------
    ValueError
        If the task needs edge outputs and the encoder has none.
    """

    name: ClassVar[str]
    encoder_name: ClassVar[str]
    needs_edges: ClassVar[bool] = False
    """Whether the task reads the encoder's edge outputs."""

    needs_labels: ClassVar[bool] = False
    """Whether the task cannot do without labels."""
    n_labels_param: ClassVar[str | None] = None
    """Parameter of the constructor that takes the number of columns of the labels."""

    encoder: Encoder
    views: list[Augmentation]
    """How the views of a batch are made, each of which the encoder sees once."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        if self.needs_edges and encoder.edge_dim is None:
            raise ValueError(
                f"the pretext task {self.name!r} needs an encoder with edge outputs, which {encoder.name!r} does not "
                "have; choose one that updates edges, such as 'megnet', 'alignn' or 'gatedgcn'"
            )
        self.encoder = encoder

    @classmethod
    def encode_labels(cls, y: Any) -> np.ndarray | None:
        """Return what users give as `y` as an array of shape (n_crystals, n_labels), float32, or None if unused.

        Raises
        ------
        ValueError
            If the task cannot learn from `y`.
        """
        return None

    def check_elements(self, elements: Sequence[int]) -> None:
        """Raise ValueError if the task has nothing to learn from crystals of these atomic numbers."""

    def forward(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        batch : Batch
            As made by :func:`crystalssl.training.collate`, with labels ``batch.y`` of shape (n_crystals, n_labels),
            which have no columns where there are none.
        generator : torch.Generator
            Source of all that is random in the views.
        """
        views = [augment(batch, generator) for augment in self.views]
        return self.loss([self.encoder(view) for view in views], views, batch)

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return the loss, a scalar, of what the encoder makes of the views of `batch`."""
        raise NotImplementedError


class TwoViews(PretextTask):
    """Base of the tasks that compare two random views of each crystal.

    Parameters
    ----------
    encoder : Encoder
        The network to pretrain.
    projection_dim : int, default=128
        Width of the projections that are compared.
    perturbation : float, default=0.05
        Displacement of every atom in Å.
    atom_masking, edge_masking : float, default=0.1
        Share of atoms and edges that are masked.
    """

    encoder_name = "cgcnn"

    def __init__(
        self,
        encoder: Encoder,
        projection_dim: int = 128,
        perturbation: float = 0.05,
        atom_masking: float = 0.1,
        edge_masking: float = 0.1,
    ):
        super().__init__(encoder)
        self.projector = mlp(encoder.graph_dim, projection_dim, projection_dim)
        view = Compose([RandomPerturbation(perturbation), AtomMasking(atom_masking), EdgeMasking(edge_masking)])
        self.views = [view, view]

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return the loss of two views of the batch."""
        a, b = (self.projector(part.graph) for part in encoded)
        return self.compare(a, b, batch)

    def compare(self, a: Tensor, b: Tensor, batch: Batch) -> Tensor:
        """Return the loss of two projections of shape (n_crystals, projection_dim)."""
        raise NotImplementedError


def mlp(*dims: int) -> nn.Sequential:
    """Return linear layers of these widths, with batch normalisation and ReLU between them."""
    layers: list[Any] = []
    for i, (d_in, d_out) in enumerate(itertools.pairwise(dims)):
        if i:
            layers += [nn.BatchNorm1d(d_in), nn.ReLU(inplace=True)]
        layers.append(nn.Linear(d_in, d_out))
    return nn.Sequential(*layers)
