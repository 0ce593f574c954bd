"""Graph isomorphism network with edge features."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch_geometric.data import Batch

from crystalssl.encoders._base import Encoder, Updated, element_table
from crystalssl.encoders._kernels import Topology, gaussian_expansion, segment_sum
from crystalssl.graphs import RECIPES

__all__ = ["GIN"]


class GIN(Encoder):
    """Graph isomorphism network of Xu et al. with the edge features of Hu et al.

    Each layer computes, over the edges from neighbours j to centre i,
    ``x_i ← BN(MLP((1 + ε) x_i + Σ_j ReLU(x_j + W e_ij + b)))``, followed by a ReLU in all layers but the last. The
    MLP has one hidden layer, twice as wide, and ε is learned. `e_ij` is the Gaussian expansion of the distance. The
    layers, without their normalisation, are those of PyG's ``GINEConv``.

    Parameters
    ----------
    hidden_dim : int, default=64
        Width of the atoms' vectors.
    n_layers : int, default=5
        Number of layers.
    n_gaussians : int, default=41
        Number of Gaussians, evenly spaced from 0 to 8 Å and as wide as their spacing, in which distances are expanded.
    readout : {"mean", "mean+max+min", "set2set", "attention"}, default="mean"
        How atoms are pooled into crystals; the mean is that of Hu et al.
    layers : {"last", "all"}, default="last"
        Whose outputs stand for the atoms: the last layer's, or those of the embedding and of every layer side by side.

    References
    ----------
    W. Hu et al., Strategies for pre-training graph neural networks, ICLR 2020, arXiv:1905.12265.
    K. Xu et al., How powerful are graph neural networks?, ICLR 2019, arXiv:1810.00826.

    Examples
    --------
    >>> import numpy as np
    >>> from crystalssl import CrystalGraphTransformer
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.encoders import GIN
    >>> from crystalssl.training import collate
    >>> X, _ = load_prototypes(return_X_y=True)
    >>> graphs = CrystalGraphTransformer(encoder="gin").transform(X[:5])
    >>> GIN()(collate(graphs, np.arange(5))).graph.shape
    torch.Size([5, 64])
    """

    name = "gin"
    recipe = RECIPES["gin"]
    pooling: ClassVar = {"readout": "mean+max+min", "layers": "all"}
    frozen_pooling: ClassVar = {"readout": "mean+max+min", "layers": "all"}

    element_features: Tensor
    gaussian_centers: Tensor

    def __init__(
        self,
        hidden_dim: int = 64,
        n_layers: int = 5,
        n_gaussians: int = 41,
        readout: str = "mean",
        layers: str = "last",
    ):
        super().__init__(
            hidden_dim=hidden_dim, n_layers=n_layers, n_gaussians=n_gaussians, readout=readout, layers=layers
        )
        table = element_table()
        self.register_buffer("element_features", table)
        self.register_buffer("gaussian_centers", torch.linspace(0, self.recipe.cutoff, n_gaussians))
        self.gaussian_width = self.recipe.cutoff / (n_gaussians - 1)
        self.embedding = nn.Linear(table.shape[1], hidden_dim)
        self.convs = nn.ModuleList(GINConv(hidden_dim, n_gaussians) for _ in range(n_layers))
        self.finish([hidden_dim] * (n_layers + 1))

    def update(self, batch: Batch) -> Updated:
        """Run the layers on a batch made by :func:`crystalssl.training.collate`."""
        topology = Topology.of(batch)
        edges = gaussian_expansion(batch.distance, self.gaussian_centers, self.gaussian_width)
        nodes = [F.embedding(batch.z, self.embedding(self.element_features))]
        for i, conv in enumerate(self.convs):
            x = conv(nodes[-1], edges, topology)
            nodes.append(F.relu(x) if i < len(self.convs) - 1 else x)
        return Updated(nodes)


class GINConv(nn.Module):
    """One layer of :class:`GIN`: sum over neighbours, MLP and batch normalisation.

    Parameters
    ----------
    hidden_dim : int
        Width of the atoms' vectors.
    edge_dim : int
        Width of the edges' vectors.
    """

    def __init__(self, hidden_dim: int, edge_dim: int):
        super().__init__()
        self.edge = nn.Linear(edge_dim, hidden_dim)
        self.epsilon = nn.Parameter(torch.zeros(1))
        wide = 2 * hidden_dim
        self.mlp = nn.Sequential(nn.Linear(hidden_dim, wide), nn.ReLU(), nn.Linear(wide, hidden_dim))
        self.norm = nn.BatchNorm1d(hidden_dim)

    def forward(self, x: Tensor, edges: Tensor, topology: Topology) -> Tensor:
        """Update the atoms' vectors `x` of shape (n_atoms, hidden_dim)."""
        # The bias is added once per atom, not once per edge.
        messages = _RectifiedSum.apply(x + self.edge.bias, edges, self.edge.weight, topology)
        x = self.mlp((1 + self.epsilon) * x + messages)
        norm = self.norm
        if len(x) == 1:  # a single atom has no statistics; the running ones serve
            return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return norm(x)


class _RectifiedSum(torch.autograd.Function):
    """``Σ_j ReLU(x_j + W e_ij)`` over the edges of each centre; no gradient flows into the edges."""

    @staticmethod
    def forward(ctx, x: Tensor, edges: Tensor, weight: Tensor, topology: Topology) -> Tensor:
        neighbors = topology.pairs[:, 1] - len(x)
        # The product accumulates onto the gathered rows, so that no second array of that size is made.
        messages = x.index_select(0, neighbors).addmm_(edges, weight.t()).relu_()
        ctx.save_for_backward(edges, messages)
        ctx.topology = topology
        return segment_sum(messages, topology)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        edges, messages = ctx.saved_tensors
        topology = ctx.topology
        grad = grad.index_select(0, topology.centers).masked_fill_(messages == 0, 0)
        by_neighbor = F.embedding_bag(
            topology.neighbor_order, grad, topology.neighbor_ptr, mode="sum", include_last_offset=True
        )
        return by_neighbor, None, grad.t() @ edges, None
