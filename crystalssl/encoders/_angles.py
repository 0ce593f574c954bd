"""Sums over the angles between the bonds of an atom, at the cost of single bonds."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl._geometry import edge_vectors
from crystalssl.encoders._topology import Topology

__all__ = ["AngularSums", "BondAngles"]


@dataclass(frozen=True, eq=False)
class BondAngles:
    """The directions of all bonds. Made once per batch, shared by all layers."""

    directions: Tensor  # (n_bonds, 3), unit vectors
    topology: Topology
    l_max: int
    bond_ptr: Tensor | None = None  # (n_edges + 1,): the bonds of each edge, if edges stand for several
    order: Tensor | None = None  # (n_edges,): which of these edges stands where in the topology

    @classmethod
    def of(cls, batch: Batch, topology: Topology, edges: Tensor | None, l_max: int) -> BondAngles:
        """Read the directions off a batch made by :func:`crystalssl.training.collate`, or of what is distinct.

        Parameters
        ----------
        batch : torch_geometric.data.Batch
        topology : Topology
            That of the batch, or in the order of :meth:`Topology.by_bonds`.
        edges : Tensor of shape (n_edges,) or None
            Which edge of the batch stands where in that order. None stands for that of the batch.
        l_max : int
        """
        if "directions" in batch:
            return cls(batch.directions, topology, l_max, batch.bond_ptr, edges)
        vectors = edge_vectors(batch).to(batch.distance.dtype)
        vectors = vectors if edges is None else vectors.index_select(0, edges)
        return cls(vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-6), topology, l_max)

    def sum(self, weights: Tensor) -> Tensor:
        """Return ``Σ_k w_ik P_l(cos θ_jik)`` for every edge from j to i.

        Parameters
        ----------
        weights : Tensor of shape (n_edges, channels)

        Returns
        -------
        Tensor of shape (n_edges, l_max * channels)
        """
        blocks = zip(self.polynomials, self.topology.edges_by_block(weights), strict=True)
        return torch.cat([(polynomials @ of_bonds).flatten(0, 1) for polynomials, of_bonds in blocks]).view(
            len(weights), self.l_max * weights.shape[1]
        )

    @functools.cached_property
    def polynomials(self) -> list[Tensor]:
        """``P_l(cos θ)`` of bond, l and bond of the atoms of each block: (n_atoms, n_bonds * l_max, n_bonds)."""
        cosines = [block @ block.transpose(1, 2) for block in self.topology.edges_by_block(self.directions)]
        return [torch.stack(legendre(block, self.l_max), dim=2).flatten(1, 2) for block in cosines]

    @functools.cached_property
    def of_bonds(self) -> Tensor:
        """What :func:`harmonics` returns for all bonds; no gradient flows into it."""
        return harmonics(self.directions.detach(), self.l_max)

    @functools.cached_property
    def harmonics(self) -> Tensor:
        """That of each edge, or of the first of the bonds that it stands for."""
        return self.of_bonds if self.bond_ptr is None else self._in_order(self.of_bonds[self.bond_ptr[:-1]])

    @functools.cached_property
    def mean_harmonics(self) -> Tensor:
        """That of each edge, or the mean over the bonds that it stands for."""
        if self.bond_ptr is None:
            return self.of_bonds
        return self._in_order(torch.segment_reduce(self.of_bonds, "mean", offsets=self.bond_ptr))

    def _in_order(self, of_edges: Tensor) -> Tensor:
        return of_edges if self.order is None else of_edges.index_select(0, self.order)

    @functools.cached_property
    def degrees(self) -> Tensor:
        """Which degree every harmonic has, 0 for l = 1, of shape (l_max (l_max + 2),)."""
        degrees = torch.arange(self.l_max, device=self.directions.device)
        return degrees.repeat_interleave(2 * degrees + 3)


class AngularSums(nn.Module):
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


def harmonics(directions: Tensor, l_max: int) -> Tensor:
    """Return real spherical harmonics of which ``Σ_m Y_lm(a) Y_lm(b) = P_l(a·b)``, of shape (n, l_max (l_max + 2)).

    In the order of l = 1 … l_max, and of m = -l … l within. Solid harmonics of points on the sphere: polynomials of
    the coordinates, made by recurrences that lose no digits.
    """
    x, y, z = directions.t()
    cosines, sines = [torch.ones_like(x)], [torch.zeros_like(x)]  # sin(θ)^m times those of mφ
    for _ in range(l_max):
        cosines.append(x * cosines[-1] - y * sines[-1])
        sines.append(x * sines[-1] + y * cosines[-2])
    columns: dict[tuple[int, int], Tensor] = {}
    for m in range(l_max + 1):
        # Of the associated Legendre functions without sin(θ)^m, normalised so that their squares sum up to 1.
        below = torch.zeros_like(z)
        last = torch.full_like(z, math.prod(math.sqrt(1 - 0.5 / k) for k in range(1, m + 1)) * math.sqrt(1 + (m > 0)))
        for degree in range(m, l_max + 1):
            if degree > m:
                falling = math.sqrt((degree - 1) ** 2 - m**2)
                following = ((2 * degree - 1) * z * last - falling * below) / math.sqrt(degree**2 - m**2)
                below, last = last, following
            columns[degree, m] = last * cosines[m]
            if m:
                columns[degree, -m] = last * sines[m]
    return torch.stack(
        [columns[degree, m] for degree in range(1, l_max + 1) for m in range(-degree, degree + 1)], dim=1
    )
