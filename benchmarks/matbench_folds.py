"""Errors on the official folds of Matbench tasks: from scratch and from pretrained weights, beside published ones.

    python benchmarks/matbench_folds.py --jobs 2
    python benchmarks/matbench_folds.py --tasks matbench_jdft2d --methods scratch:gatedgcn joint --set max_epochs=50

Adds one row per task, method, fold and seed to results/matbench_folds.csv, leaves out what is there, and prints the
Markdown table of docs/results.md. All methods share the estimator's defaults and whatever --set changes.
"""

from __future__ import annotations

import joblib
import pandas as pd
from _common import (
    Results,
    add_model_options,
    baseline_of,
    fit_and_score,
    load_task,
    make_model,
    make_parser,
    markdown,
    run_all,
    settings_id,
    weights_sha256,
    wins,
)

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor
from crystalssl.datasets import matbench_folds

KEYS = ["task", "method", "fold", "seed", "settings", "weights"]
# Mean and standard deviation of the MAE over the five folds, from the leaderboard of Matbench v0.1
# (https://matbench.materialsproject.org): the best, the graph networks closest to ours, and the reference algorithms.
PUBLISHED = {
    "matbench_phonons": {
        "MegNet (kgcnn v2.1.0)": (28.7606, 2.5767),
        "ALIGNN": (29.5385, 2.1148),
        "coGN": (29.7117, 1.9968),
        "MODNet (v0.1.12)": (34.2751, 2.0781),
        "CrabNet": (55.1114, 5.7317),
        "AMMExpress v2020": (56.1706, 6.7981),
        "CGCNN v2019": (57.7635, 12.3109),
        "RF-SCM/Magpie": (67.6126, 8.9900),
        "Dummy": (323.9822, 17.7269),
    },
    "matbench_jdft2d": {
        "MODNet (v0.1.12)": (33.1918, 7.3428),
        "coGN": (37.1652, 13.6825),
        "AMMExpress v2020": (39.8497, 9.8835),
        "ALIGNN": (43.4244, 8.9491),
        "CrabNet": (45.6104, 12.2491),
        "CGCNN v2019": (49.2440, 11.5865),
        "RF-SCM/Magpie": (50.0440, 8.6271),
        "MegNet (kgcnn v2.1.0)": (54.1719, 11.4299),
        "Dummy": (67.2851, 10.1832),
    },
}


def summary(frame: pd.DataFrame, task: str, unit: str) -> str:
    """Return a Markdown table of our errors among the published ones, lowest first."""
    rows = [(f"{name} (published)", *errors) for name, errors in PUBLISHED.get(task, {}).items()]
    runs = frame[frame.task == task].pivot_table("mae", ["fold", "seed"], "method", sort=False)
    for method, errors in runs.items():
        folds = errors.groupby("fold").mean().dropna()
        if len(folds) == 5:
            note, baseline = "", baseline_of(method)
            if method != baseline and baseline in runs:
                # Of the same fold and seed.
                note = f", better than from scratch in {wins(runs[method] - runs[baseline])} runs"
            rows.append((f"**crystalssl, {method}**{note}", folds.mean(), folds.std(ddof=0)))
    rows.sort(key=lambda row: row[1])
    return markdown(
        [task, f"MAE ({unit})"], [[name, f"{mean:.1f} ± {deviation:.1f}"] for name, mean, deviation in rows]
    )


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", nargs="+", default=["matbench_phonons", "matbench_jdft2d"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--folds", nargs="+", type=int, default=range(5), help="0 to 4")
    add_model_options(parser)
    options = parser.parse_args()
    results = Results(options.results / "matbench_folds.csv", KEYS)
    settings = settings_id(CrystalSSLRegressor().set_params(**dict(options.set)))

    units, rows = {}, []
    for task in options.tasks:
        data = load_task(task, options.data)
        units[task] = data.unit
        graphs = CrystalGraphTransformer().fit_transform(data.data)
        splits = list(matbench_folds(task).split(graphs, data.target))
        calls = []
        # Seed by seed and fold by fold, so that an interrupted run has comparable results of all methods.
        for seed in options.seeds:
            for fold in options.folds:
                for method in options.methods:
                    weights = weights_sha256(method)
                    row = dict(zip(KEYS, [task, method, fold, seed, settings, weights], strict=True))
                    rows.append(row)
                    if not results.has(row):
                        model = make_model(method, seed, options.set)
                        row = {**row, "unit": data.unit}
                        calls.append(joblib.delayed(fit_and_score)(model, graphs, data.target, *splits[fold], row))
        run_all(calls, results, options.jobs)

    frame = results.select(rows)
    print(f"\nMean ± standard deviation over the five official folds; seeds: {options.seeds}, settings: {settings}\n")
    print("\n\n".join(summary(frame, task, units[task]) for task in options.tasks))


if __name__ == "__main__":
    main()
