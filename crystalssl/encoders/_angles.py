"""Sums over the angles between the bonds of an atom, at the cost of single bonds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl._geometry import edge_vectors
from crystalssl.encoders._kernels import angular_sums
from crystalssl.encoders._layers import Layer, Topology, fast_form

__all__ = ["AngularSums", "BondAngles"]

_FEW_BONDS = 13


@dataclass(frozen=True, eq=False)
class BondAngles:
    """Legendre polynomials of the angles between all bonds of each atom. Made once per batch, shared by all layers.

    Atoms have different numbers of bonds. Those of about as many are a group: the bonds of each fill the first of some
    slots, as many for all, and bonds without a weight fill the others. A group is then one product of matrices.
    """

    groups: list[Tensor]  # each (n_atoms, n_slots * l_max, n_slots): P_l(cos θ) of slot, l and slot
    slots: Tensor  # (n_edges,): where an edge stands among the slots of all atoms of all groups
    n_slots: int  # of all of them
    l_max: int

    @classmethod
    def of(cls, batch: Batch, topology: Topology, l_max: int) -> BondAngles:
        """Read the angles off a batch made by :func:`crystalssl.training.collate`."""
        vectors = edge_vectors(batch).to(batch.distance.dtype)
        directions = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6)
        degrees = topology.edge_ptr.diff()
        widths = _round_up(degrees)
        order = widths.argsort(stable=True)
        starts = torch.empty_like(order)
        starts[order] = widths[order].cumsum(0) - widths[order]  # the first slot of each atom
        rank = torch.arange(len(directions), device=order.device) - topology.edge_ptr[topology.centers]
        slots = starts[topology.centers] + rank
        n_slots = int(widths.sum())
        filled = directions.new_zeros(n_slots, 3).index_copy(0, slots, directions)
        groups, first = [], 0
        for width, n_atoms in zip(*(part.tolist() for part in widths.unique(return_counts=True)), strict=True):
            group = filled[first : first + n_atoms * width].view(n_atoms, width, 3)
            polynomials = torch.stack(legendre(group @ group.transpose(1, 2), l_max), dim=2)
            groups.append(polynomials.view(n_atoms, width * l_max, width))
            first += n_atoms * width
        return cls(groups, slots, n_slots, l_max)

    def sum(self, weights: Tensor) -> Tensor:
        """Return ``Σ_k w_ik P_l(cos θ_jik)`` for every edge from j to i.

        Parameters
        ----------
        weights : Tensor of shape (n_edges, channels)

        Returns
        -------
        Tensor of shape (n_edges, l_max * channels)
        """
        return self._product(weights, self.l_max * weights.shape[1], self.groups)

    def sum_transposed(self, grad: Tensor) -> Tensor:
        """Return the gradient of the weights in :meth:`sum` from that of the sums, (n_edges, l_max * channels)."""
        return self._product(grad, grad.shape[1] // self.l_max, [group.transpose(1, 2) for group in self.groups])

    def _product(self, rows: Tensor, out_dim: int, matrices: list[Tensor]) -> Tensor:
        """Put rows of edges into their slots, multiply those of each atom by its matrix, and take rows of edges out."""
        filled = rows.new_zeros(self.n_slots, rows.shape[1]).index_copy(0, self.slots, rows)
        sizes = [len(group) * group.shape[2] for group in self.groups]
        products = [
            torch.bmm(matrix, part.view(*matrix.shape[::2], -1)).view(-1, out_dim)
            for matrix, part in zip(matrices, filled.split(sizes), strict=True)
        ]
        return torch.cat(products).index_select(0, self.slots)


def _round_up(degrees: Tensor) -> Tensor:
    """Return the degrees rounded up to some numbers of slots, each a quarter more than the one before."""
    exponents = torch.log(degrees.clamp(min=1) / _FEW_BONDS) / math.log(1.25)
    return (_FEW_BONDS * 1.25 ** exponents.ceil().clamp(min=0)).long().maximum(degrees)


class AngularSums(Layer):
    """What an atom's bonds see of each other's directions, in several channels.

    Every edge from neighbour j to centre i has a weight in each channel, ``w_ij = (R e_ij) (1 + S x_j) f_ij / 12``,
    where f is its envelope. An atom has about 12 bonds, so that the sums are about means: without the division they are
    so large that they drown what they are added to. The result has for every edge and l = 1 … `l_max`

    - ``s_ij^l = Σ_k w_ik P_l(cos θ_jik)``, which by the addition theorem is ``Σ_m A_i^lm Y_lm(r_ij)`` with the moments
      ``A_i^lm = Σ_k w_ik Y_lm(r_ik)`` of the neighbourhood in real spherical harmonics, and
    - for every atom the power spectrum ``p_i^l = Σ_j w_ij s_ij^l = Σ_m (A_i^lm)²``.

    All pairs of bonds enter, without a graph of pairs.

    Parameters
    ----------
    hidden_dim : int
        Width of the vectors of atoms and edges.
    channels : int
        Number of weights of an edge.
    l_max : int
        Largest degree of the Legendre polynomials P_l.

    References
    ----------
    P. J. Steinhardt, D. R. Nelson and M. Ronchetti, Phys. Rev. B 28, 784 (1983), doi:10.1103/PhysRevB.28.784.
    R. Drautz, Phys. Rev. B 99, 014104 (2019), doi:10.1103/PhysRevB.99.014104.
    """

    typical_bonds = 12
    """Of an atom."""

    def __init__(self, hidden_dim: int, channels: int, l_max: int):
        super().__init__()
        self.radial = nn.Linear(hidden_dim, channels)
        self.source = nn.Linear(hidden_dim, channels)
        self.out_dim = channels * l_max

    @fast_form(angular_sums)
    def forward(
        self, x: Tensor, edges: Tensor, topology: Topology, envelope: Tensor, angles: BondAngles
    ) -> tuple[Tensor, Tensor]:
        """Return the power spectrum of each atom, (n_atoms, out_dim), and the sums of each edge, (n_edges, out_dim)."""
        source = (1 + self.source(x)).index_select(0, topology.neighbors)
        weights = self.radial(edges) * source * (envelope / self.typical_bonds)
        sums = angles.sum(weights)
        return topology.sum(sums * weights.repeat(1, angles.l_max)), sums


def legendre(x: Tensor, l_max: int) -> list[Tensor]:
    """Return the Legendre polynomials P_1 … P_l_max of `x`."""
    polynomials = [torch.ones_like(x), x]
    for degree in range(2, l_max + 1):
        two_below, below = polynomials[-2:]
        polynomials.append(((2 * degree - 1) * x * below - (degree - 1) * two_below) / degree)
    return polynomials[1 : l_max + 1]
