"""How many times as fast as others, of the results of benchmarks/speed.py."""

from __future__ import annotations

import json

from _common import markdown

from _tables.rows import ResultFiles

# How the name of a row begins, the peer, and how the README calls them.
ROWS = [
    (
        "structures to 12 nearest",
        "CGCNN's published way",
        "structures to 12-neighbour graphs",
        "CGCNN's published code",
    ),
    ("structures to 12 nearest", "pymatgen, get_neighbor_list + sort", "", "pymatgen's neighbour list"),
    ("structures to radius graphs", "matgl", "structures to graphs of 5 Å", "matgl"),
    ("CIF files to radius graphs", "pymatgen + matgl", "CIF files to graphs of 5 Å", "pymatgen and matgl"),
    ("training CGCNN", "PyG CGConv", "training CGCNN", "PyTorch Geometric's layer"),
    ("training GatedGCN", "plain PyTorch", "finetuning GatedGCN, the default", "its equations in PyTorch"),
    ("training MEGNet", "matgl", "finetuning MEGNet", "matgl"),
    ("training ALIGNN", "alignn", "training ALIGNN", "alignn"),
]


def table(files: ResultFiles) -> str:
    """Return the lowest and highest ratio on one core over the sets or sizes that were timed."""
    parts = json.loads((files.folder / "speed.json").read_text(encoding="utf-8"))["parts"]
    timed = [row for part in parts.values() for row in part.get("rows", []) if row["threads"] == 1]
    lines = []
    for name, peer, title, called in ROWS:
        ratios = [
            row["contenders"][peer]["ratio"]
            for row in timed
            if row["name"].startswith(name) and peer in row["contenders"] and row["base"] == "crystalssl"
        ]
        if ratios:
            ends = dict.fromkeys(
                f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}" for ratio in (min(ratios), max(ratios))
            )
            lines.append([title, called, f"{' to '.join(ends)} times"])
    return markdown(["one CPU core", "against", "as fast"], lines)
