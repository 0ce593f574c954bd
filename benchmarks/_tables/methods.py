"""Every method on seven sets with one budget: the tables of benchmarks/methods.py."""

from __future__ import annotations

import functools

import pandas as pd
from _common import SCRATCH, encoder_of, markdown, wins
from _sets import UNITS
from methods import ORDER, SETS, against_scratch

from _tables.rows import SHORT, Chosen, ResultFiles, choose, counted
from crystalssl.training import bundled_weights

COMMAND = "`python benchmarks/methods.py`"
FEW_AND_MANY = ["10", "80"]
CONFIGURATIONS = [str(percent) for percent in range(10, 80, 10)]
# Of the papers, each on its own sets and against its own baselines: what they report, and which of ours are like it.
PAPERS = {
    "Crystal Twins": ("15.55 % below CGCNN from scratch, mean of seven sets", ["barlow", "simsiam"]),
    "CDSSL": ("below MEGNet from scratch in 37 of 49 configurations", ["cdssl"]),
    "SPMat": ("2 to 6.67 % below other methods", ["spmat-simclr", "spmat-barlow"]),
    "DSSL": (
        "12 to 26.89 % below DeeperGATGNN from scratch on five sets, 18 % on average",
        ["dssl", "dssl-as", "dssl-ve"],
    ),
    "none, ours": ("", ["joint"]),
}


def bundled() -> list[str]:
    """Return the bundled weights, those of one encoder together."""
    return sorted(bundled_weights(), key=lambda name: ORDER.index(encoder_of(name)))


def chosen(files: ResultFiles, percents: list[str]) -> dict[str, Chosen]:
    """Return the runs of every method that has all sets at some shares of the rows, and of its encoder."""
    return _chosen(files, tuple(percents))


@functools.cache  # every page of a method asks for them
def _chosen(files: ResultFiles, percents: tuple[str, ...]) -> dict[str, Chosen]:
    frame = files.read("methods")
    cells = [(task, percent) for task in SETS for percent in percents]
    found = {method: choose(frame, method, cells, ["task", "percent"]) for method in bundled()}
    return {method: runs for method, runs in found.items() if runs is not None}


def changes_of_configurations(runs: Chosen) -> pd.DataFrame:
    """Return the change against scratch of the seed that all methods have there."""
    return against_scratch(runs.frame[runs.frame.seed == "0"], runs.method)[CONFIGURATIONS]


def of_weights(runs: Chosen, others: Chosen) -> str:
    """Return of which weights runs are, nothing if other runs are of the same."""
    return "" if runs.weights == others.weights else f", weights `{runs.weights[:SHORT]}`"


def budget(files: ResultFiles, percents: list[str]) -> str:
    """Return which weights, versions and numbers of seeds the tables of some shares of the rows are of."""
    groups: dict[str, list[str]] = {}
    for method, runs in chosen(files, percents).items():
        said = f"version {runs.version} of the package, {counted(runs.frame.seed.nunique(), 'seed')}"
        groups.setdefault(said, []).append(f"`{method}` `{runs.weights[:SHORT]}`")
    return "\n".join(f"- {said}: {', '.join(names)}" for said, names in groups.items())


def table(files: ResultFiles, percent: str) -> str:
    """Return errors at a share of the rows, and how far each method is below the same encoder from scratch."""
    lines: list[list[str]] = []
    shown = set()
    found = chosen(files, FEW_AND_MANY).items()
    # Methods below the row from scratch that they are compared with.
    for method, runs in sorted(found, key=lambda item: (ORDER.index(encoder_of(item[0])), item[1].version)):
        part = runs.frame[runs.frame.percent == percent]
        errors = part.pivot_table("mae", "method", "task").reindex(columns=SETS)
        encoder = encoder_of(method)
        if (encoder, runs.version) not in shown:
            shown.add((encoder, runs.version))
            scratch = errors.loc[SCRATCH + encoder]
            title = f"{encoder} from scratch, version {runs.version}"
            lines.append([title, *(f"{error:.3g}" for error in scratch), ""])
        change = against_scratch(part, method)[percent]
        cells = [f"{error:.3g} ({x:+.0%})" for error, x in zip(errors.loc[method], change, strict=True)]
        lines.append([f"`{method}`", *cells, f"{change.mean():+.1%}"])
    return markdown(["method", *(f"{name}, {UNITS[name]}" for name in SETS), "mean"], lines)


def configurations(files: ResultFiles) -> str:
    """Return the mean change over the sets at every share of the rows, and in how many cells a method is better."""
    lines = []
    for method, runs in chosen(files, CONFIGURATIONS).items():
        cells = changes_of_configurations(runs)
        lines.append([f"`{method}`", encoder_of(method), *(f"{x:+.1%}" for x in cells.mean()), wins(cells)])
    return markdown(["method", "encoder", *(f"{percent}%" for percent in CONFIGURATIONS), "better"], lines)


def beside_papers(files: ResultFiles) -> str:
    """Return what papers report for many labels, and what their methods reach here."""
    many, all_cells = chosen(files, FEW_AND_MANY), chosen(files, CONFIGURATIONS)
    lines = []
    for paper, (reports, methods) in PAPERS.items():
        for method in methods:
            change = against_scratch(many[method].frame, method)["80"]
            share = wins(changes_of_configurations(all_cells[method])) + of_weights(all_cells[method], many[method])
            lines.append([paper, reports, f"`{method}`", f"{change.mean():+.1%}", f"{change.min():+.1%}", share])
            paper, reports = "", ""
    header = [
        "paper",
        "reports",
        "here",
        "four fifths of the rows, mean of seven sets",
        "best set",
        "configurations won",
    ]
    return markdown(header, lines)


def best_of_columns(files: ResultFiles, percent: str) -> dict[str, int]:
    """Return on how many sets each method has the lowest error of all, most first."""
    frame = pd.concat([runs.frame for runs in chosen(files, FEW_AND_MANY).values()])
    errors = frame[frame.percent == percent].pivot_table("mae", "method", "task")
    return {str(name): int(count) for name, count in errors.idxmin().value_counts().items()}


def of_method(files: ResultFiles, method: str) -> str:
    """Return what one method reached, for its own page."""
    few, many = chosen(files, FEW_AND_MANY)[method], chosen(files, CONFIGURATIONS)[method]
    cells = changes_of_configurations(many)
    lines = []
    for task in SETS:
        row = [task]
        for percent in FEW_AND_MANY:
            part = few.frame[few.frame.percent == percent]
            errors = part[part.task == task].groupby("method").mae.mean()
            change = against_scratch(part, method)[percent][task]
            row += [f"{errors[few.baseline]:.3g}", f"{errors[method]:.3g} ({change:+.0%})"]
        lines.append(row)
    encoder = encoder_of(method)
    header = ["MAE", f"{encoder} from scratch, 10 %", f"`{method}`, 10 %", "from scratch, 80 %", f"`{method}`, 80 %"]
    return (
        f"{few.note(files)} {COMMAND}\n\n{markdown(header, lines)}\n\n"
        f"With this short budget, over 10 to 70 % of the rows (one seed{of_weights(many, few)}), the error changes by "
        f"{cells.to_numpy().mean():+.1%} on average, and is lower in {wins(cells)} configurations."
    )
