"""The training crystals that a prediction rests on most."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from crystalssl.inspection._model import chunks_of, record_of, unwrap, vectors_of
from crystalssl.training import CrystalDataset

__all__ = ["neighbors"]


def neighbors(model: Any, X: Any, k: int = 5) -> Any:
    """Return the training crystals that are nearest to others in the vectors of the finetuned encoder.

    Parameters
    ----------
    model : CrystalSSLRegressor, CrystalSSLClassifier or Pipeline
        The fitted model, or a Pipeline or search that ends in it.
    X : sequence or iterator of crystals, CrystalGraphs, or CrystalCorpus
        As for `predict`; with a Pipeline, as for that.
    k : int, default=5
        How many for each.

    Returns
    -------
    pandas.DataFrame
        k rows for each crystal, ascending in distance: ``crystal``, its position in X; ``neighbor``, the position of
        the training crystal in what `fit` was given; ``distance``, in the units of the vectors that the head of the
        first network sees; and the labels of the training crystal, in columns with the names of the targets, all of
        them if several bear the same. A target that is called like one of the other columns stands as "distance
        (target)" and so on. Crystals that another network of a cross-validated ensemble was trained on count, those
        held out by early stopping do not.

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    TypeError
        If it is none of those above.
    ValueError
        If k is no number of training crystals, or the model is of an earlier version, which kept none.
    InvalidStructureError
        If a crystal is invalid, or holds an element that neither pretraining nor training has seen.

    Examples
    --------
    >>> from crystalssl import CrystalSSLRegressor
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.inspection import neighbors
    >>> X, y = load_prototypes(return_X_y=True)
    >>> model = CrystalSSLRegressor(max_epochs=1, random_state=0).fit(X[:50], y[:50])
    >>> neighbors(model, X[20:22], k=2).neighbor[::2].tolist()
    [20, 21]
    """
    import pandas as pd

    model, X = unwrap(model, X)
    record = record_of(model)
    surroundings = record.surroundings[0]
    n_known = len(surroundings.rows)
    if not isinstance(k, Integral) or isinstance(k, bool) or not 1 <= k <= n_known:
        raise ValueError(f"k must be an integer from 1 to {n_known}, the number of training crystals; got {k!r}")
    k = int(k)
    found = [
        surroundings.nearest(vectors_of(model, 0, CrystalDataset(graphs), indices), k)
        for graphs, indices in chunks_of(model, X)
    ]
    distances, rows = (np.concatenate(part) for part in zip(*found, strict=True))
    nearest = rows.ravel()
    labels = record.labels[nearest]
    if labels.ndim == 1:
        labels = model.target_.encoder_.classes_[labels][:, None]
    frame = pd.DataFrame(
        {
            "crystal": np.repeat(np.arange(len(rows)), k),
            "neighbor": record.rows[nearest],
            "distance": distances.ravel(),
        }
    )
    names = [f"{name} (target)" if name in frame else name for name in model.target_names_]
    return pd.concat([frame, pd.DataFrame(labels, columns=names)], axis=1)
