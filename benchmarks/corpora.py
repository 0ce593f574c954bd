"""A corpus out of core: what it costs to build, store, shuffle and train on, against graphs in memory.

    python benchmarks/corpora.py --folder /scratch/corpora                   # everything; 1,000,000 small crystals
    python benchmarks/corpora.py --folder /scratch/corpora --crystals 20000  # a trial
    python benchmarks/corpora.py --report --docs                             # docs/corpora.md from the results

The crystals are those of mp_pretrain.parquet of at most --most-atoms atoms, again and again, each copy with its atoms
displaced by 0.05 Å. Every task runs in a process of its own, on --threads threads; rows are appended to
results/corpora.csv, and a task that is there is not run again.

columns   bytes of each column of stored graphs, as it is mapped and packed, for the crystals as they are
build     from a Parquet file to a corpus for CGCNN, in a stream
open      from the path to the first batch of training
train     an epoch of Barlow Twins with CGCNN on the corpus, and on a tenth of it, in turn with the same in memory
shuffle   losses of validation after the same steps, on a corpus that is sorted by formula, with buffers of some sizes
screen    from Parquet to Parquet: predictions, deviations and domains, and how the time divides
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _common import ROOT, Results, data_file, machine, make_parser, markdown
from _speed.results import replace_between
from scaling import MIB, Peak

KEYS = ["task", "crystals", "most_atoms", "threads", "figure"]
SEEDS = range(3)


# ---------------------------------------------------------------- crystals


def make_table(source: Path, path: Path, crystals: int, most_atoms: int) -> None:
    """Write displaced copies of crystals to a Parquet file of OPTIMADE's columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.exists():
        return
    columns = ["immutable_id", "lattice_vectors", "species_at_sites", "cartesian_site_positions"]
    table = pq.read_table(source, columns=[*columns, "chemical_formula_reduced"])
    sizes = np.array([len(names) for names in table["species_at_sites"].to_pylist()])
    rows = np.random.default_rng(0).permutation(np.flatnonzero(sizes <= most_atoms))
    table = table.take(rows)
    rng = np.random.default_rng(1)
    partial = path.with_suffix(".partial")
    writer, written = None, 0
    for copy in itertools.count():
        if written == crystals:
            break
        part = table.slice(0, min(len(table), crystals - written))
        names = pa.array([f"{name}-{copy}" for name in part["immutable_id"].to_pylist()])
        part = part.set_column(0, "immutable_id", names).combine_chunks()
        if copy:
            lists = part["cartesian_site_positions"].combine_chunks()
            inner = lists.flatten()
            moved = inner.flatten().to_numpy(zero_copy_only=False) + rng.normal(0, 0.05, 3 * len(inner))
            lists = pa.ListArray.from_arrays(
                lists.offsets, pa.ListArray.from_arrays(np.arange(len(inner) + 1, dtype=np.int32) * 3, pa.array(moved))
            )
            part = part.set_column(
                part.schema.get_field_index("cartesian_site_positions"), "cartesian_site_positions", lists
            )
            schema = writer.schema
            part = part.cast(schema)
        writer = writer or pq.ParquetWriter(partial, part.schema)
        writer.write_table(part, row_group_size=10_000)
        written += len(part)
    writer.close()
    partial.rename(path)


def corpus_of(options: argparse.Namespace) -> Path:
    folder = options.folder / f"corpus-{options.crystals}-{options.most_atoms}"
    if not folder.exists():
        sys.exit(f"There is no {folder}: run the task build first.")
    return folder


# ---------------------------------------------------------------- tasks, each in its own process


def columns(options: argparse.Namespace) -> dict[str, Any]:
    """Bytes per crystal of each column, for the crystals as they are."""
    from crystalssl.graphs._packing import pack
    from crystalssl.io import read_crystals

    graphs = read_crystals(options.source, as_graphs=True, on_error="report", encoder=options.encoder, verbose=0).data
    packed = pack(graphs.columns)
    sizes = {f"plain {name}": column.nbytes / len(graphs) for name, column in graphs.columns.items()}
    sizes |= {f"packed {name}": column.nbytes / len(graphs) for name, column in packed.items()}
    return {"atoms": graphs.n_atoms / len(graphs), "edges": graphs.n_edges / len(graphs), **sizes}


def build(options: argparse.Namespace) -> dict[str, Any]:
    """A corpus from Parquet, in a stream."""
    from crystalssl import CrystalCorpus
    from crystalssl.io import write_corpus

    folder = options.folder / f"corpus-{options.crystals}-{options.most_atoms}"
    shutil.rmtree(folder, ignore_errors=True)
    write_corpus(options.table.parent / "warm-up.parquet", options.folder / "warm-up", encoder="cgcnn", verbose=0)
    with Peak() as peak:
        started, busy = time.perf_counter(), time.process_time()
        write_corpus(options.table, folder, encoder="cgcnn", on_error="report", verbose=0)
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
    corpus = CrystalCorpus.load(folder)
    atoms = sum(shard.n_atoms for shard in corpus._shards.shards)
    return {
        "seconds": seconds, "cpu_seconds": busy, "peak_mib": peak.grown / MIB, "shards": len(corpus.shards),
        "bytes_per_crystal": corpus.nbytes / len(corpus), "atoms": atoms / len(corpus), "failed": len(corpus.report),
    }  # fmt: skip


def embedder(**params: Any) -> Any:
    from crystalssl import PretrainedCrystalEmbedder

    settings = {"weights": None, "max_epochs": 1, "batch_size": 128, "validation_fraction": 0.0, "random_state": 0}
    return PretrainedCrystalEmbedder("barlow", encoder="cgcnn", device="cpu", **settings | params)


def open_corpus(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds from the path to the first batch of an epoch in random order."""
    from crystalssl import CrystalCorpus
    from crystalssl.training import BatchIterator, CrystalDataset

    folder, seconds = corpus_of(options), []
    for seed in range(5):
        started = time.perf_counter()
        corpus = CrystalCorpus.load(folder)
        batches = iter(BatchIterator(CrystalDataset(corpus), 128, True, torch.Generator().manual_seed(seed)))
        next(batches)
        seconds.append(time.perf_counter() - started)
        batches.close()
    return {"seconds": statistics.median(seconds), "slowest": max(seconds)}


@contextlib.contextmanager
def waiting() -> Iterator[list[float]]:
    """Note how long training waits for each batch."""
    from crystalssl.training import BatchIterator

    waits: list[float] = []
    original = BatchIterator.__iter__

    def timed(self: Any) -> Iterator[Any]:
        batches = iter(original(self))
        while True:
            started = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            waits.append(time.perf_counter() - started)
            yield batch

    BatchIterator.__iter__ = timed
    try:
        yield waits
    finally:
        BatchIterator.__iter__ = original


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Epochs on a tenth of the corpus, with a buffer of an eighth of that, and in memory, in turn."""
    from crystalssl import CrystalCorpus

    folder, n_part = corpus_of(options), options.crystals // 10
    corpus = CrystalCorpus.load(folder, buffer_size=n_part // 8)[:n_part]
    graphs = corpus.to_graphs()
    embedder().fit(graphs[:512])

    def epoch(X: Any) -> tuple[float, float, float]:
        with waiting() as waits:
            started, busy = time.perf_counter(), time.process_time()
            embedder().fit(X)
            seconds = time.perf_counter() - started
        return seconds, time.process_time() - busy, sum(waits[1:]) / seconds

    pairs = [(epoch(corpus), epoch(graphs)) for _ in range(options.rounds)]
    del graphs
    median = lambda values: statistics.median(values)  # noqa: E731
    row = {
        "part": n_part,
        "memory_seconds": median(memory[0] for _, memory in pairs),
        "corpus_seconds": median(disk[0] for disk, _ in pairs),
        "throughput": median(memory[0] / disk[0] for disk, memory in pairs),
        "cpu": median(disk[1] / memory[1] for disk, memory in pairs),
        "memory_waiting": median(memory[2] for _, memory in pairs),
        "corpus_waiting": median(disk[2] for disk, _ in pairs),
    }
    return row


def whole(options: argparse.Namespace) -> dict[str, Any]:
    """An epoch on the whole corpus."""
    folder = corpus_of(options)
    embedder().fit(_some(folder))
    with waiting() as waits, Peak() as peak:
        started = time.perf_counter()
        embedder().fit(folder)
        seconds = time.perf_counter() - started
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": seconds, "peak_mib": peak.grown / MIB, "process_mib": most, "first_batch": waits[0],
        "waiting": sum(waits[1:]) / seconds,
    }  # fmt: skip


def _some(folder: Path) -> Any:
    from crystalssl import CrystalCorpus

    return CrystalCorpus.load(folder)[:512].to_graphs()


def shuffle(options: argparse.Namespace) -> dict[str, Any]:
    """Losses of validation with buffers of all, an eighth, and one shard of a sorted corpus; of four seeds."""
    import pyarrow.parquet as pq

    from crystalssl import CrystalCorpus
    from crystalssl.graphs import CorpusWriter
    from crystalssl.io import read_crystals

    n_crystals = min(options.crystals, 8192)
    table = pq.read_table(options.table).slice(0, n_crystals)
    formulas = np.array(table["chemical_formula_reduced"].to_pylist())
    data = read_crystals(table, as_graphs=True, encoder="cgcnn", on_error="report", verbose=0)
    graphs = data.data[np.argsort(formulas[data.rows], kind="stable")]
    folder = options.folder / "sorted"
    shutil.rmtree(folder, ignore_errors=True)
    size = n_crystals // 64
    with CorpusWriter(folder, "cgcnn") as writer:
        for start in range(0, len(graphs), size):
            writer.write(graphs[start : start + size])
    row: dict[str, Any] = {}
    for method in ("barlow",):
        losses = {
            name: [_loss(method, CrystalCorpus.load(folder, buffer_size=buffer), seed) for seed in SEEDS]
            for name, buffer in (("all", n_crystals), ("eighth", n_crystals // 8), ("shard", 1))
        }
        row |= {f"{method} {name}": float(np.mean(values)) for name, values in losses.items()}
        row[f"{method} sd"] = float(np.std(losses["all"], ddof=1))
        for name in ("eighth", "shard"):
            changes = np.subtract(losses[name], losses["all"])
            row[f"{method} {name} change"] = float(changes.mean())
            row[f"{method} {name} error"] = float(changes.std(ddof=1) / len(SEEDS) ** 0.5)
    return row


def _loss(method: str, corpus: Any, seed: int) -> float:
    from crystalssl import PretrainedCrystalEmbedder

    model = PretrainedCrystalEmbedder(
        method, encoder="cgcnn", weights=None, max_epochs=2, batch_size=128, validation_fraction=0.1, device="cpu",
        learning_rate=1e-3, random_state=seed,
    )  # fmt: skip
    return model.fit(corpus).history_[-1]["valid_loss"]


def screen(options: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds of `crystalssl screen` on some of the crystals, and of its parts alone."""
    from click.testing import CliRunner

    from crystalssl import CrystalSSLRegressor
    from crystalssl.cli import cli
    from crystalssl.datasets import load_prototypes
    from crystalssl.io import iter_crystals

    size = min(options.crystals, options.screened)
    table, model, out = (options.folder / name for name in (f"screened-{size}.parquet", "model", "predictions"))
    make_table(options.source, table, size, options.most_atoms)
    for folder in (model, out):
        shutil.rmtree(folder, ignore_errors=True)
    X, y = load_prototypes(return_X_y=True)
    CrystalSSLRegressor(max_epochs=1, ensemble_size=2, random_state=0).fit(X, y).save(model)

    def cpu(work: Callable[[], Any]) -> tuple[float, float, Any]:
        started, busy = time.perf_counter(), time.process_time()
        result = work()
        return time.process_time() - busy, time.perf_counter() - started, result

    def read(**how: Any) -> int:
        return sum(len(chunk) for chunk in iter_crystals(table, as_graphs=True, on_error="report", verbose=0, **how))

    def run() -> Any:
        command = ["screen", model, table, "--top", "20", "--domain", "--all", out, "-o", out.with_suffix(".csv"), "-q"]
        return CliRunner().invoke(cli, [*map(str, command)])

    read()  # what is imported is there
    rows, _, _ = cpu(lambda: read(chunks=slice(10**9, None)))
    graphs, _, n_crystals = cpu(read)
    with Peak() as peak:
        whole, seconds, result = cpu(run)
    if result.exit_code not in (0, 3):
        raise result.exception or RuntimeError(result.output)
    again, _, _ = cpu(run)
    return {
        "screened": n_crystals, "cpu_seconds": whole, "seconds": seconds, "reading": rows, "graphs": graphs - rows,
        "network": whole - graphs, "peak_mib": peak.grown / MIB, "again": again,
    }  # fmt: skip


TASKS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "columns": columns,
    "build": build,
    "open": open_corpus,
    "train": train,
    "whole": whole,
    "shuffle": shuffle,
    "screen": screen,
}


# ---------------------------------------------------------------- report


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
        parts.append(markdown(["", "", "crystals"], lines))
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
    part = f"{f['part']:,.0f} of them"
    return [
        (f"Barlow Twins with CGCNN on {part}: throughput, in memory = 100 %", f"{100 * f['throughput']:.0f} %"),
        ("the same: CPU seconds, in memory = 100 %", f"{100 * f['cpu']:.0f} %"),
        ("the same: time waiting for batches, corpus", f"{100 * f['corpus_waiting']:.1f} %"),
        ("the same: time waiting for batches, in memory", f"{100 * f['memory_waiting']:.1f} %"),
    ]


def _whole(f: dict[str, float]) -> list[tuple[str, str]]:
    return [
        ("an epoch on all: memory on top", f"{f['peak_mib']:.0f} MiB"),
        ("an epoch on all: memory of the process", f"{f['process_mib']:.0f} MiB"),
        ("an epoch on all: time waiting for batches", f"{100 * f['waiting']:.1f} %"),
    ]


def _shuffle(f: dict[str, float]) -> list[tuple[str, str]]:
    change = "validation loss, sorted corpus, buffer of {}, against all shuffled (" + f"{len(SEEDS)} seeds)"
    lines = [
        (
            "validation loss of Barlow Twins after 2 epochs, all shuffled; deviation over seeds",
            f"{f['barlow all']:.2f} ± {f['barlow sd']:.2f}",
        )
    ]
    for name, said in (("eighth", "an eighth"), ("shard", "one shard of 64")):
        lines.append((change.format(said), f"{f[f'barlow {name} change']:+.2f} ± {f[f'barlow {name} error']:.2f}"))
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


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--folder", type=Path, default=Path("corpora-benchmark"), help="where corpora are put")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--crystals", type=int, default=1_000_000)
    parser.add_argument("--most-atoms", type=int, default=8, help="of a cell (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    parser.add_argument("--screened", type=int, default=100_000, help="crystals of screen (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of train (default: %(default)s)")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--docs", action="store_true", help="write docs/corpora.md")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    results = Results(options.results / "corpora.csv", KEYS)
    options.encoder = "gatedgcn"
    options.table = options.folder / f"crystals-{options.crystals}-{options.most_atoms}.parquet"
    options.source = options.data / "mp_pretrain.parquet"
    if options.case is not None:
        torch.set_num_threads(options.threads)
        row = TASKS[options.case](options)
        print(json.dumps({**row, "load average": os.getloadavg()[0]}))
        return
    if not options.report:
        options.folder.mkdir(parents=True, exist_ok=True)
        source = data_file(options.data, "mp_pretrain.parquet")
        make_table(source, options.table, options.crystals, options.most_atoms)
        make_table(source, options.folder / "warm-up.parquet", 256, options.most_atoms)
        for task in options.tasks:
            case = {"task": task, **{name: getattr(options, name) for name in KEYS[1:-1]}}
            if results.has({**case, "figure": "load average"}):
                continue
            print(f"{case} …", file=sys.stderr, flush=True)
            done = subprocess.run(
                [sys.executable, *sys.argv, "--case", task], stdout=subprocess.PIPE, text=True, check=False
            )
            if done.returncode:
                sys.exit(f"{case} failed with exit status {done.returncode}")
            for figure, value in json.loads(done.stdout.splitlines()[-1]).items():
                results.append({**case, "figure": figure, "value": value, "machine": machine()})
    text = report(results.read())
    print(text)
    if options.docs:
        page = ROOT / "docs" / "corpora.md"
        page.write_text(replace_between(page.read_text(), "benchmarks/corpora.py", text))


if __name__ == "__main__":
    main()
