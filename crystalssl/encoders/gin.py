"""Graph isomorphism network with edge features."""

from __future__ import annotations

import re
from typing import Any

import torch.nn.functional as F
from torch import nn
from torch_geometric.data import Batch
from torch_geometric.nn import GINEConv

from crystalssl.encoders._base import LayerOutputs
from crystalssl.encoders._features import FeatureEncoder
from crystalssl.encoders._layers import BatchNorm
from crystalssl.graphs import RECIPES

__all__ = ["GIN"]


class GIN(FeatureEncoder):
    """Graph isomorphism network of Xu et al. with the edge features of Hu et al.

    Each layer computes, over the edges from neighbours j to centre i,
    ``x_i ← BN(MLP((1 + ε) x_i + Σ_j ReLU(x_j + W e_ij + b)))``. This is PyG's ``GINEConv`` and a batch normalisation. A
    ReLU follows in all layers but the last. The MLP has one hidden layer, twice as wide, and ε is learned. `e_ij` is
    the Gaussian expansion of the distance. Atoms start as a linear map of the features of their elements.

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
    %(parameters)s
    kernels : {"fast", "plain"}, default="fast"
        Both are the same: PyG's layers have no other form.

    References
    ----------
    W. Hu et al., Strategies for pre-training graph neural networks, ICLR 2020, arXiv:1905.12265.
    K. Xu et al., How powerful are graph neural networks?, ICLR 2019, arXiv:1810.00826.

    Examples
    --------
    >>> from crystalssl import PretrainedCrystalEmbedder
    >>> from crystalssl.encoders import GIN
    >>> encoder = GIN(n_layers=3, pooled_layers="all")
    >>> encoder.node_dim
    256
    >>> embedder = PretrainedCrystalEmbedder("mask", encoder=encoder, weights=None)
    """

    name = "gin"
    recipe = RECIPES["gin"]

    def __init__(self, hidden_dim: int = 64, n_layers: int = 5, n_gaussians: int = 41, **shared: Any):
        super().__init__(hidden_dim, n_gaussians, **shared)
        self.convs = nn.ModuleList(
            GINEConv(
                nn.Sequential(nn.Linear(hidden_dim, 2 * hidden_dim), nn.ReLU(), nn.Linear(2 * hidden_dim, hidden_dim)),
                train_eps=True,
                edge_dim=n_gaussians,
            )
            for _ in range(n_layers)
        )
        self.norms = nn.ModuleList(BatchNorm(hidden_dim) for _ in range(n_layers))
        self.register_load_state_dict_pre_hook(_rename_weights)
        self.set_widths([hidden_dim] * (n_layers + 1))

    def layer_outputs(self, batch: Batch) -> LayerOutputs:
        """Run the layers on a batch made by :func:`crystalssl.training.collate`."""
        edges = self.expand(batch.distance)
        nodes = [F.embedding(batch.z, self.embedding(self.element_features))]
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(nodes[-1], batch.edge_index, edges))
            nodes.append(F.relu(x) if i < len(self.convs) - 1 else x)
        return LayerOutputs(nodes)


def _rename_weights(module: nn.Module, state: dict[str, Any], *args: Any) -> None:
    """Give weights that were saved before version 0.2 the names that PyG has for them."""
    for name in [*state]:
        renamed = re.sub(r"^convs\.(\d+)\.norm\.", r"norms.\1.", name)
        for old, new in {".edge.": ".lin.", ".mlp.": ".nn.", ".epsilon": ".eps"}.items():
            renamed = renamed.replace(old, new)
        state[renamed] = state.pop(name)
