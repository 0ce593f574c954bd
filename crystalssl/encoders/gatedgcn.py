"""Residual gated graph convolutions, the package's own encoder."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl.encoders._angles import AngularSums, BondAngles
from crystalssl.encoders._base import Encoder, LayerOutputs, Sight, element_table
from crystalssl.encoders._gated import EdgeGatedConv
from crystalssl.encoders._kernels import compiled_serves
from crystalssl.encoders._layers import gaussian_expansion, once_per_value
from crystalssl.encoders._topology import Topology, inverse
from crystalssl.graphs import RECIPES

__all__ = ["GatedGCN"]

_N_GAUSSIANS = 48


class GatedGCN(Encoder):
    """Gated graph convolutional network for crystals: atoms and edges are updated in turn, each with a residual.

    For every edge from neighbour j to centre i of length d,

    - ``f_ij = g_ij (1 + cos(π d / 8 Å)) / 2``,
    - ``a_ij = (R e_ij) (1 + S x_j) f_ij / 12``, ``s_ij^l = Σ_k a_ik P_l(cos θ_jik)`` and ``p_i^l = Σ_j a_ij s_ij^l``,
    - ``m_ij = A (x_i, p_i) + B (x_j, p_j) + C (e_ij, s_ij)`` and ``w_ij = σ(m_ij) f_ij``,
    - ``h_i = Σ_j w_ij V (x_j, p_j) / (Σ_j w_ij + ε)``,
    - ``x_i ← x_i + SiLU(LN(U (x_i, p_i) + h_i))`` and ``e_ij ← e_ij + SiLU(LN(m_ij))``.

    The sums s and p over the angles θ between bonds, with the Legendre polynomials of degree l = 1 … `l_max`, tell
    crystals apart whose distances are alike. They cover all pairs of bonds of an atom at the cost of single bonds.

    Layer normalisation, unlike batch normalisation, leaves crystals of a batch independent of each other. The envelope
    f lets a neighbour fade out before it is cut off: g is 1 up to the twelfth neighbour of i and falls smoothly to 0
    within 0.2 Å beyond it. So does the part of an edge in the readout. Predictions are thus continuous functions of the
    positions of all atoms. An atom starts as a learned vector of its element plus a linear map of the element's
    properties. The mass is one of them, since vibrations depend on it. An edge starts as a linear map of the Gaussian
    expansion of its length.

    Parameters
    ----------
    hidden_dim : int, default=64
        Width of the atoms' and the edges' vectors.
    n_layers : int, default=4
        Number of convolutions.
    readout : {"mean+max+min", "mean", "set2set", "attention"}, default="mean+max+min"
        How atoms and edges are pooled into crystals.
    l_max : int, default=4
        Largest degree of the Legendre polynomials. 0 leaves angles out.
    angular_channels : int, default=16
        Number of the weights a of an edge.
    %(parameters)s

    References
    ----------
    X. Bresson and T. Laurent, Residual gated graph ConvNets (2017), arXiv:1711.07553.
    V. P. Dwivedi et al., J. Mach. Learn. Res. 24, 43 (2023), arXiv:2003.00982.
    R. Drautz, Phys. Rev. B 99, 014104 (2019), doi:10.1103/PhysRevB.99.014104.

    Examples
    --------
    >>> from crystalssl import CrystalSSLRegressor
    >>> from crystalssl.encoders import GatedGCN
    >>> wide = GatedGCN(hidden_dim=128)
    >>> wide.graph_dim
    640
    >>> model = CrystalSSLRegressor(pretrain=None, encoder=wide)
    """

    name = "gatedgcn"
    recipe = RECIPES["gatedgcn"]
    pooling: ClassVar = {"readout": "mean+max+min", "pooled_layers": "last"}
    frozen_pooling: ClassVar = {"readout": "mean+max+min", "pooled_layers": "all"}
    gentle_finetuning = True
    pools_edges = True
    fades_edges = True
    implied_config: ClassVar = {"l_max": 0}

    element_features: Tensor
    gaussian_centers: Tensor

    def __init__(
        self,
        hidden_dim: int = 64,
        n_layers: int = 4,
        readout: str = "mean+max+min",
        l_max: int = 4,
        angular_channels: int = 16,
        **shared: Any,
    ):
        super().__init__(readout=readout, **shared)
        table = element_table()
        self.register_buffer("element_features", table)
        self.register_buffer("gaussian_centers", torch.linspace(0, self.recipe.cutoff, _N_GAUSSIANS))
        self.gaussian_width = 1.5 * self.recipe.cutoff / (_N_GAUSSIANS - 1)
        self.properties = nn.Linear(table.shape[1], hidden_dim)
        self.elements = nn.Embedding(len(table), hidden_dim)
        # Small at first: what an element is like comes from its properties, until training finds what they leave out.
        nn.init.normal_(self.elements.weight, std=0.1)
        self.lengths = nn.Linear(_N_GAUSSIANS, hidden_dim)
        self.l_max = l_max
        self.angular = nn.ModuleList(
            AngularSums(hidden_dim, angular_channels, l_max) for _ in range(n_layers if l_max else 0)
        )
        extra_dim = l_max * angular_channels
        self.convs = nn.ModuleList(EdgeGatedConv(hidden_dim, extra_dim=extra_dim) for _ in range(n_layers))
        self.set_widths([hidden_dim] * (n_layers + 1), edge_dim=hidden_dim)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({"l_max": 0, **state})
        self._modules.setdefault("angular", nn.ModuleList())  # of version 0.1

    @property
    def sight(self) -> Sight | None:
        """The layers and the angles, where readout and kernels take atoms and edges that stand for several."""
        return Sight(len(self.convs), self.l_max) if self.takes_counts(GatedGCN) else None

    @once_per_value
    def embed_lengths(self, distance: Tensor) -> Tensor:
        """Return the first vectors of edges of these lengths, of shape (n_edges, hidden_dim)."""
        return self.lengths(gaussian_expansion(distance, self.gaussian_centers, self.gaussian_width))

    def layer_outputs(self, batch: Batch) -> LayerOutputs:
        """Run the convolutions on a batch made by :func:`crystalssl.training.collate`."""
        topology = Topology.of(batch)
        distance, edge_weight, angles = batch.distance, batch.edge_weight, None
        # Looked up by the batch's own z, where `crystalssl.inspection.atom_contributions` finds it.
        node = F.embedding(batch.z, self.properties(self.element_features) + self.elements.weight)
        atoms = bonds = None
        if self.angular and not self._goes_from_atom_to_atom(node):
            # Atoms of as many bonds follow each other, so that what is done for each is one product.
            topology, atoms, bonds = topology.by_bonds()
            node, distance, edge_weight = node.index_select(0, atoms), distance[bonds], edge_weight[bonds]
        if self.angular:
            angles = BondAngles.of(batch, topology, bonds, self.l_max)
        within = distance.clamp(max=self.recipe.cutoff)  # a masked distance is infinite; its gate is shut
        envelope = (0.5 * edge_weight * (1 + torch.cos(torch.pi / self.recipe.cutoff * within)))[:, None]
        if "n_bonds" in batch:  # an edge stands for several: it counts as often in the sums over neighbours
            envelope = envelope * (batch.n_bonds if bonds is None else batch.n_bonds[bonds])[:, None]
        edges = self.embed_lengths(distance)
        nodes = [node]
        for conv, sums in itertools.zip_longest(self.convs, self.angular):
            node, edges = conv(nodes[-1], edges, topology, envelope, sums and (sums, angles))
            nodes.append(node)
        if atoms is not None and bonds is not None:
            edges = edges.index_select(0, inverse(bonds))
            nodes = [node.index_select(0, inverse(atoms)) for node in nodes]
        return LayerOutputs(nodes, edges)

    def _goes_from_atom_to_atom(self, node: Tensor) -> bool:
        """Return whether the passes of the layers are compiled, which take atoms in any order."""
        fast = all(conv.kernels == "fast" for conv in self.convs)
        return fast and compiled_serves(node, self.config["angular_channels"], self.l_max)
