"""Whether pretraining helps with some crystals and their property."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import t
from sklearn.base import clone
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch, check_random_state

from crystalssl.encoders import Encoder
from crystalssl.estimators import CrystalSSLRegressor
from crystalssl.estimators._base import check_known_elements, draw_seed
from crystalssl.estimators._corpus import corpus_shares
from crystalssl.estimators._network import infer
from crystalssl.estimators._source import EncoderSource
from crystalssl.estimators._y import check_y
from crystalssl.exceptions import OutsideDomainWarning
from crystalssl.graphs import N_ELEMENTS, CrystalCorpus, CrystalGraphs
from crystalssl.graphs._given import as_graphs
from crystalssl.training import BatchIterator, CrystalDataset, bundled_weights
from crystalssl.training._net import resolve_device
from crystalssl.training._precision import usual_torch
from crystalssl.training._seeding import seeded

__all__ = ["transfer_report"]

_FEWEST = 10
"""Crystals below which nothing can be told."""
_CONFIDENCE = 0.95
_N_PROBES = 20
"""Test sets of the linear model, at least, which takes no time."""
_RARE = 1e-3
"""Part of the atoms of the corpus below which an element is rare in it."""


def transfer_report(
    X: Any,
    y: Any,
    model: CrystalSSLRegressor | None = None,
    *,
    sizes: Sequence[int] | None = None,
    n_repeats: int = 5,
    test_size: float = 0.25,
    corpus: Any = None,
    random_state: Any = None,
) -> Bunch:
    """Return whether pretraining helps to predict a property of some crystals, and what speaks for it.

    Three things are looked at: whether the corpus of pretraining holds the elements; what a linear model makes of the
    vectors of the pretrained encoder, and of one that is not trained; and the errors of finetuning and of training from
    random weights, on parts of the crystals. Test sets are drawn at random, several times. Give the training crystals
    alone, so that those of a final test choose nothing.

    Parameters
    ----------
    X : sequence of crystals, or CrystalGraphs
        As taken by :func:`crystalssl.check_structures`, at least 10.
    y : array-like of shape (n_crystals,)
        A target.
    model : CrystalSSLRegressor or None, default=None
        What is trained, with weights in `pretrain`. None is ``CrystalSSLRegressor()``. It stays as it is.
    sizes : sequence of int or None, default=None
        Numbers of training crystals of the learning curve; each takes `n_repeats` fits from pretrained and as many from
        random weights. None is a quarter of those outside the test set, and all of them. An empty list leaves the
        learning curve out, so that the report takes seconds.
    n_repeats : int, default=5
        Test sets of the learning curve. The linear model has 20 at least.
    test_size : float, default=0.25
        Part of the crystals in a test set.
    corpus : sequence of crystals, CrystalGraphs or None, default=None
        What the weights were pretrained on. None is the corpus of the bundled weights where these are named, and not
        known else.
    random_state : int, RandomState instance or None, default=None
        Seed of test sets and networks.

    Returns
    -------
    sklearn.utils.Bunch
        - ``verdict``: "helps", "hurts" or "no difference that shows", by the 95 % interval of the gain with the most
          crystals; without a learning curve by that of the linear model, as "likely helps" and so on.
        - ``evidence``: list of str, a sentence for each thing that was looked at.
        - ``elements``: frame with a row for each element: its part of the atoms of a crystal, on average, ``here`` and
          in the ``corpus``.
        - ``jensen_shannon``: the divergence of these two, from 0, the same, to 1, nothing in common; NaN if the corpus
          is not known.
        - ``probe``: frame with R² of ridge regression on vectors, a row for each test set, ``pretrained`` and
          ``untrained``.
        - ``learning_curve``: frame with the mean absolute errors for each ``size`` and ``repeat``.
        - ``gain``: frame with a row for each size: by which part the error is lower with pretraining, and the ends
          ``low`` and ``high`` of the interval. Test sets share training crystals; the interval makes allowance for
          that (Nadeau and Bengio).

    Raises
    ------
    TypeError
        If `model` is no CrystalSSLRegressor.
    ValueError
        If the model has no pretrained weights, y does not fit, or numbers are out of range; the message names them.
    InvalidStructureError
        If a crystal is invalid, or holds an element that pretraining has not seen.

    References
    ----------
    C. Nadeau and Y. Bengio, Mach. Learn. 52, 239 (2003), doi:10.1023/A:1024068626366.

    Examples
    --------
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.inspection import transfer_report
    >>> X, y = load_prototypes("bulk_modulus", return_X_y=True)
    >>> report = transfer_report(X[:60], y[:60], sizes=[], random_state=0)
    >>> report.probe.shape
    (20, 2)
    >>> print(report.evidence[0])
    All crystals are of elements that pretraining has seen; their shares differ from the corpus by 0.29 ...
    """
    model, values = _check(X, y, model, n_repeats, test_size)
    rng = check_random_state(random_state)
    X = as_graphs(X)
    if isinstance(X, CrystalCorpus):  # what has labels fits into memory
        X = X.to_graphs()
    source = EncoderSource.of(model.pretrain, model.encoder, X)
    graphs = model._in_memory(X, source.recipe)
    n_splits = max(n_repeats, _N_PROBES)
    splits = list(ShuffleSplit(n_splits, test_size=test_size, random_state=draw_seed(rng)).split(values))
    n_train = len(splits[0][0])
    sizes = _check_sizes([n_train // 4, n_train] if sizes is None else sizes, n_train)
    check_known_elements(graphs, source.elements, np.arange(len(graphs)))
    elements, divergence = _elements(graphs, _corpus(corpus, model, source))
    probe = _probe(model, source, graphs, values, splits, draw_seed(rng))
    curve = _learning_curve(model, source, graphs, values, splits[:n_repeats], sizes, rng)
    gain = _gain(curve, len(values) - n_train)
    ratio = (len(values) - n_train) / n_train
    return Bunch(
        verdict=_verdict(gain, probe, ratio),
        evidence=[_of_elements(elements, divergence), _of_probe(probe, ratio), *map(_of_size, gain.itertuples())],
        elements=elements,
        jensen_shannon=divergence,
        probe=probe,
        learning_curve=curve,
        gain=gain,
    )


def _check(X: Any, y: Any, model: Any, n_repeats: int, test_size: float) -> tuple[CrystalSSLRegressor, np.ndarray]:
    model = CrystalSSLRegressor() if model is None else model
    if not isinstance(model, CrystalSSLRegressor):
        raise TypeError(f"model is a {type(model).__name__}; a report is of a CrystalSSLRegressor")
    model._validate_params()
    if model.pretrain is None:
        raise ValueError("the model has pretrain=None, so that there is nothing to transfer; name pretrained weights")
    values = check_y(y, len(X))
    if values.shape[1] != 1:
        raise ValueError(f"y has {values.shape[1]} targets; a report is of one")
    if len(values) < _FEWEST:
        raise ValueError(f"X holds {len(values)} crystals; it takes at least {_FEWEST} to tell anything")
    if not isinstance(n_repeats, Integral) or isinstance(n_repeats, bool) or n_repeats < 2:
        raise ValueError(f"n_repeats must be an integer of at least 2, so that noise shows; got {n_repeats!r}")
    if not isinstance(test_size, Real) or not 2 <= round(test_size * len(values)) <= len(values) / 2:
        raise ValueError(f"test_size must be at most 0.5, and leave two crystals to test on; got {test_size!r}")
    return model, values[:, 0]


def _check_sizes(sizes: Sequence[int], n_train: int) -> list[int]:
    for size in sizes:
        if not isinstance(size, Integral) or not 2 <= size <= n_train:
            raise ValueError(f"sizes must be integers from 2 to {n_train}, what a test set leaves; got {size!r}")
    return sorted({int(size) for size in sizes})


def _corpus(corpus: Any, model: CrystalSSLRegressor, source: EncoderSource) -> np.ndarray | None:
    """Return the shares of the elements in the corpus, or None if they are not known."""
    if corpus is not None:
        corpus = as_graphs(corpus)
        corpus = corpus.to_graphs() if isinstance(corpus, CrystalCorpus) else corpus
        return _shares(corpus if isinstance(corpus, CrystalGraphs) else model._in_memory(corpus, source.recipe))
    is_bundled = isinstance(model.pretrain, str) and model.pretrain in bundled_weights()
    return corpus_shares() if is_bundled and not os.path.isdir(model.pretrain) else None


def _shares(graphs: CrystalGraphs) -> np.ndarray:
    """Return the part of the atoms of a crystal that each element has, on average, by atomic number."""
    n_atoms = np.diff(graphs.atom_offsets)
    weights = np.repeat(1 / n_atoms, n_atoms) / len(graphs)
    return np.bincount(graphs.atomic_numbers, weights, minlength=N_ELEMENTS + 1)


def _elements(graphs: CrystalGraphs, corpus: np.ndarray | None) -> tuple[Any, float]:
    import pandas as pd
    from pymatgen.core import Element

    here = _shares(graphs)
    theirs = np.full(len(here), np.nan) if corpus is None else corpus
    rows = np.flatnonzero((here > 0) | (theirs > 0))
    symbols = pd.Index([Element.from_Z(int(z)).symbol for z in rows], name="element")
    divergence = np.nan if corpus is None else float(jensenshannon(here, corpus, base=2) ** 2)
    return pd.DataFrame({"here": here[rows], "corpus": theirs[rows]}, symbols), divergence


@usual_torch()
def _probe(
    model: CrystalSSLRegressor,
    source: EncoderSource,
    graphs: CrystalGraphs,
    values: np.ndarray,
    splits: list[tuple[np.ndarray, np.ndarray]],
    seed: int,
) -> Any:
    """Return R² on test sets of ridge regression on vectors of the pretrained encoder and of an untrained one."""
    import pandas as pd

    target = model._new_target([])
    divided = target.divide(values[:, None], graphs, np.arange(len(graphs)))
    y = target.fit(divided).learnt(divided)[:, 0]  # as the head learns it
    crystals, device = CrystalDataset(graphs), resolve_device(model.device)
    scores = {}
    for name in ("pretrained", "untrained"):
        with seeded(seed):
            start = source if name == "pretrained" else source.untrained()
            encoder = start.build(**source.encoder_class.frozen_pooling)
            if start is not source:
                _settle(encoder, crystals)
        vectors = infer(encoder, crystals, device, model.precision)
        scores[name] = [_score(vectors, y, train, test) for train, test in splits]
    return pd.DataFrame(scores)


@torch.no_grad()
def _settle(encoder: Encoder, crystals: CrystalDataset) -> None:
    """Give the batch normalisation of an untrained encoder, if it has any, the statistics of crystals."""
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    if norms:
        encoder.train()
        for number, (batch, _) in enumerate(BatchIterator(crystals, 256), 1):
            for norm in norms:
                norm.momentum = 1 / number  # the mean over all batches
            encoder(batch)


def _score(vectors: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-4, 4, 33))).fit(vectors[train], y[train])
    return float(r2_score(y[test], ridge.predict(vectors[test])))


def _learning_curve(
    model: CrystalSSLRegressor,
    source: EncoderSource,
    graphs: CrystalGraphs,
    values: np.ndarray,
    splits: list[tuple[np.ndarray, np.ndarray]],
    sizes: list[int],
    rng: np.random.RandomState,
) -> Any:
    """Return errors on test sets, after training on the first of the other crystals."""
    import pandas as pd

    untrained = source.untrained().build()  # in case it is not the default encoder, or as large
    rows = []
    for repeat, (train, test) in enumerate(splits):
        seed = draw_seed(rng)
        for size in sizes:
            errors = {}
            for name, start in (("pretrained", {}), ("untrained", {"pretrain": None, "encoder": untrained})):
                fitted = clone(model).set_params(random_state=seed, **start)
                fitted.fit(graphs[train[:size]], values[train[:size]])
                with warnings.catch_warnings():  # so few crystals are rarely like all that they are tested on
                    warnings.simplefilter("ignore", OutsideDomainWarning)
                    predicted = fitted.predict(graphs[test])
                errors[name] = mean_absolute_error(values[test], predicted)
            rows.append({"size": size, "repeat": repeat, **errors})
    return pd.DataFrame(rows, columns=["size", "repeat", "pretrained", "untrained"])


def _gain(curve: Any, n_test: int) -> Any:
    """Return by which part errors are lower with pretraining, for each size, with an interval."""
    import pandas as pd

    rows = []
    for size, errors in curve.groupby("size"):
        rows.append([size, *_interval(np.log(errors.pretrained / errors.untrained), n_test / size)])
    return pd.DataFrame(rows, columns=["size", "gain", "low", "high"])


def _gain_of_probe(probe: Any, ratio: float) -> list[float]:
    """Return by which part root-mean-square errors of the linear model are lower with pretraining, with an interval."""
    unexplained = (1 - probe).clip(lower=1e-12)
    return _interval(np.log(unexplained.pretrained / unexplained.untrained) / 2, ratio)


def _interval(changes: Any, ratio: float) -> list[float]:
    """Return the gain that logarithms of ratios of errors mean, and the ends of its interval (Nadeau and Bengio).

    Test sets are drawn from the same crystals; `ratio` is the number of theirs over that of training crystals.
    """
    n = len(changes)
    margin = t.ppf((1 + _CONFIDENCE) / 2, n - 1) * np.sqrt((1 / n + ratio) * changes.var(ddof=1))
    return [float(1 - np.exp(changes.mean() + end)) for end in (0, margin, -margin)]


def _verdict(gain: Any, probe: Any, ratio: float) -> str:
    how_sure = "" if len(gain) else "likely "
    _, low, high = gain.iloc[-1][["gain", "low", "high"]] if len(gain) else _gain_of_probe(probe, ratio)
    if low > 0:
        return how_sure + "helps"
    return how_sure + "hurts" if high < 0 else "no difference that shows"


def _of_elements(elements: Any, divergence: float) -> str:
    seen = "All crystals are of elements that pretraining has seen"
    if np.isnan(divergence):
        return f"{seen}; how often is not known without its corpus."
    here = elements[elements.here > 0]
    rare = here[here.corpus < _RARE].index.tolist()
    text = f"{seen}; their shares differ from the corpus by {divergence:.2f} (0 is the same, 1 nothing in common)"
    return f"{text}, and {', '.join(rare)} are rare in it." if rare else f"{text}."


def _of_probe(probe: Any, ratio: float) -> str:
    means, deviations = probe.mean(), probe.std()
    gain, low, high = _gain_of_probe(probe, ratio)
    return (
        f"Ridge regression on vectors has an R² of {means.pretrained:.2f} ± {deviations.pretrained:.2f} with the "
        f"pretrained encoder, {means.untrained:.2f} ± {deviations.untrained:.2f} with an untrained one: it errs "
        f"{100 * gain:.0f} % less ({100 * low:.0f} to {100 * high:.0f} %)."
    )


def _of_size(row: Any) -> str:
    return (
        f"With {row.size} crystals finetuning errs {100 * row.gain:.0f} % less than training from random weights "
        f"({100 * row.low:.0f} to {100 * row.high:.0f} %)."
    )
