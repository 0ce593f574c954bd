"""Tables of what benchmarks/corpora.py has measured."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from _common import markdown

from _corpora.tasks import SEEDS

__all__ = ["report"]


def report(rows: pd.DataFrame) -> str:
    """Return tables of what was measured last of each task."""
    found: dict[str, dict[str, float]] = {}
    sizes: dict[str, pd.Series] = {}
    for _, row in rows.iterrows():
        found.setdefault(row["task"], {})[row["figure"]] = float(row["value"])
        sizes[row["task"]] = row
    parts = [_of_columns(found["columns"])] if "columns" in found else []
    lines = []
    for task, describe in DESCRIPTIONS.items():
        if task in found:
            of = sizes[task]
            cells = f"{int(of['crystals']):,} of at most {of['most_atoms']} atoms"
            lines += [[text, value, cells] for text, value in describe(found[task])]
    if lines:
        parts.append(markdown(["what", "measured", "crystals"], lines))
    loads = [figures["load average"] for figures in found.values()]
    if loads:
        parts.append(
            f"{', '.join(sorted(set(rows['machine'])))}, one thread; load average {min(loads):.0f} to "
            f"{max(loads):.0f}, so that times on the clock say little. CPU seconds and ratios are of one process."
        )
    return "\n\n".join(parts)


def _of_columns(figures: dict[str, float]) -> str:
    names = {
        "atom_offsets": "n_atoms",
        "edge_offsets": "n_neighbors",
        "images": "image_numbers",
        "distances": "corrections",
    }
    plain = {name.split()[1]: value for name, value in figures.items() if name.startswith("plain ")}
    packed = {name.split()[1]: value for name, value in figures.items() if name.startswith("packed ")}
    packed["image_numbers"] += packed.pop("images")
    packed["corrections"] += packed.pop("corrected")
    lines = [[f"`{name}`", f"{value:,.0f}", f"{packed[names.get(name, name)]:,.0f}"] for name, value in plain.items()]
    lines.append(["all", f"{sum(plain.values()):,.0f}", f"{sum(packed.values()):,.0f}"])
    return (
        f"Bytes per crystal of {figures['atoms']:.1f} atoms and {figures['edges']:.0f} edges, the mean of the 28,801 "
        "of mp_pretrain.parquet, for GatedGCN:\n\n" + markdown(["column", "plain", "packed"], lines)
    )


def _build(f: dict[str, float]) -> list[tuple[str, str]]:
    return [
        ("build: CPU seconds", f"{f['cpu_seconds']:.0f}"),
        ("build: memory on top", f"{f['peak_mib']:.0f} MiB"),
        (f"bytes on the disk per crystal of {f['atoms']:.1f} atoms, for CGCNN", f"{f['bytes_per_crystal']:.0f}"),
    ]


def _open(f: dict[str, float]) -> list[tuple[str, str]]:
    return [("from the path to the first batch, median of 5", f"{f['seconds']:.1f} s")]


def _train(f: dict[str, float]) -> list[tuple[str, str]]:
    part = f"Barlow Twins with CGCNN on {f['part']:,.0f} of them"
    lines = [
        (f"{part}: CPU seconds, in memory = 100 %", f"{100 * f['cpu']:.0f} %"),
        ("the same: time waiting for batches, corpus", f"{100 * f['corpus_waiting']:.1f} %"),
        ("the same: time waiting for batches, in memory", f"{100 * f['memory_waiting']:.1f} %"),
    ]
    if f["load average"] < 2:  # else the clock tells of others
        lines.insert(0, (f"{part}: throughput, in memory = 100 %", f"{100 * f['throughput']:.0f} %"))
    return lines


def _whole(f: dict[str, float]) -> list[tuple[str, str]]:
    return [
        ("an epoch on all: memory on top", f"{f['peak_mib']:.0f} MiB"),
        ("an epoch on all: memory of the process", f"{f['process_mib']:.0f} MiB"),
        ("an epoch on all: time waiting for batches", f"{100 * f['waiting']:.1f} %"),
    ]


def _shuffle(f: dict[str, float]) -> list[tuple[str, str]]:
    lines = []
    for name, said in (("sorted", "sorted by formula"), ("unsorted", "in no order")):
        lines.append(
            (
                f"validation loss of Barlow Twins after 2 epochs, corpus {said}, all shuffled; deviation over seeds",
                f"{f[f'{name} all']:.2f} ± {f[f'{name} sd']:.2f}",
            )
        )
        for part, buffer in (("eighth", "an eighth"), ("shard", "one shard of 64")):
            change, error = f[f"{name} {part} change"], f[f"{name} {part} error"]
            lines.append(
                (f"the same: change with a buffer of {buffer}, {len(SEEDS)} seeds", f"{change:+.2f} ± {error:.2f}")
            )
    return lines


def _screen(f: dict[str, float]) -> list[tuple[str, str]]:
    total = f["cpu_seconds"]
    shares = ", ".join(f"{name} {100 * f[name] / total:.0f} %" for name in ("reading", "graphs", "network"))
    return [
        (f"screen with domain, {f['screened']:,.0f} of them: crystals per CPU second", f"{f['screened'] / total:.0f}"),
        ("screen: how that divides", shares),
        ("screen: memory on top", f"{f['peak_mib']:.0f} MiB"),
        ("screen: CPU seconds of a second run, which predicts nothing", f"{f['again']:.1f}"),
    ]


DESCRIPTIONS: dict[str, Callable[[dict[str, float]], list[tuple[str, str]]]] = {
    "build": _build,
    "open": _open,
    "train": _train,
    "whole": _whole,
    "shuffle": _shuffle,
    "screen": _screen,
}
