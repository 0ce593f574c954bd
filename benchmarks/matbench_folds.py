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
    name_settings,
    run_all,
    settings_id,
    weights_sha256,
    wins,
)

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor
from crystalssl.datasets import matbench_folds
from crystalssl.matbench import leaderboard

KEYS = ["task", "method", "fold", "seed", "settings", "weights"]
# Of the leaderboard: the best, the graph networks closest to ours, and the reference algorithms.
PUBLISHED = [
    "MegNet (kgcnn v2.1.0)",
    "ALIGNN",
    "coGN",
    "MODNet (v0.1.12)",
    "CrabNet",
    "AMMExpress v2020",
    "CGCNN v2019",
    "RF-SCM/Magpie",
    "Dummy",
]
# Not on the leaderboard: from the papers, means over the same folds, and what each was pretrained on.
ELSEWHERE = {
    "matbench_phonons": {
        "JMP-L, 235 M parameters, pretrained on 120 M systems (arXiv:2310.16802)": 20.57,
        "JMP-S, pretrained on 120 M systems (arXiv:2310.16802)": 22.77,
        "DenseNGN (DenseGNN with line graphs), from scratch": 23.52,
        "DenseGNN, from scratch": 24.85,
        "MODNet with MatterVial features, of potentials pretrained on millions of crystals": 30.08,
        "TabPFN on Magpie and structure features, pretrained on synthetic tables": 30.63,
    },
    "matbench_jdft2d": {
        "MODNet with MatterVial features, of potentials pretrained on millions of crystals": 28.86,
        "JMP-L, 235 M parameters, pretrained on 120 M systems (arXiv:2310.16802)": 29.94,
        "JMP-S, pretrained on 120 M systems (arXiv:2310.16802)": 30.16,
        "DenseNGN (DenseGNN with line graphs), from scratch": 30.22,
        "DenseGNN, from scratch": 32.54,
        "TabPFN on Magpie and structure features, pretrained on synthetic tables": 34.40,
    },
}


def published(task: str) -> list[tuple[str, float, float | None]]:
    """Return name, mean and deviation of what others have published."""
    board = leaderboard()
    board = board[(board.task == task) & board.algorithm.isin(PUBLISHED)]
    rows = [(row.algorithm, row.mean, row.std) for row in board.itertuples()]
    return rows + [(name, mean, None) for name, mean in ELSEWHERE.get(task, {}).items()]


def over_folds(runs: pd.DataFrame) -> tuple[float, float] | None:
    """Return mean and deviation over the folds of a method's runs, each fold's the mean over seeds; None for fewer."""
    folds = runs.groupby("fold").mae.mean()
    return (folds.mean(), folds.std(ddof=0)) if len(folds) == 5 else None


def against(runs: pd.DataFrame, others: pd.DataFrame) -> pd.Series:
    """Return the differences of errors of the same fold and seed."""
    errors = [frame.set_index(["fold", "seed"]).mae for frame in (runs, others)]
    return (errors[0] - errors[1]).dropna()


def summary(frame: pd.DataFrame, task: str, unit: str) -> str:
    """Return a Markdown table of our errors among the published ones, lowest first."""
    rows = [(f"{name} (published)", *errors) for name, *errors in published(task)]
    of = dict(list(frame[frame.task == task].groupby("method", sort=False)))
    for method, runs in of.items():
        errors = over_folds(runs)
        if errors is not None:
            note, baseline = "", baseline_of(method)
            if method != baseline and baseline in of:
                note = f", better than from scratch in {wins(against(runs, of[baseline]))} runs"
            rows.append((f"**crystalssl, {method}**{note}", *errors))
    rows.sort(key=lambda row: row[1])
    return markdown([task, f"MAE ({unit})"], [[name, with_spread(mean, spread)] for name, mean, spread in rows])


def with_spread(mean: float, spread: float | None) -> str:
    """Return an error with its deviation, if that is known."""
    return f"{mean:.1f}" + ("" if spread is None else f" ± {spread:.1f}")


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
    name_settings(options.results, settings, options.set)

    frame = results.select(rows)
    print(f"\nMean ± standard deviation over the five official folds; seeds: {options.seeds}, settings: {settings}\n")
    print("\n\n".join(summary(frame, task, units[task]) for task in options.tasks))


if __name__ == "__main__":
    main()
