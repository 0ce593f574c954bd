"""Which atoms and edges of a crystal a network cannot tell apart, so that one of them is computed for all.

Most crystals are symmetric: all edges of an atom to its nearest neighbours may be alike, and so may be atoms of an
element. What a network of messages says of them is then the same, after any number of layers. Colour refinement finds
them, with real numbers for colours: a small network with fixed random weights gives numbers to atoms and edges, and
those whose numbers agree are alike. It needs no symmetry operations, and as its functions are smooth, noise of the
coordinates stays as small as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from crystalssl.encoders import Sight
from crystalssl.encoders._angles import BondAngles
from crystalssl.encoders._topology import Topology, inverse
from crystalssl.graphs import N_ELEMENTS, CrystalGraphs
from crystalssl.graphs._ragged import concatenate_ranges, offsets_of
from crystalssl.training._collate import collate, connected, edge_weights

__all__ = ["DistinctParts", "collate_distinct", "find_distinct"]

_TOLERANCE = 1e-5
"""By how much the numbers of what is alike may differ, which is about what 1e-5 Å make of them."""
_CHANNELS = 4
"""Numbers of an atom and of an edge. That all of two agree by chance is as likely as the tolerance to this power."""
_EDGES_AT_ONCE = 30_000


@dataclass(frozen=True, eq=False)
class DistinctParts:
    """The atoms and edges of some crystals, one of all that are alike.

    Parameters
    ----------
    atoms : ndarray of shape (n_atoms,), int64
        Which atoms stand for those that are like them, in the arrays of the graphs.
    n_alike : ndarray of shape (n_atoms,), float32
        How many there are of each.
    atom_offsets : ndarray of shape (n_crystals + 1,), int64
        The atoms of each crystal.
    neighbors : ndarray of shape (n_edges,), int64
        Neighbours of the edges among `atoms`, counted within the crystal.
    edge_offsets : ndarray of shape (n_atoms + 1,), int64
        The edges of each atom.
    bonds : ndarray of shape (n_bonds,), int64
        What the edges stand for: all edges of `atoms` in the arrays of the graphs, those that are alike together.
    bond_offsets : ndarray of shape (n_edges + 1,), int64
        The bonds of each edge.
    """

    atoms: np.ndarray
    n_alike: np.ndarray
    atom_offsets: np.ndarray
    neighbors: np.ndarray
    edge_offsets: np.ndarray
    bonds: np.ndarray
    bond_offsets: np.ndarray


def find_distinct(graphs: CrystalGraphs, sight: Sight) -> DistinctParts:
    """Find what an encoder can tell apart in each crystal.

    Parameters
    ----------
    graphs : CrystalGraphs
        The crystals.
    sight : Sight
        What the encoder sees.
    """
    n_edges = np.diff(graphs.edge_offsets[graphs.atom_offsets])
    cuts = np.flatnonzero(np.diff(np.cumsum(n_edges) // _EDGES_AT_ONCE)) + 1
    found = []
    for rows in np.split(np.arange(len(graphs)), cuts):
        parts = _distinct_of(collate(graphs, rows), sight)
        first = graphs.atom_offsets[rows[0]]
        parts.atoms[:] += first
        parts.bonds[:] += graphs.edge_offsets[first]
        found.append(parts)
    joined = {}
    for field in fields(DistinctParts):
        arrays = [getattr(parts, field.name) for parts in found]
        if field.name.endswith("offsets"):
            joined[field.name] = offsets_of(np.concatenate([np.diff(offsets) for offsets in arrays]))
        else:
            joined[field.name] = np.concatenate(arrays)
    return DistinctParts(**joined)


def collate_distinct(graphs: CrystalGraphs, parts: DistinctParts, indices: np.ndarray) -> Batch:
    """Join some crystals into one batch of what is distinct in them.

    Parameters
    ----------
    graphs : CrystalGraphs
        The crystals.
    parts : DistinctParts
        What is distinct in all of them.
    indices : ndarray of shape (n_crystals,), int
        Which crystals, in which order.

    Returns
    -------
    torch_geometric.data.Batch
        As :func:`collate` returns it, without positions, cells and images, and with

        - ``n_alike`` (n_atoms,): how many atoms of the crystal an atom stands for;
        - ``n_bonds`` (n_edges,): how many bonds of its centre an edge stands for;
        - ``directions`` (n_bonds, 3): unit vectors of these bonds; those of an edge begin at its entry of ``bond_ptr``.
    """
    n_atoms = np.diff(parts.atom_offsets)[indices]
    atoms = concatenate_ranges(parts.atom_offsets[indices], n_atoms)
    n_edges = np.diff(parts.edge_offsets)[atoms]
    edges = concatenate_ranges(parts.edge_offsets[atoms], n_edges)
    n_bonds = np.diff(parts.bond_offsets)[edges]
    bonds = parts.bonds[concatenate_ranges(parts.bond_offsets[edges], n_bonds)]

    edge_ptr, bond_ptr = offsets_of(n_edges), offsets_of(n_bonds)
    crystals, centers = np.repeat(np.arange(len(indices)), n_atoms), np.repeat(np.arange(len(atoms)), n_edges)
    distances, bond_centers = graphs.distances[bonds], np.repeat(centers, n_bonds)
    weights = edge_weights(distances, bond_centers, bond_ptr[edge_ptr], graphs.recipe)
    sites = parts.atoms[atoms]
    starts, rows = sites[bond_centers], indices[crystals[bond_centers]]
    ends = graphs.atom_offsets[rows] + graphs.neighbors[bonds]
    shifts = np.einsum("bi,bij->bj", graphs.images[bonds].astype(float), graphs.lattice[rows])
    vectors = graphs.positions[ends] + shifts - graphs.positions[starts]
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-6)
    return connected(
        n_atoms,
        n_edges,
        parts.neighbors[edges],
        z=graphs.atomic_numbers[sites].astype(np.int64),
        n_alike=parts.n_alike[atoms],
        distance=distances[bond_ptr[:-1]],
        edge_weight=weights[bond_ptr[:-1]],
        n_bonds=n_bonds.astype(np.float32),
        directions=directions.astype(np.float32),
        bond_ptr=bond_ptr,
    )


def _distinct_of(batch: Batch, sight: Sight) -> DistinctParts:
    """Return what is distinct in a batch, with the numbers that atoms and edges have in it."""
    of_atoms, of_edges = _colors(batch, sight)
    crystals, neighbors = batch.batch.numpy(), batch.edge_index[0].numpy()
    ptr, edge_ptr = batch.ptr.numpy(), batch.edge_ptr.numpy()
    atoms, stands_for, n_alike = _first_of_equals(of_atoms, crystals)
    differ = ~_have_equal_edges(of_edges, edge_ptr, atoms[stands_for])
    if differ.any():
        # Sums over edges hardly see that one became longer and another one shorter; maxima over edges do.
        atoms, stands_for, n_alike = np.unique(
            np.where(differ, np.arange(len(differ)), atoms[stands_for]), return_inverse=True, return_counts=True
        )
    # Those of the same centre only: where a centre stands for others, its edges stand for theirs.
    n_bonds = np.diff(edge_ptr)[atoms]
    bonds = concatenate_ranges(edge_ptr[atoms], n_bonds)
    centers = np.repeat(np.arange(len(atoms)), n_bonds)
    first, edge_of, n_bonds = _first_of_equals(of_edges[bonds], centers)
    atom_offsets = np.searchsorted(atoms, ptr)
    return DistinctParts(
        atoms=atoms,
        n_alike=n_alike.astype(np.float32),
        atom_offsets=atom_offsets,
        neighbors=stands_for[neighbors[bonds[first]]] - atom_offsets[crystals[atoms[centers[first]]]],
        edge_offsets=np.searchsorted(first, np.searchsorted(centers, np.arange(len(atoms) + 1))),
        bonds=bonds[np.argsort(edge_of, kind="stable")],
        bond_offsets=offsets_of(n_bonds),
    )


def _have_equal_edges(numbers: np.ndarray, edge_ptr: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return whether the edges of each atom are, one by one, like those of another atom."""
    n_edges = np.diff(edge_ptr)
    centers = np.repeat(np.arange(len(n_edges)), n_edges)
    ascending = np.sort(numbers[:, 0] + _apart(centers)) - _apart(centers)
    equal = n_edges == n_edges[others]
    compared = equal[centers]
    theirs = ascending[concatenate_ranges(edge_ptr[others[equal]], n_edges[equal])]
    too_far = np.abs(ascending[compared] - theirs) > _TOLERANCE
    equal[centers[compared][too_far]] = False
    return equal


def _first_of_equals(numbers: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first of all rows of a group that are equal, in their order.

    Parameters
    ----------
    numbers : ndarray of shape (n_rows, n_channels)
        From -1 to 1. Rows of a group are equal if no gap wider than the tolerance parts them in any column.
    groups : ndarray of shape (n_rows,), int
        Ascending.

    Returns
    -------
    first : ndarray of shape (n_distinct,)
        Ascending.
    which : ndarray of shape (n_rows,)
        To which of `first` a row is equal.
    counts : ndarray of shape (n_distinct,)
        How many rows are.
    """
    for column in numbers.T:  # cut every group where there is a gap, so that noise does not carry over an edge
        shifted = column + _apart(groups)
        order = np.argsort(shifted)
        cuts = np.diff(shifted[order], prepend=-np.inf) > _TOLERANCE
        groups = np.empty_like(groups)
        groups[order] = np.cumsum(cuts)
    _, first, which, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[which], counts[order]


def _apart(groups: np.ndarray) -> np.ndarray:
    """Return what to add to numbers from -1 to 1 so that each group has a range of its own."""
    return 4.0 * groups


def _colors(batch: Batch, sight: Sight) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers of atoms and of edges that agree for those that are alike, each of shape (·, `_CHANNELS`)."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    topology, atoms, edges = Topology.of(batch).by_bonds()
    i, j = topology.centers, topology.neighbors
    distances = batch.distance.index_select(0, edges)[:, None].double()
    kernels = []  # a polynomial of the cosine of the angle between two bonds of an atom, for each pair of them
    if sight.l_max:
        coefficients = draw(sight.l_max).tolist()
        directions = BondAngles.of(batch, topology, edges, sight.l_max).directions
        for block in topology.edges_by_block(directions.double()):
            cosines = block @ block.transpose(1, 2)
            kernel = torch.zeros_like(cosines)
            for coefficient in coefficients:
                kernel.add_(coefficient).mul_(cosines)
            kernels.append(kernel)
    node = draw(N_ELEMENTS + 1, _CHANNELS)[batch.z[atoms]]
    edge = torch.cos(distances * draw(_CHANNELS) + draw(_CHANNELS))
    # About the number of an atom's bonds, so that sums over them are of the size of one.
    typical_bonds = 12
    for _ in range(sight.n_layers):
        of_centers, of_neighbors = (node @ draw(_CHANNELS, _CHANNELS) for _ in range(2))
        seen = edge + of_centers.index_select(0, i) + of_neighbors.index_select(0, j)
        if sight.l_max:
            blocks = topology.edges_by_block(torch.sin(edge + node.index_select(0, j)))
            sums = [(kernel @ block).flatten(0, 1) for kernel, block in zip(kernels, blocks, strict=True)]
            seen.addmm_(torch.cat(sums), draw(_CHANNELS, _CHANNELS), alpha=1 / typical_bonds)
        edge = torch.sin(seen)
        node = torch.sin(node + topology.sum(edge) @ draw(_CHANNELS, _CHANNELS) / typical_bonds)
    return node[inverse(atoms)].numpy(), edge[inverse(edges)].numpy()
