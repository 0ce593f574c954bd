"""Crystal graph convolutional neural network."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl.encoders._base import LayerOutputs
from crystalssl.encoders._features import FeatureEncoder
from crystalssl.encoders._kernels import cg_conv
from crystalssl.encoders._layers import BatchNorm, Layer, fast_form
from crystalssl.encoders._topology import Topology
from crystalssl.graphs import RECIPES

__all__ = ["CGCNN"]


class CGCNN(FeatureEncoder):
    """Crystal graph convolutional neural network of Xie and Grossman.

    Atoms start as ``x_i = W f_i + b`` of the features f of their elements. Edges stay the Gaussian expansion of their
    lengths. Each convolution computes, for every edge from neighbour j to centre i,

    - ``gate = BN(W₁ [x_i, x_j, e_ij] + b₁)`` and ``core = BN(W₂ [x_i, x_j, e_ij] + b₂)``,
    - ``x_i ← softplus(x_i + BN(Σ_j sigmoid(gate) softplus(core)))``.

    Parameters
    ----------
    hidden_dim : int, default=64
        Width of the atoms' vectors.
    n_layers : int, default=3
        Number of convolutions.
    n_gaussians : int, default=41
        Number of Gaussians, evenly spaced from 0 to 8 Å, in which distances are expanded; as in the authors' code their
        width equals their spacing.
    readout : {"mean", "mean+max+min", "set2set", "attention"}, default="mean"
        How atoms are pooled into crystals; the mean is the paper's.
    %(parameters)s

    References
    ----------
    T. Xie and J. C. Grossman, Phys. Rev. Lett. 120, 145301 (2018), doi:10.1103/PhysRevLett.120.145301.

    Examples
    --------
    >>> from crystalssl import CrystalSSLRegressor
    >>> from crystalssl.encoders import CGCNN
    >>> encoder = CGCNN(hidden_dim=32, n_layers=2)
    >>> encoder.graph_dim
    32
    >>> model = CrystalSSLRegressor(pretrain=None, encoder=encoder)
    """

    name = "cgcnn"
    recipe = RECIPES["cgcnn"]

    def __init__(self, hidden_dim: int = 64, n_layers: int = 3, n_gaussians: int = 41, **shared: Any):
        super().__init__(hidden_dim, n_gaussians, **shared)
        self.convs = nn.ModuleList(CGConv(hidden_dim, n_gaussians) for _ in range(n_layers))
        self.set_widths([hidden_dim] * (n_layers + 1))

    def layer_outputs(self, batch: Batch) -> LayerOutputs:
        """Run the convolutions on a batch made by :func:`crystalssl.training.collate`."""
        topology, edges = Topology.of(batch), self.expand(batch.distance)
        nodes = [F.embedding(batch.z, self.embedding(self.element_features))]
        for conv in self.convs:
            nodes.append(conv(nodes[-1], edges, topology))
        return LayerOutputs(nodes)


class CGConv(Layer):
    """One convolution of :class:`CGCNN`.

    The published layer has gate and core in one linear layer and one batch normalisation. These act on gate and core
    separately, so that two layers and two normalisations are the same arithmetic.

    Parameters
    ----------
    hidden_dim : int
        Width of the atoms' vectors.
    edge_dim : int
        Width of the edges' vectors.
    """

    def __init__(self, hidden_dim: int, edge_dim: int):
        super().__init__()
        self.gate = nn.Linear(2 * hidden_dim + edge_dim, hidden_dim)
        self.gate_norm = BatchNorm(hidden_dim)
        self.core = nn.Linear(2 * hidden_dim + edge_dim, hidden_dim)
        self.core_norm = BatchNorm(hidden_dim)
        self.norm = BatchNorm(hidden_dim)

    @fast_form(cg_conv)
    def forward(self, x: Tensor, edges: Tensor, topology: Topology) -> Tensor:
        """Update the atoms' vectors `x` of shape (n_atoms, hidden_dim), by edges of shape (n_edges, edge_dim)."""
        ends = torch.cat([x[topology.centers], x[topology.neighbors], edges], dim=1)
        gate, core = self.gate_norm(self.gate(ends)), self.core_norm(self.core(ends))
        return F.softplus(x + self.norm(topology.sum(torch.sigmoid(gate) * F.softplus(core))))
