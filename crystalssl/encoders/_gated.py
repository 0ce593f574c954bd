"""The edge-gated convolution that GatedGCN and ALIGNN share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from crystalssl.encoders._kernels import Topology, gated_convolution

__all__ = ["EdgeGatedConv"]


class EdgeGatedConv(nn.Module):
    """Edge-gated graph convolution with layer normalisation and residuals.

    For every edge from node j to node i with the vector e and the envelope f,

    - ``m_ij = A x_i + B x_j + C e_ij``,
    - ``h_i = Σ_j σ(m_ij) f_ij V x_j / (Σ_j σ(m_ij) f_ij + ε)``,
    - ``x_i ← x_i + SiLU(LN(U x_i + h_i))`` and ``e_ij ← e_ij + SiLU(LN(m_ij))``.

    Parameters
    ----------
    hidden_dim : int
        Width of the vectors of nodes and edges.
    updates_edges : bool, default=True
        If not, the edges' vectors are returned as they came.
    """

    def __init__(self, hidden_dim: int, updates_edges: bool = True):
        super().__init__()
        self.nodes = nn.Linear(hidden_dim, 4 * hidden_dim)  # A, B, V and U of the equations, in one product
        self.edge = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.node_norm = nn.LayerNorm(hidden_dim)
        self.edge_norm = nn.LayerNorm(hidden_dim) if updates_edges else None

    def forward(
        self, x: Tensor, edges: Tensor, topology: Topology, envelope: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Update the vectors of the nodes, and those of the edges."""
        messages, updated = gated_convolution(
            self.nodes(x), edges, self.edge.weight, self.edge_norm, envelope, topology
        )
        return x + F.silu(self.node_norm(messages)), edges if updated is None else updated
