"""All goals as one figure."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from .race import AT_LEAST, met
from .results import Rows, goals_of

MET, MISSED, NO_GOAL, GOAL = "#2a7f62", "#c8553d", "#8d99ae", "#222222"


def draw(groups: dict[str, Rows], path: Path) -> None:
    """Draw how many times longer others take, and below what must not take longer."""
    faster, at_most = [], []
    for name, rows in groups.items():
        goals = goals_of(rows)
        for peer in rows[0]["contenders"]:
            if peer == rows[0]["base"]:
                continue
            kind = goals[peer][0] if peer in goals else AT_LEAST
            (faster if kind == AT_LEAST else at_most).append((name, peer, rows))
    panels = [(faster, "times as long as crystalssl", True), (at_most, "times the base: lower is better", False)]
    panels = [panel for panel in panels if panel[0]]
    if not panels:
        return
    heights = [len(bars) + 2.5 for bars, _, _ in panels]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(10.5, 0.27 * sum(heights) + 1), height_ratios=heights, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for ax, (bars, label, logarithmic) in zip(axes[:, 0], panels, strict=True):
        _panel(ax, bars, label, logarithmic)
    legend = [
        Patch(color=MET, label="goal met, 1 thread"),
        Patch(color=MISSED, label="goal not met, 1 thread"),
        Patch(color=NO_GOAL, label="no goal, 1 thread"),
        Line2D([], [], color="black", marker="o", markersize=4, linestyle="", label="2 threads"),
        Line2D([], [], color=GOAL, linewidth=2, label="goal"),
    ]
    figure.legend(handles=legend, loc="outside upper center", ncols=5, frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _panel(ax: plt.Axes, bars: list[tuple[str, str, Rows]], label: str, logarithmic: bool) -> None:
    for y, (_, peer, rows) in enumerate(bars):
        first, *others = rows
        found = first["contenders"][peer]["ratio"]
        color = NO_GOAL if peer not in first["goals"] else MET if met(first, peer) else MISSED
        start = 1 if logarithmic else 0
        ax.barh(y, found - start, left=start, color=color, height=0.62)
        largest = found
        for row in others:
            ax.plot(row["contenders"][peer]["ratio"], y, "o", color="black", markersize=4)
            largest = max(largest, row["contenders"][peer]["ratio"])
        if peer in first["goals"]:
            goal = first["goals"][peer][1]
            ax.plot([goal, goal], [y - 0.42, y + 0.42], color=GOAL, linewidth=2)
            largest = max(largest, goal)
        text = f"{found:.0f}" if found >= 20 else f"{found:.2g}" if logarithmic else f"{found:.2f}"
        ax.annotate(text, (largest, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=7.5)
    ax.set_yticks(range(len(bars)), [f"{name}: {peer}" for name, peer, _ in bars], fontsize=8)
    ax.set_ylim(len(bars) - 0.4, -0.6)
    ax.set_xlabel(label, fontsize=9)
    ax.axvline(1, color="black", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    if logarithmic:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        left, right = ax.get_xlim()
        ax.set_xlim(min(left, 0.8), right * 1.5)
    else:
        ax.set_xlim(left=0, right=ax.get_xlim()[1] * 1.08)
