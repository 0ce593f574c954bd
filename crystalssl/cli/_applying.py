"""A model applied to some crystals, of which those that it cannot take are told apart."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from crystalssl.cli._records import Part
from crystalssl.exceptions import InvalidStructureError

__all__ = ["Applied", "Predictor", "apply", "load_predictor"]

_ITEM = re.compile(r"^item \d+(, [^:]*)?:? ")


class Applied(NamedTuple):
    """What became of some crystals."""

    rows: np.ndarray  # positions of those that have values
    values: list[np.ndarray]  # a column each
    problems: dict[int, str]  # reasons, by position

    def problems_of(self, part: Part) -> list[tuple[Any, ...]]:
        """Return id, row, file and reason of each crystal that was refused."""
        found = sorted(self.problems.items())
        return [(part.ids[row], part.rows[row], part.files[row], reason) for row, reason in found]


def load_predictor(folder: str, device: str, domain: bool = False) -> Predictor:
    """Return what predicts with the model of a folder, or say that it holds none; see :class:`Predictor`."""
    from crystalssl.estimators import load

    model = load(folder)
    if not hasattr(model, "nets_"):
        raise ValueError(
            f"{folder} holds an encoder, which predicts nothing; train a model with it, by crystalssl fit --pretrain "
            f"{folder}"
        )
    return Predictor(model.set_params(device=device, verbose=0), domain)


class Predictor:
    """A function from graphs to columns: predictions, and deviations or probabilities where there are any.

    Parameters
    ----------
    model : CrystalSSLRegressor or CrystalSSLClassifier
        Fitted.
    domain : bool, default=False
        Whether there are columns that say how far crystals are from those of training.
    """

    def __init__(self, model: Any, domain: bool = False):
        self._domain = ["distance", "percentile", "verdict"] if domain else []
        self.model = model.set_output(predict="default")
        self.columns = ["prediction"]
        if hasattr(model, "classes_"):
            self.columns += [f"probability_{label}" for label in model.classes_.tolist()]
        else:
            kinds = ["prediction", "std"] if len(model.nets_) > 1 else ["prediction"]
            names = [""] if len(model.target_names_) == 1 else [f"_{name}" for name in model.target_names_]
            self.columns = [kind + name for kind in kinds for name in names]
        self.columns += self._domain
        # There would be a warning for every part of the source.
        self._outside = model._gathered = model._outside_domain()

    def types(self) -> dict[str, Any]:
        """Return the columns' types in Arrow, which hold of no crystals too."""
        import pyarrow as pa

        types = dict.fromkeys(self.columns, pa.float64())
        if hasattr(self.model, "classes_"):
            types["prediction"] = pa.array(self.model.classes_.tolist()).type
        if self._domain:
            types["verdict"] = pa.string()
        return types

    def __call__(self, graphs: Any) -> list[np.ndarray]:
        """Return the columns."""
        if hasattr(self.model, "classes_"):
            probabilities = self.model.predict_proba(graphs)
            columns = [self.model.classes_[probabilities.argmax(axis=1)], *probabilities.T]
        else:
            several = len(self.model.nets_) > 1
            parts = self.model.predict(graphs, return_std=True) if several else (self.model.predict(graphs),)
            columns = [column for part in parts for column in part.reshape(len(part), -1).T]
        if self._domain:
            from crystalssl.inspection import domain

            frame = domain(self.model, graphs)
            columns += [frame[name].to_numpy() for name in self._domain]
        return columns

    def finish(self) -> None:
        """Warn once of crystals unlike those of training."""
        self._outside.warn(stacklevel=2)


def apply(function: Callable[[Any], list[np.ndarray]], graphs: Any) -> Applied:
    """Apply a function to crystals; where it refuses some, to the others.

    Parameters
    ----------
    function : callable
        From graphs to columns of values; raises InvalidStructureError, whose index is that of a crystal.
    graphs : CrystalGraphs
        The crystals.
    """
    problems: dict[int, str] = {}
    rows = np.arange(len(graphs))
    while len(rows):
        try:
            return Applied(rows, function(graphs), problems)
        except InvalidStructureError as error:
            if error.index is None:
                raise
            problems[int(rows[error.index])] = _reason(error)
            keep = np.delete(np.arange(len(rows)), error.index)
            rows, graphs = rows[keep], graphs[keep]
    return Applied(rows, [], problems)


def _reason(error: object) -> str:
    return _ITEM.sub("", " ".join(str(error).split()))
