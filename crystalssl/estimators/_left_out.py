"""Predictions of crystals that a network was not trained on, and what they say of the errors of others."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.model_selection import GroupKFold

__all__ = ["ONE_SIGMA", "LeftOut", "check_enough", "check_groups", "conformal_interval", "deal_out", "temperature_of"]

ONE_SIGMA = math.erf(math.sqrt(0.5))
"""Probability that a normal distribution has within one standard deviation."""
_AT_A_TIME = 1024
_HOTTEST = 20.0


class LeftOut(NamedTuple):
    """Predictions of all training crystals, each by the network that was trained without it.

    Parameters
    ----------
    members : ndarray of shape (n_crystals,), int64
        The network.
    outputs : ndarray of shape (n_crystals, n_outputs), float64
        What it predicts: numbers on the scale that is learnt, or logits.
    truths : ndarray of shape (n_crystals, n_outputs) or (n_crystals,), float64
        What is true, on the same scale and NaN where not known; or codes of classes.
    distances : ndarray of shape (n_crystals,), float64
        From the crystals that the network was trained on, see :meth:`Surroundings.distances`.
    """

    members: np.ndarray
    outputs: np.ndarray
    truths: np.ndarray
    distances: np.ndarray


def deal_out(n_folds: int, rows: np.ndarray, strata: np.ndarray, groups: np.ndarray | None, rng: np.random.RandomState):
    """Return the rows of each fold, ascending.

    Parameters
    ----------
    n_folds : int
        How many, of sizes that differ by one at most where there are no groups.
    rows : ndarray of int
        What is dealt out.
    strata : ndarray of shape (n_rows,)
        Rows of the same value are spread over the folds.
    groups : ndarray of shape (n_rows,) or None
        Rows of the same value stay together instead.
    rng : RandomState
        What chance is drawn from.
    """
    if groups is not None:
        n_groups = len(np.unique(groups))
        if n_groups < n_folds:
            raise ValueError(
                f"groups has {n_groups} different values, fewer than ensemble_size={n_folds}, the number of parts that "
                "are left out; lower ensemble_size"
            )
        return [rows[test] for _, test in GroupKFold(n_folds).split(rows, groups=groups)]
    if len(rows) < n_folds:
        raise ValueError(
            f"there are {len(rows)} crystals to train on, fewer than ensemble_size={n_folds}, the number of parts that "
            "are left out; lower ensemble_size"
        )
    order = rng.permutation(len(rows))
    order = order[np.argsort(strata[order], kind="stable")]
    return [np.sort(rows[order[fold::n_folds]]) for fold in range(n_folds)]


def check_groups(groups: object, n_crystals: int) -> np.ndarray:
    """Return groups as an array of numbers, or raise a ValueError. They are any values that can be keys of a dict."""
    values = _one_each(groups)
    if len(values) != n_crystals:
        raise ValueError(
            f"X holds {n_crystals} crystals but groups has {len(values)} values; they must be of equal length"
        )
    first: dict = {}  # of values that are equal, such as 1 and 1.0
    texts = []
    for i, value in enumerate(values):
        try:
            texts.append(str(first.setdefault(value, value)))
        except TypeError as error:
            raise ValueError(
                f"groups[{i}] is a {type(value).__name__}, which cannot be a key; give texts, numbers or tuples"
            ) from error
    return np.unique(texts, return_inverse=True)[1]


def _one_each(groups: Any) -> Any:
    """Return a sequence of the groups of crystals; what is no array is taken item by item, as those may have items."""
    if not hasattr(groups, "shape"):
        if isinstance(groups, str) or not isinstance(groups, Iterable):
            raise ValueError(f"groups is {groups!r}; expected one value for each crystal")
        return list(groups)
    values = np.asarray(groups)
    if values.ndim == 2 and values.shape[1] == 1:  # a frame of one column
        return values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"groups has shape {values.shape}; expected (n_crystals,), one value for each crystal")
    return values


def widths(distances: np.ndarray) -> np.ndarray:
    """Return how large errors are expected at some distances, in any unit."""
    return 1 + distances


def conformal_interval(
    predictions: np.ndarray, distances: np.ndarray, left_out: LeftOut, coverage: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the CV+ interval of crystals, from errors that are normalised by what is expected at their distances.

    Parameters
    ----------
    predictions : ndarray of shape (n_networks, n_crystals, n_targets)
        Of each network, on the scale that is learnt.
    distances : ndarray of shape (n_networks, n_crystals)
        From the crystals that each was trained on.
    left_out : LeftOut
        Of the training crystals.
    coverage : float
        Between 0 and 1; :func:`check_enough` says whether so many crystals were left out.

    Returns
    -------
    lower, upper : ndarray of shape (n_crystals, n_targets)
    """
    lower, upper = np.empty(predictions.shape[1:]), np.empty(predictions.shape[1:])
    new_widths = widths(distances)
    for target in range(left_out.truths.shape[1]):
        known = ~np.isnan(left_out.truths[:, target])
        rank, members = _rank(coverage, known.sum()), left_out.members[known]
        errors = abs(left_out.truths - left_out.outputs)[known, target]
        scores = (errors / widths(left_out.distances[known]))[:, None]
        for start in range(0, len(lower), _AT_A_TIME):
            some = slice(start, start + _AT_A_TIME)
            centers, margins = predictions[members, some, target], scores * new_widths[members, some]
            low = np.partition(centers - margins, rank - 1, axis=0)[rank - 1]
            high = np.partition(centers + margins, -rank, axis=0)[-rank]
            # At low coverage the two may change places, where networks disagree by more than their errors.
            lower[some, target], upper[some, target] = np.minimum(low, high), np.maximum(low, high)
    return lower, upper


def _rank(coverage: float, n_known: int) -> int:
    """Return how manieth smallest and largest numbers are the ends of an interval; with 0 they are infinite."""
    return min(math.floor((1 - coverage) * (n_known + 1) + 1e-9), n_known)  # 1 - 0.9 is less than 0.1


def check_enough(left_out: LeftOut, coverage: float, names: list[str]) -> None:
    """Raise ValueError, naming the target, if an interval would be infinite."""
    for name, n_known in zip(names, (~np.isnan(left_out.truths)).sum(axis=0).tolist(), strict=True):
        if _rank(coverage, n_known) < 1:
            raise ValueError(
                f"an interval of coverage={coverage:.4g} takes at least {math.ceil(1 / (1 - coverage) - 1e-9) - 1} "
                f"left-out crystals of which the target {name!r} is known, and there are {n_known}: by the conformal "
                f"rule it would be infinite. Ask for a coverage of at most {n_known / (n_known + 1):.4g}, or train on "
                "more crystals"
            )


def temperature_of(logits: np.ndarray, codes: np.ndarray) -> float:
    """Return what logits have to be divided by for their probabilities to fit the classes best.

    Classes count as sure but for one part in the number of crystals, as with J. Platt (1999), so that a temperature is
    never 0 because all is right.

    Parameters
    ----------
    logits : ndarray of shape (n_crystals, n_classes)
    codes : ndarray of shape (n_crystals,), int
        The true columns.
    """
    n, n_classes = logits.shape
    truth = np.full((n, n_classes), 1 / (n + n_classes))
    truth[np.arange(n), codes] += n / (n + n_classes)

    def loss(log_temperature: float) -> float:
        return -float((truth * log_softmax(logits / math.exp(log_temperature), axis=1)).sum())

    limit = math.log(_HOTTEST)
    return math.exp(minimize_scalar(loss, bounds=(-limit, limit), method="bounded").x)
