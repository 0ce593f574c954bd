"""Atomistic line graph neural network."""

from __future__ import annotations

from itertools import zip_longest
from math import sqrt
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl.encoders._base import Encoder, LayerOutputs, element_table
from crystalssl.encoders._gated import EdgeGatedConv
from crystalssl.encoders._layers import gaussian_expansion, once_per_value
from crystalssl.encoders._topology import Topology, offsets, ranges
from crystalssl.graphs import RECIPES

__all__ = ["ALIGNN"]

_N_LENGTHS = 80
_N_ANGLES = 40
_EXPANSION_DIM = 64
"""Width of the first of the two layers that read an expanded length or angle, the authors' for every `hidden_dim`."""
_COSINE_STEPS = 2**20
"""Of which cosines are multiples; their rounding errors are of the same size."""


class ALIGNN(Encoder):
    """Atomistic line graph neural network of Choudhary and DeCost, with the authors' layer normalisation.

    The atoms of the crystal graph exchange messages over its edges, and the edges over the line graph: its edges are
    the pairs of an edge from atom k to j and one from j to i, and carry the cosine of the angle at j. Both graphs are
    updated by the same edge-gated convolution. From an edge's start j to its end i it computes

    - ``m_ij = A x_i + B x_j + C e_ij`` and ``w_ij = σ(m_ij)``,
    - ``h_i = Σ_j w_ij V x_j / (Σ_j w_ij + ε)``,
    - ``x_i ← x_i + SiLU(LN(U x_i + h_i))`` and ``e_ij ← e_ij + SiLU(LN(m_ij))``.

    Each of the first `n_layers` layers updates atoms and edges on the crystal graph, then edges and pairs on the line
    graph. The `n_gcn_layers` after them see the crystal graph only. Lengths and cosines are expanded in Gaussians.
    These and the features of the elements first pass through layers of the form ``SiLU(LN(W x + b))``.

    This is the network that the authors' package trains today, ``ALIGNNAtomWisePure``. Their paper had batch
    normalisation instead. Three things differ from theirs. Elements come as the features that all encoders of this
    package share. Neighbours are the nearest twelve with the whole shell of the last. All pairs of edges have angles,
    as in the paper, also those longer than 3.5 Å. A pair of an edge and its own reverse counts, as it does there.

    Parameters
    ----------
    hidden_dim : int, default=64
        Width of the vectors of atoms, edges and pairs. The paper has 256; 64 is what a laptop trains.
    n_layers : int, default=2
        Number of layers on crystal graph and line graph; the paper has 4.
    n_gcn_layers : int, default=2
        Number of layers on the crystal graph after them; the paper has 4.
    readout : {"mean", "mean+max+min", "set2set", "attention"}, default="mean"
        How atoms are pooled into crystals; the mean is the paper's.
    %(parameters)s

    References
    ----------
    K. Choudhary and B. DeCost, npj Comput. Mater. 7, 185 (2021), doi:10.1038/s41524-021-00650-1.

    Examples
    --------
    >>> from crystalssl import CrystalSSLRegressor
    >>> from crystalssl.encoders import ALIGNN
    >>> published = ALIGNN(hidden_dim=256, n_layers=4, n_gcn_layers=4)
    >>> published.edge_dim
    256
    >>> model = CrystalSSLRegressor(pretrain=None, encoder=published)
    """

    name = "alignn"
    recipe = RECIPES["alignn"]
    pooling: ClassVar = {"readout": "mean", "pooled_layers": "last"}
    frozen_pooling: ClassVar = {"readout": "mean", "pooled_layers": "last"}

    element_features: Tensor
    length_centers: Tensor
    cosine_centers: Tensor

    def __init__(self, hidden_dim: int = 64, n_layers: int = 2, n_gcn_layers: int = 2, **shared: Any):
        super().__init__(**shared)
        table = element_table()
        self.register_buffer("element_features", table)
        self.register_buffer("length_centers", torch.linspace(0, self.recipe.cutoff, _N_LENGTHS))
        self.register_buffer("cosine_centers", torch.linspace(-1, 1, _N_ANGLES))
        # The authors divide the square of a difference by the spacing of the Gaussians, not by its square.
        self.length_width = sqrt(self.recipe.cutoff / (_N_LENGTHS - 1))
        self.cosine_width = sqrt(2 / (_N_ANGLES - 1))
        self.embedding = _layer(table.shape[1], hidden_dim)
        self.lengths = nn.Sequential(_layer(_N_LENGTHS, _EXPANSION_DIM), _layer(_EXPANSION_DIM, hidden_dim))
        self.convs = nn.ModuleList(EdgeGatedConv(hidden_dim) for _ in range(n_layers + n_gcn_layers))
        # Nothing reads the pairs after the last layer, so that it does not update them.
        self.line_convs = nn.ModuleList(EdgeGatedConv(hidden_dim, i < n_layers - 1) for i in range(n_layers))
        if n_layers:
            self.cosines = nn.Sequential(_layer(_N_ANGLES, _EXPANSION_DIM), _layer(_EXPANSION_DIM, hidden_dim))
        self.set_widths([hidden_dim] * (n_layers + n_gcn_layers + 1), edge_dim=hidden_dim)

    @once_per_value
    def embed_lengths(self, distance: Tensor) -> Tensor:
        """Return the first vectors of edges of these lengths, of shape (n_edges, hidden_dim)."""
        return self.lengths(gaussian_expansion(distance, self.length_centers, self.length_width))

    @once_per_value
    def embed_cosines(self, cosines: Tensor) -> Tensor:
        """Return the first vectors of pairs with these cosines, of shape (n_pairs, hidden_dim)."""
        return self.cosines(gaussian_expansion(cosines, self.cosine_centers, self.cosine_width))

    def layer_outputs(self, batch: Batch) -> LayerOutputs:
        """Run the layers on a batch made by :func:`crystalssl.training.collate`."""
        topology = Topology.of(batch)
        edges = self.embed_lengths(batch.distance)
        nodes = [F.embedding(batch.z, self.embedding(self.element_features))]
        if self.line_convs:
            line = line_topology(topology)
            cosines = bond_cosines(batch, line)
            if self.kernels == "fast":  # those that differ by rounding errors only are made equal
                cosines = (cosines * _COSINE_STEPS).round() / _COSINE_STEPS
            pairs = self.embed_cosines(cosines)
        for conv, line_conv in zip_longest(self.convs, self.line_convs):
            node, edges = conv(nodes[-1], edges, topology)
            nodes.append(node)
            if line_conv is not None:
                edges, pairs = line_conv(edges, pairs, line)
        return LayerOutputs(nodes, edges)


def line_topology(graph: Topology) -> Topology:
    """Return the line graph of a graph.

    Its nodes are the edges of the graph. The neighbours of an edge from j to i are all edges that end in j, its own
    reverse among them.
    """
    neighbors, centers = graph.neighbors, graph.centers
    n_edges = len(centers)
    # Edges that end in an atom follow each other, so that an edge's neighbours are a range ...
    n_neighbors = graph.edge_ptr.diff()[neighbors]
    ptr = offsets(n_neighbors)
    # ... and the edges that start where it ends are a range of `neighbor_order`. An edge's rank among those that end in
    # the same atom is its rank among the neighbours of each of them.
    n_continuations = graph.neighbor_ptr.diff()[centers]
    continuations = graph.neighbor_order[ranges(graph.neighbor_ptr[centers], n_continuations)]
    rank = torch.arange(n_edges, device=centers.device) - graph.edge_ptr[centers]
    return Topology(
        neighbors=ranges(graph.edge_ptr[neighbors], n_neighbors),
        centers=torch.repeat_interleave(n_neighbors),
        edge_ptr=ptr,
        neighbor_order=ptr[continuations] + torch.repeat_interleave(rank, n_continuations),
        neighbor_ptr=offsets(n_continuations),
    )


def bond_cosines(batch: Batch, line: Topology) -> Tensor:
    """Return the cosine of the angle of every pair of the line graph; a bond of no length is at right angles to all."""
    neighbors, centers = batch.edge_index
    shifts = torch.bmm(batch.image[:, None, :], batch.cell[batch.batch[centers]])[:, 0]
    vectors = F.normalize(batch.pos[neighbors] + shifts - batch.pos[centers], dim=1)
    # From the atom shared, one of the two points to its neighbour, the other back to the centre.
    return -(vectors[line.centers] * vectors[line.neighbors]).sum(dim=1).clamp(-1, 1)


def _layer(in_dim: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_dim, out_dim), nn.LayerNorm(out_dim), nn.SiLU())
