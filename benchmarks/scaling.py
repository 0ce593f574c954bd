"""Memory and time as the work grows.

    python benchmarks/scaling.py                 # everything, at most 15 minutes and 8 GiB
    python benchmarks/scaling.py --report --docs # nothing is measured: docs/performance.md from the results

Every case runs in a process of its own, which reads its crystals, notes its memory and then works, so that what grows
is the work's. More crystals than the corpus has are the corpus repeated. Rows are appended to results/scaling.csv, and
a case that is there is not run again.

build       structures to graphs, kept in memory
shards      the same in shards that are saved, so that one is in memory at a time; for 1,000,000 crystals
embed       vectors of crystals by the bundled "barlow", from graphs in memory
stream      the same from the saved shards, memory-mapped
pretrain    one epoch of Barlow Twins with CGCNN
fit         one epoch of CrystalSSLRegressor; peak memory says whether it holds a second copy of the graphs
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _common import ROOT, Results, data_file, machine, make_parser, markdown
from _documents import write_section
from _memory import MIB, Peak

KEYS = ["task", "crystals", "jobs", "threads"]
SHARD = 20_000  # crystals per saved folder
CORPUS = 28_801
# One epoch of 10,000 crystals says what one of a million takes.
CASES: list[dict[str, Any]] = [
    {"task": task, "crystals": crystals, "jobs": jobs}
    for task, sizes, jobs in (
        ("build", (1_000, 10_000, CORPUS, 100_000), 1),
        ("build", (10_000, CORPUS), 2),
        ("embed", (1_000, 10_000, CORPUS, 100_000), 1),
        ("pretrain", (1_000, 10_000, CORPUS), 1),
        ("fit", (1_000, 10_000, CORPUS), 1),
        ("shards", (1_000_000,), 1),
        ("stream", (100_000,), 1),
    )
    for crystals in sizes
]


# ---------------------------------------------------------------- in the case's own process


def repeated(structures: list[Any], size: int) -> list[Any]:
    return (structures * -(-size // len(structures)))[:size]


def run_case(case: dict[str, Any], path: Path) -> dict[str, Any]:
    """Run a case in this process, and return its row."""
    from crystalssl.datasets import read_optimade_parquet

    torch.set_num_threads(case["threads"])
    structures = read_optimade_parquet(path, columns=[]).data
    order = np.random.default_rng(0).permutation(len(structures))
    structures = [structures[i] for i in order]
    row = {**case, **TASKS[case["task"]](structures, case["crystals"], case["jobs"])}
    row["bytes_per_edge"] = row["graph_bytes"] / row["edges"]
    return {**row, "machine": machine(), "load_average": os.getloadavg()[0]}


def timed(work: Callable[[], Any], graphs: Callable[[Any], tuple[int, int]]) -> dict[str, Any]:
    """Return time and memory of some work, and the edges and bytes of the graphs that it made or read."""
    with Peak() as peak:
        started = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - started
    edges, size = graphs(result)
    return {"seconds": seconds, "peak_bytes": peak.grown, "edges": edges, "graph_bytes": size}


def build(structures: list[Any], size: int, jobs: int) -> dict[str, Any]:
    from crystalssl import CrystalGraphTransformer

    CrystalGraphTransformer(n_jobs=jobs).transform(structures[:2048])  # imports, and worker processes, are there
    many = repeated(structures, size)
    return timed(lambda: CrystalGraphTransformer(n_jobs=jobs).transform(many), lambda graphs: size_of([graphs]))


def size_of(parts: list[Any]) -> tuple[int, int]:
    return sum(graphs.n_edges for graphs in parts), sum(graphs.nbytes for graphs in parts)


def save_shards(structures: list[Any], size: int, folder: Path) -> list[Any]:
    """Save the graphs of some crystals in shards, and return the shards, memory-mapped."""
    from crystalssl import CrystalGraphs, CrystalGraphTransformer

    shards = []
    for number, start in enumerate(range(0, size, SHARD)):
        rows = np.arange(start, min(start + SHARD, size)) % len(structures)
        CrystalGraphTransformer("cgcnn").transform([structures[i] for i in rows]).save(folder / str(number))
        shards.append(CrystalGraphs.load(folder / str(number)))
    return shards


def shards(structures: list[Any], size: int, jobs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return timed(lambda: save_shards(structures, size, Path(folder)), size_of)


def _embedder(structures: list[Any]) -> Any:
    from crystalssl import PretrainedCrystalEmbedder

    embedder = PretrainedCrystalEmbedder("barlow", device="cpu").fit(structures[:2])
    embedder.transform(structures[:512])
    return embedder


def embed(structures: list[Any], size: int, jobs: int) -> dict[str, Any]:
    graphs, embedder = _graphs(structures, size), _embedder(structures)
    return timed(lambda: embedder.transform(graphs), lambda _: size_of([graphs]))


def stream(structures: list[Any], size: int, jobs: int) -> dict[str, Any]:
    embedder = _embedder(structures)
    with tempfile.TemporaryDirectory() as folder:
        saved = save_shards(structures, size, Path(folder))
        return timed(lambda: np.concatenate([embedder.transform(graphs) for graphs in saved]), lambda _: size_of(saved))


def _graphs(structures: list[Any], size: int, encoder: str = "cgcnn") -> Any:
    """Return graphs in memory, of which those beyond the corpus are copies, so that they need not be searched for."""
    from crystalssl import CrystalGraphTransformer

    once = CrystalGraphTransformer(encoder=encoder).transform(structures[:size])
    return once[np.arange(size) % len(once)] if size > len(once) else once


def pretrain(structures: list[Any], size: int, jobs: int) -> dict[str, Any]:
    from crystalssl import PretrainedCrystalEmbedder

    def run(graphs: Any) -> Any:
        return PretrainedCrystalEmbedder(
            "barlow", weights=None, max_epochs=1, validation_fraction=0.0, device="cpu", random_state=0
        ).fit(graphs)

    graphs = _graphs(structures, size)
    run(graphs[:512])
    return timed(lambda: run(graphs), lambda _: size_of([graphs]))


def fit(structures: list[Any], size: int, jobs: int) -> dict[str, Any]:
    from crystalssl import CrystalSSLRegressor

    def run(graphs: Any) -> Any:
        model = CrystalSSLRegressor(pretrain=None, encoder="cgcnn", max_epochs=1, device="cpu", random_state=0)
        return model.fit(graphs, np.random.default_rng(0).normal(size=len(graphs)))

    graphs = _graphs(structures, size)
    run(graphs[:512])
    return timed(lambda: run(graphs), lambda _: size_of([graphs]))


TASKS = {"build": build, "shards": shards, "embed": embed, "stream": stream, "pretrain": pretrain, "fit": fit}


# ---------------------------------------------------------------- report


def slope(crystals: Any, cost: Any) -> float:
    """Return the exponent p of a cost that grows as the p-th power of the number of crystals."""
    return float(np.polyfit(np.log(np.asarray(crystals, float)), np.log(np.asarray(cost, float)), 1)[0])


def marginal(size: Any, cost: Any) -> float:
    """Return by how much a cost grows with a size, between the two largest: batches' own memory grows before that."""
    size, cost = np.asarray(size, float), np.asarray(cost, float)
    last = np.argsort(size)[-2:]
    return float(np.diff(cost[last])[0] / np.diff(size[last])[0])


def report(rows: pd.DataFrame) -> str:
    """Return the tables."""
    if rows.empty:
        return "Nothing has been measured yet."
    rows = rows.astype({"crystals": int, "jobs": int})
    rows["order"] = rows["task"].map(list(TASKS).index)
    lines = []
    for _, row in rows.sort_values(["order", "jobs", "crystals"]).iterrows():
        lines.append(
            [
                row["task"] + (f", n_jobs={row['jobs']}" if row["jobs"] > 1 else ""),
                f"{row['crystals']:,}", f"{row['seconds']:.1f} s", f"{row['crystals'] / row['seconds']:,.0f}",
                f"{row['graph_bytes'] / MIB:,.0f} MiB", f"{row['peak_bytes'] / MIB:,.0f} MiB",
            ]
        )  # fmt: skip
    header = ["task", "crystals", "wall time", "crystals/s", "size of the graphs", "memory on top"]
    parts = [markdown(header, lines)]

    largest = rows.loc[rows["crystals"].idxmax()]
    facts = [
        f"`CrystalGraphs` take {largest['graph_bytes'] / largest['edges']:.1f} bytes per edge, atoms and offsets "
        f"included, and {largest['graph_bytes'] / largest['crystals']:,.0f} bytes per crystal of "
        f"{largest['edges'] / largest['crystals']:.0f} edges."
    ]
    for task, group in rows[rows["jobs"] == 1].groupby("task"):
        if len(group) >= 3:
            facts.append(
                f"{task}: time grows as the {slope(group['crystals'], group['seconds']):.2f}th power of the number of "
                f"crystals; per byte of graphs, memory on top grows by "
                f"{marginal(group['graph_bytes'], group['peak_bytes']):.2f} bytes."
            )
    for crystals, group in rows[rows["task"] == "build"].groupby("crystals"):
        by_jobs = group.set_index("jobs")["seconds"]
        if {1, 2} <= set(by_jobs.index):
            facts.append(
                f"n_jobs=2 builds {crystals:,} graphs {by_jobs[1] / by_jobs[2]:.2f} times as fast as n_jobs=1."
            )
    parts.append("\n".join(f"- {fact}" for fact in facts))
    low, high = rows["load_average"].min(), rows["load_average"].max()
    parts.append(f"{', '.join(sorted(set(rows['machine'])))}; load average {low:.1f} to {high:.1f}.")
    return "\n\n".join(parts)


def draw(rows: pd.DataFrame, path: Path) -> None:
    """Draw time and memory against the number of crystals."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullFormatter

    rows = rows.astype({"crystals": int, "jobs": int})
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
    for (task, jobs), group in rows.groupby(["task", "jobs"], sort=False):
        group = group.sort_values("crystals")
        label = task + (f", n_jobs={jobs}" if jobs > 1 else "")
        for ax, cost in zip(axes, (group["seconds"], group["peak_bytes"] / MIB), strict=True):
            ax.plot(group["crystals"], cost, "o-" if jobs == 1 else "s--", markersize=4, label=label)
    sizes = np.array(sorted(rows["crystals"].unique()))
    per_crystal = (rows["graph_bytes"] / rows["crystals"]).median()
    axes[1].plot(sizes, sizes * per_crystal / MIB, ":", color="black", label="the graphs themselves")
    for ax, label in zip(axes, ("wall time (s)", "memory on top (MiB)"), strict=True):
        ax.set(xscale="log", yscale="log", xlabel="crystals", ylabel=label)
        ax.grid(alpha=0.3)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}" if x < 1e6 else f"{x:,.0f}"))
            axis.set_minor_formatter(NullFormatter())
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylim(bottom=min(1, rows["seconds"].min()))
    axes[1].set_ylim(bottom=1)  # less is noise
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--most", type=int, default=1_000_000, help="largest number of crystals (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of torch (default: %(default)s)")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--docs", action="store_true", help="write docs/performance.md and docs/figures/scaling.png")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case is not None:
        print(json.dumps(run_case(options.case, options.data / "mp_pretrain.parquet")))
        return
    results = Results(options.results / "scaling.csv", KEYS)
    if not options.report:
        data_file(options.data, "mp_pretrain.parquet")
        for case in CASES:
            case = {**case, "threads": options.threads}
            if case["task"] not in options.tasks or case["crystals"] > options.most or results.has(case):
                continue
            print(f"{case} …", file=sys.stderr, flush=True)
            command = [sys.executable, __file__, "--data", str(options.data), "--case", json.dumps(case)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                sys.exit(f"{case} failed with exit status {done.returncode}")
            results.append(json.loads(done.stdout.splitlines()[-1]))
    rows = results.read()
    rows = rows[rows["threads"] == str(options.threads)]
    text = report(rows)
    print(text)
    if options.docs:
        draw(rows, ROOT / "docs" / "figures" / "scaling.png")
        write_section("performance.md", "benchmarks/scaling.py", text)


if __name__ == "__main__":
    main()
