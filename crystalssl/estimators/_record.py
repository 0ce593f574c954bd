"""What a fitted model keeps of the crystals that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

from crystalssl.estimators._geometry import geometry
from crystalssl.estimators._left_out import LeftOut
from crystalssl.estimators._network import infer
from crystalssl.estimators._surroundings import Seeing, Surroundings
from crystalssl.graphs._corpus import parts_of
from crystalssl.training import CrystalDataset, CrystalNet

__all__ = ["Part", "TrainingRecord"]


class Part(NamedTuple):
    """What a network is trained on, and what it is not."""

    target: Any
    training: CrystalDataset
    validation: CrystalDataset | None
    left_out: np.ndarray


class TrainingRecord(NamedTuple):
    """What is kept of the training crystals.

    Parameters
    ----------
    rows : ndarray of shape (n_crystals,), int64
        Their positions in what `fit` was given.
    labels : ndarray of shape (n_crystals, n_targets), float64, or (n_crystals,), int64
        Targets in the user's unit, or codes of classes.
    cells : ndarray of shape (n_crystals, 3), float64
        See :func:`geometry`.
    surroundings : list of Surroundings
        Of each network of a cross-validated ensemble, or of the first network.
    left_out : LeftOut or None
        Predictions by networks that were trained without them.
    """

    rows: np.ndarray
    labels: np.ndarray
    cells: np.ndarray
    surroundings: list[Surroundings]
    left_out: LeftOut | None

    @classmethod
    def of(
        cls,
        crystals: CrystalDataset,
        labels: np.ndarray,
        nets: list[CrystalNet],
        parts: list[Part],
        target: Any,
        device: str,
        precision: str,
    ) -> TrainingRecord:
        """Return the record of crystals, with their targets not yet scaled, and of networks trained on parts."""
        used, values = crystals.indices, target.learnt(crystals.y[crystals.indices])
        bare = crystals.select(used, np.empty((len(crystals.y), 0), np.float32))
        outputs, distances = np.empty((len(used), target.n_outputs_)), np.empty(len(used))
        members, surroundings = np.full(len(used), -1), []
        for member, (net, part) in enumerate(zip(nets, parts, strict=False)):
            rows = np.concatenate([part.training.indices, part.left_out])
            seen = infer(Seeing(net.module_), bare.select(rows), device, precision)
            vectors, predicted = np.split(seen, [-target.n_outputs_], axis=1)
            n_trained = len(part.training)
            surroundings.append(Surroundings.of(vectors, np.searchsorted(used, rows), n_trained))
            if len(part.left_out):
                left_out = np.searchsorted(used, part.left_out)
                members[left_out] = member
                outputs[left_out] = part.target.unscale(predicted[n_trained:])
                distances[left_out] = surroundings[member].distances(vectors[n_trained:])
        return cls(
            used,
            labels[used] if labels.ndim == 2 else values,
            np.concatenate(
                [
                    geometry(graphs, crystals.cell_features[used[some]])
                    for some, graphs in parts_of(crystals.graphs, used)
                ]
            ),
            surroundings,
            LeftOut(members, outputs, values, distances) if (members >= 0).all() else None,
        )

    def to_tensors(self) -> dict[str, torch.Tensor]:
        """Return it as tensors, by names of three parts, of which the second is the number of a network."""
        arrays = {f"record.0.{name}": getattr(self, name) for name in ("rows", "labels", "cells")}
        for member, surroundings in enumerate(self.surroundings):
            arrays |= {f"surroundings.{member}.{name}": getattr(surroundings, name) for name in Surroundings.FIELDS}
        if self.left_out is not None:
            arrays |= {f"left_out.0.{name}": array for name, array in self.left_out._asdict().items()}
        return {name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> TrainingRecord | None:
        """Return what :meth:`to_tensors` wrote, or None if there is none, in files of earlier versions."""

        def part(kind: str, member: int) -> dict[str, np.ndarray]:
            start = f"{kind}.{member}."
            return {name.removeprefix(start): x.numpy() for name, x in tensors.items() if name.startswith(start)}

        record, left_out = part("record", 0), part("left_out", 0)
        if not record:
            return None
        n_surroundings = len({name.split(".")[1] for name in tensors if name.startswith("surroundings.")})
        surroundings = [Surroundings(**part("surroundings", member)) for member in range(n_surroundings)]
        return cls(**record, surroundings=surroundings, left_out=LeftOut(**left_out) if left_out else None)
