"""The pictures of README and docs, each of which carries a hash of the numbers that it shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import joblib
import matplotlib
import pandas as pd
from _sets import UNITS
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, PercentFormatter
from PIL import Image
from study import PARTS, SETS

from _tables import gains, trust
from _tables.rows import ResultFiles
from crystalssl.plotting import LabelEfficiencyDisplay

matplotlib.use("Agg")
FIELD = "crystalssl-data"  # of the PNG file, which holds the hash
TITLES = {
    "jdft2d": "exfoliation energy (jdft2d)",
    "phonons": "highest phonon frequency",
    "dielectric": "dielectric constant, log",
    "log10 K": "bulk modulus, log",
    "log10 G": "shear modulus, log",
    "perovskites": "heat of formation, perovskites",
    "formation energy": "formation energy",
}


def label_efficiency_data(files: ResultFiles) -> pd.DataFrame:
    """Return the errors of the default and of its encoder from scratch, with 25 labels to 80 % of the rows at most."""
    runs = {part: gains.chosen(files, [part]) for part in PARTS}
    measured = {(part.weights, part.version, *sorted(part.frame.seed.unique())) for part in runs.values()}
    # One line is of one pretraining, and its points of the same seeds, or it jumps where these change. Few labels are
    # what the picture is about.
    if len(measured) > 1:
        runs = {"few": runs["few"]}
    frame = pd.concat([part.frame.assign(part=name) for name, part in runs.items()])
    return frame[["part", "task", "method", "size", "n_labels", "seed", "mae", "weights", "version"]]


def draw_label_efficiency(frame: pd.DataFrame) -> Figure:
    """Draw errors against the number of labels, a panel for each set, and the mean gain with few."""
    figure, axes = pyplot.subplots(2, 4, figsize=(15, 6.4), layout="constrained")
    names = {"joint": "pretrained (joint)"}
    for ax, task in zip(axes.flat, SETS, strict=False):
        runs = frame[frame.task == task].replace({"method": dict.fromkeys(_scratch(frame), "from scratch") | names})
        LabelEfficiencyDisplay.from_results(runs, unit=UNITS[task], ax=ax)
        ax.set(title=TITLES[task], xscale="log", ylim=(0, None))
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.xaxis.set_minor_formatter("")
        if task != SETS[0]:
            ax.get_legend().remove()
    _draw_mean(frame[frame.part == "few"], axes.flat[-1])
    return figure


def _scratch(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.method.unique() if name.startswith("scratch:")]


def _draw_mean(frame: pd.DataFrame, ax: pyplot.Axes) -> None:
    """Draw the mean change over the sets with each number of labels, and that of every seed."""
    sizes = PARTS["few"][0]
    errors = frame.pivot_table("mae", ["task", "size", "seed"], "method")
    ratios = (errors["joint"] / errors[_scratch(frame)[0]] - 1).groupby(level=["size", "seed"]).mean().unstack("seed")
    ratios = ratios.loc[sizes]
    ax.bar(sizes, ratios.mean(axis=1), color="C1", alpha=0.6)
    for number, size in enumerate(sizes):
        ax.plot([number] * ratios.shape[1], ratios.loc[size], "k.", markersize=4)
    ax.axhline(0, color="C0")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set(title="mean of the seven sets (dots: seeds)", xlabel="labelled crystals")


def trust_data(files: ResultFiles) -> pd.DataFrame:
    """Return what intervals hold, and how errors grow with the distance from training, means over the seeds."""
    held = trust.interval_rows(files).frame
    held = held[held.model.isin([trust.OURS, "spread"])]
    growing = trust.domain_rows(files).frame
    growing = growing[growing.kind == "held-out"]
    what = ["task", "size", "weights", "version"]
    means = [
        held.groupby(["model", *what], as_index=False)[trust.COVERED].mean(),
        growing.groupby(what, as_index=False)[trust.FIFTHS].mean(),
    ]
    return pd.concat(means)


def draw_trust(frame: pd.DataFrame) -> Figure:
    """Draw observed against stated coverage, and the error by distance, a line for each set and size.

    Those of the first size are drawn through, those of others dashed.
    """
    sizes = frame["size"].unique().tolist()
    dashes = dict(zip(sizes, ["-", *["--"] * (len(sizes) - 1)], strict=True))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    stated = [int(name.rpartition("_")[2]) for name in trust.COVERED]
    left.plot([0, 100], [0, 100], color="0.6", linestyle="--", linewidth=1)
    for model, color, label in (("spread", "C0", "deviation between networks"), (trust.OURS, "C1", "predict_interval")):
        for size, rows in frame[frame.model == model].groupby("size", sort=False):
            held = 100 * rows[trust.COVERED].to_numpy().T
            left.plot(stated, held, color=color, linestyle=dashes[size], marker="o", markersize=3, alpha=0.7)
        left.plot([], [], color=color, marker="o", label=label)
    for size in sizes if len(sizes) > 1 else []:
        left.plot([], [], color="0.3", linestyle=dashes[size], label=f"trained on {trust.labels_said(size)}")
    left.set(xlabel="stated coverage (%)", ylabel="crystals inside (%)", xlim=(40, 100), ylim=(0, 100))
    left.legend(loc="lower right")
    rows = frame[frame.model.isna()]
    for task, part in rows.groupby("task", sort=False):
        for size, values in zip(part["size"], part[trust.FIFTHS].to_numpy(), strict=True):
            right.plot(range(1, 6), values, color=f"C{trust.SETS.index(task)}", linestyle=dashes[size], marker="o",
                       markersize=3, label=task if size == sizes[0] else None)  # fmt: skip
    right.axhline(1, color="0.6", linestyle="--", linewidth=1)
    right.set(xlabel="fifth of the test crystals by distance from training", ylabel="error, mean of all = 1")
    right.set(xticks=range(1, 6), ylim=(0, None))
    right.legend(fontsize="small")
    return figure


FIGURES: dict[str, tuple[Callable[[ResultFiles], pd.DataFrame], Callable[[pd.DataFrame], Figure]]] = {
    "label_efficiency.png": (label_efficiency_data, draw_label_efficiency),
    "trust.png": (trust_data, draw_trust),
}


def write(folder: Path, files: ResultFiles) -> list[str]:
    """Draw what is missing or shows other numbers, and return the names."""
    stale = outdated(folder, files)
    for name in stale:
        data, draw = FIGURES[name]
        frame = data(files)
        figure = draw(frame)
        figure.savefig(folder / name, dpi=100, metadata={FIELD: digest(frame)})
        pyplot.close(figure)
    return stale


def outdated(folder: Path, files: ResultFiles) -> list[str]:
    """Return the figures that are missing or show other numbers."""
    found = []
    for name, (data, _) in FIGURES.items():
        path = folder / name
        if not path.exists() or Image.open(path).info.get(FIELD) != digest(data(files)):
            found.append(name)
    return found


def digest(frame: pd.DataFrame) -> str:
    """Return a hash of the numbers that a figure shows."""
    return joblib.hash(frame.to_csv(index=False))
