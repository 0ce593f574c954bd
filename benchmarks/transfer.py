"""Whether `crystalssl.inspection.transfer_report` says beforehand what pretraining brings.

    python benchmarks/transfer.py
    python benchmarks/transfer.py --fits

A report on 100 random training crystals of each set, beside the gain on test sets that benchmarks/study.py has measured
with as many labels, if results/study.csv has it for the same weights. Without --fits the report looks at vectors alone,
which takes seconds a set. Adds a row per set and seed to results/transfer.csv, leaves out what is there, and prints
means over seeds and the rank correlation of the gains with what the report says.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from _common import (
    Results,
    add_settings,
    baseline_of,
    make_model,
    make_parser,
    markdown,
    name_settings,
    settings_id,
    weights_sha256,
)
from _sets import UNITS, Sets
from sklearn.model_selection import train_test_split

from crystalssl.inspection import transfer_report

KEYS = ["task", "method", "seed", "fits", "settings", "weights"]
N_LABELS = 100


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--sets", nargs="+", choices=UNITS, default=[*UNITS], metavar="SET", help=f"{[*UNITS]}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--method", default="joint", help="bundled weights or a weights folder")
    parser.add_argument("--fits", action="store_true", help="train models, too")
    add_settings(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results, sets = Results(options.results / "transfer.csv", KEYS), Sets(options.data)
    model, weights = make_model(options.method, 0, options.set), weights_sha256(options.method)
    rows = [
        dict(zip(KEYS, [task, options.method, seed, options.fits, settings_id(model), weights], strict=True))
        for seed in options.seeds
        for task in options.sets
    ]
    for row in rows:
        if not results.has(row):
            found = measure(row, sets, model)
            results.append({**row, **found})
            print(row["task"], row["seed"], found["verdict"], flush=True)
    name_settings(options.results, settings_id(model), options.set)
    frame = results.select(rows)
    numbers = ["jensen_shannon", "r2_pretrained", "r2_untrained", "gain_of_probe", "gain_of_fits"]
    frame[numbers] = frame[numbers].apply(pd.to_numeric, errors="coerce")
    means = frame.groupby("task", sort=False)[numbers].mean()
    means["verdicts"] = frame.groupby("task", sort=False).verdict.agg(", ".join)
    means["gain"] = [measured_gain(options, task, weights) for task in means.index]
    print("\nmeans over seeds; gains are parts by which the error is lower with pretraining\n")
    cells = means.map(lambda x: x if isinstance(x, str) else f"{x:.3g}").reset_index()
    print(markdown([*cells.columns], cells.to_numpy().tolist()))
    for name in ("gain_of_probe", "gain_of_fits"):
        known = means[[name, "gain"]].dropna()
        if len(known) > 2:
            print(f"\nrank correlation of {name} and the measured gain: {known.corr('spearman').iloc[0, 1]:.2f}")


def measure(row: dict[str, Any], sets: Sets, model: Any) -> dict[str, Any]:
    """Return what the report on random crystals of a set says."""
    graphs, y = sets.of(row["task"], row["method"])
    train = train_test_split(np.arange(len(y)), test_size=0.2, random_state=row["seed"])[0][:N_LABELS]
    started = time.perf_counter()
    report = transfer_report(
        graphs[train], y[train], model, sizes=None if row["fits"] else [], random_state=row["seed"]
    )
    return {
        "verdict": report.verdict,
        "jensen_shannon": report.jensen_shannon,
        "r2_pretrained": float(report.probe.pretrained.mean()),
        "r2_untrained": float(report.probe.untrained.mean()),
        "gain_of_probe": 1 - float(np.exp((np.log(1 - report.probe).diff(axis=1, periods=-1).pretrained / 2).mean())),
        "gain_of_fits": float(report.gain.gain.iloc[-1]) if row["fits"] else np.nan,
        "seconds": time.perf_counter() - started,
    }


def measured_gain(options: Any, task: str, weights: str) -> float:
    """Return by which part test errors with 100 labels are lower with pretraining, on average over seeds; else NaN."""
    study = Results(options.results / "study.csv", ["task", "method", "size", "seed", "settings", "weights"]).read()
    study = study[(study.task == task) & (study["size"] == str(N_LABELS))].assign(mae=lambda x: x.mae.astype(float))
    mine = study[study.weights == weights]
    scratch = study[(study.method == baseline_of(options.method)) & study.settings.isin(mine.settings)]
    errors, without = (rows.groupby("seed").mae.mean() for rows in (mine, scratch))
    return float(1 - np.exp(np.log(errors / without).mean()))


if __name__ == "__main__":
    main()
