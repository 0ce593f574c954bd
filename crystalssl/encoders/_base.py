"""What all encoders share."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl.encoders._readout import Readout
from crystalssl.graphs import GraphRecipe

__all__ = ["LAYERS", "Encoded", "Encoder", "Updated"]

LAYERS = ("last", "all")
"""Whose outputs stand for the atoms: the last layer's, or those of the embedding and all layers side by side."""


class Encoded(NamedTuple):
    """What an encoder makes of a batch.

    Parameters
    ----------
    node : Tensor of shape (n_atoms, node_dim)
        Vectors of the atoms.
    edge : Tensor of shape (n_edges, edge_dim) or None
        Vectors of the edges; None if the encoder does not update them.
    graph : Tensor of shape (n_crystals, graph_dim)
        Vectors of the crystals.
    """

    node: Tensor
    edge: Tensor | None
    graph: Tensor


class Updated(NamedTuple):
    """What the layers of an encoder make of a batch, before the readout.

    Parameters
    ----------
    nodes : list of Tensor of shape (n_atoms, ·)
        Vectors of the atoms after the embedding and after every layer.
    edge : Tensor of shape (n_edges, edge_dim) or None, default=None
        Vectors of the edges after the last layer.
    state : Tensor of shape (n_crystals, ·) or None, default=None
        The crystals' own state.
    """

    nodes: list[Tensor]
    edge: Tensor | None = None
    state: Tensor | None = None


class Encoder(nn.Module):
    """Base class: batch in, vectors of atoms, edges and crystals out.

    A subclass sets `name`, `recipe`, `pooling` and `frozen_pooling`. Its constructor takes JSON values only, calls
    ``super().__init__`` with all of them, from which a weights folder rebuilds it, and ends with :meth:`finish`. It
    writes :meth:`update`.

    Parameters
    ----------
    readout : str
        How atoms (and edges) are pooled, one of `READOUTS`.
    layers : {"last", "all"}
        Whose outputs stand for the atoms.
    **config
        The other parameters of the subclass.
    """

    name: ClassVar[str]
    recipe: ClassVar[GraphRecipe]
    pooling: ClassVar[dict[str, str]]
    """`readout` and `layers` with which the encoder is finetuned unless a user says otherwise."""
    frozen_pooling: ClassVar[dict[str, str]]
    """`readout` and `layers` of the embedding of a frozen encoder; the readout has no weights."""
    gentle_finetuning: ClassVar[bool] = False
    """Whether, once pretrained, its vectors are standardised for the head and it learns the less the fewer labels."""
    pools_edges: ClassVar[bool] = False
    """Whether the readout pools edges beside atoms."""

    config: dict[str, Any]
    node_dim: int
    edge_dim: int | None
    graph_dim: int
    readout: Readout

    def __init__(self, *, readout: str, layers: str, **config: Any):
        super().__init__()
        if layers not in LAYERS:
            raise ValueError(f"layers must be one of {LAYERS}, got {layers!r}")
        self.config = {**config, "readout": readout, "layers": layers}

    def finish(self, node_dims: list[int], edge_dim: int | None = None, state_dim: int = 0) -> None:
        """Set the widths of the outputs, and make the readout.

        Parameters
        ----------
        node_dims : list of int
            Widths of the atoms' vectors after the embedding and after every layer.
        edge_dim : int or None, default=None
            Width of the edges' vectors; None if the encoder does not update edges.
        state_dim : int, default=0
            Width of the crystals' own state.
        """
        self.node_dim = sum(node_dims) if self.config["layers"] == "all" else node_dims[-1]
        self.edge_dim = edge_dim
        self.readout = Readout(self.config["readout"], self.node_dim, edge_dim if self.pools_edges else None, state_dim)
        self.graph_dim = self.readout.out_dim

    def __repr__(self) -> str:
        # As it is constructed: it stands in the representation of estimators. Its layers are its children.
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.config.items())})"

    def update(self, batch: Batch) -> Updated:
        """Run the layers on a batch made by :func:`crystalssl.training.collate`."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Encoded:
        """Encode a batch made by :func:`crystalssl.training.collate`."""
        nodes, edge, state = self.update(batch)
        node = torch.cat(nodes, dim=1) if self.config["layers"] == "all" else nodes[-1]
        return Encoded(node, edge, self.readout(node, edge, state, batch))

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load weights; a readout that is not the one they were trained with keeps its initial ones.

        Raises
        ------
        RuntimeError
            If the weights are not those of such an encoder.
        """
        own = {name: tensor for name, tensor in self.state_dict().items() if name.startswith("readout.")}
        theirs = {name: tensor for name, tensor in state.items() if name.startswith("readout.")}
        if {name: tensor.shape for name, tensor in own.items()} != {name: t.shape for name, t in theirs.items()}:
            state = {**{name: tensor for name, tensor in state.items() if name not in theirs}, **own}
        self.load_state_dict(state, strict=True)


def element_table() -> Tensor:
    """Return the element features as a tensor of shape (119, n_features)."""
    from crystalssl.encoders._elements import element_features

    return torch.from_numpy(element_features().copy())
