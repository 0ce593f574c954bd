"""Tables on the official folds of Matbench."""

from __future__ import annotations

import functools

from _common import encoder_of, markdown, wins
from matbench_folds import against, over_folds, published, with_spread

from _tables.rows import Chosen, ResultFiles, choose, counted, weights_said
from crystalssl.matbench import MatbenchComparison

TASKS = {"matbench_phonons": "1/cm", "matbench_jdft2d": "meV/atom"}
METHODS = ["joint", "barlow", "simsiam"]
CELLS = [(task, str(fold)) for task in TASKS for fold in range(5)]
ENSEMBLE, SIZES = "ensemble_size={}", range(2, 11)
ALTERNATIVES = {
    "magpie + forest": "Magpie features (matminer), random forest",
    "structure + boosting": "Magpie and structure features (matminer), gradient boosting",
    "MEGNet": "MEGNet (matgl) from scratch, a tenth held out to choose the epoch",
}
COMMAND = "`python benchmarks/matbench_folds.py --methods {}`"


@functools.cache
def chosen(files: ResultFiles) -> dict[str, Chosen]:
    """Return the runs of every method that has all folds of both tasks, and of its encoder from scratch."""
    frame = files.read("matbench_folds")
    found = {method: choose(frame, method, CELLS, ["task", "fold"]) for method in METHODS}
    return {method: runs for method, runs in found.items() if runs is not None}


@functools.cache
def ensembles(files: ResultFiles) -> dict[int, Chosen]:
    """Return the runs of ensembles of the default, by their size, of the weights and version of single networks."""
    frame, joint = files.read("matbench_folds"), chosen(files)["joint"]
    found = {size: choose(frame, "joint", CELLS, ["task", "fold"], ENSEMBLE.format(size), False) for size in SIZES}
    return {
        size: runs
        for size, runs in found.items()
        if runs is not None and (runs.weights, runs.version) == (joint.weights, joint.version)
    }


def ours(files: ResultFiles, task: str) -> list[tuple[str, float, float, str, str, str]]:
    """Return name, mean, deviation, number of seeds, what it gains, and version of our models."""
    rows = {}
    for name, runs in chosen(files).items():
        frame = runs.frame[runs.frame.task == task]
        mine, scratch = (frame[frame.method == method] for method in (runs.method, runs.baseline))
        better = ""
        if len(scratch):
            better = f"{wins(against(mine, scratch))} runs"
            title = f"crystalssl, {encoder_of(runs.method)} from scratch"
            rows[title] = (*over_folds(scratch), str(scratch.seed.nunique()), "", runs.version)
        rows[f"crystalssl, `{name}`"] = (*over_folds(mine), str(mine.seed.nunique()), better, runs.version)
    for size, runs in ensembles(files).items():
        frame = runs.frame[runs.frame.task == task]
        title = f"crystalssl, `joint`, {size} networks averaged"
        rows[title] = (*over_folds(frame), str(frame.seed.nunique()), "", runs.version)
    return [(name, *row) for name, row in rows.items()]


def p_value(runs: Chosen, task: str) -> float:
    """Return how likely such a difference to the baseline is by chance, by the corrected resampled t-test."""
    frame = runs.frame[runs.frame.task == task]
    folds = frame.groupby(["task", "method", "fold"]).mae.mean().reset_index().assign(metric="mae")
    folds = folds.rename(columns={"method": "algorithm", "mae": "score"})
    return float(MatbenchComparison(folds).paired.p_value.iloc[0])


def table(files: ResultFiles, task: str) -> str:
    """Return our errors among the published ones, lowest first."""
    rows = [(f"{name} (published)", mean, spread, "", "", "") for name, mean, spread in published(task)]
    rows += [(f"**{name}**", *rest) for name, *rest in ours(files, task)]
    rows.sort(key=lambda row: row[1])
    lines = [[name, with_spread(mean, spread), *rest] for name, mean, spread, *rest in rows]
    header = [task, f"MAE ({TASKS[task]})", "seeds", "better than its encoder from scratch", "version"]
    return markdown(header, lines)


def says(files: ResultFiles) -> str:
    """Return which weights these are, what pretraining gains at full size, and how likely that is chance."""
    runs, parts = chosen(files)["joint"], []
    for task, unit in TASKS.items():
        frame = runs.frame[runs.frame.task == task]
        mine, scratch = (frame[frame.method == method] for method in (runs.method, runs.baseline))
        change = mine.mae.mean() / scratch.mae.mean() - 1
        others = [row for row in published(task) if row[1] < over_folds(mine)[0]]
        rank = "lower than every published value known to us" if not others else f"behind {len(others)} published"
        parts.append(
            f"- {task}: {with_spread(*over_folds(mine))} {unit}, {rank}; {change:+.1%} against the same network from "
            f"scratch, better in {wins(against(mine, scratch))} runs (corrected resampled t-test over the folds: "
            f"p = {p_value(runs, task):.2f})"
        )
    command = COMMAND.format(f"joint {runs.baseline}")
    return "\n".join([f"{runs.note(files)} {command}\n", *parts])


def history(files: ResultFiles) -> str:
    """Return the errors of all weights of the default that were measured with defaults, oldest first."""
    frame = files.read("matbench_folds")
    frame = frame[(frame.changes == "") & (frame.method == "joint")]
    lines = []
    for (_, weights, version), part in frame.groupby(["weights_age", "weights", "version"]):
        cells = [over_folds(part[part.task == task]) for task in TASKS]
        if None not in cells:
            lines.append([version, weights_said("joint", weights, files).partition(", older")[0], part.seed.nunique()])
            lines[-1] += [with_spread(*cell) for cell in cells]
    return markdown(["version", "weights", "seeds", *(f"{task}, {unit}" for task, unit in TASKS.items())], lines)


def alternatives(files: ResultFiles) -> str:
    """Return errors and minutes of what people use today, and of the default."""
    frame = files.read("alternatives")
    lines = []
    for model, title in ALTERNATIVES.items():
        cells = []
        for task in TASKS:
            runs = frame[(frame.task == task) & (frame.model == model)]
            minutes = (runs.feature_seconds.max() + runs.seconds.sum()) / 60
            cells += [with_spread(*over_folds(runs)), f"{minutes:.0f}"]
        lines.append([title, *cells])
    runs, cells = chosen(files)["joint"], []
    for task in TASKS:
        mine = runs.frame[(runs.frame.task == task) & (runs.frame.method == "joint")]
        cells += [with_spread(*over_folds(mine)), f"{mine.groupby('seed').seconds.sum().mean() / 60:.0f}"]
    lines.append([f"**crystalssl, `joint`**, version {runs.version}", *cells])
    header = ["model"]
    for task, unit in TASKS.items():
        header += [f"{task.removeprefix('matbench_')}, {unit}", "minutes"]
    return markdown(header, lines)


# The table of the README: what it names of the published ones, and under which name.
BESIDE = {
    "CGCNN v2019": "CGCNN",
    "ALIGNN": "ALIGNN",
    "MODNet (v0.1.12)": "MODNet",
    "DenseNGN (DenseGNN with line graphs), from scratch": "DenseNGN, the best from scratch",
    "MODNet with MatterVial features, of potentials pretrained on millions of crystals": "MODNet with features of "
    "universal potentials",
    "JMP-L, 235 M parameters, pretrained on 120 M systems (arXiv:2310.16802)": "JMP-L, 235 M parameters, pretrained on "
    "120 M systems",
}


def short(files: ResultFiles) -> str:
    """Return both tasks beside the best and the best known of others, lowest on the first task last."""
    rows: dict[str, list[tuple[float, float | None]]] = {}
    runs = chosen(files)["joint"]
    seeds = runs.frame.seed.nunique()
    for task in TASKS:
        others = {name: rest for name, *rest in published(task)}
        for name, title in BESIDE.items():
            rows.setdefault(f"{title}, published", []).append(tuple(others[name]))
        frame = files.read("alternatives")
        for model, title in ALTERNATIVES.items():
            errors = over_folds(frame[(frame.task == task) & (frame.model == model)])
            rows.setdefault(title.split(", a tenth")[0], []).append(errors)
        for name, mean, spread, n_seeds, *_ in ours(files, task):
            if "`joint" in name or SCRATCH_OF_DEFAULT in name:
                said = name if int(n_seeds) == seeds else f"{name}, {counted(int(n_seeds), 'seed')}"
                rows.setdefault(said, []).append((mean, spread))
    lowest = [min(cells[column][0] for cells in rows.values()) for column in range(len(TASKS))]
    lines = []
    for name, cells in sorted(rows.items(), key=lambda item: -item[1][0][0]):
        written = [with_spread(*cell) for cell in cells]
        written = [
            f"**{text}**" if cell[0] == low else text for text, cell, low in zip(written, cells, lowest, strict=True)
        ]
        lines.append([name, *written])
    return (
        markdown(["MAE, five official folds", *(f"{task}, {unit}" for task, unit in TASKS.items())], lines)
        + f"\n\n{COMMAND.format(f'joint {runs.baseline}')} and `python benchmarks/alternatives.py`; version "
        f"{runs.version}, {counted(seeds, 'seed')}."
    )


SCRATCH_OF_DEFAULT = f"{encoder_of('joint')} from scratch"
