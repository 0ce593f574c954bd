"""What all encoders share."""

from __future__ import annotations

import inspect
import json
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl._config import Configured
from crystalssl.encoders._layers import KERNELS, Layer
from crystalssl.encoders._readout import Readout
from crystalssl.graphs import GraphRecipe

__all__ = ["POOLED_LAYERS", "Encoded", "Encoder", "LayerOutputs", "Sight", "current_config"]

POOLED_LAYERS = ("last", "all")
"""Whose outputs stand for the atoms: the last layer's, or those of the embedding and all layers side by side."""
PROPERTY_READOUT, PROPERTY_DIM = "mean+max+min", 128
"""Readout, and width of the hidden layer, of the properties that an encoder predicts itself."""


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
    properties : Tensor of shape (n_crystals, n_properties) or None, default=None
        What the encoder itself predicts of the crystals, if it has learnt to; see :meth:`Encoder.learn_properties`.
    """

    node: Tensor
    edge: Tensor | None
    graph: Tensor
    properties: Tensor | None = None

    @property
    def vector(self) -> Tensor:
        """All that is said of the crystals, side by side, of shape (n_crystals, vector_dim)."""
        return self.graph if self.properties is None else torch.cat([self.graph, self.properties], dim=1)


class Sight(NamedTuple):
    """What an encoder sees of a crystal, which decides which atoms and edges it can tell apart.

    Parameters
    ----------
    n_layers : int
        Number of layers.
    l_max : int
        Largest degree of the Legendre polynomials of the angles between bonds; 0 if it sees none.
    """

    n_layers: int
    l_max: int


class LayerOutputs(NamedTuple):
    """What the layers of an encoder make of a batch, before the readout.

    Parameters
    ----------
    nodes : list of Tensor
        Vectors of the atoms after the embedding and after every layer, each of shape (n_atoms, ·).
    edge : Tensor of shape (n_edges, edge_dim) or None, default=None
        Vectors of the edges after the last layer, if the encoder updates them.
    state : Tensor of shape (n_crystals, state_dim) or None, default=None
        A vector of each crystal's own, if the encoder has one.
    """

    nodes: list[Tensor]
    edge: Tensor | None = None
    state: Tensor | None = None


class Encoder(Configured, Layer):
    """Base class: batch in, vectors of atoms, edges and crystals out.

    A subclass sets `name` and `recipe`. Its constructor takes JSON values, calls ``super().__init__``, and ends with
    :meth:`set_widths`. It passes on the parameters below, most simply as ``**shared``. It writes
    :meth:`layer_outputs`. All else is done here: pooling, and `config`, from which a weights folder rebuilds the
    encoder.

    Parameters
    ----------
    readout : str, default="mean"
        How atoms (and edges) are pooled into crystals, one of `READOUTS`.
    pooled_layers : {"last", "all"}, default="last"
        Whose outputs stand for the atoms: the last layer's, or those of the embedding and of every layer side by side.
    n_properties : int, default=0
        Properties of crystals that the encoder predicts itself; see :meth:`learn_properties`.
    kernels : {"fast", "plain"}, default="fast"
        "plain" computes each layer as its equation is written. It is slower, and can be differentiated twice and by
        distances. Both have the same weights and agree to rounding. It is not a part of `config`: weights are loaded
        with either.

    Attributes
    ----------
    config : dict
        What rebuilds the encoder: ``type(encoder)(**encoder.config)``.
    node_dim, edge_dim, graph_dim : int
        Widths of what :meth:`forward` returns; `edge_dim` is None if it returns no edges.
    vector_dim : int
        Width of all that is said of a crystal: `graph_dim`, and the properties.

    Raises
    ------
    TypeError
        If a parameter is not a JSON value. If a subclass does not take `readout`, `pooled_layers` and `kernels`.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from torch_geometric.nn import CGConv
    >>> from crystalssl import CrystalGraphTransformer
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.encoders import Encoder, LayerOutputs
    >>> from crystalssl.graphs import GraphRecipe
    >>> from crystalssl.training import collate
    >>> class Small(Encoder):
    ...     name = "small"
    ...     recipe = GraphRecipe(cutoff=8.0, max_neighbors=12)
    ...
    ...     def __init__(self, hidden_dim: int = 16, **shared):
    ...         super().__init__(**shared)
    ...         self.elements = nn.Embedding(119, hidden_dim)
    ...         self.conv = CGConv(hidden_dim, 1)
    ...         self.set_widths([hidden_dim, hidden_dim])
    ...
    ...     def layer_outputs(self, batch):
    ...         x = self.elements(batch.z)
    ...         return LayerOutputs([x, self.conv(x, batch.edge_index, batch.distance[:, None])])
    >>> X, _ = load_prototypes(return_X_y=True)
    >>> graphs = CrystalGraphTransformer(cutoff=8.0, max_neighbors=12).transform(X[:5])
    >>> Small(readout="mean+max+min")(collate(graphs, np.arange(5))).graph.shape
    torch.Size([5, 48])
    """

    name: ClassVar[str]
    recipe: ClassVar[GraphRecipe]
    pooling: ClassVar[dict[str, str]] = {"readout": "mean+max+min", "pooled_layers": "all"}
    """With which `readout` and `pooled_layers` the encoder is finetuned, unless a user says otherwise."""
    frozen_pooling: ClassVar[dict[str, str]] = {"readout": "mean+max+min", "pooled_layers": "all"}
    """Those of the vectors of a frozen encoder. Such a readout has no weights."""
    gentle_finetuning: ClassVar[bool] = False
    """How a pretrained encoder is finetuned. If True, two things are done: its vectors are standardised before they
    enter the head, and its learning rate is lowered. The fewer labels there are, the lower it is."""
    pools_edges: ClassVar[bool] = False
    """Whether the readout pools edges beside atoms."""
    fades_edges: ClassVar[bool] = False
    """Whether an edge counts less in the readout the closer it is to being cut off, by ``batch.edge_weight``. Without
    that, as in the networks of the papers, predictions jump where a neighbour comes into the graph."""

    implied_config: ClassVar[dict[str, Any]] = {}
    """What a stored config means that lacks a parameter, for it was written before there was one."""

    config: dict[str, Any]
    node_dim: int
    edge_dim: int | None
    graph_dim: int
    readout: Readout
    n_properties: int
    vector_dim: int
    property_head: nn.Module | None

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        parameters = inspect.signature(cls.__init__).parameters
        missing = {"readout", "pooled_layers", "kernels"} - parameters.keys()
        if missing and all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
            raise TypeError(
                f"the constructor of {cls.__name__} must take {', '.join(sorted(missing))} and pass them on to "
                "super().__init__; end its parameters with **shared"
            )

    def __init__(
        self, *, readout: str = "mean", pooled_layers: str = "last", n_properties: int = 0, kernels: str = "fast"
    ):
        super().__init__()
        if pooled_layers not in POOLED_LAYERS:
            raise ValueError(f"pooled_layers must be one of {POOLED_LAYERS}, got {pooled_layers!r}")
        if kernels not in KERNELS:
            raise ValueError(f"kernels must be one of {KERNELS}, got {kernels!r}")
        given = {key: _json_value(type(self), key, value) for key, value in self.config.items() if key != "kernels"}
        self.config = {**given, "readout": readout, "pooled_layers": pooled_layers}
        self.kernels = kernels
        self.n_properties = n_properties
        self.property_head = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        missing = {"n_properties": 0, "vector_dim": state["graph_dim"]}  # of version 0.1
        super().__setstate__({**missing, **state, "config": self.current_config(state["config"])})
        self._modules.setdefault("property_head", None)

    @classmethod
    def current_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Return a stored config with the names and all the parameters of this version."""
        return {**cls.implied_config, **current_config(config)}

    def set_widths(self, node_dims: list[int], edge_dim: int | None = None, state_dim: int = 0) -> None:
        """Say how wide the outputs of the layers are; the readout follows from it.

        Parameters
        ----------
        node_dims : list of int
            Widths of the atoms' vectors after the embedding and after every layer.
        edge_dim : int or None, default=None
            Width of the edges' vectors; None if the encoder does not update edges.
        state_dim : int, default=0
            Width of the crystals' own vectors.
        """
        self.node_dim = sum(node_dims) if self.config["pooled_layers"] == "all" else node_dims[-1]
        self.edge_dim = edge_dim
        self.readout = Readout(self.config["readout"], self.node_dim, edge_dim if self.pools_edges else None, state_dim)
        self.graph_dim = self.vector_dim = self.readout.out_dim
        # As in pretraining, however else the crystals' vectors are pooled.
        edges = edge_dim if self.pools_edges else None
        self._properties_of = Readout(PROPERTY_READOUT, node_dims[-1], edges, state_dim)
        if self.n_properties:
            self.learn_properties(self.n_properties)
        self.use_kernels(self.kernels)

    def learn_properties(self, n_properties: int) -> None:
        """Have the encoder predict properties of crystals itself, from the atoms and edges of its last layer.

        What it has learnt of other properties is then a part of what it says of a crystal, and what is finetuned can
        start from there: a handful of labels suffices where the target resembles one of them. Predictions of as many
        properties as there are already stay as they are.

        Parameters
        ----------
        n_properties : int
            Number of properties, at least 1.
        """
        if self.property_head is None or n_properties != self.n_properties:
            self.property_head = nn.Sequential(
                nn.Linear(self._properties_of.out_dim, PROPERTY_DIM), nn.SiLU(), nn.Linear(PROPERTY_DIM, n_properties)
            )
        self.n_properties = self.config["n_properties"] = n_properties
        self.vector_dim = self.graph_dim + n_properties

    @property
    def sight(self) -> Sight | None:
        """What the encoder sees, if it takes batches of what is distinct in crystals; None if it does not.

        In such a batch, made by :func:`crystalssl.training._distinct.collate_distinct`, atoms and edges stand for all
        that are like them.
        """
        return None

    def takes_counts(self, cls: type[Encoder]) -> bool:
        """Return whether all but the layers take atoms and edges that stand for several, and the layers are of `cls`.

        A subclass of it may do with atoms what must be done with each of them.
        """
        known = type(self).layer_outputs is cls.layer_outputs and type(self).forward is Encoder.forward
        return known and self.kernels == "fast" and self.readout.counts

    def layer_outputs(self, batch: Batch) -> LayerOutputs:
        """Run the layers on a batch made by :func:`crystalssl.training.collate`."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Encoded:
        """Encode a batch made by :func:`crystalssl.training.collate`."""
        nodes, edge, state = self.layer_outputs(batch)
        node = torch.cat(nodes, dim=1) if self.config["pooled_layers"] == "all" else nodes[-1]
        weight = batch.edge_weight if self.fades_edges else None
        graph, properties = self.readout(node, edge, state, batch, weight), None
        if self.property_head is not None:
            same = self.config["readout"] == PROPERTY_READOUT and self.config["pooled_layers"] == "last"
            pooled = graph if same else self._properties_of(nodes[-1], edge, state, batch, weight)
            properties = self.property_head(pooled)
        return Encoded(node, edge, graph, properties)

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


def current_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config with the names of this version; `pooled_layers` was called `layers` in 0.1.0."""
    return {"pooled_layers" if name == "layers" else name: value for name, value in config.items()}


def _json_value(cls: type[Encoder], name: str, value: Any) -> Any:
    """Return a parameter as the JSON value that a weights folder stores."""
    value = value.item() if isinstance(value, np.generic) else value
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{cls.__name__} cannot be rebuilt from its weights folder: {name} = {value!r} is not a JSON value; pass "
            "numbers, strings, lists and dicts"
        ) from error


def element_table() -> Tensor:
    """Return the element features as a tensor of shape (119, n_features)."""
    from crystalssl.encoders._elements import element_features

    return torch.from_numpy(element_features().copy())
