"""From columnar graphs to PyG batches, in one vectorised step."""

from __future__ import annotations

import numpy as np
import torch
from torch_geometric.data import Batch

from crystalssl.graphs import CrystalCorpus, CrystalGraphs, GraphRecipe
from crystalssl.graphs._ragged import concatenate_ranges, offsets_of

__all__ = ["collate", "connected", "edge_weights"]


def collate(graphs: CrystalGraphs | CrystalCorpus, indices: np.ndarray) -> Batch:
    """Join some graphs into one PyG `Batch`.

    Parameters
    ----------
    graphs : CrystalGraphs or CrystalCorpus
        The store to take from; only the rows named by `indices` are touched, of a corpus the shards that hold them.
    indices : ndarray of shape (n_crystals,), int
        Which crystals, in which order.

    Returns
    -------
    torch_geometric.data.Batch
        With the usual ``edge_index`` (neighbour, centre), ``batch`` and ``ptr``, and

        - ``z`` (n_atoms,): atomic numbers; 0 stands for a masked atom;
        - ``pos`` (n_atoms, 3), ``cell`` (n_crystals, 3, 3): in Å;
        - ``image`` (n_edges, 3): lattice translations of the neighbours;
        - ``distance`` (n_edges,): in Å; infinity stands for a masked distance;
        - ``edge_weight`` (n_edges,): 1 up to the centre's k-th neighbour, from there on smoothly less, and 0 where the
          recipe cuts edges off. It is a continuous function of all positions;
        - ``edge_ptr`` (n_atoms + 1,): the edges of centre ``i`` are ``edge_ptr[i]:edge_ptr[i + 1]``;
        - ``neighbor_order`` (n_edges,), ``neighbor_ptr`` (n_atoms + 1,): the edges grouped by neighbour, which is what
          the backward pass of a gather sums over.
    """
    if isinstance(graphs, CrystalCorpus):
        graphs, indices = graphs.gather(indices)
    n_atoms = np.diff(graphs.atom_offsets)[indices]
    atoms = concatenate_ranges(graphs.atom_offsets[indices], n_atoms)
    degrees = np.diff(graphs.edge_offsets)[atoms]
    edges = concatenate_ranges(graphs.edge_offsets[atoms], degrees)
    distances, centers = graphs.distances[edges], np.repeat(np.arange(len(atoms)), degrees)
    return connected(
        n_atoms,
        degrees,
        graphs.neighbors[edges],
        z=graphs.atomic_numbers[atoms].astype(np.int64),
        pos=graphs.positions[atoms].astype(np.float32),
        cell=graphs.lattice[indices].astype(np.float32),
        image=graphs.images[edges].astype(np.float32),
        distance=distances,
        edge_weight=edge_weights(distances, centers, offsets_of(degrees), graphs.recipe),
    )


def connected(n_atoms: np.ndarray, n_edges: np.ndarray, neighbors: np.ndarray, **fields: np.ndarray) -> Batch:
    """Return a batch with who is whose neighbour, and further fields.

    Parameters
    ----------
    n_atoms : ndarray of shape (n_crystals,), int
        Of each crystal.
    n_edges : ndarray of shape (n_atoms,), int
        Of each atom.
    neighbors : ndarray of shape (n_edges,), int
        Of all edges, grouped by their centres; counted within the crystal.
    **fields : ndarray
        Further fields of the batch.
    """
    ptr = offsets_of(n_atoms)
    crystals, centers = np.repeat(np.arange(len(n_atoms)), n_atoms), np.repeat(np.arange(len(n_edges)), n_edges)
    neighbors = neighbors + ptr[crystals[centers]]
    fields |= {
        "edge_index": np.stack([neighbors, centers]),
        "edge_ptr": offsets_of(n_edges),
        "neighbor_order": np.argsort(neighbors, kind="stable"),
        "neighbor_ptr": offsets_of(np.bincount(neighbors, minlength=len(n_edges))),
        "batch": crystals,
        "ptr": ptr,
    }
    batch = Batch(**{name: torch.from_numpy(values) for name, values in fields.items()})
    batch._num_graphs = len(n_atoms)
    return batch


def edge_weights(distances: np.ndarray, centers: np.ndarray, edge_ptr: np.ndarray, recipe: GraphRecipe) -> np.ndarray:
    """Return how far each edge is from being cut off: 1 inside, 0 at the limit, and a smooth step in a shell between.

    The limit of a centre is the cutoff, or a shell beyond its k-th distance. The k-th of ascending numbers is a
    continuous function of them, whichever atoms they belong to.
    """
    limits = np.full(len(edge_ptr) - 1, recipe.cutoff)
    k = recipe.max_neighbors
    if k is not None:
        enough = np.flatnonzero(np.diff(edge_ptr) >= k)
        # The edges of a centre ascend but for the last digits, in which they are in the order of their neighbours. All
        # centres are sorted at once, each in a range of numbers of its own, by a sort that is fast where order reigns.
        stride = 2 * recipe.cutoff
        ascending = np.sort(centers * stride + distances, kind="stable")
        kth = ascending[edge_ptr[enough] + k - 1] - enough * stride
        limits[enough] = np.minimum(recipe.cutoff, kth + recipe.shell)
    inside = ((limits[centers] - distances) / recipe.shell).clip(0, 1).astype(np.float32)
    return inside**2 * (3 - 2 * inside)
