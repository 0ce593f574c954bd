"""The encoders as they are usually written, from the published equations and PyTorch Geometric's layers.

Each takes the weights of one of our encoders, and gives the same vectors of crystals.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import CGConv, GINEConv, MessagePassing, global_mean_pool
from torch_geometric.nn.models.schnet import GaussianSmearing
from torch_geometric.nn.norm import DiffGroupNorm
from torch_geometric.utils import softmax

from crystalssl.encoders import CGCNN, GIN, Encoder, GatedGCN
from crystalssl.encoders._kernels import gaussian_expansion
from crystalssl.encoders.deepergatgnn import DeeperGATGNN


class Plain(nn.Module):
    """Base class: what all share, and distances expanded by our function, so that only what comes after it differs.

    Parameters
    ----------
    encoder : Encoder
        Whose weights are copied.
    """

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.register_buffer("centers", encoder.gaussian_centers)
        self.register_buffer("element_features", encoder.element_features)
        self.width = encoder.gaussian_width

    def expand(self, distance: Tensor) -> Tensor:
        return gaussian_expansion(distance, self.centers, self.width)


# ---------------------------------------------------------------- CGCNN


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


class PublishedCGCNN(Plain):
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
                state = {name: part.state_dict() for name, part in zip("gc", parts, strict=True)}
                joined = {
                    key: value if value.ndim == 0 else torch.cat([value, state["c"][key]])
                    for key, value in state["g"].items()
                }
                target.load_state_dict(joined)
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


class PyGCGCNN(Plain):
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


# ---------------------------------------------------------------- GIN


class PyGGIN(Plain):
    """GIN of PyG's `GINEConv`."""

    def __init__(self, encoder: GIN):
        super().__init__(encoder)
        self.embedding = nn.Linear(self.element_features.shape[1], encoder.config["hidden_dim"])
        self.embedding.load_state_dict(encoder.embedding.state_dict())
        convs, norms = [], []
        for conv in encoder.convs:
            (wide, dim), edge_dim = conv.mlp[0].weight.shape, conv.edge.weight.shape[1]
            mlp = nn.Sequential(nn.Linear(dim, wide), nn.ReLU(), nn.Linear(wide, dim))
            peer = GINEConv(mlp, train_eps=True, edge_dim=edge_dim)
            mlp.load_state_dict(conv.mlp.state_dict())  # GINEConv has drawn its weights anew
            peer.lin.load_state_dict(conv.edge.state_dict())
            peer.eps.data.copy_(conv.epsilon.detach().view_as(peer.eps))
            norm = nn.BatchNorm1d(dim)
            norm.load_state_dict(conv.norm.state_dict())
            convs.append(peer)
            norms.append(norm)
        self.convs, self.norms = nn.ModuleList(convs), nn.ModuleList(norms)

    def forward(self, batch: Batch) -> Tensor:
        edges = self.expand(batch.distance)
        x = self.embedding(self.element_features[batch.z])
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x, batch.edge_index, edges))
            x = torch.relu(x) if i < len(self.convs) - 1 else x
        return global_mean_pool(x, batch.batch, batch.num_graphs)


# ---------------------------------------------------------------- GatedGCN


class PlainGatedConv(nn.Module):
    """The equations of `EdgeGatedConv`."""

    def __init__(self, dim: int):
        super().__init__()
        self.A, self.B, self.V, self.U = (nn.Linear(dim, dim) for _ in range(4))
        self.C = nn.Linear(dim, dim, bias=False)
        self.node_norm, self.edge_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, e: Tensor, f: Tensor, neighbors: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
        m = self.A(x)[centers] + self.B(x)[neighbors] + self.C(e)
        weights = torch.sigmoid(m) * f
        above = torch.zeros_like(x).index_add(0, centers, weights * self.V(x)[neighbors])
        below = torch.zeros_like(x).index_add(0, centers, weights)
        x = x + F.silu(self.node_norm(self.U(x) + above / (below + 1e-6)))
        return x, e + F.silu(self.edge_norm(m))


class PlainGatedGCN(Plain):
    """GatedGCN, atoms and edges pooled by their means."""

    def __init__(self, encoder: GatedGCN):
        super().__init__(encoder)
        dim = encoder.config["hidden_dim"]
        self.cutoff = encoder.recipe.cutoff
        self.properties = nn.Linear(self.element_features.shape[1], dim)
        self.elements = nn.Embedding(len(self.element_features), dim)
        self.lengths = nn.Linear(len(self.centers), dim)
        self.convs = nn.ModuleList(PlainGatedConv(dim) for _ in encoder.convs)
        for name in ("properties", "elements", "lengths"):
            getattr(self, name).load_state_dict(getattr(encoder, name).state_dict())
        for plain, conv in zip(self.convs, encoder.convs, strict=True):
            weights, biases = conv.nodes.weight.chunk(4), conv.nodes.bias.chunk(4)
            for name, weight, bias in zip("ABVU", weights, biases, strict=True):
                getattr(plain, name).load_state_dict({"weight": weight, "bias": bias})
            plain.C.load_state_dict(conv.edge.state_dict())
            plain.node_norm.load_state_dict(conv.node_norm.state_dict())
            plain.edge_norm.load_state_dict(conv.edge_norm.state_dict())

    def forward(self, batch: Batch) -> Tensor:
        neighbors, centers = batch.edge_index
        f = 0.5 * (1 + torch.cos(math.pi * batch.distance / self.cutoff))[:, None]
        e = self.lengths(self.expand(batch.distance))
        x = self.properties(self.element_features[batch.z]) + self.elements(batch.z)
        for conv in self.convs:
            x, e = conv(x, e, f, neighbors, centers)
        of_edges = global_mean_pool(e, batch.batch[centers], batch.num_graphs)
        return torch.cat([global_mean_pool(x, batch.batch, batch.num_graphs), of_edges], dim=1)


# ---------------------------------------------------------------- DeeperGATGNN


class PyGAttentionConv(MessagePassing):
    """The augmented attention layer of the authors' code, re-stated in PyG's `MessagePassing`."""

    def __init__(self, dim: int, n_heads: int):
        super().__init__(aggr="add", node_dim=0)
        self.n_heads = n_heads
        self.W = nn.Parameter(torch.empty(2 * dim, n_heads * dim))
        self.att = nn.Parameter(torch.empty(1, n_heads, 2 * dim))
        self.bias = nn.Parameter(torch.empty(dim))
        self.bn1 = nn.BatchNorm1d(n_heads)
        self.norm = DiffGroupNorm(dim, 10)

    def forward(self, x: Tensor, edge_index: Tensor, edges: Tensor) -> Tensor:
        return x + self.norm(self.propagate(edge_index, x=x, edges=edges).mean(dim=1) + self.bias)

    def message(self, x_i: Tensor, x_j: Tensor, edges: Tensor, index: Tensor, size_i: int | None) -> Tensor:
        z_i = F.softplus(torch.cat([x_i, edges], dim=1) @ self.W).view(len(edges), self.n_heads, -1)
        z_j = F.softplus(torch.cat([x_j, edges], dim=1) @ self.W).view(len(edges), self.n_heads, -1)
        alpha = F.softplus((torch.cat([z_i, z_j], dim=-1) * self.att).sum(dim=-1))
        alpha = softmax(F.softplus(self.bn1(alpha)), index, num_nodes=size_i)
        return z_j * alpha[:, :, None]


class PyGDeeperGATGNN(Plain):
    """DeeperGATGNN of these layers, atoms pooled by their mean."""

    def __init__(self, encoder: DeeperGATGNN):
        super().__init__(encoder)
        dim, n_heads = encoder.config["hidden_dim"], encoder.config["n_heads"]
        self.embedding = nn.Linear(self.element_features.shape[1], dim)
        self.lengths = nn.Linear(len(self.centers), dim)
        self.embedding.load_state_dict(encoder.embedding.state_dict())
        self.lengths.load_state_dict(encoder.lengths.state_dict())
        self.convs = nn.ModuleList(PyGAttentionConv(dim, n_heads) for _ in encoder.convs)
        for plain, conv in zip(self.convs, encoder.convs, strict=True):
            plain.W.data.copy_(conv.linear.weight.detach().t())
            plain.att.data.copy_(conv.attention.detach()[None])
            plain.bias.data.copy_(conv.bias.detach())
            plain.bn1.load_state_dict(conv.attention_norm.state_dict())
            plain.norm.load_state_dict(conv.norm.state_dict())

    def forward(self, batch: Batch) -> Tensor:
        edges = F.leaky_relu(self.lengths(self.expand(batch.distance)), 0.2)
        x = F.leaky_relu(self.embedding(self.element_features[batch.z]), 0.2)
        for conv in self.convs:
            x = conv(x, batch.edge_index, edges)
        return global_mean_pool(x, batch.batch, batch.num_graphs)
