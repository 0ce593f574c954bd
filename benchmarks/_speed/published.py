"""CGCNN as others have it: the published layer, and PyTorch Geometric's.

Each takes the weights of one of our encoders, as far as it has such, and gives vectors of crystals.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import CGConv, global_mean_pool
from torch_geometric.nn.models.schnet import GaussianSmearing

from crystalssl.encoders import CGCNN
from crystalssl.encoders._layers import gaussian_expansion


class _Peer(nn.Module):
    """Base class: what both share, and distances expanded by our function, so that only what comes after it differs."""

    def __init__(self, encoder: CGCNN):
        super().__init__()
        self.register_buffer("centers", encoder.gaussian_centers)
        self.register_buffer("element_features", encoder.element_features)
        self.width = encoder.gaussian_width

    def expand(self, distance: Tensor) -> Tensor:
        return gaussian_expansion(distance, self.centers, self.width)


class PublishedConv(nn.Module):
    """ConvLayer of github.com/txie-93/cgcnn, re-stated for lists of edges instead of 12 neighbours of every atom."""

    def __init__(self, dim: int, edge_dim: int):
        super().__init__()
        self.fc_full = nn.Linear(2 * dim + edge_dim, 2 * dim)
        self.bn1 = nn.BatchNorm1d(2 * dim)
        self.bn2 = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor, edges: Tensor, neighbors: Tensor, centers: Tensor) -> Tensor:
        gated = self.bn1(self.fc_full(torch.cat([x[centers], x[neighbors], edges], dim=1)))
        gate, core = gated.chunk(2, dim=1)
        messages = torch.sigmoid(gate) * F.softplus(core)
        return F.softplus(x + self.bn2(torch.zeros_like(x).index_add(0, centers, messages)))


class PublishedCGCNN(_Peer):
    """CGCNN of layers as published; a batch may bring its `gaussians`, as from the published data loader."""

    def __init__(self, encoder: CGCNN):
        super().__init__(encoder)
        dim = encoder.config["hidden_dim"]
        self.embedding = nn.Linear(self.element_features.shape[1], dim)
        self.convs = nn.ModuleList(PublishedConv(dim, len(self.centers)) for _ in encoder.convs)
        self.embedding.load_state_dict(encoder.embedding.state_dict())
        for plain, conv in zip(self.convs, encoder.convs, strict=True):
            for target, parts in (
                (plain.fc_full, (conv.gate, conv.core)),
                (plain.bn1, (conv.gate_norm, conv.core_norm)),
            ):
                target.load_state_dict(_joined(*parts))
            plain.bn2.load_state_dict(conv.norm.state_dict())

    def published_gaussians(self, batch: Batch) -> Tensor:
        """Return what the published data loader makes of distances, tiny denormal numbers included."""
        scaled = (batch.distance.double()[:, None] - self.centers.double()) / self.width
        return torch.exp(-(scaled**2)).float()

    def forward(self, batch: Batch) -> Tensor:
        edges = batch.gaussians if "gaussians" in batch else self.expand(batch.distance)
        x = self.embedding(self.element_features[batch.z])
        for conv in self.convs:
            x = conv(x, edges, *batch.edge_index)
        return global_mean_pool(x, batch.batch, batch.num_graphs)


def _joined(gate: nn.Module, core: nn.Module) -> dict[str, Tensor]:
    of_core = core.state_dict()
    # What has no rows counts batches.
    return {name: torch.cat([x, of_core[name]]) if x.ndim else x for name, x in gate.state_dict().items()}


class PyGCGCNN(_Peer):
    """The same sizes of PyG's `CGConv`, which has no batch normalisation of the gates and so does less.

    Parameters
    ----------
    encoder : CGCNN
    own_gaussians : bool, default=False
        Expand distances with PyG's `GaussianSmearing`.
    """

    def __init__(self, encoder: CGCNN, own_gaussians: bool = False):
        super().__init__(encoder)
        dim = encoder.config["hidden_dim"]
        self.smearing = GaussianSmearing(0.0, float(self.centers[-1]), len(self.centers)) if own_gaussians else None
        self.embedding = nn.Linear(self.element_features.shape[1], dim)
        self.convs = nn.ModuleList(CGConv(dim, len(self.centers), batch_norm=True) for _ in encoder.convs)

    def forward(self, batch: Batch) -> Tensor:
        edges = self.expand(batch.distance) if self.smearing is None else self.smearing(batch.distance)
        x = self.embedding(self.element_features[batch.z])
        for conv in self.convs:
            x = conv(x, batch.edge_index, edges)
        return global_mean_pool(x, batch.batch, batch.num_graphs)
