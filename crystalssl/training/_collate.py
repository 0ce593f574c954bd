"""From columnar graphs to PyG batches, in one vectorised step."""

from __future__ import annotations

import numpy as np
import torch
from torch_geometric.data import Batch

from crystalssl.graphs import CrystalCorpus, CrystalGraphs, GraphRecipe
from crystalssl.graphs._ragged import concatenate_ranges

__all__ = ["collate", "edge_weights"]


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
    first_edge = graphs.edge_offsets[graphs.atom_offsets[indices]]
    n_edges = graphs.edge_offsets[graphs.atom_offsets[indices + 1]] - first_edge
    edges = concatenate_ranges(first_edge, n_edges)

    ptr = np.concatenate([[0], np.cumsum(n_atoms)])
    degrees = graphs.edge_offsets[atoms + 1] - graphs.edge_offsets[atoms]
    centers = np.repeat(np.arange(len(atoms)), degrees)
    neighbors = graphs.neighbors[edges] + np.repeat(ptr[:-1], n_edges)
    neighbor_ptr = np.concatenate([[0], np.cumsum(np.bincount(neighbors, minlength=len(atoms)))])

    distances = graphs.distances[edges]
    edge_ptr = np.concatenate([[0], np.cumsum(degrees)])
    batch = Batch(
        z=torch.from_numpy(graphs.atomic_numbers[atoms].astype(np.int64)),
        pos=torch.from_numpy(graphs.positions[atoms].astype(np.float32)),
        cell=torch.from_numpy(graphs.lattice[indices].astype(np.float32)),
        edge_index=torch.from_numpy(np.stack([neighbors, centers])),
        image=torch.from_numpy(graphs.images[edges].astype(np.float32)),
        distance=torch.from_numpy(distances),
        edge_weight=torch.from_numpy(edge_weights(distances, centers, edge_ptr, graphs.recipe)),
        edge_ptr=torch.from_numpy(edge_ptr),
        neighbor_order=torch.from_numpy(np.argsort(neighbors, kind="stable")),
        neighbor_ptr=torch.from_numpy(neighbor_ptr),
        batch=torch.from_numpy(np.repeat(np.arange(len(indices)), n_atoms)),
        ptr=torch.from_numpy(ptr),
    )
    batch._num_graphs = len(indices)
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
