"""MatErials Graph Network."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch_geometric.data import Batch

from crystalssl.encoders._base import Encoder, Updated
from crystalssl.encoders._kernels import Topology, gaussian_expansion, pair_sum, pair_sum_backward, segment_sum
from crystalssl.encoders._segments import row_chunks
from crystalssl.graphs import N_ELEMENTS, RECIPES

__all__ = ["MEGNet"]

_ELEMENT_DIM = 16
_STATE_DIM = 2
_LOG_2 = math.log(2)
_BEYOND_CUTOFF = 1.0  # Å by which the last Gaussian lies beyond the cutoff


class MEGNet(Encoder):
    """MatErials Graph Network of Chen et al.: edges, atoms and a state of the crystal are updated in turn.

    In every block, for the edges from neighbour j to centre i of the crystal with the state u,

    - ``e'_ij = φ_e([v_i, v_j, e_ij, u])``,
    - ``v'_i = φ_v([v_i, mean_j e'_ij, u])``,
    - ``u' = φ_u([u, mean_ij e'_ij, mean_i v'_i])``,

    and what went into the block is added to what comes out. From the second block on, two layers of their own precede
    it for v, e and u each. All layers end in ``softplus(x) - log 2``. As in matgl, and as CDSSL used it, distances are
    expanded in Gaussians ``exp(-0.5 Å⁻² (d - µ)²)`` from 0 to 6 Å, one ångström more than the cutoff, and the state
    starts as the same learned vector for all crystals. The defaults are the widths with which CDSSL is pretrained;
    ``hidden_dim=32`` gives those which its authors train from scratch.

    Parameters
    ----------
    hidden_dim : int, default=64
        Width of the vectors of atoms and edges and of the state. The hidden layers are twice as wide.
    n_layers : int, default=3
        Number of blocks.
    n_gaussians : int, default=100
        Number of Gaussians in which distances are expanded.
    readout : {"set2set", "mean", "mean+max+min", "attention"}, default="set2set"
        How atoms and edges are pooled into crystals, next to whose vectors goes the state.
    layers : {"last", "all"}, default="last"
        Whose outputs stand for the atoms: the last block's, or those of all blocks side by side.

    References
    ----------
    C. Chen et al., Chem. Mater. 31, 3564 (2019), doi:10.1021/acs.chemmater.9b01294.
    A. New et al., Self-supervised learning for crystal property prediction via denoising (2024), arXiv:2408.17255.

    Examples
    --------
    >>> import numpy as np
    >>> from crystalssl import CrystalGraphTransformer
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.encoders.megnet import MEGNet
    >>> from crystalssl.training import collate
    >>> X, _ = load_prototypes(return_X_y=True)
    >>> graphs = CrystalGraphTransformer(encoder="megnet").transform(X[:5])
    >>> MEGNet()(collate(graphs, np.arange(5))).graph.shape
    torch.Size([5, 320])
    """

    name = "megnet"
    recipe = RECIPES["megnet"]
    pooling: ClassVar = {"readout": "set2set", "layers": "last"}
    frozen_pooling: ClassVar = {"readout": "mean", "layers": "last"}
    pools_edges = True

    gaussian_centers: Tensor

    def __init__(
        self,
        hidden_dim: int = 64,
        n_layers: int = 3,
        n_gaussians: int = 100,
        readout: str = "set2set",
        layers: str = "last",
    ):
        super().__init__(
            hidden_dim=hidden_dim, n_layers=n_layers, n_gaussians=n_gaussians, readout=readout, layers=layers
        )
        self.register_buffer("gaussian_centers", torch.linspace(0, self.recipe.cutoff + _BEYOND_CUTOFF, n_gaussians))
        self.gaussian_width = math.sqrt(2)  # matgl's "width" of 0.5 is the factor before (d - µ)²
        self.elements = nn.Embedding(N_ELEMENTS + 1, _ELEMENT_DIM)
        widths = [2 * hidden_dim, hidden_dim]
        self.node_encoder = MLP([_ELEMENT_DIM, *widths])
        self.edge_encoder = MLP([n_gaussians, *widths])
        # Of a layer on the state, which is zero for every crystal, the weights have no effect; this is its bias.
        self.state = nn.Parameter(torch.empty(2 * hidden_dim).uniform_(-1, 1) / math.sqrt(_STATE_DIM))
        self.state_encoder = MLP(widths)
        self.blocks = nn.ModuleList(MEGNetBlock(hidden_dim, dense=i > 0) for i in range(n_layers))
        self.finish([hidden_dim] * (n_layers + 1), edge_dim=hidden_dim, state_dim=hidden_dim)

    def update(self, batch: Batch) -> Updated:
        """Run the blocks on a batch made by :func:`crystalssl.training.collate`."""
        topology = Topology.of(batch)
        lengths, length = batch.distance.unique(return_inverse=True)  # crystals have few, each many times
        lengths = self.edge_encoder(gaussian_expansion(lengths, self.gaussian_centers, self.gaussian_width))
        edges = lengths.index_select(0, length)
        nodes = [F.embedding(batch.z, self.node_encoder(self.elements.weight))]
        state = self.state_encoder(F.softplus(self.state[None]) - _LOG_2).expand(batch.num_graphs, -1)
        for block in self.blocks:
            node, edges, state = block(nodes[-1], edges, state, batch, topology)
            nodes.append(node)
        return Updated(nodes, edges, state)


class MLP(nn.Module):
    """Linear layers, each followed by ``softplus(x) - log 2``.

    Parameters
    ----------
    widths : list of int
        Of the input and of the output of every layer.
    """

    def __init__(self, widths: list[int]):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Run all layers."""
        return _RowwiseMLP.apply(x, None, None, *self.parameters())

    def of_pairs(self, x: Tensor, state: Tensor, edges: Tensor, batch: Batch, topology: Topology) -> Tensor:
        """Run all layers on ``[x_i, x_j, e_ij, u]``; the first acts on atoms and crystals once, not once per edge."""
        weight, bias, *rest = self.parameters()
        center, neighbor, edge, crystal = weight.chunk(4, dim=1)
        of_crystal = F.linear(state, crystal, bias).index_select(0, batch.batch)
        table = torch.cat([F.linear(x, center) + of_crystal, F.linear(x, neighbor)])
        return _RowwiseMLP.apply(edges, table, topology, edge, None, *rest)


class MEGNetBlock(nn.Module):
    """One block of :class:`MEGNet`.

    Parameters
    ----------
    hidden_dim : int
        Width of the vectors of atoms and edges and of the state.
    dense : bool
        Whether two layers precede the convolution.
    """

    def __init__(self, hidden_dim: int, dense: bool):
        super().__init__()
        before = [hidden_dim, 2 * hidden_dim, hidden_dim]
        self.node_dense, self.edge_dense, self.state_dense = (
            MLP(before) if dense else nn.Identity() for _ in range(3)
        )  # fmt: skip
        widths = [2 * hidden_dim, 2 * hidden_dim, hidden_dim]
        self.edge_update = MLP([4 * hidden_dim, *widths])
        self.node_update = MLP([3 * hidden_dim, *widths])
        self.state_update = MLP([3 * hidden_dim, *widths])

    def forward(
        self, x: Tensor, edges: Tensor, state: Tensor, batch: Batch, topology: Topology
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Update the vectors of atoms and edges and the states."""
        before = x, edges, state
        x, edges, state = self.node_dense(x), self.edge_dense(edges), self.state_dense(state)
        edges = self.edge_update.of_pairs(x, state, edges, batch, topology)
        # Means over nothing are zero, as in matgl.
        n_edges = topology.edge_ptr.diff()
        of_edges = edge_sum(edges, topology)
        mean = of_edges / n_edges.clamp(min=1)[:, None]
        x = self.node_update(torch.cat([x, mean, state.index_select(0, batch.batch)], dim=1))
        totals = [_sum_per_crystal(rows, batch) for rows in (of_edges, x)]
        counts = topology.edge_ptr[batch.ptr].diff(), batch.ptr.diff()
        means = [total / count.clamp(min=1)[:, None] for total, count in zip(totals, counts, strict=True)]
        state = self.state_update(torch.cat([state, *means], dim=1))
        return x + before[0], edges + before[1], state + before[2]


def _sum_per_crystal(rows: Tensor, batch: Batch) -> Tensor:
    return rows.new_zeros(batch.num_graphs, rows.shape[1]).index_add(0, batch.batch, rows)


class _EdgeSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, topology: Topology) -> Tensor:
        ctx.topology = topology
        return segment_sum(x, topology)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        return grad.index_select(0, ctx.topology.centers), None


def edge_sum(x: Tensor, topology: Topology) -> Tensor:
    """Return the sum of the rows of `x`, one per edge, over the edges of each centre."""
    return _EdgeSum.apply(x, topology)


class _RowwiseMLP(torch.autograd.Function):
    """All layers of some rows at a time, few enough to stay in the processor's cache.

    Layer by layer, arrays of one row per edge travel between memory and cache for every elementary operation, which
    took more time than the matrix products.
    """

    @staticmethod
    def forward(ctx, x, table, topology, *parameters):
        weights, biases = parameters[::2], parameters[1::2]
        result = x.new_empty(len(x), len(weights[-1]))
        hidden = []
        for rows in row_chunks(x):
            y = x[rows]
            for weight, bias in zip(weights, biases, strict=True):
                if bias is None:  # the first layer's is part of the table
                    y = pair_sum(table, topology.pairs[rows]).addmm_(y, weight.t())
                else:
                    y = torch.addmm(bias, y, weight.t(), out=result[rows] if weight is weights[-1] else None)
                hidden.append(_softplus2_(y))
            hidden.pop()
        ctx.save_for_backward(x, result, *weights, *hidden)
        ctx.n_layers, ctx.topology = len(weights), topology
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, result, *saved = ctx.saved_tensors
        weights, hidden = saved[: ctx.n_layers], iter(saved[ctx.n_layers :])
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        grad_pairs = None if ctx.topology is None else x.new_empty(len(x), len(weights[0]))
        grad_weights = [torch.zeros_like(weight) for weight in weights]
        grad_biases = [weight.new_zeros(len(weight)) for weight in weights]
        for rows in row_chunks(x):
            outputs = [x[rows], *(next(hidden) for _ in weights[1:]), result[rows]]
            of_rows = grad[rows]
            for k in reversed(range(len(weights))):
                # The derivative is the sigmoid, 1 - exp(-softplus), so that what went in need not be kept.
                out = grad_pairs[rows] if k == 0 and grad_pairs is not None else None
                slope = torch.neg(outputs[k + 1], out=out).exp_()
                of_rows = torch.addcmul(of_rows, of_rows, slope, value=-0.5, out=slope)
                grad_weights[k].addmm_(of_rows.t(), outputs[k])
                if k > 0:
                    grad_biases[k].add_(of_rows.sum(dim=0))
                    of_rows = of_rows @ weights[k]
                elif grad_pairs is None:
                    grad_biases[k].add_(of_rows.sum(dim=0))
            if grad_x is not None:
                torch.mm(of_rows, weights[0], out=grad_x[rows])
        grad_table = None
        if grad_pairs is not None:
            grad_table = pair_sum_backward(grad_pairs, ctx.topology)
            grad_biases[0] = None
        parameters = [p for pair in zip(grad_weights, grad_biases, strict=True) for p in pair]
        return grad_x, grad_table, None, *parameters


def _softplus2_(x: Tensor) -> Tensor:
    """Return ``log(exp(x) + 1) - log 2`` in the place of `x`."""
    # softplus(x) = x - log(sigmoid(x)): a third of the time of softplus itself. The bound keeps the logarithm finite
    # where the sigmoid would underflow; softplus is zero there.
    scratch = torch.sigmoid(x.clamp_(min=-80)).log_()
    return x.sub_(scratch).sub_(_LOG_2)
