"""What a finetuned ensemble makes of crystals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from crystalssl.estimators._base import CrystalEstimator, check_known_elements, join
from crystalssl.estimators._network import infer
from crystalssl.estimators._outside import OutsideDomain
from crystalssl.estimators._record import TrainingRecord
from crystalssl.estimators._surroundings import Seeing
from crystalssl.training import CrystalDataset, CrystalNet
from crystalssl.training._net import resolve_device

__all__ = ["NetworkEnsemble"]


class NetworkEnsemble(CrystalEstimator):
    """Base class of estimators whose predictions are those of several networks."""

    net_: CrystalNet
    nets_: list[CrystalNet]
    elements_: np.ndarray
    target_: Any
    _record: TrainingRecord
    _gathered: OutsideDomain | None = None
    """Where several calls gather crystals unlike those of training, for one warning by who set it."""

    def _outside_domain(self) -> OutsideDomain:
        """Return what looks for crystals unlike those of training; files of earlier versions know less of these."""
        record = getattr(self, "_record", None)
        return OutsideDomain(getattr(self, "trained_elements_", None), record and record.cells)

    def _outputs(self, X: Any) -> np.ndarray:
        """Return what each network of the ensemble predicts, of shape (n_networks, n_crystals, n_outputs)."""
        learnt, sizes, _ = self._apply(X)
        return np.stack([self.target_.to_unit(output, sizes) for output in learnt])

    def _apply(self, X: Any, with_distances: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what each network predicts on the scale that is learnt, sizes, and distances from its training.

        Their shapes are (n_networks, n_crystals, n_outputs), (n_crystals, 1), and (n_networks, n_crystals, 1), whose
        last axis is empty unless distances are asked for.
        """
        device = resolve_device(self.device)
        items, n_items = self._items(X)
        sizes = []
        outside = self._gathered or self._outside_domain()

        def parts() -> Iterator[np.ndarray]:
            for graphs, indices in self._chunks(items, n_items, self.net_.module_.encoder.recipe, "predicting"):
                if self.elements_.size:
                    check_known_elements(graphs, set(self.elements_.tolist()), indices)
                sizes.append(self.target_.sizes(graphs, indices))
                dataset = CrystalDataset(graphs)
                # Networks that do not read the cell need no features of it, which take time.
                outside.add(graphs, dataset.cell_features if self.net_.module_.reads_cell else None)
                yield np.stack([look(member, dataset, indices) for member in range(len(self.nets_))], axis=1)

        def look(member: int, dataset: CrystalDataset, indices: np.ndarray) -> np.ndarray:
            module = self.nets_[member].module_
            if not with_distances:
                return infer(module, dataset, device, self.precision, indices)
            seen = infer(Seeing(module), dataset, device, self.precision, indices)
            vectors, predicted = np.split(seen, [-self.target_.n_outputs_], axis=1)
            return np.column_stack([predicted, self._record.surroundings[member].distances(vectors)])

        outputs = join(parts(), n_items)
        if outside is not self._gathered:
            outside.warn(stacklevel=5)
        outputs, distances = np.split(outputs, [self.target_.n_outputs_], axis=2)
        scales = getattr(self, "_scales", [self.target_])  # files of earlier versions have one
        learnt = [scales[k % len(scales)].unscale(output) for k, output in enumerate(outputs.swapaxes(0, 1))]
        return np.stack(learnt), np.concatenate(sizes), distances.swapaxes(0, 1).astype(float)
