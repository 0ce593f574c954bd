"""Every encoder on an Nvidia GPU: crystals per second, the largest batch that fits, and peak memory.

    python benchmarks/gpu.py --output gpu.json             # all encoders, within a minute
    python benchmarks/gpu.py --output gpu.json --seconds 150 --encoders gatedgcn alignn
    python benchmarks/gpu.py --docs                        # nothing is measured: docs/scaling.md from results/gpu.json
    pytest -q -n 0 -k "cuda or gpu" tests                  # the tests that need a GPU

The crystals ship with the package, so that nothing else has to be on the machine: the structure prototypes, of twelve
atoms each on average. Rows are one per encoder and way of computing:

highest, high   the precisions of the estimators
plain           "highest" by the plain forms of the layers, which torch computes operation by operation
bf16            the plain forms in ``torch.autocast`` with bfloat16

Of each, in crystals per second:

train        steps of AdamW from the iterator on: batches are made on the CPU and sent on the way
train_ahead  the same, made by a thread while the card computes, as the estimators do it
train_pinned the same, sent from pinned memory without waiting
train_ready  the same of batches that lie on the card already: what the card alone can do
embed        vectors of crystals, from the iterator on
embed_ready  the same of batches that lie on the card already

``waits`` is the share of ``train`` in which the card does nothing, ``step_bytes`` the peak memory of a step. The
largest batch is searched by doubling, until one does not fit or the time of the encoder is over; ``largest_is_bound``
says that the next one was seen to fail. What fails is recorded with its error, and the others go on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from _documents import write_section
from torch import Tensor, nn
from torch_geometric.data import Batch

from crystalssl import CrystalGraphs, CrystalGraphTransformer, __version__
from crystalssl.datasets import load_prototypes
from crystalssl.encoders import ENCODERS
from crystalssl.training import BatchIterator, CrystalDataset, collate
from crystalssl.training._precision import PRECISIONS, matmul_precision

RESULT = Path(__file__).parent / "results" / "gpu.json"
MODES = ("highest", "plain", "bf16", "high")
BATCHES = 4  # per pass
ROUNDS = 3  # the first of which does not count


class Model(nn.Module):
    """An encoder with a small head."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(nn.Linear(encoder.graph_dim, 128), nn.SiLU(), nn.Linear(128, 1))

    def forward(self, batch: Batch) -> Tensor:
        return self.head(self.encoder(batch).graph)


class Bench:
    """One encoder on one device."""

    def __init__(self, name: str, graphs: CrystalGraphs, batch_size: int, device: str, kernels: str):
        self.device = device
        self.graphs = graphs
        torch.manual_seed(0)
        self.model = Model(ENCODERS[name](kernels=kernels)).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        rows = np.arange(BATCHES * batch_size) % len(graphs)
        y = np.zeros((len(graphs), 1), np.float32)
        self.n_crystals = len(rows)
        self.batches = BatchIterator(CrystalDataset(graphs, y, rows), batch_size)
        self.ahead = BatchIterator(CrystalDataset(graphs, y, rows), batch_size, ahead=True)

    def made(self, pinned: bool = False, ahead: bool = False) -> Iterator[tuple[Batch, Tensor]]:
        """Yield batches that are made and sent on the way."""
        for batch, y in self.ahead if ahead else self.batches:
            yield (batch.pin_memory() if pinned else batch).to(self.device, non_blocking=pinned), y.to(self.device)

    def step(self, batch: Batch, y: Tensor) -> None:
        self.optimizer.zero_grad()
        F.l1_loss(self.model(batch), y).backward()
        self.optimizer.step()

    def train(self, batches: Any) -> None:
        self.model.train()
        for batch, y in batches:
            self.step(batch, y)

    @torch.inference_mode()
    def embed(self, batches: Any) -> None:
        self.model.eval()
        for batch, _ in batches:
            self.model(batch)

    def speeds(self) -> dict[str, float]:
        ready = list(self.made())
        speeds = {
            "train": self.speed(lambda: self.train(self.made())),
            "train_ahead": self.speed(lambda: self.train(self.made(ahead=True))),
            "train_pinned": self.speed(lambda: self.train(self.made(pinned=self.device == "cuda"))),
            "train_ready": self.speed(lambda: self.train(ready)),
            "embed": self.speed(lambda: self.embed(self.made())),
            "embed_ready": self.speed(lambda: self.embed(ready)),
        }
        return {**speeds, "waits": max(1 - speeds["train"] / speeds["train_ready"], 0.0)}

    def speed(self, work: Callable[[], None]) -> float:
        """Return crystals per second: the median of some rounds, after one that does not count."""
        times = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            work()
            synchronize(self.device)
            times.append(time.perf_counter() - started)
        return self.n_crystals / statistics.median(times[1:])

    def step_bytes(self, size: int) -> int:
        """Return the peak memory of a step with so many crystals."""
        reset_peak(self.device)
        batch = collate(self.graphs, np.arange(size) % len(self.graphs)).to(self.device)
        self.model.train()
        self.step(batch, torch.zeros(size, 1, device=self.device))
        synchronize(self.device)
        return torch.cuda.max_memory_allocated() if self.device == "cuda" else 0

    def largest(self, start: int, limit: int, until: float) -> dict[str, Any]:
        """Return the largest batch that fits, doubling from `start`, with its peak memory."""
        found: dict[str, Any] = {"largest_batch": 0, "largest_bytes": 0, "largest_is_bound": False}
        size = start
        while size <= limit and time.perf_counter() < until:
            try:
                peak = self.step_bytes(size)
            except torch.OutOfMemoryError:
                return {**found, "largest_is_bound": True}
            finally:
                self.optimizer.zero_grad()
            found |= {"largest_batch": size, "largest_bytes": peak}
            size *= 2
        return found


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def reset_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def kernels_of(mode: str) -> str:
    return "plain" if mode in ("plain", "bf16") else "fast"


@contextlib.contextmanager
def computing(mode: str, device: str) -> Iterator[None]:
    precision = mode if mode in PRECISIONS else "highest"
    with matmul_precision(precision), torch.autocast(device, torch.bfloat16, mode == "bf16"):
        yield


def measure(name: str, structures: list[Any], options: argparse.Namespace, until: float) -> Iterator[dict[str, Any]]:
    """Yield one row per way of computing; the first one has the largest batch, too."""
    graphs = CrystalGraphTransformer(encoder=name).transform(structures)
    per_crystal = {
        "atoms_per_crystal": len(graphs.atomic_numbers) / len(graphs),
        "edges_per_crystal": len(graphs.distances) / len(graphs),
    }
    half = time.perf_counter() + (until - time.perf_counter()) / 2
    for mode in options.modes:
        row = {"encoder": name, "mode": mode, "batch_size": options.batch_size, **per_crystal}
        if mode != options.modes[0] and time.perf_counter() > half:
            yield {**row, "skipped": "no time was left"}
            continue
        try:
            with computing(mode, options.device):
                bench = Bench(name, graphs, options.batch_size, options.device, kernels_of(mode))
                row |= bench.speeds() | {"step_bytes": bench.step_bytes(options.batch_size)}
        except RuntimeError as error:  # a kernel that cannot compute so must not hide what the others can
            row["error"] = f"{type(error).__name__}: {error}"[:500]
        yield row
    with computing(options.modes[0], options.device):
        bench = Bench(name, graphs, options.batch_size, options.device, kernels_of(options.modes[0]))
        found = bench.largest(2 * options.batch_size, options.largest, until)
    yield {"encoder": name, "mode": options.modes[0], **found}


def report(measured: dict[str, Any]) -> str:
    """Return what was measured as a Markdown table, in thousands of crystals per second."""
    rows: dict[str, dict[str, Any]] = {}
    for row in measured["rows"]:
        name, mode = row["encoder"], row["mode"]
        if "largest_batch" in row:
            more = "" if row["largest_is_bound"] else "≥ "
            rows[name]["largest"] = f"{more}{row['largest_batch']:,} ({row['largest_bytes'] / 2**30:.0f} GiB)"
        elif "train" in row:
            rows.setdefault(name, {})[mode] = row
    header = ["encoder", "training", "sent from pinned memory", "batches on the card", "the same, plain layers",
              "the same, bf16", "embedding", "batches on the card", "largest batch"]  # fmt: skip
    table = [header, ["---"] * len(header)]
    for name, found in rows.items():
        cells = [
            ("highest", "train"), ("highest", "train_pinned"), ("highest", "train_ready"), ("plain", "train_ready"),
            ("bf16", "train_ready"), ("highest", "embed"), ("highest", "embed_ready"),
        ]  # fmt: skip
        numbers = [f"{found[mode][key] / 1000:.1f}" if mode in found else "–" for mode, key in cells]
        table.append([name, *numbers, found.get("largest", "–")])
    versions = measured["versions"]
    first = measured["rows"][0]
    place = f"{measured['device']}, torch {versions['torch']}, batches of {first['batch_size']}"
    lines = ["| " + " | ".join(line) + " |" for line in table]
    return f"Thousands of crystals per second; {place}.\n\n" + "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULT, help="JSON file, written anew after every encoder")
    parser.add_argument("--docs", action="store_true", help="measure nothing, and write docs/scaling.md")
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=list(ENCODERS))
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--largest", type=int, default=2**17, help="where the search for the largest batch ends")
    parser.add_argument("--seconds", type=float, default=55, help="of all encoders together (default: %(default)s)")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu only shows that the script runs")
    options = parser.parse_args()
    if options.docs:
        text = report(json.loads(options.output.read_text()))
        write_section("scaling.md", "benchmarks/gpu.py", text)
        return
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no GPU here; --device cpu shows that the script runs.")
    started = time.perf_counter()
    cuda = options.device == "cuda"
    measured: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "device_bytes": torch.cuda.get_device_properties(0).total_memory if cuda else 0,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "crystalssl": __version__},
        "rows": [],
    }
    structures = load_prototypes(return_X_y=True)[0]
    for number, name in enumerate(options.encoders):
        left = options.seconds - (time.perf_counter() - started)
        until = time.perf_counter() + left / (len(options.encoders) - number)
        for row in measure(name, structures, options, until):
            measured["rows"].append({k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()})
            print(json.dumps(measured["rows"][-1]), flush=True)
        measured["seconds"] = round(time.perf_counter() - started, 1)
        options.output.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
