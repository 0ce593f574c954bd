"""Crystal graphs as PyG knows them, one `Data` each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crystalssl.graphs._ragged import offsets_of

if TYPE_CHECKING:
    from torch_geometric.data import Data

    from crystalssl.graphs._crystal_graphs import CrystalGraphs

__all__ = ["columns_of", "to_data"]


def to_data(graph: CrystalGraphs) -> Data:
    """Return `CrystalGraphs` of one crystal as PyG's `Data`."""
    import torch
    from torch_geometric.data import Data

    centers = np.repeat(np.arange(graph.n_atoms), np.diff(graph.edge_offsets))
    edge_index = np.stack([graph.neighbors, centers]).astype(np.int64)
    return Data(
        z=torch.tensor(graph.atomic_numbers, dtype=torch.long),
        pos=torch.tensor(graph.positions),
        cell=torch.tensor(graph.lattice),
        edge_index=torch.tensor(edge_index),
        image=torch.tensor(graph.images),
        distance=torch.tensor(graph.distances),
    )


def columns_of(data_list: list[Data]) -> dict[str, np.ndarray]:
    """Return the columns of `CrystalGraphs` from what :func:`to_data` made."""
    counts = []
    for i, data in enumerate(data_list):
        centers = data.edge_index[1].numpy()
        if (np.diff(centers) < 0).any():
            raise ValueError(f"item {i}: the edges are not sorted by their centre, edge_index[1]")
        counts.append(np.bincount(centers, minlength=len(data.z)))
    parts = {
        "atomic_numbers": [data.z for data in data_list],
        "positions": [data.pos for data in data_list],
        "lattice": [data.cell.reshape(1, 3, 3) for data in data_list],
        "neighbors": [data.edge_index[0] for data in data_list],
        "images": [data.image for data in data_list],
        "distances": [data.distance for data in data_list],
    }
    return {
        "atom_offsets": offsets_of(np.array([len(data.z) for data in data_list])),
        "edge_offsets": offsets_of(np.concatenate(counts)),
        **{name: np.concatenate([np.asarray(part) for part in column]) for name, column in parts.items()},
    }
