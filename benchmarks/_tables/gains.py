"""What pretraining gains with how many labels: the tables and the figure of benchmarks/study.py."""

from __future__ import annotations

import numpy as np
import pandas as pd
from _common import markdown, wins
from study import PARTS, SETS, paired

from _tables.rows import Chosen, ResultFiles, choose

COMMAND = "`python benchmarks/study.py --parts {}`"
SHARES = ["configurations", "all"]


def chosen(files: ResultFiles, parts: list[str]) -> Chosen:
    """Return the newest runs of the default and of its encoder that have every set and size of some parts."""
    cells = [(task, size) for part in parts for task in SETS for size in PARTS[part][0]]
    runs = choose(files.read("study"), "joint", cells, ["task", "size"])
    if runs is None:
        raise SystemExit(f"study.csv has no complete runs of {parts}")
    return Chosen(runs.method, runs.weights, runs.version, paired(runs.frame))


def errors(runs: Chosen, sizes: list[str]) -> pd.DataFrame:
    """Return the errors of both methods, one row per set, size and seed."""
    frame = runs.frame[runs.frame["size"].isin(sizes)]
    order = {"task": SETS, "size": sizes}
    frame = frame.assign(**{name: pd.Categorical(frame[name], values) for name, values in order.items()})
    return frame.pivot_table("mae", ["task", "size", "seed"], "method", observed=True)


def changes(runs: Chosen, sizes: list[str]) -> pd.DataFrame:
    """Return the change of the mean error by pretraining; rows are sets, columns sizes."""
    means = errors(runs, sizes).groupby(level=["task", "size"], observed=True).mean()
    return (means[runs.method] / means[runs.baseline] - 1).unstack("size")


def of_each_seed(runs: Chosen, sizes: list[str]) -> pd.Series:
    """Return the mean change of every seed by itself."""
    single = errors(runs, sizes)
    return (single[runs.method] / single[runs.baseline] - 1).groupby(level="seed").mean()


def summary(runs: Chosen, sizes: list[str]) -> str:
    """Return how much pretraining gains and how often."""
    table, single, seeds = changes(runs, sizes), errors(runs, sizes), of_each_seed(runs, sizes)
    said = f"{np.nanmean(table):+.1%} on average, lower in {wins(table)} cells"
    if len(seeds) == 1:
        return f"{said}; one seed"
    return (
        f"{said} and in {wins(single[runs.method] - single[runs.baseline])} single runs; seed by seed "
        f"{seeds.min():+.1%} to {seeds.max():+.1%}"
    )


def table(files: ResultFiles, part: str) -> str:
    """Return what is gained on each set with each number of labels."""
    parts = SHARES if part in SHARES else [part]
    runs, sizes = chosen(files, parts), [size for name in parts for size in PARTS[name][0]]
    cells = changes(runs, sizes)
    lines = [[name, *(f"{value:+.1%}" for value in row), f"{np.nanmean(row):+.1%}"] for name, row in cells.iterrows()]
    said = "".join(
        f"- {'80 % of the rows' if name == 'all' else TITLES[name]}: {summary(runs, PARTS[name][0])}.\n"
        for name in parts
    )
    return (
        f"{runs.note(files)} {COMMAND.format(' '.join(parts))}\n\n{said}\n"
        f"MAE of `joint` against the same network from scratch:\n\n{markdown(['', *cells.columns, 'mean'], lines)}"
    )


TITLES = {"few": "25 to 200 crystals", "configurations": "10 to 70 % of the rows"}
