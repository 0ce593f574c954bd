"""Crystal graph convolutional neural network."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl.encoders._base import Encoder, Updated, element_table
from crystalssl.encoders._kernels import Topology, gaussian_expansion, normalised_gated_sum, pair_linear
from crystalssl.graphs import RECIPES

__all__ = ["CGCNN"]


class CGCNN(Encoder):
    """Crystal graph convolutional neural network of Xie and Grossman.

    Each convolution computes, for every edge from neighbour j to centre i,
    ``z = BN(W [x_i, x_j, e_ij] + b)``, whose two halves are a gate and a core, and
    ``x_i ← softplus(x_i + BN(Σ_j sigmoid(z_gate) softplus(z_core)))``.

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
    layers : {"last", "all"}, default="last"
        Pool the atoms' vectors after the last convolution, as in the paper, or those of the embedding and of every
        convolution side by side, which keeps what an atom is beside what surrounds it.

    References
    ----------
    T. Xie and J. C. Grossman, Phys. Rev. Lett. 120, 145301 (2018), doi:10.1103/PhysRevLett.120.145301.

    Examples
    --------
    >>> import numpy as np
    >>> from crystalssl import CrystalGraphTransformer
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.encoders import CGCNN
    >>> from crystalssl.training import collate
    >>> X, _ = load_prototypes(return_X_y=True)
    >>> graphs = CrystalGraphTransformer(encoder="cgcnn").transform(X[:5])
    >>> CGCNN()(collate(graphs, np.arange(5))).graph.shape
    torch.Size([5, 64])
    """

    name = "cgcnn"
    recipe = RECIPES["cgcnn"]
    pooling: ClassVar = {"readout": "mean+max+min", "layers": "all"}
    frozen_pooling: ClassVar = {"readout": "mean+max+min", "layers": "all"}

    element_features: Tensor
    gaussian_centers: Tensor

    def __init__(
        self,
        hidden_dim: int = 64,
        n_layers: int = 3,
        n_gaussians: int = 41,
        readout: str = "mean",
        layers: str = "last",
    ):
        super().__init__(
            hidden_dim=hidden_dim, n_layers=n_layers, n_gaussians=n_gaussians, readout=readout, layers=layers
        )
        table = element_table()
        # Both tables are saved with the weights, which mean nothing without them.
        self.register_buffer("element_features", table)
        self.register_buffer("gaussian_centers", torch.linspace(0, self.recipe.cutoff, n_gaussians))
        self.gaussian_width = self.recipe.cutoff / (n_gaussians - 1)
        self.embedding = nn.Linear(table.shape[1], hidden_dim)
        self.convs = nn.ModuleList(CGConv(hidden_dim, n_gaussians) for _ in range(n_layers))
        self.finish([hidden_dim] * (n_layers + 1))

    def update(self, batch: Batch) -> Updated:
        """Run the convolutions on a batch made by :func:`crystalssl.training.collate`."""
        topology = Topology.of(batch)
        edges = gaussian_expansion(batch.distance, self.gaussian_centers, self.gaussian_width)
        nodes = [F.embedding(batch.z, self.embedding(self.element_features))]
        for conv in self.convs:
            nodes.append(conv(nodes[-1], edges, topology))
        return Updated(nodes)


class CGConv(nn.Module):
    """One convolution of :class:`CGCNN`.

    The linear layer on ``[x_i, x_j, e_ij]`` and its batch normalisation act on gate and core separately, which is the
    same arithmetic as the published layer, with each half contiguous in memory.

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
        self.gate_norm = nn.BatchNorm1d(hidden_dim)
        self.core = nn.Linear(2 * hidden_dim + edge_dim, hidden_dim)
        self.core_norm = nn.BatchNorm1d(hidden_dim)
        self.norm = nn.BatchNorm1d(hidden_dim)

    def forward(self, x: Tensor, edges: Tensor, topology: Topology) -> Tensor:
        """Update the atoms' vectors `x` of shape (n_atoms, hidden_dim)."""
        gate, core = (self._pairs(linear, x, edges, topology) for linear in (self.gate, self.core))
        messages = normalised_gated_sum(gate, core, self.gate_norm, self.core_norm, topology)
        norm = self.norm
        if len(messages) == 1:  # a single atom has no statistics; the running ones serve, as for edges
            messages = F.batch_norm(messages, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            messages = norm(messages)
        return F.softplus(x + messages)

    @staticmethod
    def _pairs(linear: nn.Linear, x: Tensor, edges: Tensor, topology: Topology) -> Tensor:
        center, neighbor, edge = linear.weight.split([x.shape[1], x.shape[1], edges.shape[1]], dim=1)
        return pair_linear(F.linear(x, center, linear.bias), F.linear(x, neighbor), edges, edge, topology)
