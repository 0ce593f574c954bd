"""Other ways from a structure to its neighbours: those of other packages, and CGCNN's published one.

Each takes a pymatgen structure and a cutoff, and returns centres, neighbours and distances as its user gets them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

MAX_NEIGHBORS = 12
Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


def find(module: str) -> tuple[Any, str]:
    """Return a peer's module and no excuse, or None and why there is none."""
    try:
        return importlib.import_module(module), ""
    except ImportError as error:
        return None, f"not compared: {error}"


def published_cgcnn(structure: Any, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and distances, (n_atoms, 12) each, as CIFData.__getitem__ of github.com/txie-93/cgcnn does.

    Re-stated. An atom with fewer neighbours is filled up with atom 0 at more than the cutoff.
    """
    all_neighbors = structure.get_all_neighbors(cutoff, include_index=True)
    all_neighbors = [sorted(neighbors, key=lambda x: x[1]) for neighbors in all_neighbors]
    indices, distances = [], []
    for neighbors in all_neighbors:
        missing = max(MAX_NEIGHBORS - len(neighbors), 0)
        indices.append([x[2] for x in neighbors[:MAX_NEIGHBORS]] + [0] * missing)
        distances.append([x[1] for x in neighbors[:MAX_NEIGHBORS]] + [cutoff + 1.0] * missing)
    return np.array(indices), np.array(distances)


def nearest(pairs: Pairs, n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and distances, (n_atoms, 12) each, of what a neighbour list found."""
    centers, neighbors, distances = pairs
    order = np.lexsort([distances, centers])
    counts = np.bincount(centers, minlength=n_atoms)
    kept = order[np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts) < MAX_NEIGHBORS]
    return neighbors[kept].reshape(n_atoms, -1), distances[kept].reshape(n_atoms, -1)


def pymatgen_pairs(structure: Any, cutoff: float) -> Pairs:
    centers, neighbors, _, distances = structure.get_neighbor_list(cutoff)
    return centers, neighbors, distances


def _vesin(vesin: Any) -> Callable[[Any, float], Pairs]:
    def pairs(structure: Any, cutoff: float) -> Pairs:
        i, j, _, d = vesin.NeighborList(cutoff=cutoff, full_list=True).compute(
            points=structure.cart_coords, box=structure.lattice.matrix, periodic=True, quantities="ijSd"
        )
        return i.astype(np.int64), j, d

    return pairs


def _matscipy(neighbours: Any) -> Callable[[Any, float], Pairs]:
    def pairs(structure: Any, cutoff: float) -> Pairs:
        positions, cell = np.array(structure.cart_coords), np.array(structure.lattice.matrix)
        i, j, _, d = neighbours.neighbour_list(
            "ijSd", positions=positions, cell=cell, pbc=np.ones(3, bool), cutoff=cutoff
        )
        return i, j, d

    return pairs


def _ase(neighborlist: Any) -> Callable[[Any, float], Pairs]:
    def pairs(structure: Any, cutoff: float) -> Pairs:
        cell = structure.lattice.matrix
        i, j, _, d = neighborlist.primitive_neighbor_list("ijSd", (True,) * 3, cell, structure.cart_coords, cutoff)
        return i, j, d

    return pairs


def _alignn(builder: Any) -> Callable[[Any, float], Pairs]:
    import torch

    def pairs(structure: Any, cutoff: float) -> Pairs:
        positions, lattice = torch.tensor(structure.cart_coords), torch.tensor(structure.lattice.matrix)
        source, target, _, vectors = builder.torch_neighbor_list(positions, lattice, cutoff)
        return source.numpy(), target.numpy(), vectors.norm(dim=1).numpy()

    return pairs


def neighbor_lists() -> tuple[dict[str, Callable[[Any, float], Pairs]], dict[str, str]]:
    """Return the neighbour lists of the packages that are installed, and why others are left out."""
    found: dict[str, Callable[[Any, float], Pairs]] = {"pymatgen, get_neighbor_list": pymatgen_pairs}
    missing = {}
    for name, module, adapt in (
        ("vesin", "vesin", _vesin),
        ("matscipy", "matscipy.neighbours", _matscipy),
        ("alignn, pure torch", "alignn.torch_graph_builder", _alignn),
        ("ase", "ase.neighborlist", _ase),
    ):
        peer, excuse = find(module)
        if peer is None:
            missing[name] = excuse
        else:
            found[name] = adapt(peer)
    return found, missing


def matgl_converter(cutoff: float = 5.0) -> tuple[Any, str]:
    """Return matgl's converter for all elements, or None and why there is none."""
    module, excuse = find("matgl.ext.pymatgen")
    if module is None:
        return None, excuse
    from pymatgen.core import Element

    return module.Structure2Graph(tuple(Element.from_Z(z).symbol for z in range(1, 119)), cutoff), ""
