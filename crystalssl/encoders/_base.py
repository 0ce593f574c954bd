"""What all encoders share."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn.aggr import Aggregation, MultiAggregation

from crystalssl.graphs import GraphRecipe

__all__ = ["LAYERS", "READOUTS", "Encoded", "Encoder", "make_readout"]


class Encoded(NamedTuple):
    """What an encoder makes of a batch."""

    node: Tensor  # (n_atoms, node_dim)
    edge: Tensor | None  # (n_edges, edge_dim), None if the encoder does not update edges
    graph: Tensor  # (n_crystals, graph_dim)


class Encoder(nn.Module):
    """Base class: batch in, vectors of atoms, edges and crystals out.

    A subclass sets `name` and `recipe`, sets `node_dim`, `edge_dim` (None without edge outputs) and `graph_dim` in its
    constructor, and writes `forward`. Its constructor takes JSON values only and stores them with
    ``self.config = {...}``, from which a weights folder rebuilds it.
    """

    name: ClassVar[str]
    recipe: ClassVar[GraphRecipe]

    config: dict[str, Any]
    node_dim: int
    edge_dim: int | None = None
    graph_dim: int

    def forward(self, batch: Batch) -> Encoded:
        """Encode a batch made by :func:`crystalssl.training.collate`."""
        raise NotImplementedError


READOUTS: dict[str, list[str]] = {
    "mean": ["mean"],
    "mean+max+min": ["mean", "max", "min"],
}
"""Ways to pool atoms into crystals, as PyG aggregations whose results are concatenated."""


LAYERS = ("last", "all")
"""Whose outputs are pooled: the last layer's, or all layers' side by side."""


def make_readout(name: str) -> tuple[Aggregation, int]:
    """Return the PyG aggregation of this name and by how much it multiplies the width.

    Parameters
    ----------
    name : {"mean", "mean+max+min"}

    Raises
    ------
    ValueError
        If there is no such readout.
    """
    if name not in READOUTS:
        raise ValueError(f"there is no readout {name!r}; choose one of {sorted(READOUTS)}")
    return MultiAggregation(list(READOUTS[name])), len(READOUTS[name])


def check_layers(layers: str) -> None:
    """Raise ValueError unless `layers` is a choice of layers to pool."""
    if layers not in LAYERS:
        raise ValueError(f"layers must be one of {LAYERS}, got {layers!r}")


def pool(readout: Aggregation, x: Tensor, batch: Batch) -> Tensor:
    """Pool the rows of `x`, one per atom, into one row per crystal."""
    return readout(x, index=batch.batch, dim_size=batch.num_graphs)


def element_table() -> Tensor:
    """Return the element features as a tensor of shape (119, n_features)."""
    from crystalssl.encoders._elements import element_features

    return torch.from_numpy(element_features().copy())
