"""The default against the same encoder from scratch: the configurations of CDSSL's figure 4, few labels, all labels.

    python benchmarks/study.py --jobs 2
    python benchmarks/study.py --parts few --sets jdft2d --seeds 0 --methods joint barlow
    python benchmarks/study.py --parts few --set dropout=0.1 --against-defaults

Part "configurations" trains on 10, 20, …, 70 % of the rows, "few" on 25, 50, 100 and 200 crystals, "all" on 80 %. A
seed draws a fifth of the rows as the test set and the training rows from the others, the same for all methods, each of
which is compared with its encoder from scratch, or by --against-defaults with itself without what --set changes. Models
are those of the estimator's defaults, ended after 2,000 steps where the epochs would make more. Adds one row per set,
method, size and seed to results/study.csv, leaves out what is there, and prints tables; those of the documentation, and
the picture, are made by benchmarks/tables.py. The default and its baseline take six hours of one core.
"""

from __future__ import annotations

import math
from typing import Any

import joblib
import numpy as np
import pandas as pd
from _common import (
    Results,
    add_settings,
    baseline_of,
    fit_and_score,
    identity,
    make_model,
    make_parser,
    markdown,
    name_settings,
    run_all,
    wins,
)
from _sets import UNITS, Sets
from sklearn.model_selection import train_test_split

from crystalssl import CrystalGraphs, CrystalSSLRegressor

Changes = list[tuple[str, Any]]

KEYS = ["task", "method", "size", "seed", "settings", "weights"]
SETS = ["jdft2d", "phonons", "dielectric", "log10 K", "log10 G", "perovskites", "formation energy"]
MAX_STEPS = 2_000
# Sizes of training sets, and repetitions.
PARTS: dict[str, tuple[list[str], int]] = {
    "few": (["25", "50", "100", "200"], 5),
    "configurations": ([f"{percent}%" for percent in range(10, 80, 10)], 3),
    "all": (["80%"], 3),
}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sets", nargs="+", choices=UNITS, default=SETS, metavar="SET", help=f"{list(UNITS)}")
    parser.add_argument("--seeds", nargs="+", type=int, help="other than each part's own")
    parser.add_argument("--methods", nargs="+", default=["joint"], help="bundled weights or weights folders")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each computing on one thread")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--against-defaults", action="store_true", help="show what --set changes")
    add_settings(parser)
    options = parser.parse_args()
    results = Results(options.results / "study.csv", KEYS)
    # What a line of a table is called: its method, and what --set changes.
    models: dict[str, tuple[str, Changes]] = {}
    baselines: dict[str, str] = {}
    for method in options.methods:
        if options.against_defaults:
            baselines[method], baseline = f"{method} by default", (method, [])
        else:
            baselines[method], baseline = baseline_of(method), (baseline_of(method), options.set)
        models |= {baselines[method]: baseline, method: (method, options.set)}
    sets = Sets(options.data)
    frames = {}
    for part in options.parts:
        sizes, n_seeds = PARTS[part]
        wanted = [
            (name, key_of(task, size, seed, *model))
            for seed in options.seeds or range(n_seeds)
            for size in sizes
            for task in options.sets
            for name, model in models.items()
        ]
        if not options.report:
            calls = [
                joblib.delayed(learn)(row, sets.of(row["task"], row["method"]), models[name][1])
                for name, row in wanted
                if not results.has(row)
            ]
            run_all(calls, results, options.jobs)
            for method, changes in models.values():
                name_settings(options.results, key_of("", "", 0, method, changes)["settings"], changes)
        frames[part] = pd.concat(
            results.select([row for other, row in wanted if other == name]).assign(method=name) for name in models
        )
        for method, baseline in baselines.items():
            print_table(part, frames[part], method, baseline)


def key_of(task: str, size: str, seed: int, method: str, changes: Changes) -> dict[str, Any]:
    """Return what identifies a run."""
    return {"task": task, "size": size, "seed": seed, **identity(method, changes, MAX_STEPS)}


def learn(row: dict[str, Any], data: tuple[CrystalGraphs, np.ndarray], changes: Changes) -> dict[str, Any]:
    """Return `row` with the error of its method after learning from as many crystals as its size says."""
    graphs, y = data
    rest, test = train_test_split(np.arange(len(y)), test_size=0.2, random_state=row["seed"])
    size = row["size"]
    train = rest[: round(float(size[:-1]) / 100 * len(y)) if size.endswith("%") else int(size)]
    model = end_early(make_model(row["method"], row["seed"], changes), len(train))
    row = {**row, "n_labels": len(train), "n_test": len(test), "unit": UNITS[row["task"]]}
    return fit_and_score(model, graphs, y, train, test, row)


def end_early(model: CrystalSSLRegressor, n_train: int) -> CrystalSSLRegressor:
    """Have a model train for no more than `MAX_STEPS`."""
    steps = math.ceil(n_train / model.batch_size)
    return model.set_params(max_epochs=max(1, min(model.max_epochs, MAX_STEPS // steps)))


def paired(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the sets, sizes and seeds that all methods have, so that means are over the same."""
    n_methods = frame.groupby(["task", "size", "seed"]).method.transform("nunique")
    return frame[n_methods == frame.method.nunique()]


def print_table(part: str, frame: pd.DataFrame, method: str, baseline: str) -> None:
    """Print how far a method is below its baseline; rows are sets, columns sizes, means over seeds."""
    frame = paired(frame[frame.method.isin([baseline, method])])
    runs = frame.pivot_table("mae", ["task", "size", "seed"], "method", sort=False)
    if runs.shape[1] < 2:
        return
    errors = runs.groupby(level=["task", "size"], sort=False).mean()
    table = (errors[method] / errors[baseline] - 1).unstack(sort=False)
    print(
        f"\n{part}: MAE of {method} against {baseline}; better in {wins(table)}, "
        f"{np.nanmean(table):+.1%} on average, and in {wins(runs[method] - runs[baseline])} single runs; "
        f"seeds: {frame.seed.nunique()}\n"
    )
    cells = table.map("{:+.1%}".format, na_action="ignore").fillna("")
    print(
        markdown(["", *table.columns], [[name, *row] for name, row in zip(cells.index, cells.to_numpy(), strict=True)])
    )


if __name__ == "__main__":
    main()
