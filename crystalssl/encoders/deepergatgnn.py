"""Deep graph attention network with differentiable group normalisation."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn.norm import DiffGroupNorm
from torch_geometric.utils import softmax

from crystalssl.encoders._base import LayerOutputs
from crystalssl.encoders._features import FeatureEncoder
from crystalssl.encoders._kernels import AtomLengthPairs, agat_conv
from crystalssl.encoders._layers import BatchNorm, Layer, fast_form
from crystalssl.encoders._topology import Topology
from crystalssl.graphs import RECIPES

__all__ = ["DeeperGATGNN"]

_N_GROUPS = 10
_SLOPE = 0.2
"""Of the leaky ReLU after the embeddings."""


class DeeperGATGNN(FeatureEncoder):
    """Deep graph attention network of Omee et al.: the attention of GATGNN, group normalisation and residuals.

    Atoms and edges are embedded by a linear layer and a leaky ReLU. Each layer computes, for every edge from neighbour
    j to centre i and in each of its heads,

    - ``z_i = softplus(W [x_i, e_ij])`` and ``z_j = softplus(W [x_j, e_ij])``,
    - ``a_ij = softmax_j softplus(BN(softplus(a · [z_i, z_j])))``, where BN normalises one number per head,
    - ``h_i = mean over heads of Σ_j a_ij z_j, plus b``,
    - ``x_i ← x_i + DGN(h_i)``.

    The differentiable group normalisation DGN and the residual keep the atoms of a deep network apart. As in the
    authors' code, no softplus follows the normalisation, and `W` has no bias and is the same for both ends. There are
    50 Gaussians, and their width is 0.2 of the range of distances.

    Not as in the authors' code: distances are scaled by the cutoff, not by the smallest and largest of the data set;
    atoms have no edge to themselves and no one-hot degree among their features; and the layers are 5, theirs in most
    of the paper 20.

    Parameters
    ----------
    hidden_dim : int, default=64
        Width of the atoms' vectors, and of each head.
    n_layers : int, default=5
        Number of layers.
    n_heads : int, default=4
        Number of attention heads, whose results are averaged.
    n_gaussians : int, default=50
        Number of Gaussians, evenly spaced from 0 to 8 Å, in which distances are expanded.
    readout : {"attention", "mean", "mean+max+min", "set2set"}, default="attention"
        How atoms are pooled into crystals; "attention" is the paper's, with weights from atoms and composition.
    %(parameters)s

    References
    ----------
    S. S. Omee et al., Patterns 3, 100491 (2022), doi:10.1016/j.patter.2022.100491.
    S.-Y. Louis et al., Phys. Chem. Chem. Phys. 22, 18141 (2020), doi:10.1039/D0CP01474E.
    K. Zhou et al., NeurIPS 2020, arXiv:2006.06972 (differentiable group normalisation).

    Examples
    --------
    >>> from crystalssl import CrystalSSLRegressor
    >>> from crystalssl.encoders import DeeperGATGNN
    >>> deep = DeeperGATGNN(n_layers=20)
    >>> len(deep.convs)
    20
    >>> model = CrystalSSLRegressor(pretrain=None, encoder=deep, max_epochs=500)
    """

    name = "deepergatgnn"
    recipe = RECIPES["deepergatgnn"]
    pooling: ClassVar = {"readout": "attention", "pooled_layers": "last"}
    frozen_pooling: ClassVar = {"readout": "mean+max+min", "pooled_layers": "all"}

    def __init__(
        self,
        hidden_dim: int = 64,
        n_layers: int = 5,
        n_heads: int = 4,
        n_gaussians: int = 50,
        readout: str = "attention",
        **shared: Any,
    ):
        super().__init__(hidden_dim, n_gaussians, readout=readout, **shared)
        # The authors' Gaussians are exp(-(d - µ)² / 2σ²), with σ 0.2 of the range.
        self.gaussian_width = 0.2 * math.sqrt(2) * self.recipe.cutoff
        self.lengths = nn.Linear(n_gaussians, hidden_dim)
        self.convs = nn.ModuleList(AGATConv(hidden_dim, n_heads) for _ in range(n_layers))
        self.set_widths([hidden_dim] * (n_layers + 1))

    def layer_outputs(self, batch: Batch) -> LayerOutputs:
        """Run the layers on a batch made by :func:`crystalssl.training.collate`."""
        if self.kernels == "plain":
            distances, length = batch.distance, torch.arange(len(batch.distance), device=batch.distance.device)
        else:
            distances, length = batch.distance.unique(return_inverse=True)
        pairs = AtomLengthPairs.of(Topology.of(batch), length)
        lengths = F.leaky_relu(self.lengths(self.expand(distances)), _SLOPE)
        nodes = [F.embedding(batch.z, F.leaky_relu(self.embedding(self.element_features), _SLOPE))]
        for conv in self.convs:
            nodes.append(conv(nodes[-1], lengths, pairs))
        return LayerOutputs(nodes)


class AGATConv(Layer):
    """One layer of :class:`DeeperGATGNN`: augmented graph attention, group normalisation and residual.

    Parameters
    ----------
    hidden_dim : int
        Width of the vectors of atoms and edges.
    n_heads : int
        Number of attention heads.
    """

    def __init__(self, hidden_dim: int, n_heads: int):
        super().__init__()
        self.linear = nn.Linear(2 * hidden_dim, n_heads * hidden_dim, bias=False)
        self.attention = nn.Parameter(torch.empty(n_heads, 2 * hidden_dim))
        self.attention_norm = BatchNorm(n_heads)
        self.bias = nn.Parameter(torch.zeros(hidden_dim))
        self.norm = DiffGroupNorm(hidden_dim, _N_GROUPS)
        self.norm.norm = BatchNorm(_N_GROUPS * hidden_dim)  # PyG's cannot normalise a single atom
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.xavier_uniform_(self.attention)

    @fast_form(agat_conv)
    def forward(self, x: Tensor, lengths: Tensor, pairs: AtomLengthPairs) -> Tensor:
        """Update the atoms' vectors.

        Parameters
        ----------
        x : Tensor of shape (n_atoms, hidden_dim)
        lengths : Tensor of shape (n_lengths, hidden_dim)
            Vectors of the distinct lengths.
        pairs : AtomLengthPairs
            Which atoms and lengths the edges have.
        """
        i, j = pairs.topology.centers, pairs.topology.neighbors
        edges = lengths[pairs.length[pairs.of_center]]
        z_i, z_j = (
            F.softplus(self.linear(torch.cat([x[ends], edges], dim=1))).unflatten(1, (len(self.attention), -1))
            for ends in (i, j)
        )
        a = self.attention_weights((self.attention * torch.cat([z_i, z_j], dim=2)).sum(dim=2), pairs.topology)
        return self.update(x, pairs.topology.sum((a[:, :, None] * z_j).mean(dim=1)))

    def attention_weights(self, scores: Tensor, topology: Topology) -> Tensor:
        """Return the weights of all edges, of shape (n_edges, n_heads); those of the edges of a centre sum to one."""
        scores = F.softplus(self.attention_norm(F.softplus(scores)))
        return softmax(scores, topology.centers, num_nodes=len(topology.edge_ptr) - 1)

    def update(self, x: Tensor, messages: Tensor) -> Tensor:
        """Add what the neighbours say, normalised, to the atoms' vectors."""
        return x + self.norm(messages + self.bias)
