"""What benchmarks/corpora.py measures, each in a process of its own."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from _memory import MIB, Peak

from _corpora.crystals import make_table

__all__ = ["SEEDS", "TASKS"]

SEEDS = range(3)


def corpus_of(options: argparse.Namespace) -> Path:
    folder = options.folder / f"corpus-{options.crystals}-{options.most_atoms}"
    if not folder.exists():
        sys.exit(f"There is no {folder}: run the task build first.")
    return folder


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
    return {"seconds": median(seconds), "slowest": max(seconds)}


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
    return {
        "part": n_part,
        "memory_seconds": median(memory[0] for _, memory in pairs),
        "corpus_seconds": median(disk[0] for disk, _ in pairs),
        "throughput": median(memory[0] / disk[0] for disk, memory in pairs),
        "cpu": median(disk[1] / memory[1] for disk, memory in pairs),
        "memory_waiting": median(memory[2] for _, memory in pairs),
        "corpus_waiting": median(disk[2] for disk, _ in pairs),
    }


def whole(options: argparse.Namespace) -> dict[str, Any]:
    """An epoch on the whole corpus."""
    import resource

    from crystalssl import CrystalCorpus

    folder = corpus_of(options)
    embedder().fit(CrystalCorpus.load(folder)[:512].to_graphs())
    with waiting() as waits, Peak() as peak:
        started = time.perf_counter()
        embedder().fit(folder)
        seconds = time.perf_counter() - started
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": seconds, "peak_mib": peak.grown / MIB, "process_mib": most, "first_batch": waits[0],
        "waiting": sum(waits[1:]) / seconds,
    }  # fmt: skip


def shuffle(options: argparse.Namespace) -> dict[str, Any]:
    """Losses of validation with buffers of all, an eighth, and one shard, of crystals by formula and as they come."""
    import pyarrow.parquet as pq

    from crystalssl import CrystalCorpus
    from crystalssl.graphs import CorpusWriter
    from crystalssl.io import read_crystals

    n_crystals = min(options.crystals, 8192)
    table = pq.read_table(options.table).slice(0, n_crystals)
    formulas = np.array(table["chemical_formula_reduced"].to_pylist())
    data = read_crystals(table, as_graphs=True, encoder="cgcnn", on_error="report", verbose=0)
    size = n_crystals // 64
    orders = {"sorted": np.argsort(formulas[data.rows], kind="stable"), "unsorted": np.arange(len(data.data))}
    for name, order in orders.items():
        shutil.rmtree(options.folder / name, ignore_errors=True)
        graphs = data.data[order]
        with CorpusWriter(options.folder / name, "cgcnn") as writer:
            for start in range(0, len(graphs), size):
                writer.write(graphs[start : start + size])

    def losses(name: str, buffer: int) -> np.ndarray:
        corpus = CrystalCorpus.load(options.folder / name, buffer_size=buffer)
        fits = [embedder(max_epochs=2, validation_fraction=0.1, random_state=seed).fit(corpus) for seed in SEEDS]
        return np.array([fit.history_[-1]["valid_loss"] for fit in fits])

    row = {}
    for name in orders:
        shuffled = losses(name, n_crystals)
        row |= {f"{name} all": shuffled.mean(), f"{name} sd": shuffled.std(ddof=1)}
        for part, buffer in (("eighth", n_crystals // 8), ("shard", 1)):
            changes = losses(name, buffer) - shuffled
            row[f"{name} {part} change"] = changes.mean()
            row[f"{name} {part} error"] = changes.std(ddof=1) / len(SEEDS) ** 0.5
    return {name: float(value) for name, value in row.items()}


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
