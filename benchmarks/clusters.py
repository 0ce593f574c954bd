"""Several processes: what they gain, what they cost, and what that means for 100 million crystals.

    python benchmarks/clusters.py --parts processes       # pretraining by one and two processes, at most 10 minutes
    python benchmarks/clusters.py --parts joblib          # five folds by loky, Dask and Ray, at most 15 minutes
    python benchmarks/clusters.py --parts --docs          # nothing is measured: docs/scaling.md from the results

processes   Barlow Twins with CGCNN by ``torchrun --nproc-per-node``: crystals per second over the epochs but the first.
            Strong scaling: batches of 128, whoever shares them. Weak: 128 for each process.
joblib      ``cross_val_score`` of a finetuned regressor on graphs, five folds in two worker processes; each backend
            in turn, round by round, after a call that starts its workers and does not count. Every fit reads its
            weights: which part of its time that takes.

The crystals are the prototypes that ship with the package, so that anyone can repeat it. Rows are appended to
results/clusters.csv, with the load of the machine: two processes on two cores need a quiet one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from _common import RESULTS, Results, machine, make_parser, markdown
from _documents import write_section

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes
from crystalssl.training import distributed, load_encoder

KEYS = ["part", "name", "processes"]
SAID = {
    "one": ("Barlow Twins, one process, batches of 128", "crystals/s"),
    "strong": ("two processes that share the batches", "crystals/s"),
    "weak": ("two processes, batches of 256", "crystals/s"),
    "loky": ("five folds in two processes of joblib", "times joblib's time"),
    "dask": ("the same by Dask", "times joblib's time"),
    "ray": ("the same by Ray", "times joblib's time"),
    "reading weights": ("reading the weights, which every fit does", "times the whole fit"),
}
EPOCHS = 4
BATCH = 128

# ---------------------------------------------------------------- pretraining


def pretrain(output: Path, batch_size: int) -> None:
    """What each process of a job does; the first one writes crystals per second."""
    structures = load_prototypes(return_X_y=True)[0] * 4
    embedder = PretrainedCrystalEmbedder(
        "barlow", weights=None, max_epochs=EPOCHS, batch_size=batch_size, validation_fraction=0.0, random_state=0
    )
    with distributed() as ranks:
        graphs = CrystalGraphTransformer(encoder="cgcnn").transform(structures)
        embedder.fit(graphs)
    if ranks.rank == 0:
        seconds = statistics.median(epoch["dur"] for epoch in embedder.history_[1:])
        output.write_text(json.dumps(len(graphs) / seconds))


def time_processes() -> Iterator[dict[str, Any]]:
    for name, processes, batch_size in [("one", 1, BATCH), ("strong", 2, BATCH), ("weak", 2, 2 * BATCH)]:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "speed.json"
            command = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), __file__]
            arguments = ["--as-process", str(output), str(batch_size)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run([sys.executable, "-m", *command, *arguments], env=environment, check=True)
            yield {"part": "processes", "name": name, "processes": processes, "value": json.loads(output.read_text())}


# ---------------------------------------------------------------- joblib


@contextlib.contextmanager
def backend(name: str, processes: int) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        if name == "dask":
            from distributed import Client, LocalCluster

            cluster = stack.enter_context(
                LocalCluster(n_workers=processes, threads_per_worker=1, dashboard_address=None)
            )
            stack.enter_context(Client(cluster))
        elif name == "ray":
            import ray
            from ray.util.joblib import register_ray

            ray.init(num_cpus=processes, include_dashboard=False, log_to_driver=False)
            stack.callback(ray.shutdown)
            register_ray()
        yield lambda: joblib.parallel_config(name, n_jobs=processes)


def time_joblib(rounds: int) -> Iterator[dict[str, Any]]:
    from sklearn.model_selection import cross_val_score

    structures, y = load_prototypes(return_X_y=True)
    known = set(PretrainedCrystalEmbedder("barlow").fit(structures).elements_)
    rows = [row for row, crystal in enumerate(structures) if known.issuperset(crystal.atomic_numbers)]
    graphs, y = CrystalGraphTransformer(encoder="cgcnn").transform([structures[row] for row in rows]), y[rows]
    model = CrystalSSLRegressor(pretrain="barlow", max_epochs=3, random_state=0)
    times: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        backends = {}
        for name in ("loky", "dask", "ray"):
            try:
                backends[name] = stack.enter_context(backend(name, 2))
            except ModuleNotFoundError as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
        for number in range(rounds + 1):
            for name, configured in backends.items():
                started = time.perf_counter()
                with configured():
                    scores = cross_val_score(model, graphs, y, cv=5, error_score="raise")
                if number:
                    times.setdefault(name, []).append(time.perf_counter() - started)
                print(f"{name}: {time.perf_counter() - started:.1f} s, {np.mean(scores)!r}", file=sys.stderr)
    for name, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, times["loky"], strict=True))
        yield {"part": "joblib", "name": name, "processes": 2, "value": ratio}
    started = time.perf_counter()
    model.fit(graphs, y)
    whole = time.perf_counter() - started
    loading = statistics.median(timeit.repeat(lambda: load_encoder("barlow"), number=1, repeat=5))
    yield {"part": "joblib", "name": "reading weights", "processes": 1, "value": loading / whole}


# ---------------------------------------------------------------- what follows from it


def arithmetic(n_crystals: float = 1e8, n_gpus: int = 8, epochs: int = 15) -> str:
    """Return what so many crystals take on one machine, as a Markdown table with its assumptions."""
    scaling = pd.read_csv(RESULTS / "scaling.csv").set_index(["task", "crystals"])
    shards = scaling.loc[("shards", 1_000_000)]
    per_core, bytes_each = 1e6 / shards["seconds"], shards["graph_bytes"] / 1e6
    gpu = next(row for row in json.loads((RESULTS / "gpu.json").read_text())["rows"] if row["encoder"] == "cgcnn")
    fed = gpu["train"] / 2
    rows = [
        ["Graphs", f"{per_core:,.0f} crystals/s per core (`scaling.py`, `shards`)", "112 cores",
         hours(n_crystals / per_core / 112)],
        ["Disk", f"{bytes_each:,.0f} bytes per crystal of {shards['edges'] / 1e6:.0f} edges (`scaling.py`)", "",
         f"{n_crystals * bytes_each / 1e12:.2f} TB"],
        ["Pretraining", f"{fed:,.0f} crystals/s per GPU, two views each (`gpu.py`, half of `train` of CGCNN)",
         f"{n_gpus} GPUs, each as fast as one alone, {epochs} epochs", hours(epochs * n_crystals / fed / n_gpus)],
        ["Vectors", f"{gpu['embed']:,.0f} crystals/s per GPU (`gpu.py`, `embed`)", f"{n_gpus} GPUs",
         hours(n_crystals / gpu["embed"] / n_gpus)],
    ]  # fmt: skip
    return markdown(["step", "measured", "assumed", "for 100 million crystals"], rows)


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def report(path: Path) -> str:
    found = Results(path, KEYS).read()
    follows = f"For 100 million crystals on one DGX H100:\n\n{arithmetic()}"
    if not len(found):
        return follows
    rows = []
    for _, row in found.iterrows():
        rows.append([*SAID[row["name"]], f"{row['value']:.3g}", row["load_average"]])
    table = markdown(["what", "in", "found", "load average before"], rows)
    machines = "; ".join(found["machine"].unique())
    return f"{machines}.\n\n{table}\n\n{follows}"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--parts", nargs="*", choices=["processes", "joblib"], default=["processes", "joblib"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--docs", action="store_true", help="write docs/scaling.md")
    parser.add_argument("--as-process", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_process:
        pretrain(Path(options.as_process[0]), int(options.as_process[1]))
        return
    path = options.results / "clusters.csv"
    results = Results(path, KEYS)
    measuring = {"processes": time_processes, "joblib": lambda: time_joblib(options.rounds)}
    for part in options.parts:
        load = os.getloadavg()[0]
        for row in measuring[part]():
            results.append({**row, "machine": machine(), "load_average": load})
    text = report(path)
    print(text)
    if options.docs:
        write_section("scaling.md", "benchmarks/clusters.py", text)


if __name__ == "__main__":
    main()
