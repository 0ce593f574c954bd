"""Whether the errors that a cross-validated ensemble expects are those that it makes.

    python benchmarks/uncertainty.py --jobs 2
    python benchmarks/uncertainty.py --sets phonons --sizes 100 --seeds 0 --set max_epochs=30

A seed draws a fifth of the rows as the test set and the training rows from the others, 100 of them or 80 % of all.
Five networks each leave out a fifth of the training rows. Adds one row per set, size and seed to
results/uncertainty.csv, leaves out what is there, and prints means over seeds: the coverage of intervals of 50, 80, 90
and 95 %; their mean width at 90 %; the negative log-likelihood and the continuous ranked probability score of normal
distributions with the predicted deviations, beside those of the deviation over the networks of the same ensemble,
"plain"; the rank correlation of error and deviation; the error of the half that is predicted to err less, over that of
all; the left-out estimate of the error; and the shares of test crystals that are inside the domain, with the ratio of
the errors outside and inside.
"""

from __future__ import annotations

import time
from typing import Any

import joblib
import numpy as np
import torch
from _common import Results, add_settings, make_model, make_parser, markdown, run_all, settings_id, weights_sha256
from _sets import UNITS, Sets
from scipy.stats import norm, spearmanr
from sklearn.model_selection import train_test_split

from crystalssl import CrystalGraphs
from crystalssl.inspection import domain

KEYS = ["task", "method", "size", "seed", "settings", "weights"]
SETS = ["phonons", "jdft2d", "dielectric", "log10 K", "perovskites"]
COVERAGES = (50, 80, 90, 95)
N_NETWORKS = 5


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--sets", nargs="+", choices=UNITS, default=SETS, metavar="SET", help=f"{list(UNITS)}")
    parser.add_argument("--sizes", nargs="+", default=["100", "80%"], help="training rows, as numbers or shares of all")
    parser.add_argument("--seeds", nargs="+", type=int, default=range(5))
    parser.add_argument("--method", default="joint", help="bundled weights or a weights folder")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each computing on one thread")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    add_settings(parser)
    options = parser.parse_args()
    results = Results(options.results / "uncertainty.csv", KEYS)
    settings = settings_id(make_model(options.method, 0, [*options.set, *ensemble()]))
    sets = Sets(options.data)
    rows = [
        dict(zip(KEYS, [task, options.method, size, seed, settings, weights_sha256(options.method)], strict=True))
        for seed in options.seeds
        for size in options.sizes
        for task in options.sets
    ]
    if not options.report:
        calls = [
            joblib.delayed(measure)(row, sets.of(row["task"], row["method"]), options.set)
            for row in rows
            if not results.has(row)
        ]
        run_all(calls, results, options.jobs)
    frame = results.select(rows)
    if frame.empty:
        return
    columns = [name for name in frame.columns if name not in (*KEYS, "unit", "seconds", "n_labels", "n_test")]
    means = frame.groupby(["task", "size"], sort=False)[columns].mean()
    print(f"\nmeans over {frame.seed.nunique()} seeds\n")
    print(
        markdown(
            ["set", "labels", *columns],
            [[*index, *(f"{x:.3g}" for x in row)] for index, row in zip(means.index, means.to_numpy(), strict=True)],
        )
    )


def ensemble() -> list[tuple[str, Any]]:
    """Return the parameters of what is measured."""
    return [("ensemble", "cross-validated"), ("ensemble_size", N_NETWORKS)]


def measure(row: dict[str, Any], data: tuple[CrystalGraphs, np.ndarray], settings: list) -> dict[str, Any]:
    """Return `row` with what the errors on the test set say of those that were expected."""
    torch.set_num_threads(1)  # the last bits depend on it
    graphs, y = data
    rest, test = train_test_split(np.arange(len(y)), test_size=0.2, random_state=row["seed"])
    size = row["size"]
    train = rest[: round(float(size[:-1]) / 100 * len(y)) if size.endswith("%") else int(size)]
    model = make_model(row["method"], row["seed"], [*settings, *ensemble()])
    started = time.perf_counter()
    model.fit(graphs[train], y[train])
    seconds = time.perf_counter() - started
    truth = y[test]
    mean, std = model.predict(graphs[test], return_std=True)
    plain = model._outputs(graphs[test])[:, :, 0].std(axis=0, ddof=1)  # what ensemble="seeds" would call a deviation
    errors = np.abs(mean - truth)
    intervals = {c: model.predict_interval(graphs[test], coverage=c / 100) for c in COVERAGES}
    sure = np.argsort(std, kind="stable")[: len(std) // 2]
    inside = (domain(model, graphs[test]).verdict == "inside").to_numpy()
    return {
        **row,
        "n_labels": len(train),
        "n_test": len(test),
        "unit": UNITS[row["task"]],
        "mae": float(errors.mean()),
        "mae_left_out": float(np.abs(model.oof_prediction_ - y[train]).mean()),
        **{f"covered_{c}": float(((low <= truth) & (truth <= high)).mean()) for c, (low, high) in intervals.items()},
        "width_90": float(np.mean(intervals[90][1] - intervals[90][0])),
        "covered_1std": float((errors <= std).mean()),
        "covered_1std_plain": float((errors <= plain).mean()),
        "nll": float(-norm.logpdf(truth, mean, std).mean()),
        "nll_plain": float(-norm.logpdf(truth, mean, plain).mean()),
        "crps": crps(truth, mean, std),
        "crps_plain": crps(truth, mean, plain),
        "rank_correlation": float(spearmanr(errors, std)[0]),
        "rank_correlation_plain": float(spearmanr(errors, plain)[0]),
        "error_of_sure_half": float(errors[sure].mean() / errors.mean()),
        "inside": float(inside.mean()),
        "error_outside": float(errors[~inside].mean() / errors[inside].mean())
        if 0 < inside.sum() < len(test)
        else np.nan,
        "seconds": seconds,
    }


def crps(truth: np.ndarray, mean: np.ndarray, std: np.ndarray) -> float:
    """Return the mean continuous ranked probability score of normal distributions."""
    z = (truth - mean) / std
    return float((std * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))).mean())


if __name__ == "__main__":
    main()
