"""What all pretext tasks share."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl.augment import AtomMasking, Augmentation, Compose, EdgeMasking, RandomPerturbation
from crystalssl.encoders import Encoder

__all__ = ["PretextTask", "TwoViews", "mlp"]


class PretextTask(nn.Module):
    """Base class: encoder and batch in, loss out.

    A subclass sets `name` and `encoder_name` (the paper's encoder), takes the encoder and JSON values in its
    constructor, and writes ``forward(batch, generator)``, which returns the loss as a scalar.

    Parameters
    ----------
    encoder : Encoder
        The network to pretrain.
    """

    name: ClassVar[str]
    encoder_name: ClassVar[str]

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        batch : Batch
            As made by :func:`crystalssl.training.collate`, with surrogate labels ``batch.y`` of shape
            (n_crystals, n_labels), which have no columns where there are none.
        generator : torch.Generator
            Source of all that is random in the views.
        """
        raise NotImplementedError


class TwoViews(PretextTask):
    """Base of the tasks of Crystal Twins, which compare two random views of each crystal.

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
    augmentation: Augmentation

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
        self.augmentation = Compose(
            [RandomPerturbation(perturbation), AtomMasking(atom_masking), EdgeMasking(edge_masking)]
        )

    def forward(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the loss of two views of the batch."""
        views = [self.augmentation(batch, generator) for _ in range(2)]
        return self.compare(*(self.projector(self.encoder(view).graph) for view in views))

    def compare(self, a: Tensor, b: Tensor) -> Tensor:
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
