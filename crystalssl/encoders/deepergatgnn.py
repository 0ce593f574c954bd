"""Deep graph attention network with differentiable group normalisation."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn.norm import DiffGroupNorm
from torch_geometric.utils import softmax

from crystalssl.encoders._base import Encoder, Updated, element_table
from crystalssl.encoders._kernels import gaussian_expansion
from crystalssl.graphs import RECIPES

__all__ = ["DeeperGATGNN"]

_N_GROUPS = 10


class DeeperGATGNN(Encoder):
    """Docstring."""

    name = "deepergatgnn"
    recipe = RECIPES["deepergatgnn"]
    pooling: ClassVar = {"readout": "attention", "layers": "last"}
    frozen_pooling: ClassVar = {"readout": "mean+max+min", "layers": "all"}

    element_features: Tensor
    gaussian_centers: Tensor

    def __init__(
        self,
        hidden_dim: int = 64,
        n_layers: int = 5,
        n_heads: int = 4,
        n_gaussians: int = 50,
        readout: str = "attention",
        layers: str = "last",
    ):
        super().__init__(
            hidden_dim=hidden_dim, n_layers=n_layers, n_heads=n_heads, n_gaussians=n_gaussians, readout=readout,
            layers=layers,
        )  # fmt: skip
        table = element_table()
        self.register_buffer("element_features", table)
        self.register_buffer("gaussian_centers", torch.linspace(0, self.recipe.cutoff, n_gaussians))
        self.gaussian_width = 0.2 * math.sqrt(2) * self.recipe.cutoff
        self.embedding = nn.Linear(table.shape[1], hidden_dim)
        self.lengths = nn.Linear(n_gaussians, hidden_dim)
        self.convs = nn.ModuleList(AGATConv(hidden_dim, n_heads) for _ in range(n_layers))
        self.finish([hidden_dim] * (n_layers + 1))

    def update(self, batch: Batch) -> Updated:
        """Run the convolutions on a batch made by :func:`crystalssl.training.collate`."""
        gaussians = gaussian_expansion(batch.distance, self.gaussian_centers, self.gaussian_width)
        edges = F.leaky_relu(self.lengths(gaussians), 0.2)
        nodes = [F.embedding(batch.z, F.leaky_relu(self.embedding(self.element_features), 0.2))]
        for conv in self.convs:
            nodes.append(conv(nodes[-1], edges, batch.edge_index))
        return Updated(nodes)


class AGATConv(nn.Module):
    """One layer of :class:`DeeperGATGNN`."""

    def __init__(self, hidden_dim: int, n_heads: int):
        super().__init__()
        self.linear = nn.Linear(2 * hidden_dim, n_heads * hidden_dim, bias=False)
        self.attention = nn.Parameter(torch.empty(n_heads, 2 * hidden_dim))
        self.attention_norm = nn.BatchNorm1d(n_heads)
        self.bias = nn.Parameter(torch.zeros(hidden_dim))
        self.norm = DiffGroupNorm(hidden_dim, _N_GROUPS)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.xavier_uniform_(self.attention)

    def forward(self, x: Tensor, edges: Tensor, edge_index: Tensor) -> Tensor:
        """Update the atoms' vectors `x` of shape (n_atoms, hidden_dim)."""
        neighbors, centers = edge_index
        n_heads, dim = len(self.attention), x.shape[1]
        of_atom, of_edge = self.linear.weight.split([dim, edges.shape[1]], dim=1)
        atoms, edges = F.linear(x, of_atom), F.linear(edges, of_edge)
        mine = F.softplus(atoms.index_select(0, centers) + edges).view(-1, n_heads, dim)
        theirs = F.softplus(atoms.index_select(0, neighbors) + edges).view(-1, n_heads, dim)
        left, right = self.attention.chunk(2, dim=1)
        logits = F.softplus((mine * left).sum(dim=-1) + (theirs * right).sum(dim=-1))
        alpha = softmax(F.softplus(_normalise(self.attention_norm, logits)), centers, num_nodes=len(x))
        messages = (theirs * alpha[:, :, None]).mean(dim=1)
        summed = torch.zeros_like(x).index_add(0, centers, messages) + self.bias
        return x + self._group_norm(summed)

    def _group_norm(self, x: Tensor) -> Tensor:
        group = self.norm
        shares = group.lin(x).softmax(dim=1)
        parts = (shares[:, :, None] * x[:, None, :]).flatten(1)
        return x + group.lamda * _normalise(group.norm, parts).view(len(x), group.groups, -1).sum(dim=1)


def _normalise(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Return `x` normalised; with fewer than two rows there are no statistics to take, and the running ones serve."""
    if len(x) < 2:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    return norm(x)
