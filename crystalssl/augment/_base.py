"""What all augmentations share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch

from crystalssl._config import Configured
from crystalssl._geometry import edge_vectors

__all__ = ["Augmentation", "Compose", "move_atoms", "recompute_distances", "shallow_copy"]

_ROUNDING = 1e-4
"""Å by which stored lengths differ from those of single-precision positions, generously."""


class Augmentation(Configured):
    """Base class: batch in, perturbed batch out; the input stays as it is.

    A subclass sets `name`, takes JSON values in its constructor, which are recorded as `config`, and writes
    ``__call__(batch, generator)``, which returns a :func:`shallow_copy` of the batch with some tensors replaced.
    """

    def __init__(self) -> None:
        pass  # of a subclass without parameters, which are recorded too

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a perturbed copy of `batch`, drawn from `generator` (on the batch's device)."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        # Equal augmentations make views that tasks on the same encoder can share.
        return type(self) is type(other) and self.config == other.config

    __hash__ = None  # type: ignore[assignment]  # their parameters may be lists


class Compose(Augmentation):
    """Apply several augmentations, one after the other.

    Parameters
    ----------
    augmentations : sequence of Augmentation
        In the order of application.
    """

    name = "compose"

    def __init__(self, augmentations: Sequence[Augmentation]):
        self.augmentations = list(augmentations)

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a perturbed copy of `batch`."""
        for augmentation in self.augmentations:
            batch = augmentation(batch, generator)
        return batch


def recompute_distances(batch: Batch) -> Tensor:
    """Return the length (Å) of every edge from positions, lattice and images.

    Parameters
    ----------
    batch : Batch
        As made by :func:`crystalssl.training.collate`.

    Returns
    -------
    Tensor of shape (n_edges,)
    """
    return torch.linalg.vector_norm(edge_vectors(batch), dim=1)


def move_atoms(batch: Batch, **replaced: Tensor) -> Batch:
    """Return a batch with other positions, and maybe another lattice; edges are kept, their lengths follow.

    What views before have done to a length stays: noise is added to the new one, and a masked one stays masked.

    Parameters
    ----------
    batch : Batch
        It stays as it is.
    **replaced
        ``pos`` and ``cell``, those that are new.

    Returns
    -------
    Batch
    """
    moved = shallow_copy(batch, **replaced)
    offset = batch.distance - recompute_distances(batch)  # infinite where masked
    offset.masked_fill_(offset.abs() < _ROUNDING, 0)
    moved.distance = recompute_distances(moved).add_(offset).clamp_(min=0)
    return moved


def shallow_copy(batch: Batch, **replaced: Any) -> Batch:
    """Return a batch that shares all tensors with another but those given.

    Parameters
    ----------
    batch : Batch
        It stays as it is.
    **replaced
        New tensors by name.

    Returns
    -------
    Batch
    """
    copy = batch.__copy__()
    copy._num_graphs = batch._num_graphs  # PyG keeps it outside the stores that it copies
    for name, value in replaced.items():
        copy[name] = value
    return copy


def bernoulli(shape: int, rate: float, generator: torch.Generator) -> Tensor:
    """Return a boolean mask, each entry true with probability `rate`."""
    return torch.rand(shape, generator=generator, device=generator.device) < rate


def check_rate(rate: float) -> float:
    """Return `rate` if it is a fraction, else raise ValueError."""
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must lie between 0 and 1, got {rate!r}")
    return rate
