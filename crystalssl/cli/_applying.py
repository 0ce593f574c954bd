"""A model applied to some crystals, of which those that it cannot take are told apart."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from crystalssl.cli._records import Part
from crystalssl.exceptions import InvalidStructureError

__all__ = ["Applied", "apply", "columns_of", "embedding_of", "load_predictor", "values_of"]

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


def load_predictor(folder: str, device: str) -> Any:
    """Return the model of a folder, or say that it holds none."""
    from crystalssl.estimators import load

    model = load(folder)
    if not hasattr(model, "nets_"):
        raise ValueError(
            f"{folder} holds an encoder, which predicts nothing; train a model with it, by crystalssl fit --pretrain "
            f"{folder}"
        )
    return model.set_params(device=device, verbose=0)


def columns_of(model: Any) -> list[str]:
    """Return the names of the columns that :func:`values_of` gives."""
    if hasattr(model, "classes_"):
        return ["prediction", *(f"probability_{label}" for label in model.classes_.tolist())]
    one = model.single_target_ or len(model.target_names_) == 1
    names = ["prediction"] if one else [f"prediction_{name}" for name in model.target_names_]
    if len(model.nets_) < 2:
        return names
    return names + (["std"] if one else [f"std_{name}" for name in model.target_names_])


def values_of(model: Any) -> Callable[[Any], list[np.ndarray]]:
    """Return a function from crystals to columns: predictions, and deviations or probabilities where there are any."""
    model.set_output(predict="default")
    if hasattr(model, "classes_"):

        def classify(X: Any) -> list[np.ndarray]:
            probabilities = model.predict_proba(X)
            return [model.classes_[probabilities.argmax(axis=1)], *probabilities.T]

        return classify

    def predict(X: Any) -> list[np.ndarray]:
        found = model.predict(X, return_std=True) if len(model.nets_) > 1 else (model.predict(X),)
        return [column for part in found for column in part.reshape(len(part), -1).T]

    return predict


def embedding_of(model: Any) -> Callable[[Any], list[np.ndarray]]:
    """Return a function from crystals to the columns of their vectors."""
    return lambda X: [*model.transform(X).T]


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
