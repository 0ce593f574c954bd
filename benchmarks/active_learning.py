"""Whether choosing which crystals to label spares labels: the strategies of examples/active_learning.py.

    python benchmarks/active_learning.py
    python benchmarks/active_learning.py --sets perovskites --seeds 0 1 2

A seed keeps a fifth of the crystals aside, of which the errors are measured, and draws twenty of the others, from
which all strategies begin; they go on in steps of twenty to two hundred labels. Of larger sets 1,500 crystals take
part. Adds a row per set, strategy, seed and number of labels to results/active_learning.csv, leaves out what is there,
prints tables, and draws the picture of docs/pictures.md with --figure docs/figures/active_learning.png. "Labels" is
with how many a strategy comes to the mean error that random choices have with two hundred.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from _common import ROOT, Results, make_parser, markdown
from _sets import UNITS, Sets
from matplotlib import pyplot

from crystalssl import PretrainedCrystalEmbedder
from crystalssl.plotting import LabelEfficiencyDisplay

sys.path.insert(0, str(ROOT / "examples"))
from active_learning import STRATEGIES, run

matplotlib.use("Agg")

KEYS = ["task", "method", "seed", "n_labels"]
LOGARITHMS = {"phonons", "jdft2d"}  # the others are logarithms already, or may be negative
LAST = 200
N_CRYSTALS = 1500


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--sets", nargs="+", choices=UNITS, default=["phonons", "log10 K"], metavar="SET")
    parser.add_argument("--seeds", nargs="+", type=int, default=range(10))
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the last bits depend on it
    results = Results(options.results / "active_learning.csv", KEYS)
    sets = Sets(options.data)
    known: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for seed, task, strategy in itertools.product(options.seeds, options.sets, STRATEGIES):
        key = {"task": task, "method": strategy, "seed": seed, "n_labels": LAST}
        if options.report or results.has(key):
            continue
        if task not in known:
            known[task] = vectors_and_labels(sets, task)
        vectors, y = known[task]
        sizes, errors = run(strategy, vectors, y, log=task in LOGARITHMS, seed=seed, last=LAST)
        for n, error in zip(sizes, errors, strict=True):
            results.append({**key, "n_labels": n, "mae": float(error), "unit": UNITS[task]})
        print(f"{task}, {strategy}, seed {seed}: MAE {errors[-1]:.4g} {UNITS[task]} at {sizes[-1]}", flush=True)
    frame = results.read().astype({"n_labels": int})
    frame = frame[frame.task.isin(options.sets) & frame.seed.isin([str(seed) for seed in options.seeds])]
    if frame.empty:
        return
    rows = [line for task in options.sets for line in table(task, frame[frame.task == task])]
    print(f"\nmeans over {frame.seed.nunique()} seeds\n")
    print(markdown(["set", "strategy", "MAE at 60", "MAE at 100", "MAE at 200", "better than random", "labels"], rows))
    if options.figure:
        draw(frame, options.sets, options.figure)


def vectors_and_labels(sets: Sets, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what the process sees of the crystals of a set, of large sets of some of them, and their labels."""
    graphs, y = sets.of(task, "joint")
    rows = np.random.default_rng(0).permutation(len(y))[:N_CRYSTALS]
    graphs = graphs[rows]
    return PretrainedCrystalEmbedder("joint", device="cpu").fit(graphs).transform(graphs), y[rows]


def table(task: str, frame: pd.DataFrame) -> list[list[str]]:
    """Return the lines of a set."""
    errors = frame.pivot_table("mae", "n_labels", "method")
    final = frame[frame.n_labels == LAST].pivot_table("mae", "seed", "method")
    lines = []
    for strategy in STRATEGIES:
        better, labels = "", str(LAST)
        if strategy != "random":
            better = f"{(final[strategy] < final['random']).sum()} of {len(final)}"
            labels = first_below(errors[strategy], errors["random"][LAST])
        cells = [f"{errors[strategy][n]:.3g}" for n in (60, 100, LAST)]
        lines.append([f"{task} ({UNITS[task]})", strategy, *cells, better, labels])
    return lines


def first_below(errors: pd.Series, goal: float) -> str:
    """Return with how many labels an error is first reached, by linear interpolation."""
    sizes, values = errors.index.to_numpy(), errors.to_numpy()
    below = np.flatnonzero(values <= goal)
    if not len(below):
        return f"more than {sizes[-1]}"
    at = below[0]
    if at == 0:
        return str(sizes[0])
    share = (values[at - 1] - goal) / (values[at - 1] - values[at])
    return f"{sizes[at - 1] + share * (sizes[at] - sizes[at - 1]):.0f}"


def draw(frame: pd.DataFrame, tasks: list[str], path: Path) -> None:
    """Draw errors against the number of labels, a panel for every set."""
    figure, axes = pyplot.subplots(1, len(tasks), figsize=(5 * len(tasks), 3.8), layout="constrained", squeeze=False)
    for ax, task in zip(axes[0], tasks, strict=True):
        some = frame[frame.task == task]
        LabelEfficiencyDisplay.from_results(some, unit=UNITS[task], ax=ax)
        ax.set(title=f"{task}, {some.seed.nunique()} seeds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"\nfigure: {path}")


if __name__ == "__main__":
    main()
