"""Whether the errors that a cross-validated ensemble expects are those that it makes, and whether it knows its domain.

    python benchmarks/uncertainty.py --jobs 2
    python benchmarks/uncertainty.py --sizes 100 --models cross-validated --set max_epochs=40

A seed draws a fifth of the rows as the test set and the training rows from the others, 100 of them or 80 % of all, with
which training ends after 2,000 steps, as in benchmarks/study.py. Each model adds a row to results/uncertainty.csv, and
what is there is left out:

- "cross-validated": five networks that each leave out a fifth of the training rows;
- "spread": the same networks, with the deviation between them taken for that of a normal distribution, as
  ensemble="seeds" gives it;
- "forest": a quantile regression forest of 500 trees on the vectors of the encoder and the features of the cell;
- "gaussian process": one on the same, with a Matérn kernel and noise;
- "mapie": MAPIE's cross-conformal method around a single network, six fits;
- "shared encoder": one network with five outputs, each of which leaves out a fifth of the training rows, as in
  "cross-validated". Its encoder learns from all rows.

Columns: the coverage of intervals of 50, 80, 90 and 95 %; their mean width at 90 %; the negative log-likelihood and the
continuous ranked probability score of normal distributions with the predicted deviations, half the width of the
interval of 68.3 %; the rank correlation of error and deviation; and the error of the half that is predicted to err
less, over that of all. The first model also says how it sees its domain, in results/domain.csv: benchmarks/_domain.py
says what is in it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from _common import Results, add_settings, as_they_come, identity, make_model, make_parser, markdown, name_settings
from _domain import KINDS, check_domain
from _sets import UNITS, Sets
from scipy.stats import norm, spearmanr
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.decomposition import PCA
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from study import MAX_STEPS, end_early

from crystalssl import CrystalGraphs, PretrainedCrystalEmbedder
from crystalssl.estimators._left_out import ONE_SIGMA, LeftOut, conformal_interval
from crystalssl.estimators._target import TargetScaler
from crystalssl.graphs import cell_features

KEYS = ["model", "task", "method", "size", "seed", "settings", "weights"]
SETS = ["phonons", "jdft2d", "dielectric", "log10 K", "perovskites"]
COVERAGES = (50, 80, 90, 95)
ENSEMBLE = {"ensemble": "cross-validated", "ensemble_size": 5}
MODELS = ["cross-validated", "forest", "gaussian process", "mapie", "shared encoder"]
N_TREES = 500
N_COMPONENTS = 32  # principal components that the Gaussian process sees

Intervals = Callable[[float], tuple[np.ndarray, np.ndarray]]
"""From a coverage to the ends of intervals."""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--sets", nargs="+", choices=UNITS, default=SETS, metavar="SET", help=f"{list(UNITS)}")
    parser.add_argument("--sizes", nargs="+", default=["100", "80%"], help="training rows, as numbers or shares of all")
    parser.add_argument("--seeds", nargs="+", type=int, default=range(5))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, metavar="MODEL", help=f"{MODELS}")
    parser.add_argument("--method", default="joint", help="bundled weights or a weights folder")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each computing on one thread")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    add_settings(parser)
    options = parser.parse_args()
    files = Files(options)
    runs = {
        size: identity(options.method, options.set, *([MAX_STEPS] if size.endswith("%") else []))
        for size in options.sizes
    }
    rows = [
        {"model": model, "task": task, "size": size, "seed": seed, **runs[size]}
        for seed in options.seeds
        for size in options.sizes
        for task in options.sets
        for model in options.models
    ]
    if not options.report:
        calls = [joblib.delayed(measure)(row, options, Sets(options.data)) for row in rows if not files.have(row)]
        for found, of_domain in as_they_come(calls, options.jobs):
            files.append(found, of_domain)
        for run in runs.values():
            name_settings(options.results, run["settings"], options.set)
    files.report(rows)


class Files:
    """The two files of results."""

    def __init__(self, options: argparse.Namespace):
        self.results = Results(options.results / "uncertainty.csv", KEYS)
        self.domain = Results(options.results / "domain.csv", [*KEYS[1:], "kind"])

    def have(self, row: dict[str, Any]) -> bool:
        return self.results.has(row)

    def append(self, found: list[dict[str, Any]], of_domain: list[dict[str, Any]]) -> None:
        for row in of_domain:  # first, so that what is interrupted is done again
            self.domain.append(row)
        for row in reversed(found):
            self.results.append(row)
            print(", ".join(f"{name} {value}" for name, value in row.items() if name not in KEYS[5:]), flush=True)

    def report(self, rows: list[dict[str, Any]]) -> None:
        """Print means over seeds."""
        spread = [{**row, "model": "spread"} for row in rows if row["model"] == "cross-validated"]
        of_domain = [{**row, "kind": kind} for kind in KINDS for row in spread]
        for title, frame, index in (
            ("intervals and deviations", self.results.select([*rows, *spread]), ["task", "size", "model"]),
            ("domain", self.domain.select(of_domain), ["kind", "task", "size"]),
        ):
            if frame.empty:
                continue
            numbers = [name for name in frame.columns if name not in (*KEYS, "kind", "unit")]
            frame[numbers] = frame[numbers].apply(pd.to_numeric, errors="coerce")  # what is not known is empty
            means = frame.groupby(index, sort=False)[numbers].mean()
            print(f"\n{title}, means over {frame.seed.nunique()} seeds\n")
            body = [
                [*name, *(f"{x:.3g}" for x in row)] for name, row in zip(means.index, means.to_numpy(), strict=True)
            ]
            print(markdown([*index, *numbers], body))


def measure(
    row: dict[str, Any], options: argparse.Namespace, sets: Sets
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return rows of both files."""
    torch.set_num_threads(1)  # the last bits depend on it
    graphs, y = sets.of(row["task"], row["method"])
    rest, test = train_test_split(np.arange(len(y)), test_size=0.2, random_state=row["seed"])
    size = row["size"]
    n_train = round(float(size[:-1]) / 100 * len(y)) if size.endswith("%") else int(size)
    train = rest[:n_train]
    started = time.perf_counter()
    of_domain: list[dict[str, Any]] = []
    found = {}
    model = end_early(make_model(row["method"], row["seed"], options.set), n_train)
    if row["model"] == "cross-validated":
        model.set_params(**ENSEMBLE).fit(graphs[train], y[train])
        mean = model.predict(graphs[test])
        found[row["model"]] = mean, lambda coverage: model.predict_interval(graphs[test], coverage)
        deviation = model._outputs(graphs[test])[:, :, 0].std(axis=0, ddof=1)
        found["spread"] = mean, lambda coverage: norm.interval(coverage, mean, deviation)
        keys = {name: row[name] for name in KEYS[1:]}
        of_domain = check_domain(keys, model, sets, rest, test, n_train)
    elif row["model"] in AROUND:
        found[row["model"]] = AROUND[row["model"]](model, graphs, y, train, test)
    else:
        vectors = PretrainedCrystalEmbedder(weights=weights_of(row["method"]), device="cpu").fit_transform(graphs)
        features = np.hstack([vectors, cell_features(graphs)])
        scale = TargetScaler("auto").fit(y[train, None])  # learns the logarithm where our models do
        learnt = scale.learnt(y[train, None])[:, 0]
        peer = PEERS[row["model"]](features[train], learnt, features[test], row["seed"])
        found[row["model"]] = in_unit(scale, *peer)
    seconds = time.perf_counter() - started
    sizes = {"n_labels": len(train), "n_test": len(test), "unit": UNITS[row["task"]]}
    rows = [
        {**row, "model": name, **sizes, **scores(y[test], *what), "seconds": seconds} for name, what in found.items()
    ]
    return rows, of_domain


def scores(truth: np.ndarray, mean: np.ndarray, intervals: Intervals) -> dict[str, float]:
    """Return how good intervals are, and the deviations that follow from them."""
    errors = np.abs(mean - truth)
    ends = {coverage: intervals(coverage / 100) for coverage in COVERAGES}
    low, high = intervals(ONE_SIGMA)
    std = np.maximum((high - low) / 2, 1e-9 * truth.std())
    z = (truth - mean) / std
    sure = np.argsort(std, kind="stable")[: len(std) // 2]
    return {
        "mae": float(errors.mean()),
        **{f"covered_{c}": float(((low <= truth) & (truth <= high)).mean()) for c, (low, high) in ends.items()},
        "width_90": float(np.mean(ends[90][1] - ends[90][0])),
        "nll": float(-norm.logpdf(truth, mean, std).mean()),
        "crps": float((std * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))).mean()),
        "rank_correlation": float(spearmanr(errors, std)[0]),
        "error_of_sure_half": float(errors[sure].mean() / errors.mean()),
    }


def in_unit(scale: TargetScaler, mean: np.ndarray, intervals: Intervals) -> tuple[np.ndarray, Intervals]:
    """Return predictions and intervals in the unit of the targets."""

    def back(values: np.ndarray) -> np.ndarray:
        return scale.to_unit(np.asarray(values)[:, None])[:, 0]

    def in_that(coverage: float) -> tuple[np.ndarray, np.ndarray]:
        low, high = intervals(coverage)
        return back(low), back(high)

    return back(mean), in_that


def weights_of(method: str) -> Any:
    """Return what PretrainedCrystalEmbedder calls the weights."""
    from crystalssl.training import bundled_weights

    return bundled_weights().get(method, method)


def forest(X: np.ndarray, y: np.ndarray, X_new: np.ndarray, seed: int) -> tuple[np.ndarray, Intervals]:
    from quantile_forest import RandomForestQuantileRegressor

    trees = RandomForestQuantileRegressor(N_TREES, random_state=seed).fit(X, y)

    def intervals(coverage: float) -> tuple[np.ndarray, np.ndarray]:
        low, high = trees.predict(X_new, quantiles=[(1 - coverage) / 2, (1 + coverage) / 2]).T
        return low, high

    return trees.predict(X_new, quantiles="mean"), intervals


def gaussian_process(X: np.ndarray, y: np.ndarray, X_new: np.ndarray, seed: int) -> tuple[np.ndarray, Intervals]:
    kernel = ConstantKernel() * Matern(length_scale=np.sqrt(N_COMPONENTS), nu=2.5) + WhiteKernel(0.1)
    process = make_pipeline(
        StandardScaler(),
        PCA(min(N_COMPONENTS, *X.shape), whiten=True, random_state=seed),
        GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=1, random_state=seed),
    ).fit(X, y)
    mean, std = process.predict(X_new, return_std=True)
    return mean, lambda coverage: norm.interval(coverage, mean, std)


PEERS = {"forest": forest, "gaussian process": gaussian_process}


class OnRows(RegressorMixin, BaseEstimator):
    """A regressor whose X is a column of positions in some graphs, since MAPIE takes arrays."""

    def __init__(self, model: Any, graphs: CrystalGraphs):
        self.model, self.graphs = model, graphs

    def fit(self, X: np.ndarray, y: np.ndarray) -> OnRows:
        self.fitted_ = self.model.__class__(**self.model.get_params()).fit(self.graphs[X[:, 0]], y)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.fitted_.predict(self.graphs[X[:, 0]])


def by_mapie(
    model: Any, graphs: CrystalGraphs, y: np.ndarray, train: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, Intervals]:
    from mapie.regression import CrossConformalRegressor

    levels = [*(c / 100 for c in COVERAGES), ONE_SIGMA]
    conformal = CrossConformalRegressor(OnRows(model, graphs), levels, cv=5, random_state=model.random_state)
    conformal.fit_conformalize(train[:, None], y[train])
    mean, ends = conformal.predict_interval(test[:, None])
    return mean, lambda coverage: tuple(ends[:, :, levels.index(coverage)].T)


def by_shared_encoder(
    model: Any, graphs: CrystalGraphs, y: np.ndarray, train: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, Intervals]:
    """Return predictions and intervals of one network whose outputs are taken for those of networks of their own."""
    n_outputs, which = ENSEMBLE["ensemble_size"], np.arange(len(train))
    fold = which % n_outputs
    known = np.repeat(y[train, None], n_outputs, axis=1)
    known[which, fold] = np.nan  # has no part in the loss
    model.fit(graphs[train], known)
    left_out = LeftOut(fold, model.predict(graphs[train])[which, fold, None], y[train, None], np.zeros(len(train)))
    outputs = model.predict(graphs[test]).T

    def intervals(coverage: float) -> tuple[np.ndarray, np.ndarray]:
        low, high = conformal_interval(outputs[:, :, None], np.zeros_like(outputs), left_out, coverage)
        return low[:, 0], high[:, 0]

    return outputs.mean(axis=0), intervals


AROUND = {"mapie": by_mapie, "shared encoder": by_shared_encoder}


if __name__ == "__main__":
    main()
