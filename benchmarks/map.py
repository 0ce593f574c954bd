"""How smoothly the page of `crystalssl map` moves, without a graphics card, beside a WebGL scatter of plotly.

    python benchmarks/map.py

Thirty thousand crystals of twenty atoms each are dragged over 120 steps in Chromium without a window. Prints frames per
second, those of an empty page on the same machine at the same time, how long the script of a frame takes, and the size
of the page.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from _common import ROOT, machine, markdown

from crystalssl.graphs._arrays import CrystalArrays
from crystalssl.plotting import write_map

sys.path.insert(0, str(ROOT / "tests"))
from browser import Page, open_page

STEPS = 120
# Counts frames, and how long what is asked for each takes.
COUNT = """
window.frames_ = []; window.scripts_ = [];
const ask = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (f) => ask((t) => {
  const start = performance.now(); f(t); scripts_.push(performance.now() - start);
});
(function next(t) { frames_.push(t); ask(next); })(0);
"""
EMPTY = "<!DOCTYPE html><div id=dot style='position:absolute;width:9px;height:9px;background:red'></div>"
EMPTY += "<script>onmousemove = (event) => { dot.style.left = `${event.x}px`; };</script>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=int, default=30_000)
    options = parser.parse_args()
    points = np.random.default_rng(0).normal(size=(options.crystals, 2))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pages = {"empty page": folder / "empty.html", "crystalssl map": folder / "map.html"}
        pages["empty page"].write_text(EMPTY)
        lattice = np.diag([6.0, 7.0, 8.0])
        atoms = np.random.default_rng(0).random((20, 3)) @ lattice
        numbers = np.repeat([3, 8, 22, 26], 5).astype(np.uint8)
        crystals = [CrystalArrays(numbers, atoms, lattice)] * options.crystals
        write_map(pages["crystalssl map"], crystals, points, columns={"x": points[:, 0]})
        try:
            import plotly.graph_objects as go
        except ImportError:
            print("plotly is not installed")
        else:
            marker = {"color": points[:, 0], "size": 5}
            figure = go.Figure(go.Scattergl(x=points[:, 0], y=points[:, 1], mode="markers", marker=marker))
            pages["plotly, scattergl"] = folder / "plotly.html"
            figure.update_layout(dragmode="pan").write_html(pages["plotly, scattergl"], include_plotlyjs=True)
        (folder / "profile").mkdir()
        with open_page(folder / "profile") as page:
            rows = [[title, *measure(page, path), f"{path.stat().st_size / 1e6:.1f}"] for title, path in pages.items()]
    print(f"{options.crystals} crystals, {machine()}\n")
    print(markdown(["page", "frames per second", "script per frame (ms)", "size (MB)"], rows))


def measure(page: Page, path: Path) -> list[str]:
    """Return frames per second, and milliseconds that the scripts of a frame take, both as medians."""
    page.open(path)
    page.run("new Promise((done) => setTimeout(done, 3000))")
    page.run(COUNT)
    page.mouse("mousePressed", 400, 350, button="left", clickCount=1)
    page.run("frames_.length = 0; scripts_.length = 0")
    for step in range(STEPS):
        page.mouse("mouseMoved", 400 + step, 350 + step // 2, button="left", buttons=1)
    frames, scripts = page.run("frames_"), page.run("scripts_")
    page.mouse("mouseReleased", 400 + STEPS, 350 + STEPS // 2, button="left", clickCount=1)
    return [f"{1000 / np.median(np.diff(frames)):.0f}", f"{np.median(scripts):.1f}" if scripts else "0"]


if __name__ == "__main__":
    main()
