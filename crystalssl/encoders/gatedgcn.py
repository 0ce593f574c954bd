"""Residual gated graph convolutions, the package's own encoder."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl.encoders._base import Encoder, Updated, element_table
from crystalssl.encoders._gated import EdgeGatedConv
from crystalssl.encoders._kernels import Topology, gaussian_expansion
from crystalssl.graphs import RECIPES

__all__ = ["GatedGCN"]

_N_GAUSSIANS = 48


class GatedGCN(Encoder):
    """Gated graph convolutional network for crystals: atoms and edges are updated in turn, each with a residual.

    For every edge from neighbour j to centre i of length d,

    - ``m_ij = A x_i + B x_j + C e_ij``,
    - ``h_i = Σ_j σ(m_ij) f(d) V x_j / (Σ_j σ(m_ij) f(d) + ε)``, with the cutoff ``f(d) = (1 + cos(π d / 8 Å)) / 2``,
    - ``x_i ← x_i + SiLU(LN(U x_i + h_i))`` and ``e_ij ← e_ij + SiLU(LN(m_ij))``.

    Layer normalisation, unlike batch normalisation, leaves crystals of a batch independent of each other. The smooth
    cutoff lets a neighbour fade out before it is cut off. An atom starts as a learned vector of its element plus a
    linear map of the element's properties, among them the mass, which vibrations depend on.

    Parameters
    ----------
    hidden_dim : int, default=64
        Width of the atoms' and the edges' vectors.
    n_layers : int, default=4
        Number of convolutions.
    readout : {"mean+max+min", "mean", "set2set", "attention"}, default="mean+max+min"
        How atoms and edges are pooled into crystals.
    layers : {"last", "all"}, default="last"
        Whose outputs stand for the atoms: the last layer's, or those of all layers side by side.

    References
    ----------
    X. Bresson and T. Laurent, Residual gated graph ConvNets (2017), arXiv:1711.07553.
    V. P. Dwivedi et al., J. Mach. Learn. Res. 24, 43 (2023), arXiv:2003.00982.

    Examples
    --------
    >>> import numpy as np
    >>> from crystalssl import CrystalGraphTransformer
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.encoders import GatedGCN
    >>> from crystalssl.training import collate
    >>> X, _ = load_prototypes(return_X_y=True)
    >>> graphs = CrystalGraphTransformer(encoder="gatedgcn").transform(X[:5])
    >>> GatedGCN()(collate(graphs, np.arange(5))).graph.shape
    torch.Size([5, 320])
    """

    name = "gatedgcn"
    recipe = RECIPES["gatedgcn"]
    pooling: ClassVar = {"readout": "mean+max+min", "layers": "last"}
    frozen_pooling: ClassVar = {"readout": "mean+max+min", "layers": "all"}
    gentle_finetuning = True
    pools_edges = True

    element_features: Tensor
    gaussian_centers: Tensor

    def __init__(self, hidden_dim: int = 64, n_layers: int = 4, readout: str = "mean+max+min", layers: str = "last"):
        super().__init__(hidden_dim=hidden_dim, n_layers=n_layers, readout=readout, layers=layers)
        table = element_table()
        self.register_buffer("element_features", table)
        self.register_buffer("gaussian_centers", torch.linspace(0, self.recipe.cutoff, _N_GAUSSIANS))
        self.gaussian_width = 1.5 * self.recipe.cutoff / (_N_GAUSSIANS - 1)
        self.properties = nn.Linear(table.shape[1], hidden_dim)
        self.elements = nn.Embedding(len(table), hidden_dim)
        # Small at first: what an element is like comes from its properties, until training finds what they leave out.
        nn.init.normal_(self.elements.weight, std=0.1)
        self.lengths = nn.Linear(_N_GAUSSIANS, hidden_dim)
        self.convs = nn.ModuleList(EdgeGatedConv(hidden_dim) for _ in range(n_layers))
        self.finish([hidden_dim] * (n_layers + 1), edge_dim=hidden_dim)

    def update(self, batch: Batch) -> Updated:
        """Run the convolutions on a batch made by :func:`crystalssl.training.collate`."""
        topology = Topology.of(batch)
        distance = batch.distance.clamp(max=self.recipe.cutoff)  # a masked distance is infinite; its gate is shut
        envelope = (distance * (torch.pi / self.recipe.cutoff)).cos_().add_(1).mul_(0.5)[:, None]
        lengths, length = batch.distance.unique(return_inverse=True)  # crystals have few, each many times
        lengths = self.lengths(gaussian_expansion(lengths, self.gaussian_centers, self.gaussian_width))
        edges = lengths.index_select(0, length)
        nodes = [F.embedding(batch.z, self.properties(self.element_features) + self.elements.weight)]
        for conv in self.convs:
            node, edges = conv(nodes[-1], edges, topology, envelope)
            nodes.append(node)
        return Updated(nodes, edges)
