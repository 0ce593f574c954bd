"""What benchmarks/uncertainty.py has found of intervals and of the domain."""

from __future__ import annotations

import pandas as pd
from _common import markdown
from _domain import ERRORS, KINDS
from _sets import UNITS
from probabilities import SCORES, TASKS
from probabilities import table as classified
from uncertainty import COVERAGES, SETS

from _tables import gains
from _tables.rows import Chosen, ResultFiles, choose, counted

METHOD, OURS = "joint", "cross-validated"
SHORTER = "max_epochs=40"
SAID = {
    OURS: "**cross-validated ensemble**",
    SHORTER: f"the same with `{SHORTER}`",
    "spread": "the same networks, deviation between them",
    "shared encoder": "one encoder with five outputs, of which each leaves out a fifth",
    "forest": "quantile forest on vectors of the encoder",
    "gaussian process": "Gaussian process on vectors of the encoder",
    "mapie": "MAPIE around a single network",
}
COVERED = [f"covered_{coverage}" for coverage in COVERAGES]
FIFTHS = [f"error_fifth_{k}" for k in range(1, 6)]
REPORTED = ["jensen_shannon", "r2_pretrained", "r2_untrained", "gain_of_fits"]
FIGURES = [*COVERED, "mae", "width_90", "nll", "crps", "rank_correlation", "error_of_sure_half"]


def interval_rows(files: ResultFiles) -> Chosen:
    """Return the rows of the newest weights, with the numbers of labels that every set has."""
    return _chosen(files, "uncertainty", FIGURES)


def domain_rows(files: ResultFiles) -> Chosen:
    """Return the rows of the newest weights, with the numbers of labels that every set has."""
    return _chosen(files, "domain", ["flagged", "warned", *ERRORS])


def _chosen(files: ResultFiles, name: str, figures: list[str], changes: str = "") -> Chosen:
    frame = files.read(name)
    found = []
    for size, part in frame.groupby("size", sort=False):
        cells = [(task, size) for task in SETS]
        rows = choose(part, METHOD, cells, ["task", "size"], changes, with_baseline=False)
        found += [] if rows is None else [rows]
    if not found:
        raise SystemExit(f"{name}.csv has no complete runs {changes}")
    newest = max(found, key=lambda rows: rows.frame.weights_age.iloc[0])
    frame = pd.concat(rows.frame for rows in found if rows.weights == newest.weights)
    newest.frame = frame.assign(**{figure: pd.to_numeric(frame[figure]) for figure in figures})
    return newest


def intervals(files: ResultFiles) -> str:
    """Return what intervals hold, set by set."""
    runs = interval_rows(files)
    ours = runs.frame[runs.frame.model == OURS]
    lines = []
    for size in ours["size"].unique():
        for task in SETS:
            rows = ours[(ours.task == task) & (ours["size"] == size)]
            if rows.empty:
                continue
            mean = rows[FIGURES].mean()
            covered = [f"{100 * mean[name]:.0f} %" for name in COVERED]
            unit = f" {rows.unit.iloc[0]}" if rows.unit.iloc[0] else ""
            lines.append(
                [task, labels_said(size), rows.seed.nunique(), *covered, f"{mean.mae:.3g}{unit}",
                 f"{mean.width_90:.3g}{unit}", f"{mean.rank_correlation:.2f}", f"{mean.error_of_sure_half:.2f}"]
            )  # fmt: skip
    header = ["set", "trained on", "seeds", *(f"{c} %" for c in COVERAGES), "MAE", "width of 90 %"]
    table = markdown([*header, "rank correlation", "surer half"], lines)
    return f"{_said(files, runs)}\n\n{table}"


def models(files: ResultFiles) -> str:
    """Return means over the sets and seeds that every model has, beside other ways to make intervals."""
    shorter = _chosen(files, "uncertainty", FIGURES, SHORTER).frame
    frame = pd.concat([interval_rows(files).frame, shorter[shorter.model == OURS].assign(model=SHORTER)])
    parts = []
    for size in frame["size"].unique():
        rows = frame[frame["size"] == size]
        names = [name for name in SAID if name in set(rows.model)]
        cells = rows.groupby(["task", "seed"]).model.nunique()
        rows = rows.set_index(["task", "seed"]).loc[cells.index[cells == len(names)]]
        ours = rows[rows.model == OURS]
        lines = []
        for name in names:
            of = rows[rows.model == name]
            off = [f"{100 * of[column].groupby('task').mean().mean():.0f} %" for column in COVERED]
            ratios = [(of[column] / ours[column]).mean() for column in ("mae", "width_90", "crps")]
            lines.append(
                [SAID[name], *off, *(f"{ratio:.2f}" for ratio in ratios), f"{of.nll.sub(ours.nll).mean():+.2f}",
                 f"{of.rank_correlation.mean():.2f}", f"{of.error_of_sure_half.mean():.2f}"]
            )  # fmt: skip
        header = [labels_said(size), *(f"{c} %" for c in COVERAGES)]
        beside = ["MAE", "width of 90 %", "CRPS", "log-likelihood, negative", "rank correlation", "surer half"]
        seeds = rows.index.get_level_values("seed").nunique()
        said = f"Means over {rows.index.get_level_values('task').nunique()} sets and {counted(seeds, 'seed')}"
        parts.append(f"{said}; error, width and CRPS as ratios to the first row, log-likelihoods as differences:\n\n"
                     f"{markdown([*header, *beside], lines)}")  # fmt: skip
    return "\n\n".join(parts)


def probabilities(files: ResultFiles) -> str:
    """Return how often classifiers are right, beside what they say."""
    runs = choose(files.read("probabilities"), METHOD, [(task,) for task in TASKS], ["task"], with_baseline=False)
    if runs is None:
        raise SystemExit("probabilities.csv has no complete runs")
    frame = runs.frame.assign(**{score: pd.to_numeric(runs.frame[score]) for score in SCORES})
    return f"{runs.note(files)} `python benchmarks/probabilities.py`\n\n{classified(frame)}"


def domain_errors(files: ResultFiles) -> str:
    """Return how errors of random test crystals grow with their distance from training."""
    runs = domain_rows(files)
    held = runs.frame[runs.frame.kind == "held-out"]
    lines = []
    for size in held["size"].unique():
        for task in SETS:
            rows = held[(held.task == task) & (held["size"] == size)]
            if len(rows):
                mean = rows[["flagged", *ERRORS]].mean()
                fifths = [f"{mean[name]:.2f}" for name in FIFTHS]
                flagged = f"{100 * mean.flagged:.0f} %"
                lines.append(
                    [task, labels_said(size), rows.seed.nunique(), *fifths, flagged, f"{mean.error_ratio:.1f}"]
                )  # fmt: skip
    header = [
        "set",
        "trained on",
        "seeds",
        "nearest fifth",
        "second",
        "third",
        "fourth",
        "farthest",
        "flagged",
        "error of flagged",
    ]
    return f"{_said(files, runs)}\n\n{markdown(header, lines)}"


def domain_kinds(files: ResultFiles) -> str:
    """Return which part of crystals of other kinds is flagged."""
    frame = domain_rows(files).frame
    lines = []
    for kind in KINDS[1:]:
        rows = frame[frame.kind == kind]
        if len(rows):
            cells = rows.groupby(["task", "size"])[["flagged", "warned"]].mean()
            lines.append([kind, *(_range(cells[name]) for name in ("flagged", "warned"))])
    return markdown(["crystals", "`domain` flags", "`predict` warns"], lines)


def _range(shares: pd.Series) -> str:
    low, high = (f"{100 * value:.0f}" for value in (shares.min(), shares.max()))
    return f"{low} %" if low == high else f"{low}-{high} %"


def transfer(files: ResultFiles) -> str:
    """Return what the transfer report says of 100 training crystals, beside what test crystals have shown."""
    frame = files.read("transfer")
    runs = choose(frame[frame.fits == "True"], METHOD, [(task,) for task in UNITS], ["task"], with_baseline=False)
    if runs is None:
        raise SystemExit("transfer.csv has no complete runs")
    shown = gains.changes(gains.chosen(files, ["few"]), ["100"])["100"]
    lines = []
    for task in UNITS:
        rows = runs.frame[runs.frame.task == task]
        mean = rows[REPORTED].astype(float).mean()
        measured = f"{shown[task]:+.0%}" if task in shown else "not measured"
        lines.append(
            [task, *(f"{mean[name]:.2f}" for name in REPORTED[:-1]), f"{-mean[REPORTED[-1]]:+.0%}",
             ", ".join(rows.verdict), measured]
        )  # fmt: skip
    header = [
        "set",
        "elements apart (Jensen-Shannon)",
        "R², pretrained",
        "R², untrained",
        "error, inner splits",
        "verdict",
    ]
    table = markdown([*header, "error, test crystals"], lines)
    return f"{runs.note(files)} `python benchmarks/transfer.py --fits`\n\n{table}"


def labels_said(size: str) -> str:
    """Return how many crystals are trained on, in words."""
    return f"{size[:-1]} % of the rows" if size.endswith("%") else f"{size} labels"


def _said(files: ResultFiles, runs: Chosen) -> str:
    return f"{runs.note(files)} `python benchmarks/uncertainty.py`"
