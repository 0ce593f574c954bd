"""Draw the idea of each method: the pictures of docs/methods.

python docs/figures/methods.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

matplotlib.use("Agg")
# Letters stay text, so that the files are small; a fixed salt makes the same file of the same picture.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "crystalssl", "font.family": "sans-serif"})
FOLDER = Path(__file__).resolve().parent
DARK, LIGHT, HIDDEN, ACCENT, MUTED = "#1f4e79", "#f0a30a", "#ffffff", "#c0392b", "#777777"
SITES = np.array([[i, j] for i in range(3) for j in range(3)], float)
KINDS = np.array([(i + j) % 2 for i in range(3) for j in range(3)])


def crystal(
    ax: Axes,
    x: float,
    y: float,
    noise: float = 0.0,
    hidden: tuple[int, ...] = (),
    cut: tuple[int, ...] = (),
    seed: int = 0,
    forces: bool = False,
    title: str = "",
) -> None:
    """Draw nine atoms around (x, y) and their edges; `hidden` atoms have no element, edges of `cut` no length."""
    moved = noise * np.random.default_rng(seed).normal(size=SITES.shape)
    spots = 0.5 * (SITES - 1 + moved) + (x, y)
    edges = [(a, b) for a in range(9) for b in range(a + 1, 9) if np.isclose(np.abs(SITES[a] - SITES[b]).sum(), 1)]
    for number, (a, b) in enumerate(edges):
        style = {"color": ACCENT, "linestyle": ":"} if number in cut else {"color": MUTED}
        ax.plot(*spots[[a, b]].T, linewidth=1.2, zorder=1, **style)
    for number, (spot, kind) in enumerate(zip(spots, KINDS, strict=True)):
        fill = HIDDEN if number in hidden else (DARK, LIGHT)[kind]
        edge = ACCENT if number in hidden else "#333333"
        ax.scatter(*spot, s=95, color=fill, edgecolor=edge, linewidth=1, zorder=2)
        if number in hidden:
            ax.text(*spot, "?", ha="center", va="center", color=ACCENT, fontsize=8, zorder=3)
        if forces:
            ax.annotate(
                "",
                spot - 1.1 * moved[number],
                spot,
                zorder=4,
                arrowprops={"arrowstyle": "-|>", "color": ACCENT, "mutation_scale": 7},
            )
    ax.text(x, y + 0.86, title, ha="center", va="bottom", fontsize=9)


def box(ax: Axes, x: float, y: float, text: str, width: float = 1.3, height: float = 0.7, color: str = DARK) -> None:
    """Draw a box with its centre at (x, y)."""
    corner = (x - width / 2, y - height / 2)
    patch = FancyBboxPatch(corner, width, height, boxstyle="round,pad=0.02", facecolor="#eef3f8", edgecolor=color)
    ax.add_patch(patch)
    ax.text(x, y, text, ha="center", va="center", fontsize=9)


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], text: str = "", **style: object) -> None:
    """Draw an arrow, with a word above it."""
    style = {"color": MUTED, "arrowstyle": "-|>", "mutation_scale": 11} | style
    ax.add_patch(FancyArrowPatch(start, end, shrinkA=2, shrinkB=2, **style))
    if text:
        ax.text((start[0] + end[0]) / 2, max(start[1], end[1]) + 0.08, text, ha="center", va="bottom", fontsize=8)


def matrix(ax: Axes, x: float, y: float, values: np.ndarray, title: str) -> None:
    """Draw a matrix of shades around (x, y)."""
    size, n = 1.15, len(values)
    cell = size / n
    for i, j in np.ndindex(values.shape):
        corner = (x - size / 2 + j * cell, y + size / 2 - (i + 1) * cell)
        shade = matplotlib.colormaps["Blues"](0.1 + 0.8 * values[i, j])
        ax.add_patch(pyplot.Rectangle(corner, cell, cell, facecolor=shade, edgecolor="white", linewidth=0.5))
    ax.text(x, y + size / 2 + 0.08, title, ha="center", va="bottom", fontsize=9)


def two_views(ax: Axes, upper: dict, lower: dict) -> None:
    """Draw a crystal, two views of it, and the encoder that both go through."""
    crystal(ax, 0.8, 2, title="a crystal")
    crystal(ax, 3.3, 3.1, **upper)
    crystal(ax, 3.3, 0.9, **lower)
    for y in (3.1, 0.9):
        arrow(ax, (1.5, 2), (2.6, y))
        arrow(ax, (4.0, y), (4.9, y))
        box(ax, 5.6, y, "encoder")
    ax.plot([5.6, 5.6], [1.3, 2.7], color=MUTED, linestyle=":", linewidth=1)
    ax.text(5.68, 2, "the same\nweights", fontsize=8, va="center", color=MUTED)


def crystal_twins(ax: Axes) -> None:
    views = {"noise": 0.13, "hidden": (4,), "cut": (2, 7)}, {"noise": 0.13, "hidden": (1,), "cut": (5, 9), "seed": 3}
    two_views(ax, views[0] | {"title": "atoms moved, some hidden"}, views[1] | {"title": "drawn once more"})
    for y, name in ((3.1, "a"), (0.9, "b")):
        arrow(ax, (6.25, y), (7.15, y))
        box(ax, 7.7, y, f"projection {name}", width=1.1)
        arrow(ax, (8.25, y), (9.0, 2 + 0.25 * np.sign(y - 2)))
    matrix(ax, 9.75, 2, np.eye(6), "correlation → identity")
    ax.text(9.75, 1.05, "Barlow Twins: of features\nSimSiam: a predicts b instead", ha="center", va="top", fontsize=8)


def cdssl(ax: Axes) -> None:
    crystal(ax, 0.8, 2, title="a crystal")
    arrow(ax, (1.5, 2), (2.6, 2), "+ σ · noise")
    crystal(ax, 3.3, 2, noise=0.22, seed=1, title="perturbed, edges kept")
    arrow(ax, (4.0, 2), (4.9, 2))
    box(ax, 5.6, 2, "encoder")
    arrow(ax, (6.25, 2), (7.2, 2), "edges")
    box(ax, 7.9, 2, "linear layer")
    arrow(ax, (8.55, 2), (9.4, 2))
    ax.text(10.2, 2, "distances of the\nunperturbed crystal", ha="center", va="center", fontsize=9, color=ACCENT)
    arrow(ax, (0.8, 1.3), (10.2, 1.55), connectionstyle="arc3,rad=0.13", color=ACCENT, linestyle="--")


def spmat(ax: Axes) -> None:
    views = {"hidden": (4,), "cut": (2, 7, 10)}, {"hidden": (1, 8), "cut": (0, 5), "seed": 3}
    two_views(ax, views[0] | {"title": "atoms and edges hidden"}, views[1] | {"title": "lengths with noise (GNDN)"})
    for y in (3.1, 0.9):
        arrow(ax, (6.25, y), (8.35, 2 + 0.3 * np.sign(y - 2)))
    blocks = np.kron(np.eye(2), np.ones((3, 3)))
    matrix(ax, 9.1, 2, blocks, "crystals of one class are alike")
    for number, (name, color) in enumerate((("metals", DARK), ("insulators", LIGHT))):
        ax.text(9.78, 2.3 - 0.6 * number, name, fontsize=8, va="center", color=color, fontweight="bold")


def dssl(ax: Axes) -> None:
    crystal(ax, 0.8, 2, title="a crystal")
    crystal(ax, 3.3, 3.2, hidden=(4, 6), title="atoms hidden")
    crystal(ax, 3.3, 0.8, noise=0.14, seed=2, title="atoms moved, twice")
    for y in (3.2, 0.8):
        arrow(ax, (1.5, 2), (2.6, y))
        arrow(ax, (4.0, y), (4.9, y))
        box(ax, 5.6, y, "encoder")
    goals = {
        3.7: ("which element? (mask)", DARK),
        2.6: ("valence electrons, or stiffness,\nof every atom (dssl-ve, dssl-as)", ACCENT),
        0.8: ("the two views point the same way (cosine)", DARK),
    }
    for y, (text, color) in goals.items():
        arrow(ax, (6.3, 3.2 if y > 2 else y), (7.2, y))
        ax.text(7.3, y, text, va="center", fontsize=9, color=color)


def byol(ax: Axes) -> None:
    views = {"noise": 0.13, "hidden": (4,)}, {"noise": 0.13, "hidden": (1,), "seed": 3}
    crystal(ax, 0.8, 2, title="a crystal")
    for y, view in zip((3.1, 0.9), views, strict=True):
        crystal(ax, 3.3, y, title="a view" if y > 2 else "another", **view)
        arrow(ax, (1.5, 2), (2.6, y))
        arrow(ax, (4.0, y), (4.9, y))
    box(ax, 5.9, 3.1, "network θ", width=1.6)
    box(ax, 5.9, 0.9, "target ξ, no gradient", width=1.9, color=MUTED)
    arrow(ax, (5.9, 2.7), (5.9, 1.3), color=ACCENT)
    ax.text(6.0, 2, "ξ ← τ ξ + (1 − τ) θ", fontsize=9, va="center", color=ACCENT)
    arrow(ax, (6.75, 3.1), (7.6, 3.1))
    box(ax, 8.3, 3.1, "predictor", width=1.2)
    arrow(ax, (8.9, 3.1), (9.9, 2.2))
    arrow(ax, (6.9, 0.9), (9.9, 1.8))
    ax.text(10.3, 2, "equal", fontsize=9, va="center", ha="center", color=ACCENT)


def joint(ax: Axes) -> None:
    crystal(ax, 0.8, 2, title="a crystal")
    arrow(ax, (1.5, 2), (2.6, 2), "displaced,\nor a layer of it")
    crystal(ax, 3.3, 2, noise=0.2, seed=4, title="a frame")
    arrow(ax, (4.0, 2), (4.9, 2))
    box(ax, 5.6, 2, "encoder")
    goals = {
        3.4: "of the database: formation energy, band gap",
        2.5: "of a potential: energy, frequency, moduli, exfoliation",
        0.7: "forces and virial",
    }
    for y, text in goals.items():
        arrow(ax, (6.3, 2), (7.2, y))
        ax.text(7.3, y, text, va="center", fontsize=9, color=ACCENT if y < 2 else DARK)
    crystal(ax, 10.2, 1.0, noise=0.2, seed=4, forces=True)


PICTURES: dict[str, Callable[[Axes], None]] = {
    "crystal-twins": crystal_twins,
    "cdssl": cdssl,
    "spmat": spmat,
    "dssl": dssl,
    "byol": byol,
    "joint": joint,
}


def main() -> None:
    for name, draw in PICTURES.items():
        figure, ax = pyplot.subplots(figsize=(9.2, 3.4), layout="constrained")
        ax.set(xlim=(-0.1, 11.1), ylim=(0, 4.2), aspect="equal")
        ax.axis("off")
        draw(ax)
        figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None, "Title": f"The idea of {name}"})
        pyplot.close(figure)


if __name__ == "__main__":
    main()
