"""Whether crystals are of the kind that a model was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np

from crystalssl.estimators._record import GEOMETRY, TrainingRecord, geometry
from crystalssl.inspection._model import chunks_of, record_of, unwrap, vectors_of
from crystalssl.training import CrystalDataset

__all__ = ["domain"]

_FAR = 95.0
"""Percentile of the distances of known crystals beyond which one is far."""
_MARGINS = (1.25, 1.1)
"""Factors by which volumes and distances may leave the range of training."""
_GAP = 0.5  # Å by which gaps may


def domain(model: Any, X: Any) -> Any:
    """Return how far crystals are from those that a model was trained on.

    Parameters
    ----------
    model : CrystalSSLRegressor, CrystalSSLClassifier or Pipeline
        The fitted model, or a Pipeline that ends in it.
    X : sequence or iterator of crystals, CrystalGraphs, or CrystalCorpus
        As for `predict`; with a Pipeline, as for that.

    Returns
    -------
    pandas.DataFrame
        A row for each crystal, with the index of X if that is a series or frame.

        - ``unseen_elements``: symbols of the elements that no training label has seen, joined by commas.
        - ``distance``: mean distance to the five nearest training crystals in the vectors of the finetuned encoder,
          where 1 is the median among training crystals; the mean over the networks of a cross-validated ensemble, of
          the first network of another one.
        - ``percentile``: the share of known crystals that are nearer, in %. With ``ensemble="cross-validated"`` these
          are the training crystals, each seen by the network that had left it out. Else each is compared with the
          others by a network that was trained on all, so that percentiles of new crystals are rather too high.
        - ``volume``: volume per atom, in units of that of the spheres of its atomic radii.
        - ``shortest_distance``: that between two atoms, in units of the sum of their radii.
        - ``gap``: widest gap between planes of atoms in Å, at most 5 Å.
        - ``verdict``: "inside", or all that speaks against a prediction, joined by commas: "unseen elements"; "far",
          beyond the 95th percentile; "loose" or "dense", "close atoms" and "vacuum", where volume, shortest distance or
          gap are beyond all that training has seen, by a margin of a quarter, a tenth and 0.5 Å.

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
        distances = np.mean(
            [
                surroundings.distances(vectors_of(model, member, crystals, indices))
                for member, surroundings in enumerate(record.surroundings)
            ],
            axis=0,
        )
        cells = geometry(graphs, crystals.cell_features)
        atoms = np.split(graphs.atomic_numbers, graphs.atom_offsets[1:-1])
        columns = {
            "unseen_elements": [_symbols(np.setdiff1d(crystal, trained)) for crystal in atoms],
            "distance": distances,
            "percentile": 100 * np.searchsorted(known, distances) / len(known),
            **{name: cells[:, GEOMETRY.index(long)] for name, long in _COLUMNS.items()},
        }
        parts.append(pd.DataFrame(columns))
    frame = pd.concat(parts, ignore_index=True)
    frame["verdict"] = _verdicts(frame, record.cells)
    return frame if index is None else frame.set_axis(index)


_COLUMNS = {"volume": "volume per atom", "shortest_distance": "shortest distance", "gap": "gap"}


def _known_distances(record: TrainingRecord) -> np.ndarray:
    """Return the distances of known crystals, ascending."""
    if record.left_out is not None:
        return np.sort(record.left_out.distances)
    return np.sort(record.surroundings[0].own / record.surroundings[0].unit)


def _symbols(numbers: np.ndarray) -> str:
    from pymatgen.core import Element

    return ", ".join(Element.from_Z(int(z)).symbol for z in numbers)


def _verdicts(frame: Any, cells: np.ndarray) -> list[str]:
    low, high = cells.min(axis=0), cells.max(axis=0)
    volume, shortest = _MARGINS
    against = {
        "unseen elements": frame.unseen_elements != "",
        "far": frame.percentile > _FAR,
        "loose": frame.volume > high[0] * volume,
        "dense": frame.volume < low[0] / volume,
        "close atoms": frame.shortest_distance < low[1] / shortest,
        "vacuum": frame.gap > high[2] + _GAP,
    }
    rows = zip(*against.values(), strict=True)
    return [", ".join(name for name, holds in zip(against, row, strict=True) if holds) or "inside" for row in rows]
