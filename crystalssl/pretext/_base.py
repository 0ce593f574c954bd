"""What all pretext tasks share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl._config import Configured
from crystalssl._ranks import global_rows
from crystalssl.augment import (
    AtomMasking,
    Augmentation,
    Compose,
    EdgeMasking,
    RandomPerturbation,
    resolve_views,
    shallow_copy,
)
from crystalssl.encoders import Encoded, Encoder
from crystalssl.pretext._labels import Labels

__all__ = ["PretextTask", "TwoViews", "mlp", "two_views"]


class PretextTask(Configured, nn.Module):
    """Base class: encoder and batch in, loss out.

    What the constructor makes is a template without weights: it takes JSON values, which are recorded as `config`, and
    fills `views`. :meth:`bind` returns a task like it around an encoder, with the layers that :meth:`build` makes to
    turn what the encoder makes into what is compared or predicted. They are thrown away after pretraining.

    A subclass sets `name`, and writes :meth:`build` and :meth:`loss`.
    """

    name: ClassVar[str]
    encoder_name: ClassVar[str] = "gatedgcn"
    """The encoder that is pretrained unless a user names one; that of the paper."""
    needs_edges: ClassVar[bool] = False
    """Whether the task reads the encoder's edge outputs."""

    needs_labels: ClassVar[bool] = False
    """Whether the task cannot do without labels."""
    n_labels_param: ClassVar[str | None] = None
    """Parameter of the constructor that takes the number of columns of the labels."""

    encoder: Encoder
    views: list[Augmentation]
    """How the views of a batch are made, each of which the encoder sees once."""

    def __init__(self) -> None:
        super().__init__()
        self.views = []

    def bind(self, encoder: Encoder) -> Any:
        """Return a task like this one around an encoder, with layers of random weights.

        Parameters
        ----------
        encoder : Encoder
            The network to pretrain.

        Returns
        -------
        PretextTask
            A new one; this one stays a template.

        Raises
        ------
        ValueError
            If the task needs edge outputs and the encoder has none.
        """
        if self.needs_edges and encoder.edge_dim is None:
            raise ValueError(
                f"the pretext task {self.name!r} needs an encoder with edge outputs, which {encoder.name!r} does not "
                "have; choose one that updates edges, such as 'megnet', 'alignn' or 'gatedgcn'"
            )
        task = type(self)(**self.config)
        task.encoder = encoder
        task.build(encoder)
        return task

    def build(self, encoder: Encoder) -> None:
        """Make the layers of the task, as attributes, for what this encoder makes."""

    @classmethod
    def encode_labels(cls, y: Any) -> np.ndarray | Labels | None:
        """Return what users give as `y` as an array of shape (n_crystals, n_labels), float32, or None if unused.

        Labels of atoms stand beside those of crystals, in :class:`~crystalssl.pretext._labels.Labels`.

        Raises
        ------
        ValueError
            If the task cannot learn from `y`.
        """
        return None

    @classmethod
    def label_params(cls, labels: Any) -> dict[str, Any]:
        """Return the parameters of the constructor that follow from encoded labels: by default `n_labels_param`."""
        if cls.n_labels_param is None:
            return {}
        columns = getattr(labels, "crystals", labels)
        return {cls.n_labels_param: 0 if columns is None else columns.shape[1]}

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
        """Return the loss, a scalar, of what the encoder makes of the views of `batch`.

        Where several processes train together, `batch` is what this one has of the whole, and the losses are averaged
        over the processes. :func:`global_mean` and :func:`global_rows` make that the loss of the whole batch.
        """
        raise NotImplementedError

    def after_step(self) -> None:
        """Do what is to be done after every step of the optimiser, such as moving a target network."""


class TwoViews(PretextTask):
    """Base of the tasks that compare projections of two random views of each crystal.

    A subclass writes :meth:`compare`, and may have other views by default.

    Parameters
    ----------
    projection_dim : int, default=128
        Width of the projections that are compared.
    views : str, type, Augmentation, dict, list of these, or pair of lists, default=None
        How the two views are made, as :func:`crystalssl.augment.resolve_views` takes it; None takes those of
        :meth:`default_view`.
    **view_params
        `perturbation`, `atom_masking` and `edge_masking` of :meth:`default_view`, where `views` is None.
    """

    encoder_name = "cgcnn"

    def __init__(self, projection_dim: int = 128, views: Any = None, **view_params: Any):
        super().__init__()
        self.projection_dim = projection_dim
        self.views = two_views(views, self.default_view, view_params)

    @staticmethod
    def default_view(perturbation: float = 0.05, atom_masking: float = 0.1, edge_masking: float = 0.1) -> Augmentation:
        """Return what makes a view where a user does not say so.

        Parameters
        ----------
        perturbation : float, default=0.05
            Displacement of every atom in Å.
        atom_masking, edge_masking : float, default=0.1
            Share of atoms and edges that are masked.
        """
        return Compose([RandomPerturbation(perturbation), AtomMasking(atom_masking), EdgeMasking(edge_masking)])

    def build(self, encoder: Encoder) -> None:
        """Make the projector."""
        self.projector = mlp(encoder.graph_dim, self.projection_dim, self.projection_dim)

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return the loss of two views of the batch."""
        a, b = (global_rows(self.projector(part.graph)) for part in encoded)
        return self.compare(a, b, shallow_copy(batch, y=global_rows(batch.y)))

    def compare(self, a: Tensor, b: Tensor, batch: Batch) -> Tensor:
        """Return the loss of two projections of shape (n_crystals, projection_dim).

        They are those of the whole batch, and so are the labels ``batch.y``; all else in `batch` is of the crystals
        that this process has, where several train together.
        """
        raise NotImplementedError


def two_views(views: Any, default_view: Callable[..., Augmentation], view_params: dict[str, Any]) -> list[Augmentation]:
    """Return the augmentations of two views: those that a user gives, or twice the default.

    Parameters
    ----------
    views : object
        As taken by :func:`crystalssl.augment.resolve_views`; None takes the default.
    default_view : callable
        Returns the default augmentation.
    view_params : dict
        Parameters of the default.

    Returns
    -------
    list of two Augmentation

    Raises
    ------
    ValueError
        If both views and parameters of the default are given.
    """
    if views is None:
        view = default_view(**view_params)
        return [view, view]
    if view_params:
        raise ValueError(
            f"{', '.join(view_params)} and views were given, which replace the views that these are parameters of; "
            "leave one of them out"
        )
    return resolve_views(views)


def mlp(*dims: int) -> nn.Sequential:
    """Return linear layers with batch normalisation and ReLU between them.

    Parameters
    ----------
    *dims : int
        Widths of input, hidden layers and output.

    Returns
    -------
    torch.nn.Sequential
    """
    layers: list[Any] = []
    for i, (d_in, d_out) in enumerate(itertools.pairwise(dims)):
        if i:
            layers += [nn.BatchNorm1d(d_in), nn.ReLU(inplace=True)]
        layers.append(nn.Linear(d_in, d_out))
    return nn.Sequential(*layers)
