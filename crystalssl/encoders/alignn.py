"""Atomistic line graph neural network."""

from __future__ import annotations

from itertools import pairwise, zip_longest
from math import sqrt
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl.encoders._base import Encoder, Updated, element_table
from crystalssl.encoders._gated import EdgeGatedConv
from crystalssl.encoders._kernels import Topology, gaussian_expansion
from crystalssl.graphs import RECIPES

__all__ = ["ALIGNN"]

_N_LENGTHS = 80
_N_ANGLES = 40
_EXPANSION_DIM = 64
"""Width of the first of the two layers that read an expanded length or angle, the authors' for every `hidden_dim`."""
_COSINE_STEPS = 2**20
"""Of which cosines are multiples; their rounding errors are of the same size."""
_PAIRS_PER_BLOCK = 2**14
"""About as many pairs as pay on a CPU, which spent a third of its time fetching memory for larger arrays."""


class ALIGNN(Encoder):
    """Atomistic line graph neural network of Choudhary and DeCost, with the authors' layer normalisation.

    The atoms of the crystal graph exchange messages over its edges, and the edges over the line graph: its edges are
    the pairs of an edge from atom k to j and one from j to i, and carry the cosine of the angle at j. Both graphs are
    updated by the same edge-gated convolution. From an edge's start j to its end i it computes

    - ``m_ij = A x_i + B x_j + C e_ij``,
    - ``h_i = Σ_j σ(m_ij) V x_j / (Σ_j σ(m_ij) + ε)``,
    - ``x_i ← x_i + SiLU(LN(U x_i + h_i))`` and ``e_ij ← e_ij + SiLU(LN(m_ij))``.

    Each of the first `n_layers` layers updates atoms and edges on the crystal graph, then edges and pairs on the line
    graph; the `n_gcn_layers` after them see the crystal graph only. Elements, and the Gaussians in which lengths and
    cosines are expanded, enter through layers of the form ``SiLU(LN(W x + b))``.

    This is the network that the authors' package trains today, ``ALIGNNAtomWisePure``, whose paper had batch
    normalisation instead. It differs in three ways: elements come as the features that all encoders of this package
    share, neighbours are the nearest twelve with the whole shell of the last, and all pairs of edges have angles,
    also those longer than 3.5 Å, as in the paper. A pair of an edge and its own reverse counts, as it does there.

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
    layers : {"last", "all"}, default="last"
        Pool the atoms' vectors after the last layer, as in the paper, or those of the embedding and of every layer side
        by side.

    References
    ----------
    K. Choudhary and B. DeCost, npj Comput. Mater. 7, 185 (2021), doi:10.1038/s41524-021-00650-1.

    Examples
    --------
    >>> import numpy as np
    >>> from crystalssl import CrystalGraphTransformer
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.encoders import ALIGNN
    >>> from crystalssl.training import collate
    >>> X, _ = load_prototypes(return_X_y=True)
    >>> graphs = CrystalGraphTransformer(encoder="alignn").transform(X[:5])
    >>> ALIGNN()(collate(graphs, np.arange(5))).graph.shape
    torch.Size([5, 64])
    """

    name = "alignn"
    recipe = RECIPES["alignn"]
    pooling: ClassVar = {"readout": "mean", "layers": "last"}
    frozen_pooling: ClassVar = {"readout": "mean", "layers": "last"}

    element_features: Tensor
    length_centers: Tensor
    cosine_centers: Tensor

    def __init__(
        self,
        hidden_dim: int = 64,
        n_layers: int = 2,
        n_gcn_layers: int = 2,
        readout: str = "mean",
        layers: str = "last",
    ):
        super().__init__(
            hidden_dim=hidden_dim, n_layers=n_layers, n_gcn_layers=n_gcn_layers, readout=readout, layers=layers
        )
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
        self.finish([hidden_dim] * (n_layers + n_gcn_layers + 1), edge_dim=hidden_dim)

    def update(self, batch: Batch) -> Updated:
        """Run the layers on a batch made by :func:`crystalssl.training.collate`."""
        topology = Topology.of(batch)
        # Crystals have few lengths and few angles, each many times.
        lengths, length = batch.distance.unique(return_inverse=True)
        lengths = self.lengths(gaussian_expansion(lengths, self.length_centers, self.length_width))
        edges = lengths.index_select(0, length)
        nodes = [F.embedding(batch.z, self.embedding(self.element_features))]
        if self.line_convs:
            line = line_topology(batch)
            blocks = line_blocks(batch, line)
            n_edges = [len(block.edge_ptr) - 1 for block in blocks]
            # Cosines that differ by rounding errors only are made equal.
            cosines, angle = bond_cosines(batch, line).mul_(_COSINE_STEPS).round_().unique(return_inverse=True)
            angles = self.cosines(gaussian_expansion(cosines / _COSINE_STEPS, self.cosine_centers, self.cosine_width))
            pairs = [angles.index_select(0, rows) for rows in angle.split([len(block.centers) for block in blocks])]
        for conv, line_conv in zip_longest(self.convs, self.line_convs):
            node, edges = conv(nodes[-1], edges, topology)
            nodes.append(node)
            if line_conv is not None:
                updated = [line_conv(*args) for args in zip(edges.split(n_edges), pairs, blocks, strict=True)]
                edges = torch.cat([edge for edge, _ in updated])
                pairs = [pair for _, pair in updated]
        return Updated(nodes, edges)


def line_topology(batch: Batch) -> Topology:
    """Return the line graph of a batch made by :func:`crystalssl.training.collate`.

    Its nodes are the edges of the crystal graph. The neighbours of an edge from j to i are all edges that end in j,
    its own reverse among them.
    """
    neighbors, centers = batch.edge_index
    n_edges = len(centers)
    # Edges that end in an atom follow each other, so that an edge's neighbours are a range ...
    n_neighbors = batch.edge_ptr.diff()[neighbors]
    ptr = _offsets(n_neighbors)
    first = batch.edge_ptr[neighbors]
    pair_centers = torch.repeat_interleave(n_neighbors)
    pair_neighbors = _ranges(first, n_neighbors)
    # ... and the edges that start where it ends are a range of `neighbor_order`. An edge's rank among those that end in
    # the same atom is its rank among the neighbours of each of them.
    n_continuations = batch.neighbor_ptr.diff()[centers]
    continuations = batch.neighbor_order[_ranges(batch.neighbor_ptr[centers], n_continuations)]
    rank = torch.arange(n_edges, device=centers.device) - batch.edge_ptr[centers]
    return Topology(
        pairs=torch.stack([pair_centers, pair_neighbors + n_edges], dim=1),
        centers=pair_centers,
        edge_ptr=ptr,
        neighbor_order=ptr[continuations] + torch.repeat_interleave(rank, n_continuations),
        neighbor_ptr=_offsets(n_continuations),
    )


def line_blocks(batch: Batch, line: Topology) -> list[Topology]:
    """Cut the line graph between crystals, which have no pairs in common, into blocks of about as many pairs each."""
    if batch.z.is_cuda:  # the fewer and the larger the operations the better
        return [line]
    edge_ptr = batch.edge_ptr[batch.ptr]
    pair_ptr = line.edge_ptr[edge_ptr]
    block = pair_ptr[:-1] // _PAIRS_PER_BLOCK
    cuts = [0, *(block.diff().nonzero()[:, 0] + 1).tolist(), len(block)]
    n_edges = len(line.edge_ptr) - 1
    blocks = []
    for start, stop in pairwise(cuts):
        first_edge, last_edge = edge_ptr[start].item(), edge_ptr[stop].item()
        first, last = pair_ptr[start].item(), pair_ptr[stop].item()
        shift = torch.tensor([first_edge, first_edge + n_edges - (last_edge - first_edge)])
        blocks.append(
            Topology(
                pairs=line.pairs[first:last] - shift,
                centers=line.centers[first:last] - first_edge,
                edge_ptr=line.edge_ptr[first_edge : last_edge + 1] - first,
                neighbor_order=line.neighbor_order[first:last] - first,
                neighbor_ptr=line.neighbor_ptr[first_edge : last_edge + 1] - first,
            )
        )
    return blocks


def bond_cosines(batch: Batch, line: Topology) -> Tensor:
    """Return the cosine of the angle of every pair of the line graph; a bond of no length is at right angles to all."""
    neighbors, centers = batch.edge_index
    shifts = torch.bmm(batch.image[:, None, :], batch.cell.index_select(0, batch.batch[centers]))[:, 0]
    vectors = batch.pos.index_select(0, neighbors).add_(shifts).sub_(batch.pos.index_select(0, centers))
    vectors = F.normalize(vectors, dim=1)
    # From the atom shared, one of the two points to its neighbour, the other back to the centre.
    cosines = vectors.index_select(0, line.centers).mul_(vectors.index_select(0, line.pairs[:, 1] - len(vectors)))
    return cosines.sum(dim=1).neg_().clamp_(-1, 1)


def _layer(in_dim: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_dim, out_dim), nn.LayerNorm(out_dim), nn.SiLU())


def _offsets(lengths: Tensor) -> Tensor:
    """Return where each row starts, and at the end where the last one ends."""
    return F.pad(lengths.cumsum(0), (1, 0))


def _ranges(starts: Tensor, lengths: Tensor) -> Tensor:
    """Return ``[s, s+1, …, s+l-1]`` for every (s, l), end to end."""
    offsets = _offsets(lengths)
    return torch.arange(int(offsets[-1]), device=starts.device) + torch.repeat_interleave(
        starts - offsets[:-1], lengths
    )
