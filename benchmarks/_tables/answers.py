"""The page in a table: which method, how much, how sure, which command."""

from __future__ import annotations

import numpy as np
from _common import markdown, wins
from matbench_folds import against, over_folds, published, with_spread
from study import PARTS

from _tables import folds, gains, methods, others
from _tables.rows import SHORT, ResultFiles, counted


def table(files: ResultFiles) -> str:
    """Return a row for each question, with its answer, how sure it is, and the command that measures it."""
    lines = [*_few(files), *_folds(files), *_methods(files), _frozen(files), *_ensembles(files)]
    return markdown(["question", "answer", "how sure", "measured by"], lines)


def readme(files: ResultFiles) -> str:
    """Return what pretraining gains, for the README."""
    parts = []
    for part, share in (("few", "25 to 200 labels"), ("configurations", "10 to 70 % of the rows")):
        runs, sizes = gains.chosen(files, [part]), PARTS[part][0]
        below = f"{-np.nanmean(gains.changes(runs, sizes)):.0%}".replace("%", " %")
        single = gains.errors(runs, sizes)
        won = wins(single[runs.method] - single[runs.baseline])
        parts.append(
            f"with {share} errors are {below} lower, in {won} runs (weights of {_trained(files, runs.weights)})"
        )
    return (
        f"Pretrained against the same network from scratch, seven properties: {'; '.join(parts)}. "
        "`python benchmarks/study.py`"
    )


def _trained(files: ResultFiles, weights: str) -> str:
    about = files.about(weights)
    return "an unknown version" if about is None else f"version {about.version}"


def _few(files: ResultFiles) -> list[list[str]]:
    questions = {
        "few": "What does pretraining bring with 25 to 200 labels?",
        "configurations": "With 10 to 70 % of the rows, up to thousands?",
        "all": "With 80 % of the rows?",
    }
    lines = []
    for part, question in questions.items():
        runs, sizes = gains.chosen(files, [part]), PARTS[part][0]
        of_sets = gains.changes(runs, sizes).mean(axis=1)
        answer = (
            f"`joint` changes the error by **{np.nanmean(of_sets):+.1%}**, from {of_sets.max():+.1%} "
            f"({of_sets.idxmax()}) to {of_sets.min():+.1%} ({of_sets.idxmin()})"
        )
        sure = gains.summary(runs, sizes).partition("on average, ")[2]
        lines.append([question, answer, f"{sure}; {_of(files, runs)}", gains.COMMAND.format(part)])
    return lines


def _of(files: ResultFiles, runs: gains.Chosen) -> str:
    return f"weights `{runs.weights[:SHORT]}` of {_trained(files, runs.weights)}"


def _folds(files: ResultFiles) -> list[list[str]]:
    runs, lines = folds.chosen(files)["joint"], []
    for task, unit in folds.TASKS.items():
        frame = runs.frame[runs.frame.task == task]
        mine, scratch = (frame[frame.method == method] for method in (runs.method, runs.baseline))
        best = min(published(task), key=lambda row: row[1])
        answer = (
            f"`joint`: **{with_spread(*over_folds(mine))} {unit}**; from scratch {with_spread(*over_folds(scratch))}; "
            f"the lowest published: {with_spread(*best[1:])}, {best[0].partition(',')[0]}"
        )
        seeds = mine.seed.nunique()
        sure = (
            f"against scratch better in {wins(against(mine, scratch))} runs, p = {folds.p_value(runs, task):.2f}, "
            f"{counted(seeds, 'seed')}; {_of(files, runs)}"
        )
        lines.append([f"Official folds of {task}?", answer, sure, "`python benchmarks/matbench_folds.py`"])
    return lines


def _methods(files: ResultFiles) -> list[list[str]]:
    lines = []
    for percent, share in (("10", "a tenth"), ("80", "four fifths")):
        best = methods.best_of_columns(files, percent)
        answer = ", ".join(f"`{name}` on {count}" for name, count in best.items())
        seeds = min(runs.frame.seed.nunique() for runs in methods.chosen(files, methods.FEW_AND_MANY).values())
        sure = f"{counted(seeds, 'seed')}, one short budget; the best are close on some sets, see the tables"
        lines.append(
            [f"Which method has the lowest error of seven properties, with {share} of the rows?", answer, sure,
             methods.COMMAND]
        )  # fmt: skip
    return lines


def _frozen(files: ResultFiles) -> list[str]:
    change, seeds, version = others.change_of(files, "finetuning", "frozen encoder")
    answer = f"finetune: with a frozen encoder errors change by **{change:+.1%}**"
    sure = f"100 labels, five sets, {counted(seeds, 'seed')}, version {version}"
    return ["Finetune, or freeze the encoder?", answer, sure, "`python benchmarks/ablation.py --tables finetuning`"]


def _ensembles(files: ResultFiles) -> list[list[str]]:
    """Return what averaging networks brings, if that was measured with the newest weights."""
    single, lines = folds.chosen(files)["joint"], []
    for size, runs in folds.ensembles(files).items():
        cells = []
        for task, unit in folds.TASKS.items():
            both = [part.frame[(part.frame.task == task) & (part.frame.method == "joint")] for part in (runs, single)]
            means = [over_folds(part)[0] for part in both]
            cells.append(f"{means[0]:.1f} instead of {means[1]:.1f} {unit} on {task}")
        question = f"Does an ensemble help? ({size} networks averaged)"
        sure = f"{counted(runs.frame.seed.nunique(), 'seed')}; {_of(files, runs)}"
        command = f"`python benchmarks/matbench_folds.py --methods joint --set {folds.ENSEMBLE.format(size)}`"
        lines.append([question, "; ".join(cells), sure, command])
    return lines
