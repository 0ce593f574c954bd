"""Deep graph attention network with differentiable group normalisation."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch_geometric.data import Batch
from torch_geometric.nn.norm import DiffGroupNorm

from crystalssl.encoders._base import Encoder, Updated, element_table
from crystalssl.encoders._kernels import gaussian_expansion
from crystalssl.graphs import RECIPES

__all__ = ["DeeperGATGNN"]

_N_GROUPS = 10
_SLOPE = 0.2
"""Of the leaky ReLU after the embeddings."""
_BLOCK = 1024
"""Rows per step of elementwise functions, so that what lies between the steps stays in the cache."""


class DeeperGATGNN(Encoder):
    """Deep graph attention network of Omee et al.: the attention of GATGNN, group normalisation and residuals.

    Atoms and edges are embedded by a linear layer and a leaky ReLU. Each layer computes, for every edge from neighbour
    j to centre i and in each of its heads,

    - ``z_i = softplus(W [x_i, e_ij])`` and ``z_j = softplus(W [x_j, e_ij])``,
    - ``a_ij = softmax_j softplus(BN(softplus(a · [z_i, z_j])))``, the batch normalisation being one number per head,
    - ``h_i = mean over heads of Σ_j a_ij z_j, plus b``, then ``x_i ← x_i + DGN(h_i)``.

    The differentiable group normalisation DGN and the residual keep the atoms of a deep network apart. As in the
    authors' code, no softplus follows the normalisation, `W` has no bias and both ends share it, and there are 50
    Gaussians, 0.2 of the range of distances wide.

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
    layers : {"last", "all"}, default="last"
        Whose outputs stand for the atoms: the last layer's, or those of the embedding and of every layer side by side.

    References
    ----------
    S. S. Omee et al., Patterns 3, 100491 (2022), doi:10.1016/j.patter.2022.100491.
    S.-Y. Louis et al., Phys. Chem. Chem. Phys. 22, 18141 (2020), doi:10.1039/D0CP01474E.
    K. Zhou et al., NeurIPS 2020, arXiv:2006.06972 (differentiable group normalisation).

    Examples
    --------
    >>> import numpy as np
    >>> from crystalssl import CrystalGraphTransformer
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.encoders import DeeperGATGNN
    >>> from crystalssl.training import collate
    >>> X, _ = load_prototypes(return_X_y=True)
    >>> graphs = CrystalGraphTransformer(encoder="deepergatgnn").transform(X[:5])
    >>> DeeperGATGNN()(collate(graphs, np.arange(5))).graph.shape
    torch.Size([5, 64])
    """

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
        # The authors' Gaussians are exp(-(d - µ)² / 2σ²), with σ 0.2 of the range.
        self.gaussian_width = 0.2 * math.sqrt(2) * self.recipe.cutoff
        self.embedding = nn.Linear(table.shape[1], hidden_dim)
        self.lengths = nn.Linear(n_gaussians, hidden_dim)
        self.convs = nn.ModuleList(AGATConv(hidden_dim, n_heads) for _ in range(n_layers))
        self.finish([hidden_dim] * (n_layers + 1))

    def update(self, batch: Batch) -> Updated:
        """Run the layers on a batch made by :func:`crystalssl.training.collate`."""
        incidences = Incidences.of(batch, self.config["n_heads"])
        gaussians = gaussian_expansion(incidences.lengths, self.gaussian_centers, self.gaussian_width)
        lengths = F.leaky_relu(self.lengths(gaussians), _SLOPE)
        nodes = [F.embedding(batch.z, F.leaky_relu(self.embedding(self.element_features), _SLOPE))]
        for conv in self.convs:
            nodes.append(conv(nodes[-1], lengths, incidences))
        return Updated(nodes)


class AGATConv(nn.Module):
    """One layer of :class:`DeeperGATGNN`: augmented graph attention, group normalisation and residual.

    The vectors z of an edge belong to one atom and one length each, and so are shared by all edges that have both:
    by both directions of an edge, and by a shell of neighbours. They and their parts of the attention are computed
    once per such incidence.

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
        self.attention_norm = nn.BatchNorm1d(n_heads)
        self.bias = nn.Parameter(torch.zeros(hidden_dim))
        self.norm = DiffGroupNorm(hidden_dim, _N_GROUPS)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.xavier_uniform_(self.attention)

    def forward(self, x: Tensor, lengths: Tensor, incidences: Incidences) -> Tensor:
        """Update the atoms' vectors `x` of shape (n_atoms, hidden_dim)."""
        if len(incidences.centers):
            z, scores = self.incident(x, lengths, incidences)
            messages = _MeanOfHeads.apply(z, self.weights(scores, incidences), incidences)
        else:  # isolated atoms only; the backward pass of batch normalisation crashes on nothing
            messages = torch.zeros_like(x)
        return x + self.group_norm(messages + self.bias)

    def incident(self, x: Tensor, lengths: Tensor, incidences: Incidences) -> tuple[Tensor, Tensor]:
        """Return z of every incidence, and what it scores as centre and as neighbour in every head.

        Their shapes are (n_incidences, n_heads * hidden_dim) and (n_incidences, 2 * n_heads).
        """
        of_atom, of_length = self.linear.weight.split([x.shape[1], lengths.shape[1]], dim=1)
        # Column h of the first half holds what head h makes of z as a centre, of the second half as a neighbour.
        n_heads, dim = len(self.attention), x.shape[1]
        heads = torch.eye(n_heads, dtype=x.dtype, device=x.device)[:, None, None, :]
        score = (self.attention.view(n_heads, 2, dim).transpose(1, 2)[..., None] * heads).reshape(n_heads * dim, -1)
        return _Incident.apply(x, lengths, of_atom, of_length, score, incidences)

    def weights(self, scores: Tensor, incidences: Incidences) -> Tensor:
        """Return the attention weights of shape (n_edges, n_heads); those of the edges of a centre sum to one."""
        as_center, as_neighbor = scores.chunk(2, dim=1)
        logits = as_center.index_select(0, incidences.of_center) + as_neighbor.index_select(0, incidences.of_neighbor)
        logits = F.softplus(_normalise(self.attention_norm, F.softplus(logits)))
        return _SegmentSoftmax.apply(logits, incidences)

    def group_norm(self, x: Tensor) -> Tensor:
        """Return PyG's ``DiffGroupNorm``, which by itself cannot normalise a single atom in training."""
        shares = self.norm.lin(x).softmax(dim=1)
        parts = (shares[:, :, None] * x[:, None, :]).flatten(1)
        return x + self.norm.lamda * _normalise(self.norm.norm, parts).view(len(x), -1, x.shape[1]).sum(dim=1)


class Incidences(NamedTuple):
    """Which atom has a bond of which length, every combination once; made once per batch, shared by all layers."""

    lengths: Tensor  # (n_lengths,): each distance once
    rows: Tensor  # (n_incidences, 2): row of the atom, and of the length, in a table of both
    atom_ptr: Tensor  # (n_atoms + 1,): incidences of each atom
    length_order: Tensor  # (n_incidences,): incidences grouped by length
    length_ptr: Tensor  # (n_lengths + 1,)
    of_center: Tensor  # (n_edges,): that of the edge's centre
    of_neighbor: Tensor  # (n_edges,)
    centers: Tensor  # (n_edges,), ascending
    edge_ptr: Tensor  # (n_atoms + 1,): edges of each centre
    heads: Tensor  # (n_edges * n_heads,): row of each edge's head in a table of n_incidences * n_heads
    head_order: Tensor  # (n_edges * n_heads,): these grouped by that row
    head_ptr: Tensor  # (n_incidences * n_heads + 1,)

    @classmethod
    def of(cls, batch: Batch, n_heads: int) -> Incidences:
        """Find them in a batch made by :func:`crystalssl.training.collate`."""
        neighbors, centers = batch.edge_index
        n_edges, n_atoms = len(centers), batch.z.numel()
        lengths, length = batch.distance.unique(return_inverse=True)
        keys = torch.cat([centers * len(lengths) + length, neighbors * len(lengths) + length])
        keys, of_edge = keys.unique(return_inverse=True)
        of_center, of_neighbor = of_edge[:n_edges], of_edge[n_edges:]
        atom, length = keys // max(len(lengths), 1), keys % max(len(lengths), 1)
        head = torch.arange(n_heads, device=keys.device)
        # Entries of an incidence are ordered by head, then by edge: entry r of its n comes with head h at h n + r.
        order = of_neighbor.argsort(stable=True)
        ptr = _ptr(of_neighbor, len(keys))
        first, n = ptr[:-1], ptr.diff()
        group = of_neighbor[order]
        rank = torch.arange(n_edges, device=keys.device) - first[group]
        place = (n_heads * first[group] + rank)[:, None] + head * n[group][:, None]
        head_order = torch.empty(n_edges * n_heads, dtype=torch.long, device=keys.device)
        head_order[place.flatten()] = (order[:, None] * n_heads + head).flatten()
        head_ptr = torch.cat([(n_heads * first[:, None] + head * n[:, None]).flatten(), n_heads * ptr[-1:]])
        return cls(
            lengths, torch.stack([atom, length + n_atoms], dim=1), _ptr(atom, n_atoms),
            length.argsort(stable=True), _ptr(length, len(lengths)), of_center, of_neighbor, centers, batch.edge_ptr,
            (of_neighbor[:, None] * n_heads + head).flatten(), head_order, head_ptr,
        )  # fmt: skip


def _ptr(groups: Tensor, n_groups: int) -> Tensor:
    return F.pad(torch.bincount(groups, minlength=n_groups).cumsum(0), (1, 0))


def _bags(x: Tensor, indices: Tensor, ptr: Tensor, weights: Tensor | None = None) -> Tensor:
    return F.embedding_bag(indices, x, ptr, mode="sum", per_sample_weights=weights, include_last_offset=True)


def _normalise(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Return `x` normalised; with fewer than two rows there are no statistics to take, and the running ones serve."""
    if len(x) < 2:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    return norm(x)


class _Incident(torch.autograd.Function):
    """``z = softplus(W [x, length])`` and ``z @ score`` of every incidence; `of_atom` and `of_length` are W's parts."""

    @staticmethod
    def forward(ctx, x: Tensor, lengths: Tensor, of_atom: Tensor, of_length: Tensor, score: Tensor, incidences):
        table = x.new_empty(len(x) + len(lengths), len(of_atom))
        torch.mm(x, of_atom.t(), out=table[: len(x)])
        torch.mm(lengths, of_length.t(), out=table[len(x) :])
        z = F.embedding_bag(incidences.rows, table, mode="sum")
        scores = z.new_empty(len(z), score.shape[1])
        for block, of_block in zip(z.split(_BLOCK), scores.split(_BLOCK), strict=True):
            # softplus(x) = x - log(sigmoid(x)): faster than softplus itself. The bound keeps the logarithm finite
            # where the sigmoid would underflow; softplus is zero there.
            block.clamp_(min=-80).sub_(torch.sigmoid(block).log_())
            torch.mm(block, score, out=of_block)
        ctx.save_for_backward(x, lengths, of_atom, of_length, z, score)
        ctx.incidences = incidences
        return z, scores

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_z: Tensor, grad_scores: Tensor):
        x, lengths, of_atom, of_length, z, score = ctx.saved_tensors
        incidences = ctx.incidences
        grad = torch.empty_like(z)
        for of_z, of_scores, block, out in zip(
            grad_z.split(_BLOCK), grad_scores.split(_BLOCK), z.split(_BLOCK), grad.split(_BLOCK), strict=True
        ):
            # The derivative of softplus is the sigmoid, 1 - exp(-softplus).
            torch.addmm(of_z, of_scores, score.t(), out=out)
            out.addcmul_(out, block.neg().exp_(), value=-1)
        in_order = torch.arange(len(z), device=z.device)
        by_atom = _bags(grad, in_order, incidences.atom_ptr)
        by_length = _bags(grad, incidences.length_order, incidences.length_ptr)
        grad_x, grad_lengths = by_atom @ of_atom, by_length @ of_length
        return grad_x, grad_lengths, by_atom.t() @ x, by_length.t() @ lengths, z.t() @ grad_scores, None


class _MeanOfHeads(torch.autograd.Function):
    """``Σ_j w_ij z_j`` over the edges of each centre, averaged over heads."""

    @staticmethod
    def forward(ctx, z: Tensor, weights: Tensor, incidences: Incidences) -> Tensor:
        n_heads = weights.shape[1]
        weights = (weights / n_heads).flatten()
        ctx.save_for_backward(z, weights)
        ctx.incidences, ctx.n_heads = incidences, n_heads
        return _bags(z.view(len(z) * n_heads, -1), incidences.heads, incidences.edge_ptr * n_heads, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        z, weights = ctx.saved_tensors
        incidences, n_heads = ctx.incidences, ctx.n_heads
        grad = grad.contiguous()
        centers = incidences.centers.repeat_interleave(n_heads)
        order = incidences.head_order
        grad_z = _bags(grad, centers.index_select(0, order), incidences.head_ptr, weights.index_select(0, order))
        grad_weights = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            grad, z.view(len(z) * n_heads, -1), incidences.heads, incidences.edge_ptr[:-1] * n_heads, centers, 0
        )
        return grad_z.view(z.shape), grad_weights.view(-1, n_heads).div_(n_heads), None


class _SegmentSoftmax(torch.autograd.Function):
    """Softmax over the edges of each centre."""

    @staticmethod
    def forward(ctx, logits: Tensor, incidences: Incidences) -> Tensor:
        centers, edge_ptr = incidences.centers, incidences.edge_ptr
        largest = logits.new_zeros(len(edge_ptr) - 1, logits.shape[1])
        largest.scatter_reduce_(0, centers[:, None].expand_as(logits), logits, "amax", include_self=False)
        # Numbers too small for normal floating point would slow down all that follows.
        weights = (logits - largest.index_select(0, centers)).clamp_(min=-80).exp_()
        in_order = torch.arange(len(logits), device=logits.device)
        weights.div_(_bags(weights, in_order, edge_ptr).index_select(0, centers))
        ctx.save_for_backward(weights, in_order)
        ctx.incidences = incidences
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        weights, in_order = ctx.saved_tensors
        grad = grad * weights
        total = _bags(grad, in_order, ctx.incidences.edge_ptr).index_select(0, ctx.incidences.centers)
        return grad.addcmul_(weights, total, value=-1), None
