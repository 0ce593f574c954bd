"""Whether crystals are of the kind that a model was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np

from crystalssl.estimators._finetuning import FinetunedEstimator
from crystalssl.estimators._geometry import GEOMETRY, UNUSUAL, excess, geometry
from crystalssl.estimators._record import TrainingRecord
from crystalssl.inspection._model import chunks_of, record_of, unwrap, vectors_of
from crystalssl.training import CrystalDataset

__all__ = ["domain"]

_FAR = 98.0
"""Percentile of the distances of known crystals beyond which one is far."""
_FAR_UNSEEN = 60.0
"""That from which on elements count that no label has seen. A pretrained encoder knows them, and nearer crystals with
some are predicted no worse than others."""


def domain(model: Any, X: Any) -> Any:
    """Return how far crystals are from those that a model was trained on.

    Parameters
    ----------
    model : CrystalSSLRegressor, CrystalSSLClassifier or Pipeline
        The fitted model, or a Pipeline or search that ends in it.
    X : sequence or iterator of crystals, CrystalGraphs, or CrystalCorpus
        As for `predict`; with a Pipeline, as for that.

    Returns
    -------
    pandas.DataFrame
        A row for each crystal, with the index of X if that is a series or frame.

        - ``unseen_elements``: symbols of the elements that no training label has seen, joined by commas.
        - ``distance``: mean distance to the five nearest training crystals in the vectors of the finetuned encoder,
          where 1 is the median among training crystals; the mean over the networks of a cross-validated ensemble, of
          the first network of another one. 0 for the training crystals themselves. Of copies of one, such as the same
          structure at several temperatures, one counts, here and among known crystals.
        - ``percentile``: the share of known crystals that are nearer, in %. With ``ensemble="cross-validated"`` these
          are the training crystals, each seen by the network that had left it out. Else each is compared with the
          others by a network that was trained on all, so that percentiles of new crystals are rather too high.
        - ``volume``: the volume, without the vacuum around a layer, in units of what its atoms usually take.
        - ``shortest_distance``: that between two atoms, in units of the sum of their radii.
        - ``gap``: widest gap between planes of atoms, from 2.5 to 8 Å.
        - ``verdict``: "inside", or all that speaks against a prediction, joined by commas: "unseen elements", if the
          crystal is also beyond the 60th percentile or the encoder is not pretrained, for else it knows elements
          without labels; "far", beyond the 98th percentile; "loose" or "dense", "close atoms" and "vacuum", where
          volume, shortest distance or gap are beyond those of all training crystals but the oddest 1 %, by a margin of
          15 %, 5 % and 0.5 Å, which is wider for few training crystals.

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    TypeError
        If it is none of those above.
    ValueError
        If it is of an earlier version, which kept nothing of its training crystals.
    InvalidStructureError
        If a crystal is invalid, or holds an element that neither pretraining nor training has seen.

    Examples
    --------
    >>> from crystalssl import CrystalSSLRegressor
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.inspection import domain
    >>> X, y = load_prototypes(return_X_y=True)
    >>> model = CrystalSSLRegressor(max_epochs=1, random_state=0).fit(X[:50], y[:50])
    >>> blown_up = X[0].copy().scale_lattice(1000 * X[0].volume)
    >>> "loose" in domain(model, [blown_up]).verdict[0]
    True
    """
    import pandas as pd

    index = X.index if hasattr(X, "iloc") else None
    model, X = unwrap(model, X)
    record, trained = record_of(model), model.trained_elements_
    known = _known_distances(record)
    parts = []
    for graphs, indices in chunks_of(model, X):
        crystals = CrystalDataset(graphs)
        distances = _distances(model, record, crystals, indices)
        cells = geometry(graphs, crystals.cell_features)
        atoms = np.split(graphs.atomic_numbers, graphs.atom_offsets[1:-1])
        columns = {
            "unseen_elements": [_symbols(np.setdiff1d(crystal, trained)) for crystal in atoms],
            "distance": distances,
            "percentile": 100 * np.searchsorted(known, distances) / len(known),
            **dict(zip(GEOMETRY, cells.T, strict=True)),
        }
        parts.append(pd.DataFrame(columns))
    frame = pd.concat(parts, ignore_index=True)
    # Without pretraining (`elements_` is empty) nothing is known of elements without labels.
    frame["verdict"] = _verdicts(frame, record.cells, _FAR_UNSEEN if model.elements_.size else 0.0)
    return frame if index is None else frame.set_axis(index)


def _distances(
    model: FinetunedEstimator, record: TrainingRecord, crystals: CrystalDataset, indices: np.ndarray
) -> np.ndarray:
    """Return the distances of crystals, on average over the networks; 0 for those of training."""
    distances, is_known = [], np.zeros(len(crystals), dtype=bool)
    for member, surroundings in enumerate(record.surroundings):
        vectors = vectors_of(model, member, crystals, indices)
        distances.append(surroundings.distances(vectors))
        is_known |= surroundings.holds(vectors)
    return np.where(is_known, 0.0, np.mean(distances, axis=0))


def _known_distances(record: TrainingRecord) -> np.ndarray:
    """Return the distances of known crystals, ascending."""
    first = record.surroundings[0]
    if record.left_out is not None:
        return np.sort(np.delete(record.left_out.distances, first.repeated))
    return np.sort(first.own / first.unit)


def _symbols(numbers: np.ndarray) -> str:
    from pymatgen.core import Element

    return ", ".join(Element.from_Z(int(z)).symbol for z in numbers)


def _verdicts(frame: Any, known_cells: np.ndarray, far_unseen: float) -> list[str]:
    against = {
        "unseen elements": (frame.unseen_elements != "") & (frame.percentile >= far_unseen),
        "far": frame.percentile > _FAR,
        **dict(zip(UNUSUAL, (excess(frame[[*GEOMETRY]].to_numpy(), known_cells) >= 1).T, strict=True)),
    }
    rows = zip(*against.values(), strict=True)
    return [", ".join(name for name, holds in zip(against, row, strict=True) if holds) or "inside" for row in rows]
