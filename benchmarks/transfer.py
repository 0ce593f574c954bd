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
from _common import Results, add_settings, identity, make_model, make_parser, markdown, name_settings
from _sets import UNITS, Sets
from _tables import gains
from _tables.rows import ResultFiles
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
    model, run = make_model(options.method, 0, options.set), identity(options.method, options.set)
    rows = [
        {"task": task, "seed": seed, "fits": options.fits, **run} for seed in options.seeds for task in options.sets
    ]
    for row in rows:
        if not results.has(row):
            found = measure(row, sets, model)
            results.append({**row, **found})
            print(row["task"], row["seed"], found["verdict"], flush=True)
    name_settings(options.results, run["settings"], options.set)
    frame = results.select(rows)
    numbers = ["jensen_shannon", "r2_pretrained", "r2_untrained", "gain_of_probe", "gain_of_fits"]
    frame[numbers] = frame[numbers].apply(pd.to_numeric, errors="coerce")
    means = frame.groupby("task", sort=False)[numbers].mean()
    means["verdicts"] = frame.groupby("task", sort=False).verdict.agg(", ".join)
    measured = gains.chosen(ResultFiles(options.results), ["few"])
    if measured.weights == run["weights"]:
        means["gain"] = -gains.changes(measured, [str(N_LABELS)])[str(N_LABELS)].reindex(means.index)
    print("\nmeans over seeds; gains are parts by which the error is lower with pretraining\n")
    cells = means.map(lambda x: x if isinstance(x, str) else f"{x:.3g}").reset_index()
    print(markdown([*cells.columns], cells.to_numpy().tolist()))
    for name in ("gain_of_probe", "gain_of_fits") if "gain" in means else ():
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


if __name__ == "__main__":
    main()
