"""Every method on seven sets of labels, at a tenth and at four fifths of the rows, with the same budget.

    python benchmarks/methods.py --jobs 2
    python benchmarks/methods.py --sets phonons jdft2d --percent 10 --seeds 0 --methods cdssl scratch:megnet

A seed draws a fifth of the rows as the test set and the training rows from the others, the same for all methods. Every
model is trained for 200 steps of 32 crystals, or 3 epochs where that is more. Methods are the bundled weights and
``scratch:ENCODER``, the same encoder from random weights. Adds one row per set, method, share and seed to
results/methods.csv and leaves out what is there; cheap ones come first. Three seeds take
less than six hours of one core.
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
    run_all,
    settings_id,
    weights_sha256,
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
    print_table(results.select(wanted), methods)


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


def print_table(frame: pd.DataFrame, methods: list[str]) -> None:
    """Print errors, and how far each method is below the same encoder from scratch."""
    for percent in sorted(frame.percent.unique(), key=int):
        part = frame[frame.percent == percent].pivot_table("mae", "method", ["task", "seed"])
        lines = []
        for method in [name for name in methods if name in part.index]:
            line, changes = [f"`{method}`", encoder_of(method)], []
            for task in SETS:
                mine = part.loc[method].get(task, pd.Series(dtype=float)).dropna()
                cell = f"{mine.mean():.3g}" if len(mine) else ""
                base = baseline_of(method)
                if len(mine) and method != base and base in part.index:
                    # Only over seeds that both have.
                    change = (mine / part.loc[base].get(task, pd.Series(dtype=float))).mean() - 1
                    cell += f" ({change:+.0%})"
                    changes.append(change)
                line.append(cell)
            lines.append([*line, f"{sum(changes) / len(changes):+.1%}" if changes else ""])
        seeds = frame[frame.percent == percent].groupby("task").seed.nunique().to_dict()
        print(f"\nMAE with {percent} % of the rows (change against the same encoder from scratch); seeds: {seeds}\n")
        print(markdown(["method", "encoder", *(f"{name}, {UNITS[name]}" for name in SETS), "mean"], lines))


if __name__ == "__main__":
    main()
