"""Ablation, probes, the noise of CDSSL, what pretraining cost."""

from __future__ import annotations

import pandas as pd
from _common import SCRATCH, encoder_of, markdown, weights_sha256
from ablation import SIZE, table_of

from _tables.methods import bundled
from _tables.rows import SHORT, ResultFiles, choose, counted

FIRST = {"finetuning": "full", "scratch": "full", "pretraining": "full", "elements": "random corpus"}
TARGETS = ["log density", "log volume per atom", "formation energy", "band gap", "log10 K"]
ALIGNN = f"{SCRATCH}alignn"
# Of the paper, five folds: ALIGNN, and ALIGNN that has learnt stiffness of atoms before.
DSSL_TABLE_5 = {"log10 K": ("0.0574", "0.0557"), "log10 G": ("0.0720", "0.0683")}
FEATURES = {"chgnet": "CHGNet 0.3.0, a universal potential", "elements": "averaged element features"}


def ablation_rows(files: ResultFiles, table: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the newest rows of a table of benchmarks/ablation.py, those of one version, and their variants."""
    frame = files.read("ablation")
    frame = frame[(frame.table == table) & (frame.changes == "")]
    frame = frame[frame.age == frame[frame.variant == FIRST[table]].age.max()]
    # Rows of other weights are those of an earlier pretraining.
    frame = frame[frame.weights == frame.groupby("variant").weights.transform("last")]
    return frame, [FIRST[table], *(name for name in frame.variant.unique() if name != FIRST[table])]


def ablation(files: ResultFiles, table: str) -> str:
    """Return errors with one part taken away at a time."""
    frame, variants = ablation_rows(files, table)
    command = f"`python benchmarks/ablation.py --tables {table}`"
    if frame.empty:
        return f"*Not measured yet:* {command}"
    text, seeds = table_of(frame, variants)
    said = f"*Version {frame.version.iloc[0]}, {SIZE} labels, seeds: {seeds}*"
    return f"{said}; in brackets the change against the first row. {command}\n\n{text}"


def change_of(files: ResultFiles, table: str, variant: str) -> tuple[float, int, str]:
    """Return the mean change of the error by a variant, over how many seeds, with which version."""
    frame, _ = ablation_rows(files, table)
    errors = frame.pivot_table("mae", ["task", "seed"], "variant")[[FIRST[table], variant]].dropna()
    means = errors.groupby("task").mean()
    change = (means[variant] / means[FIRST[table]] - 1).mean()
    return float(change), errors.index.unique("seed").size, frame.version.iloc[0]


def probes(files: ResultFiles) -> str:
    """Return R² of ridge regression on the vectors of every encoder, trained and untrained."""
    frame = files.read("linear_probe")
    lines: list[list[str]] = []
    versions: dict[str, list[str]] = {}
    shown: set[str] = set()
    for method in [*bundled(), *FEATURES]:
        scratch = [] if method in FEATURES or encoder_of(method) in shown else [SCRATCH + encoder_of(method)]
        for name in [*scratch, method]:
            runs = choose(frame, name, [(target,) for target in TARGETS], ["target"], with_baseline=False)
            if runs is not None:
                scores = runs.frame.set_index("target").r2
                title = FEATURES.get(name) or f"`{name}`"
                lines.append([title, *(f"{scores[target]:.3f}" for target in TARGETS)])
                versions.setdefault(runs.version, []).append(f"`{name}` {runs.weights[:SHORT]}".strip())
        if scratch:
            shown.add(encoder_of(method))
    said = "; ".join(f"version {version}: {', '.join(names)}" for version, names in versions.items())
    return f"{markdown(['vectors', *TARGETS], lines)}\n\n*{said}.*"


def stiffness(files: ResultFiles) -> str:
    """Return what stiffness of atoms as a pretext task brings to ALIGNN, beside table 5 of DSSL's paper."""
    frame = files.read("study")
    frame = frame[(frame["size"] == "80%") & (frame.changes == "")]
    frame = frame.assign(method=frame.method.str.split("/").str[-1])  # of the folder of the weights
    frame = frame[frame.age == frame[frame.method == "stiffness"].age.max()]
    errors = frame.pivot_table("mae", ["task", "seed"], "method")[[ALIGNN, "stiffness"]].dropna()
    means, lines = errors.groupby("task").mean(), []
    for task, paper in DSSL_TABLE_5.items():
        here = [f"{error:.4f}" for error in means.loc[task]]
        cells = [[before, f"{after} ({float(after) / float(before) - 1:+.1%})"] for before, after in (here, paper)]
        lines.append([task, *cells[0], *cells[1]])
    seeds = counted(errors.index.unique("seed").size, "seed")
    header = ["MAE, log10 GPa", f"from scratch, {seeds}", "stiffness first", "paper: from scratch", "stiffness first"]
    return f"*Version {frame.version.iloc[0]}*\n\n{markdown(header, lines)}"


def sigma(files: ResultFiles) -> str:
    """Return what the noise of CDSSL is worth."""
    lines = []
    for value, part in files.read("cdssl_sigma").groupby("sigma", sort=False):
        cells = [f"{part[name].mean():.3f} ± {part[name].std():.3f}" for name in ("mae", "r2_log_volume")]
        lines.append([f"{value} Å" if float(value) else "not pretrained", *cells])
    return markdown(["σ", "MAE log10 G", "R² log volume"], lines)


def pretraining(files: ResultFiles) -> str:
    """Return what the bundled weights were made of, and how long it took."""
    lines = []
    for method in bundled():
        about = files.about(weights_sha256(method))
        if about is None:
            raise SystemExit(f"pretraining.csv has no row of the weights of {method!r} that ship")
        processor = about.machine.partition(",")[0]
        if about.device.startswith("cuda"):
            processor = about.device.replace("cuda", "Nvidia GPU")
        lines.append(
            [
                f"[`{method}`](../crystalssl/weights/{method}/README.md)",
                encoder_of(method),
                f"{int(about.n_crystals):,}",
                about.epochs,
                f"{about.seconds / 60:.0f}",
                processor,
                about.version,
                f"`{about.weights[:SHORT]}`",
            ]
        )
    header = ["weights", "encoder", "crystals", "epochs", "minutes", "processor, one thread", "version", "sha256"]
    return markdown(header, lines)
