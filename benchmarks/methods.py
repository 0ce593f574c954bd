"""Every method on seven sets of labels, at a tenth and at four fifths of the rows, with the same budget.

    python benchmarks/methods.py --jobs 2
    python benchmarks/methods.py --sets phonons jdft2d --percent 10 --seeds 0 --methods cdssl scratch:megnet

A seed draws a fifth of the rows as the test set and the training rows from the others, the same for all methods. Every
model is trained for 200 steps of 32 crystals, or 3 epochs where that is more. Methods are the bundled weights and
``scratch:ENCODER``, the same encoder from random weights. Adds one row per set, method, share and seed to
results/methods.csv and leaves out what is there; cheap ones come first. Three seeds take less than six hours of one
core. --percent 10 20 30 40 50 60 70 are the configurations of CDSSL's figure 4; one seed of them takes four hours.
"""

from __future__ import annotations

import math
from typing import Any

import joblib
import numpy as np
import pandas as pd
from _common import (
    SCRATCH,
    Results,
    add_settings,
    baseline_of,
    encoder_of,
    fit_and_score,
    make_model,
    make_parser,
    markdown,
    name_settings,
    run_all,
    settings_id,
    weights_sha256,
    wins,
)
from _sets import UNITS, Sets
from sklearn.model_selection import train_test_split

from crystalssl import CrystalGraphs, CrystalSSLRegressor
from crystalssl.training import bundled_weights

KEYS = ["task", "method", "percent", "seed", "settings", "weights"]
STEPS, MIN_EPOCHS, BATCH_SIZE = 200, 3, 32
SETS = ["phonons", "jdft2d", "dielectric", "log10 K", "log10 G", "perovskites", "band gap"]
# Slow encoders last, so that an interrupted run has most of the table.
ORDER = ["cgcnn", "gin", "gatedgcn", "deepergatgnn", "megnet", "alignn"]


def main() -> None:
    bundled = sorted(bundled_weights(), key=lambda name: ORDER.index(encoder_of(name)))
    scratch = [SCRATCH + name for name in ORDER if any(encoder_of(method) == name for method in bundled)]
    parser = make_parser(__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, metavar="SET", help=f"{SETS}")
    parser.add_argument("--percent", nargs="+", type=int, default=[10, 80])
    parser.add_argument("--seeds", nargs="+", type=int, default=range(3))
    parser.add_argument("--methods", nargs="+", default=[*scratch, *bundled], help="bundled weights, scratch:ENCODER")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each computing on one thread")
    parser.add_argument("--table-only", action="store_true", help="print the table of what has been measured")
    add_settings(parser)
    options = parser.parse_args()
    results = Results(options.results / "methods.csv", KEYS)
    settings = settings_id(
        CrystalSSLRegressor(batch_size=BATCH_SIZE).set_params(**dict(options.set)), STEPS, MIN_EPOCHS
    )
    methods = sorted(options.methods, key=lambda name: ORDER.index(encoder_of(name)))
    wanted = [
        dict(zip(KEYS, [task, method, percent, seed, settings, weights], strict=True))
        for seed in options.seeds
        for percent in options.percent
        for method, weights in [(m, "" if m.startswith(SCRATCH) else weights_sha256(m)) for m in methods]
        for task in options.sets
    ]
    if not options.table_only:
        sets = Sets(options.data)
        calls = [
            joblib.delayed(run)(row, sets.of(row["task"], row["method"]), options.set)
            for row in wanted
            if not results.has(row)
        ]
        run_all(calls, results, options.jobs)
        name_settings(options.results, settings, options.set)
    frame = results.select(wanted)
    print_table(frame, methods)
    print_summary(frame, methods)


def run(row: dict[str, Any], data: tuple[CrystalGraphs, np.ndarray], changes: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return `row` with its error."""
    graphs, y = data
    rest, test = train_test_split(np.arange(len(y)), test_size=0.2, random_state=row["seed"])
    train = rest[: round(row["percent"] / 100 * len(y))]
    n_batches = math.ceil(len(train) / BATCH_SIZE)
    budget = [("batch_size", BATCH_SIZE), ("max_epochs", max(MIN_EPOCHS, round(STEPS / n_batches)))]
    model = make_model(row["method"], row["seed"], [*budget, *changes])
    row = {**row, "n_labels": len(train), "n_test": len(test), "unit": UNITS[row["task"]]}
    return fit_and_score(model, graphs, y, train, test, row)


def against_scratch(frame: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the change against the same encoder from scratch, sets x shares, means over the seeds that both have."""
    errors = frame.pivot_table("mae", ["task", "percent", "seed"], "method")
    errors = errors.reindex(columns=[method, baseline_of(method)])
    ratios = (errors[method] / errors[baseline_of(method)] - 1).groupby(["task", "percent"]).mean()
    return ratios.unstack("percent").reindex(index=SETS, columns=sorted(frame.percent.unique(), key=int))


def print_table(frame: pd.DataFrame, methods: list[str]) -> None:
    """Print errors, and how far each method is below the same encoder from scratch."""
    for percent, part in sorted(frame.groupby("percent"), key=lambda item: int(item[0])):
        errors = part.pivot_table("mae", "method", "task").reindex(columns=SETS)
        lines = []
        for method in [name for name in methods if name in errors.index]:
            cells, mean = [written(error, ".3g") for error in errors.loc[method]], ""
            if not method.startswith(SCRATCH):
                change = against_scratch(part, method)[percent]
                cells = [cell + written(x, "+.0%", " ({})") for cell, x in zip(cells, change, strict=True)]
                mean = written(change.mean(), "+.1%")
            lines.append([f"`{method}`", encoder_of(method), *cells, mean])
        seeds = part.groupby("task").seed.nunique().to_dict()
        print(f"\nMAE with {percent} % of the rows (change against the same encoder from scratch); seeds: {seeds}\n")
        print(markdown(["method", "encoder", *(f"{name}, {UNITS[name]}" for name in SETS), "mean"], lines))


def print_summary(frame: pd.DataFrame, methods: list[str]) -> None:
    """Print the mean change over the sets at every share of the rows, and in how many cells a method is better."""
    lines = []
    for method in [name for name in methods if not name.startswith(SCRATCH)]:
        table = against_scratch(frame, method)
        lines.append([f"`{method}`", encoder_of(method), *(written(x, "+.1%") for x in table.mean()), wins(table)])
    print("\nMean change of the MAE against the same encoder from scratch, and cells with a lower one\n")
    percents = sorted(frame.percent.unique(), key=int)
    print(markdown(["method", "encoder", *(f"{percent}%" for percent in percents), "better"], lines))


def written(value: float, spec: str, around: str = "{}") -> str:
    """Return a formatted number, nothing for none."""
    return "" if np.isnan(value) else around.format(format(value, spec))


if __name__ == "__main__":
    main()
