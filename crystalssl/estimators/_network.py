"""The torch modules behind the estimators, and how they are applied to crystals."""

from __future__ import annotations

import copy
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch_geometric.data import Batch

from crystalssl.encoders import Encoded, Encoder, Sight
from crystalssl.exceptions import NonFiniteError
from crystalssl.training import CrystalDataset, CrystalNet
from crystalssl.training._batching import batches_for
from crystalssl.training._finite import find_fault
from crystalssl.training._precision import matmul_precision, usual_torch
from crystalssl.training._seeding import Dropout

__all__ = ["PropertyNetwork", "infer", "release"]

EDGES_AT_ONCE = 25_000
"""About how many edges a batch has where nothing is learnt, few enough for a cache; results do not depend on it."""
RIDGE_PENALTIES = np.logspace(-2, 4, 13)
"""Of standardised properties; which one is taken, leaving crystals out decides."""
SMALLEST_SPREAD = 0.02
"""Of a property that the encoder predicts, in deviations over the corpus, from which it tells crystals apart."""
LARGEST_EXPONENT = 4.0
_SMALLEST_DEVIATION = 0.1
"""Of a component of crystals' vectors, relative to the median over components."""
_CONSTANT = 1e-3
"""Deviation of a component that counts as none, relative to the root mean square of all of them.

Copies of one crystal deviate by some 1e-7 where their sites are permuted, and by 1e-4 where positions are rounded to
1e-4 Å; crystals that differ, by 1e-2 and more. Finetuning moves vectors by more than a thousandth of their size, which
would be thousands of such deviations.
"""


class PropertyNetwork(nn.Module):
    """An encoder with a multilayer perceptron on top, which also sees what the cell says of the crystal.

    Properties that the encoder predicts itself also reach the targets straight, by a linear layer.

    Parameters
    ----------
    encoder : Encoder
        Pretrained or not.
    n_targets : int
        Number of outputs.
    head_dim : int
        Width of the hidden layer.
    dropout : float
        Before each of the two layers of the head.
    freeze_encoder : bool
        Keep the encoder as it is: neither its weights nor its batch statistics change.
    cell_features : ndarray of shape (n_crystals, n_features) or None, default=None
        Features of the cells of the training crystals, which give their scale. None leaves cells out.
    """

    reads_cell = True
    """Whether batches must have the field ``cell_features``."""
    straight_mask: torch.Tensor

    def __init__(
        self,
        encoder: Encoder,
        n_targets: int,
        head_dim: int,
        dropout: float,
        freeze_encoder: bool,
        cell_features: np.ndarray | None = None,
    ):
        super().__init__()
        self.encoder = encoder
        self.vectors: nn.Module = nn.Identity()
        self.reads_cell = cell_features is not None
        n_features = 0
        if cell_features is not None:
            self.cell = Standardization(cell_features)
            n_features = cell_features.shape[1]
        self.head = nn.Sequential(
            Dropout(dropout),
            nn.Linear(encoder.vector_dim + n_features, head_dim),
            nn.SiLU(),
            Dropout(dropout),
            nn.Linear(head_dim, n_targets),
        )
        # What the encoder predicts itself may be close to the target: a straight way for it, which begins at zero.
        self.straight: nn.Linear | None = None
        if encoder.n_properties:
            self.straight = nn.Linear(2 * encoder.n_properties, n_targets)
            self.register_buffer("straight_mask", torch.ones_like(self.straight.weight))
            for parameter in self.straight.parameters():
                nn.init.zeros_(parameter)
        self.freeze(freeze_encoder)

    def __setstate__(self, state: dict) -> None:
        # Networks of version 0.1 standardise vectors in the head, and know nothing of the cell.
        super().__setstate__({"reads_cell": False, **state})
        self._modules.setdefault("vectors", nn.Identity())
        self._modules.setdefault("straight", None)
        if isinstance(self.head[0], Standardization):
            self.vectors, *head = self.head
            self.head = nn.Sequential(*head)

    @property
    def config(self) -> dict[str, Any]:
        """What rebuilds the network around its encoder, ``PropertyNetwork.rebuild(encoder, **config)``."""
        first, dropout, last = (cast(Any, self.head[i]) for i in (1, 3, 4))
        return {
            "n_targets": len(last.bias),
            "head_dim": len(first.bias),
            "dropout": float(dropout.p),
            "freeze_encoder": bool(self.freeze_encoder),
            "n_cell_features": len(self.cell.center) if self.reads_cell else 0,
            "standardized": isinstance(self.vectors, Standardization),
        }

    @classmethod
    def rebuild(cls, encoder: Encoder, *, n_cell_features: int, standardized: bool, **config: Any) -> PropertyNetwork:
        """Return a network of the same layers, whose weights are still to be loaded."""
        ones = np.ones((1, n_cell_features), np.float32)
        network = cls(encoder, **config, cell_features=ones if n_cell_features else None)
        return network.standardize(np.ones((1, encoder.vector_dim), np.float32)) if standardized else network

    @property
    def sight(self) -> Sight | None:
        """What the encoder can tell apart, as in :attr:`Encoder.sight`."""
        return self.encoder.sight

    def freeze(self, freeze_encoder: bool) -> PropertyNetwork:
        """Decide whether training leaves the encoder as it is."""
        self.freeze_encoder = freeze_encoder
        self.encoder.requires_grad_(not freeze_encoder)
        return self

    def standardize(self, vectors: np.ndarray) -> PropertyNetwork:
        """Have the head see the encoder's vectors on the scale that `vectors`, (n_crystals, vector_dim), give it."""
        self.vectors = Standardization(vectors)
        return self

    def start_from_properties(
        self, vectors: np.ndarray, y: np.ndarray, weight: np.ndarray, logged: np.ndarray
    ) -> PropertyNetwork:
        """Have training start from a ridge regression of the targets on what the encoder predicts itself.

        Of a target that is learnt as its logarithm no exponential is seen: the exponential of an exponential is far off
        the scale for the first crystal beyond those of training.

        Parameters
        ----------
        vectors : ndarray of shape (n_crystals, vector_dim)
            What the encoder says of the training crystals.
        y : ndarray of shape (n_crystals, n_targets)
            Their targets as the network learns them; NaN where unknown.
        weight : ndarray of shape (n_crystals,)
            Their weights.
        logged : ndarray of shape (n_targets,), bool
            Which targets are logarithms.
        """
        if self.straight is None:
            return self
        self.straight_mask[torch.from_numpy(logged), self.encoder.n_properties :] = 0
        with torch.no_grad():
            seen = self.properties_in(self.vectors(torch.from_numpy(vectors))).numpy()
            # Properties that hardly differ, of crystals that are almost copies, say nothing of the targets.
            differ = np.tile(seen[:, : self.encoder.n_properties].std(axis=0) > SMALLEST_SPREAD, 2)
            scale = StandardScaler().fit(seen)
            for target, (values, mask) in enumerate(zip(y.T, self.straight_mask.numpy(), strict=True)):
                known, used = ~np.isnan(values), differ * mask
                shown = scale.transform(seen[known]) * used
                ridge = RidgeCV(RIDGE_PENALTIES).fit(shown, values[known], weight[known])
                slopes = ridge.coef_ * used / scale.scale_
                self.straight.weight[target] = torch.from_numpy(slopes)
                self.straight.bias[target] = float(ridge.intercept_ - slopes @ scale.mean_)
            for parameter in self.head[-1].parameters():
                nn.init.zeros_(parameter)
        return self

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return predictions of shape (n_crystals, n_targets)."""
        return self.predict_from(self.vectors(self.encoder(batch).vector), batch)

    def predict_from(self, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return predictions for crystals whose vectors, as the head sees them, are known."""
        seen = torch.cat([vectors, self.cell(batch.cell_features)], dim=1) if self.reads_cell else vectors
        predicted = self.head(seen)
        if self.straight is None:
            return predicted
        weight = self.straight.weight * self.straight_mask
        return predicted + F.linear(self.properties_in(vectors), weight, self.straight.bias)

    def properties_in(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return what the encoder predicts itself and its exponentials, of the vectors that the head sees.

        Many of the properties are logarithms of what targets are linear in.
        """
        n_properties = self.encoder.n_properties
        properties = vectors[:, -n_properties:]
        if isinstance(self.vectors, Standardization):
            properties = properties * self.vectors.scale[-n_properties:] + self.vectors.center[-n_properties:]
        return torch.cat([properties, properties.clamp(max=LARGEST_EXPONENT).exp()], dim=1)

    def train(self, mode: bool = True) -> PropertyNetwork:
        """Set the mode of all but a frozen encoder."""
        super().train(mode)
        if self.freeze_encoder:
            self.encoder.eval()
        return self


class Standardization(nn.Module):
    """Shift and scale each component of vectors, by its mean and standard deviation over some of them.

    Parameters
    ----------
    vectors : ndarray of shape (n_vectors, dim)
        What becomes standardised.
    """

    center: torch.Tensor
    scale: torch.Tensor

    def __init__(self, vectors: np.ndarray):
        super().__init__()
        deviations = vectors.std(axis=0)
        # What hardly varies over these crystals would be blown up for others.
        deviations = np.maximum(deviations, _SMALLEST_DEVIATION * np.median(deviations))
        size = np.sqrt(np.mean(vectors**2)) or np.float32(1)
        self.register_buffer("center", torch.from_numpy(vectors.mean(axis=0)))
        self.register_buffer("scale", torch.from_numpy(np.where(deviations > _CONSTANT * size, deviations, size)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the vectors standardised."""
        return (x - self.center) / self.scale


def prediction_batch_size(dataset: CrystalDataset, device: str) -> int:
    """Return how many crystals to predict for at once; a GPU wants more of them than a processor."""
    n_edges = int(dataset.graphs.n_edges_of(dataset.indices).sum())
    at_once = EDGES_AT_ONCE * (1 if torch.device(device).type == "cpu" else 8)
    return max(1, round(at_once * len(dataset) / max(n_edges, 1)))


@usual_torch()
@torch.inference_mode()
def infer(
    module: nn.Module, dataset: CrystalDataset, device: str, precision: str, indices: np.ndarray | None = None
) -> np.ndarray:
    """Return what a module makes of crystals: an encoder its vectors, of shape (n_crystals, vector_dim).

    Parameters
    ----------
    module : torch.nn.Module
        What is applied.
    dataset : CrystalDataset
        The crystals.
    device, precision : str
        As in the estimators.
    indices : ndarray of shape (n_crystals,), int, or None, default=None
        Their positions in what the user gave, for messages; None takes those of the data set.

    Raises
    ------
    NonFiniteError
        If that is NaN or infinite for a crystal.
    """
    if device != "cpu":  # a copy: other threads may be predicting with the same module, and it stays here if that fails
        module = copy.deepcopy(module).to(device)
    module.eval()
    rows, start = np.empty((len(dataset), 0), np.float32), 0
    with matmul_precision(precision):
        for batch, _ in batches_for(module, dataset, prediction_batch_size(dataset, device), device):
            output = module(batch.to(device))
            output = output.vector if isinstance(output, Encoded) else output
            if not start:  # all at once: vectors take as much memory as the graphs, and joining them twice that
                rows = np.empty((len(dataset), output.shape[1]), np.float32)
            rows[start : start + len(output)] = output.cpu().numpy()
            start += len(output)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        cause = find_fault(module.state_dict()) or "numbers exceed what float32 holds"
        indices = dataset.indices if indices is None else indices
        raise NonFiniteError(
            f"the network gives no finite numbers for item {indices[finite.argmin()]}: {cause}; train again, with a "
            "lower learning_rate"
        )
    return rows


def release(net: CrystalNet) -> CrystalNet:
    """Move a trained net to the CPU and drop what only training needs.

    That is the state of the optimizer, the training data, and the losses of single batches, which would outweigh the
    network after a hundred epochs of ten thousand crystals.
    """
    net.set_params(device="cpu", train_split=None)
    net.module_.cpu().zero_grad(set_to_none=True)
    net.optimizer_ = None
    for epoch in net.history:
        epoch["batches"].clear()
    return net
