"""From the vectors of atoms and edges to one vector per crystal."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.utils import scatter, softmax

from crystalssl.encoders._kernels import compiled_statistics
from crystalssl.encoders._layers import Layer
from crystalssl.graphs import N_ELEMENTS

__all__ = ["READOUTS", "Readout"]

READOUTS = ("mean", "mean+max+min", "set2set", "attention")
"""Ways to pool atoms, and edges where an encoder updates them, into crystals."""

_N_SET2SET_STEPS = 2
_N_SHARES = N_ELEMENTS + 1  # the first is that of masked atoms


class Readout(nn.Module):
    """Pool atoms, and edges if they are given, and append the crystal's own state if there is one.

    Parameters
    ----------
    name : {"mean", "mean+max+min", "set2set", "attention"}
        "mean+max+min" pools atoms so and edges by mean and max. "set2set" is that of Vinyals et al. with two steps.
        "attention" weighs an atom by its vector and the composition of its crystal, as the global attention of GATGNN.
    node_dim : int
        Width of the atoms' vectors.
    edge_dim : int or None, default=None
        Width of the edges' vectors; None leaves edges out.
    state_dim : int, default=0
        Width of the crystal's own state.

    Raises
    ------
    ValueError
        If there is no such readout.

    References
    ----------
    O. Vinyals, S. Bengio and M. Kudlur, ICLR 2016, arXiv:1511.06391.
    S.-Y. Louis et al., Phys. Chem. Chem. Phys. 22, 18141 (2020), doi:10.1039/D0CP01474E.
    """

    def __init__(self, name: str, node_dim: int, edge_dim: int | None = None, state_dim: int = 0):
        super().__init__()
        if name not in READOUTS:
            raise ValueError(f"there is no readout {name!r}; choose one of {list(READOUTS)}")
        self.nodes, self.out_dim = _pooling(name, node_dim, ["mean", "max", "min"])
        self.edges = None
        if edge_dim is not None:
            self.edges, width = _pooling(name, edge_dim, ["mean", "max"])
            self.out_dim += width
        self.out_dim += state_dim

    def forward(
        self,
        node: Tensor,
        edge: Tensor | None,
        state: Tensor | None,
        batch: Batch,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Return one row per crystal.

        An edge whose weight, of shape (n_edges,), goes to 0 drops out continuously: the logarithm of its weight is
        added where a maximum or a softmax is taken. With the last edge of a crystal the whole goes to 0.
        """
        counts = batch.n_alike[:, None] if "n_alike" in batch else None
        parts = [self._pool(self.nodes, node, batch.batch, batch.ptr, batch, counts)]
        if self.edges is not None:
            center = batch.edge_index[1]
            crystal = batch.batch[center]
            rows = edge, crystal, batch.edge_ptr[batch.ptr], batch
            if counts is not None:
                counts = counts[center] * batch.n_bonds[:, None]
            if edge_weight is None:
                parts.append(self._pool(self.edges, *rows, counts))
            else:
                largest = _pool(edge_weight[:, None], crystal, batch.num_graphs, "max")
                relative = edge_weight[:, None] / largest[crystal].clamp(min=1e-30)
                fading = relative.log().clamp(min=-80)
                weight = fading.exp() if counts is None else fading.exp() * counts
                parts.append(largest * self._pool(self.edges, *rows, weight, fading))
        if state is not None:
            parts.append(state)
        return torch.cat(parts, dim=1)

    @property
    def counts(self) -> bool:
        """Whether rows may stand for several, as in :func:`crystalssl.training._distinct.collate_distinct`."""
        ours = Statistics | Set2Set | CompositionAttention | None
        return all(isinstance(pooling, ours) for pooling in (self.nodes, self.edges))

    @staticmethod
    def _pool(
        pooling: nn.Module,
        x: Tensor | None,
        crystal: Tensor,
        ptr: Tensor,
        batch: Batch,
        weight: Tensor | None,
        fading: Tensor | None = None,
    ) -> Tensor:
        if isinstance(pooling, Statistics):
            return pooling(x, crystal, ptr, weight, fading)
        # Stored estimators of version 0.1.0 hold PyG's aggregations, which are called like ours and take no weights.
        weights = () if weight is None else (weight,)
        return pooling(x, crystal, batch if isinstance(pooling, CompositionAttention) else ptr, *weights)


def _pooling(name: str, dim: int, statistics: list[str]) -> tuple[nn.Module, int]:
    """Return a pooling and the width of its output."""
    if name == "set2set":
        return Set2Set(dim), 2 * dim
    if name == "attention":
        return CompositionAttention(dim), dim
    pooling = Statistics(["mean"] if name == "mean" else statistics)
    return pooling, dim * len(pooling.names)


class Statistics(Layer):
    """Statistics of the rows of each crystal, side by side; zeros for a crystal without rows.

    Parameters
    ----------
    names : list of {"mean", "max", "min"}
    """

    def __init__(self, names: list[str]):
        super().__init__()
        self.names = names

    def forward(
        self,
        x: Tensor,
        crystal: Tensor,
        ptr: Tensor,
        weight: Tensor | None = None,
        fading: Tensor | None = None,
    ) -> Tensor:
        """Pool rows `x` that belong to the crystals in `crystal`; those of crystal k are ``ptr[k]:ptr[k + 1]``.

        Means are weighted; `fading` is added where a maximum is taken, and subtracted where a minimum is.
        """
        if self.kernels == "fast":
            compiled = compiled_statistics(x, ptr, weight, fading, self.names)
            if compiled is not None:
                return compiled
        n_crystals = len(ptr) - 1
        if weight is None:
            return torch.cat([_pool(x, crystal, n_crystals, name) for name in self.names], dim=1)
        shift = 0 if fading is None else fading
        total = _pool(weight, crystal, n_crystals, "sum").clamp(min=1e-30)
        pooled = {
            "mean": lambda: _pool(x * weight, crystal, n_crystals, "sum") / total,
            "max": lambda: _pool(x + shift, crystal, n_crystals, "max"),
            "min": lambda: _pool(x - shift, crystal, n_crystals, "min"),
        }
        return torch.cat([pooled[name]() for name in self.names], dim=1)


class Set2Set(nn.Module):
    """Set2Set of Vinyals et al.: an LSTM asks each crystal's rows, `dim` wide, and attention answers, a few times."""

    def __init__(self, dim: int):
        super().__init__()
        self.lstm = nn.LSTM(2 * dim, dim)

    def forward(self, x: Tensor, crystal: Tensor, ptr: Tensor, weight: Tensor | None = None) -> Tensor:
        """Pool rows `x` that belong to the crystals in `crystal`; those of crystal k are ``ptr[k]:ptr[k + 1]``."""
        state, n_crystals = None, len(ptr) - 1
        pooled = x.new_zeros(n_crystals, self.lstm.input_size)
        for _ in range(_N_SET2SET_STEPS):
            query, state = self.lstm(pooled[None], state)
            scores = (x * query[0][crystal]).sum(dim=1, keepdim=True)
            scores = scores if weight is None else scores + weight.log()
            weights = softmax(scores, crystal, num_nodes=n_crystals)
            pooled = torch.cat([query[0], _pool(x * weights, crystal, n_crystals, "sum")], dim=1)
        return pooled


class CompositionAttention(nn.Module):
    """Sum of rows, `dim` wide, weighed by a softmax over each crystal of what row and composition together suggest."""

    def __init__(self, dim: int):
        super().__init__()
        self.hidden = nn.Linear(dim + _N_SHARES, dim)
        self.score = nn.Linear(dim, 1)

    def forward(self, x: Tensor, crystal: Tensor, batch: Batch, weight: Tensor | None = None) -> Tensor:
        """Pool rows `x` that belong to the crystals in `crystal`."""
        composition = x.new_zeros(batch.num_graphs, _N_SHARES)
        n_alike = batch.n_alike if "n_alike" in batch else torch.ones_like(batch.z, dtype=x.dtype)
        share = n_alike / _pool(n_alike, batch.batch, batch.num_graphs, "sum")[batch.batch]
        composition.index_put_((batch.batch, batch.z), share, accumulate=True)
        # The linear layer on [x, composition] acts on each crystal's composition once, not once per row.
        of_row, of_composition = self.hidden.weight.split([x.shape[1], _N_SHARES], dim=1)
        context = F.linear(composition, of_composition, self.hidden.bias)
        hidden = F.softplus(F.linear(x, of_row) + context[crystal])
        scores = self.score(hidden) if weight is None else self.score(hidden) + weight.log()
        weights = softmax(scores, crystal, num_nodes=batch.num_graphs)
        return _pool(x * weights, crystal, batch.num_graphs, "sum")


def _pool(x: Tensor, crystal: Tensor, n_crystals: int, reduce: str) -> Tensor:
    return scatter(x, crystal, dim=0, dim_size=n_crystals, reduce=reduce)
