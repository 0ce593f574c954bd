"""MatErials Graph Network."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.utils import scatter

from crystalssl.encoders._base import Encoder, LayerOutputs, Sight
from crystalssl.encoders._kernels import mlp, mlp_of_edges
from crystalssl.encoders._layers import Layer, fast_form, gaussian_expansion, once_per_value
from crystalssl.encoders._topology import Topology
from crystalssl.graphs import N_ELEMENTS, RECIPES

__all__ = ["MEGNet"]

_ELEMENT_DIM = 16
_STATE_DIM = 2
_BEYOND_CUTOFF = 1.0  # Å by which the last Gaussian lies beyond the cutoff


class MEGNet(Encoder):
    """MatErials Graph Network of Chen et al.

    It updates the edges, the atoms and a state of the crystal, in this order. A block computes, for the edges e_ij from
    neighbour j to centre i, the atoms v and the state u,

    - ``e'_ij = φ_e([v_i, v_j, e_ij, u])``,
    - ``v'_i = φ_v([v_i, mean_j e'_ij, u])``,
    - ``u' = φ_u([u, mean_ij e'_ij, mean_i v'_i])``.

    The results are added to what went into the block. Each φ is three linear layers, and ``softplus(x) - log 2``
    follows each of them. From the second block on, v, e and u first pass through two such layers of their own.

    The details are those of matgl, which CDSSL used. Distances are expanded in Gaussians ``exp(-0.5 Å⁻² (d - µ)²)``.
    Their centres µ lie between 0 and 6 Å, the cutoff is 5 Å. All crystals start with the same state, which is learned.
    The default widths are those with which CDSSL is pretrained. Its authors train from scratch with ``hidden_dim=32``.

    Parameters
    ----------
    hidden_dim : int, default=64
        Width of the vectors of atoms and edges and of the state. The hidden layers are twice as wide.
    n_layers : int, default=3
        Number of blocks.
    n_gaussians : int, default=100
        Number of Gaussians in which distances are expanded.
    readout : {"set2set", "mean", "mean+max+min", "attention"}, default="set2set"
        How atoms and edges are pooled into crystals. The state is put beside the result.
    %(parameters)s

    References
    ----------
    C. Chen et al., Chem. Mater. 31, 3564 (2019), doi:10.1021/acs.chemmater.9b01294.
    A. New et al., Self-supervised learning for crystal property prediction via denoising (2024), arXiv:2408.17255.

    Examples
    --------
    >>> from crystalssl import PretrainedCrystalEmbedder
    >>> from crystalssl.encoders import MEGNet
    >>> small = MEGNet(hidden_dim=32)
    >>> small.graph_dim  # twice the width for atoms, for edges, and the state
    160
    >>> embedder = PretrainedCrystalEmbedder("cdssl", encoder=small, weights=None)
    """

    name = "megnet"
    recipe = RECIPES["megnet"]
    pooling: ClassVar = {"readout": "set2set", "pooled_layers": "last"}
    frozen_pooling: ClassVar = {"readout": "mean", "pooled_layers": "last"}
    pools_edges = True

    gaussian_centers: Tensor

    def __init__(
        self,
        hidden_dim: int = 64,
        n_layers: int = 3,
        n_gaussians: int = 100,
        readout: str = "set2set",
        **shared: Any,
    ):
        super().__init__(readout=readout, **shared)
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
        self.set_widths([hidden_dim] * (n_layers + 1), edge_dim=hidden_dim, state_dim=hidden_dim)

    @property
    def sight(self) -> Sight | None:
        """The layers, where readout and kernels take atoms and edges that stand for several."""
        return Sight(len(self.blocks), 0) if self.takes_counts(MEGNet) else None

    @once_per_value
    def embed_lengths(self, distance: Tensor) -> Tensor:
        """Return the first vectors of edges of these lengths, of shape (n_edges, hidden_dim)."""
        return self.edge_encoder(gaussian_expansion(distance, self.gaussian_centers, self.gaussian_width))

    def layer_outputs(self, batch: Batch) -> LayerOutputs:
        """Run the blocks on a batch made by :func:`crystalssl.training.collate`."""
        topology = Topology.of(batch)
        edges = self.embed_lengths(batch.distance)
        nodes = [F.embedding(batch.z, self.node_encoder(self.elements.weight))]
        state = self.state_encoder(shifted_softplus(self.state[None])).expand(batch.num_graphs, -1)
        counts = (batch.n_alike[:, None], batch.n_bonds[:, None]) if "n_alike" in batch else None
        for block in self.blocks:
            node, edges, state = block(nodes[-1], edges, state, batch.batch, topology, counts)
            nodes.append(node)
        return LayerOutputs(nodes, edges, state)


class MEGNetBlock(nn.Module):
    """One block of :class:`MEGNet`.

    Parameters
    ----------
    hidden_dim : int
        Width of the vectors of atoms and edges and of the state.
    dense : bool
        Whether v, e and u first pass through two layers of their own.
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
        self,
        v: Tensor,
        e: Tensor,
        u: Tensor,
        crystal: Tensor,
        topology: Topology,
        counts: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Update the vectors of atoms and edges and the states.

        Parameters
        ----------
        v, e, u : Tensor
            Of atoms, of edges and of crystals.
        crystal : Tensor of shape (n_atoms,)
            That of each atom.
        topology : Topology
        counts : pair of Tensor or None, default=None
            How many atoms each atom stands for, and how many edges of its centre each edge. None stands for ones.
        """
        before = v, e, u
        v, e, u = self.node_dense(v), self.edge_dense(e), self.state_dense(u)
        e = self.edge_update.of_edges(v, e, u, crystal, topology)
        # The edges of atoms and of crystals are added up together. The mean of none is zero, as in matgl.
        if counts is None:
            n_edges, of_edges = topology.edge_ptr.diff()[:, None], topology.sum(e)
        else:
            n_edges, of_edges = topology.sum(counts[1]), topology.sum(e * counts[1])
        v = self.node_update(torch.cat([v, of_edges / n_edges.clamp(min=1), u[crystal]], dim=1))
        n_atoms = v.new_ones(len(v), 1) if counts is None else counts[0]
        n_edges, of_edges, n_atoms_of_crystal, of_atoms = (
            scatter(x * n_atoms, crystal, dim_size=len(u), reduce="sum") for x in (n_edges, of_edges, 1, v)
        )
        mean_of_atoms = of_atoms / n_atoms_of_crystal
        u = self.state_update(torch.cat([u, of_edges / n_edges.clamp(min=1), mean_of_atoms], dim=1))
        return v + before[0], e + before[1], u + before[2]


class MLP(Layer):
    """Linear layers, each followed by ``softplus(x) - log 2``.

    Parameters
    ----------
    widths : list of int
        Of the input and of the output of every layer.
    """

    def __init__(self, widths: list[int]):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    @fast_form(mlp)
    def forward(self, x: Tensor) -> Tensor:
        """Run all layers on rows `x`."""
        for layer in self.layers:
            x = shifted_softplus(layer(x))
        return x

    @fast_form(mlp_of_edges)
    def of_edges(self, v: Tensor, e: Tensor, u: Tensor, crystal: Tensor, topology: Topology) -> Tensor:
        """Run all layers on ``[v_i, v_j, e_ij, u]`` of every edge."""
        i, j = topology.centers, topology.neighbors
        return self(torch.cat([v[i], v[j], e, u[crystal[i]]], dim=1))


def shifted_softplus(x: Tensor) -> Tensor:
    """Return ``log(exp(x) + 1) - log 2``."""
    return F.softplus(x) - math.log(2)
