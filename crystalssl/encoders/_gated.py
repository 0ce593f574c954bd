"""The edge-gated convolution that GatedGCN and ALIGNN share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crystalssl.encoders._kernels import edge_gated_conv
from crystalssl.encoders._layers import Layer, fast_form
from crystalssl.encoders._topology import Topology

if TYPE_CHECKING:
    from crystalssl.encoders._angles import AngularSums, BondAngles

__all__ = ["EdgeGatedConv"]


class EdgeGatedConv(Layer):
    """Edge-gated graph convolution with layer normalisation and residuals.

    For every edge from node j to node i with the vector e and the envelope f,

    - ``m_ij = A x_i + B x_j + C e_ij`` and ``w_ij = σ(m_ij) f_ij``,
    - ``h_i = Σ_j w_ij V x_j / (Σ_j w_ij + ε)``,
    - ``x_i ← x_i + SiLU(LN(U x_i + h_i))`` and ``e_ij ← e_ij + SiLU(LN(m_ij))``.

    Parameters
    ----------
    hidden_dim : int
        Width of the vectors of nodes and edges.
    updates_edges : bool, default=True
        If not, the edges' vectors are returned as they came.
    extra_dim : int, default=0
        Number of further features of nodes and of edges, which A, B, U, V and C read beside their vectors.
    """

    epsilon = 1e-6
    """Keeps the mean of no neighbours at zero."""

    def __init__(self, hidden_dim: int, updates_edges: bool = True, extra_dim: int = 0):
        super().__init__()
        # A, B, V and U of the equations, in one product
        self.nodes = nn.Linear(hidden_dim + extra_dim, 4 * hidden_dim)
        self.edge = nn.Linear(hidden_dim + extra_dim, hidden_dim, bias=False)
        self.node_norm = nn.LayerNorm(hidden_dim)
        self.edge_norm = nn.LayerNorm(hidden_dim) if updates_edges else None

    @fast_form(edge_gated_conv)
    def forward(
        self,
        x: Tensor,
        edges: Tensor,
        topology: Topology,
        envelope: Tensor | None = None,
        angular: tuple[AngularSums, BondAngles] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Update the vectors of the nodes, and those of the edges.

        Parameters
        ----------
        x : Tensor of shape (n_nodes, hidden_dim)
        edges : Tensor of shape (n_edges, hidden_dim)
        topology : Topology
        envelope : Tensor of shape (n_edges, 1) or None, default=None
            None stands for ones.
        angular : pair of AngularSums and BondAngles, or None, default=None
            What the further features of the nodes and of the edges are.
        """
        i, j = topology.centers, topology.neighbors
        of_nodes, of_edges = x, edges
        if angular is not None:
            sums, angles = angular
            power, of_angles = sums(x, edges, topology, envelope, angles)
            of_nodes, of_edges = torch.cat([x, power], dim=1), torch.cat([edges, of_angles], dim=1)
        a, b, v, u = self.nodes(of_nodes).chunk(4, dim=1)
        m = a[i] + b[j] + self.edge(of_edges)
        w = torch.sigmoid(m) if envelope is None else torch.sigmoid(m) * envelope
        h = topology.sum(w * v[j]) / (topology.sum(w) + self.epsilon)
        x = x + F.silu(self.node_norm(u + h))
        return x, edges if self.edge_norm is None else edges + F.silu(self.edge_norm(m))
