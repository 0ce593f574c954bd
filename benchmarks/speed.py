"""Speed of graph building and training, compared with how they are usually done.

    python benchmarks/speed.py
    python benchmarks/speed.py --rounds 9 --threads 1 2 4

All contenders run in this one process, in turn, after a warm-up; times are medians over the rounds, and a ratio is the
median of the ratios of each round, so that other work on the machine hits both sides. Writes results/speed.json and
prints Markdown tables. Needs matbench_phonons; what concerns the pretraining corpus is left out where it is missing.

1. Structures to graphs (CPU time on one thread): CrystalGraphTransformer against CGCNN's published way, and against
   pymatgen's Structure.get_neighbor_list with a sort in numpy.
2. One epoch of supervised training, forward, backward and Adam, on the same batches of 128 crystals: our CGCNN against
   a model of three CGConv layers of PyTorch Geometric. "as written by a user" has PyG's GaussianSmearing; of its values
   most are denormal numbers, which slow down every product that they enter, so "same edge features" gives both models
   our expansion: then only the layers differ. (PyG's layer has no batch normalisation of the gates, so it does less.)
3. A step of pretraining against a supervised step, and pretraining throughput on random crystals of the corpus.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from _common import load_task, machine, make_parser, markdown
from torch import nn
from torch_geometric.data import Batch
from torch_geometric.nn import CGConv, global_mean_pool
from torch_geometric.nn.models.schnet import GaussianSmearing

from crystalssl import CrystalGraphs, CrystalGraphTransformer
from crystalssl.datasets import read_optimade_parquet
from crystalssl.encoders import CGCNN
from crystalssl.encoders._kernels import gaussian_expansion
from crystalssl.pretext import TASKS
from crystalssl.training import BatchIterator, CrystalDataset

CUTOFF, MAX_NEIGHBORS = 8.0, 12
CORPUS, EPOCHS = 28_801, 15  # what the time of pretraining is extrapolated to
FULL_RUN = f"minutes_for_{CORPUS}_crystals_{EPOCHS}_epochs"


def race(
    contenders: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Return the seconds of each contender in each round; they take turns, and the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        print(f"\r{', '.join(contenders)}: round {number} of {rounds}", end="", file=sys.stderr, flush=True)
        for name, contender in contenders.items():
            started = clock()
            contender()
            if number:
                seconds[name].append(clock() - started)
    print(file=sys.stderr)
    return seconds


def ratio(slow: list[float], fast: list[float]) -> float:
    """Return the median over the rounds of how many times longer the first one took."""
    return float(np.median(np.divide(slow, fast)))


# ---------------------------------------------------------------- structures to graphs


def published_cgcnn(structures: list) -> None:
    """Find neighbours as CIFData.__getitem__ does in github.com/txie-93/cgcnn."""
    for structure in structures:
        all_neighbors = structure.get_all_neighbors(CUTOFF, include_index=True)
        all_neighbors = [sorted(neighbors, key=lambda x: x[1]) for neighbors in all_neighbors]
        indices, distances = [], []
        for neighbors in all_neighbors:
            missing = max(MAX_NEIGHBORS - len(neighbors), 0)
            indices.append([x[2] for x in neighbors[:MAX_NEIGHBORS]] + [0] * missing)
            distances.append([x[1] for x in neighbors[:MAX_NEIGHBORS]] + [CUTOFF + 1.0] * missing)
        np.array(indices), np.array(distances)


def neighbor_list(structures: list) -> None:
    """Find neighbours with pymatgen's array interface, and keep the nearest ones."""
    for structure in structures:
        centers, neighbors, images, distances = structure.get_neighbor_list(CUTOFF)
        order = np.lexsort([distances, centers])
        counts = np.bincount(centers, minlength=len(structure))
        rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept = order[rank < MAX_NEIGHBORS]
        centers[kept], neighbors[kept], images[kept], distances[kept]


def time_graphs(structures: list, subset: int, rounds: int) -> dict[str, Any]:
    """Return structures/s of all ways on the same random subset, and of ours on all structures."""
    transformer = CrystalGraphTransformer().fit()
    chosen = [structures[i] for i in np.random.default_rng(0).permutation(len(structures))[:subset]]
    contenders = {
        "crystalssl": lambda: transformer.transform(chosen),
        "Structure.get_neighbor_list + sort": lambda: neighbor_list(chosen),
        "CGCNN's published code": lambda: published_cgcnn(chosen),
    }
    seconds = race(contenders, rounds, time.process_time)
    whole = race({"all": lambda: transformer.transform(structures)}, rounds, time.process_time)["all"]
    return {
        "structures": len(chosen),
        "structures_per_second": {name: len(chosen) / np.median(times) for name, times in seconds.items()},
        "ratio": {name: ratio(times, seconds["crystalssl"]) for name, times in seconds.items()},
        "all_structures": len(structures),
        "all_structures_per_second": len(structures) / np.median(whole),
    }


# ---------------------------------------------------------------- training


class Ours(nn.Module):
    """Our CGCNN with mean pooling and a small head."""

    def __init__(self):
        super().__init__()
        self.encoder = CGCNN()
        self.head = head()

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.head(self.encoder(batch).graph)


class Peer(nn.Module):
    """The same sizes, built from PyTorch Geometric's layers."""

    def __init__(self, own_expansion: bool):
        super().__init__()
        ours = CGCNN()
        self.register_buffer("element_features", ours.element_features)
        self.register_buffer("centers", ours.gaussian_centers)
        self.width = ours.gaussian_width
        self.smearing = GaussianSmearing(0.0, CUTOFF, len(ours.gaussian_centers)) if own_expansion else None
        self.embedding = nn.Linear(ours.element_features.shape[1], 64)
        self.convs = nn.ModuleList(CGConv(64, len(ours.gaussian_centers), batch_norm=True) for _ in range(3))
        self.head = head()

    def forward(self, batch: Batch) -> torch.Tensor:
        if self.smearing is None:
            edges = gaussian_expansion(batch.distance, self.centers, self.width)
        else:
            edges = self.smearing(batch.distance)
        x = self.embedding(self.element_features[batch.z])
        for conv in self.convs:
            x = conv(x, batch.edge_index, edges)
        return self.head(global_mean_pool(x, batch.batch, batch.num_graphs))


def head() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 1))


def batches_of(graphs: CrystalGraphs, y: np.ndarray, batch_size: int) -> list[Batch]:
    """Return the batches of one epoch, made beforehand so that all models get the same ones for free."""
    scaled = ((y - y.mean()) / y.std()).astype(np.float32)[:, None]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [batch for batch, _ in BatchIterator(CrystalDataset(graphs, scaled), batch_size, shuffle=True)]


def supervised_epoch(model: nn.Module, batches: list[Batch]) -> Callable[[], None]:
    """Return a function that trains `model` on all batches once."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def epoch() -> None:
        model.train()
        for batch in batches:
            optimizer.zero_grad()
            F.l1_loss(model(batch), batch.y).backward()
            optimizer.step()

    return epoch


def pretraining_epoch(method: str, batches: list[Batch]) -> Callable[[], None]:
    """Return a function that pretrains an encoder on all batches once."""
    task = TASKS[method](CGCNN()).train()
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)

    def epoch() -> None:
        for batch in batches:
            optimizer.zero_grad()
            task(batch, generator).backward()
            optimizer.step()

    return epoch


def check_edges(batches: list[Batch], graphs: CrystalGraphs) -> int:
    """Return the number of edges, after checking that both models pass messages along the very same ones."""
    seen = []
    peer = Peer(own_expansion=False)
    peer.convs[0].register_forward_pre_hook(lambda module, args: seen.append(args[1].shape[1]))
    for batch in batches:
        peer(batch)
        # Ours reads the edges grouped by centre and grouped by neighbour.
        if not seen[-1] == int(batch.edge_ptr[-1]) == len(batch.neighbor_order):
            raise RuntimeError(f"the models see different edges: {seen[-1]} and {int(batch.edge_ptr[-1])}")
    if sum(seen) != graphs.n_edges:
        raise RuntimeError(f"the batches hold {sum(seen)} edges, the graphs {graphs.n_edges}")
    return sum(seen)


def time_training(batches: list[Batch], n_crystals: int, threads: int, rounds: int) -> dict[str, Any]:
    """Return the speed of one epoch of each model."""
    torch.set_num_threads(threads)
    models = {
        "crystalssl": Ours(),
        "PyG, same edge features": Peer(own_expansion=False),
        "PyG, as written by a user": Peer(own_expansion=True),
    }
    # CPU time is not disturbed by others, but means nothing where threads wait for each other.
    clock = time.process_time if threads == 1 else time.perf_counter
    seconds = race({name: supervised_epoch(model, batches) for name, model in models.items()}, rounds, clock)
    return {
        "threads": threads,
        "clock": "CPU time" if threads == 1 else "wall time",
        "parameters": {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()},
        "crystals_per_second": {name: n_crystals / np.median(times) for name, times in seconds.items()},
        "ratio": {name: ratio(times, seconds["crystalssl"]) for name, times in seconds.items()},
    }


def time_pretraining(graphs: CrystalGraphs, threads: int, rounds: int) -> dict[str, Any]:
    """Return the cost of pretraining steps in supervised steps of the same batches, and the throughput."""
    torch.set_num_threads(threads)
    batches = batches_of(graphs, np.random.default_rng(0).normal(size=len(graphs)), 64)
    contenders = {method: pretraining_epoch(method, batches) for method in ("barlow", "simsiam")}
    contenders["supervised"] = supervised_epoch(Ours(), batches)
    clock = time.process_time if threads == 1 else time.perf_counter
    seconds = race(contenders, rounds, clock)
    speed = {method: len(graphs) / np.median(times) for method, times in seconds.items()}
    return {
        "threads": threads,
        "crystals": len(graphs),
        "edges_per_crystal": graphs.n_edges / len(graphs),
        "crystals_per_second": speed,
        "ratio_to_supervised": {method: ratio(times, seconds["supervised"]) for method, times in seconds.items()},
        FULL_RUN: {method: CORPUS * EPOCHS / speed[method] / 60 for method in ("barlow", "simsiam")},
    }


# ---------------------------------------------------------------- report


def report(result: dict[str, Any]) -> str:
    """Return the tables."""
    graphs = result["graphs"]
    speed, times = graphs["structures_per_second"], graphs["ratio"]
    rows = [[name, f"{speed[name]:,.0f}", f"{times[name]:.1f}"] for name in speed]
    parts = [
        markdown(["structures to graphs, 1 thread", "structures/s", "times the CPU time"], rows),
        f"({graphs['structures']} random crystals of matbench_phonons; crystalssl on all {graphs['all_structures']}: "
        f"{graphs['all_structures_per_second']:,.0f} structures/s)",
    ]
    for training in result["training"]:
        speed, times = training["crystals_per_second"], training["ratio"]
        rows = [[name, f"{speed[name]:,.0f}", f"{times[name]:.2f}"] for name in speed]
        threads = training["threads"]
        parts.append(markdown([f"training, threads: {threads}", "crystals/s", f"times the {training['clock']}"], rows))
    for pretraining in result["pretraining"]:
        speed, times = pretraining["crystals_per_second"], pretraining["ratio_to_supervised"]
        rows = [
            [method, f"{speed[method]:,.0f}", f"{times[method]:.2f}", f"{minutes:.0f} min"]
            for method, minutes in pretraining[FULL_RUN].items()
        ]
        heading = f"pretraining, threads: {pretraining['threads']}"
        extrapolated = f"{CORPUS:,} crystals, {EPOCHS} epochs"
        parts.append(markdown([heading, "crystals/s", "supervised steps per step", extrapolated], rows))
    return "\n\n".join(parts)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--subset", type=int, default=128, help="structures for which all ways of building graphs race")
    parser.add_argument("--corpus", type=int, default=1024, help="random crystals of mp_pretrain.parquet")
    options = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    if load > 0.5:
        print(
            f"The load average is {load:.1f}: others are computing here, and wall times will show it.", file=sys.stderr
        )

    data = load_task("matbench_phonons", options.data)
    result: dict[str, Any] = {"machine": machine(), "load_average": load, "rounds": options.rounds}
    result["graphs"] = time_graphs(data.data, options.subset, options.rounds)
    graphs = CrystalGraphTransformer().fit_transform(data.data)
    batches = batches_of(graphs, data.target, 128)
    result["edges"] = check_edges(batches, graphs)
    result["training"] = [time_training(batches, len(graphs), n, options.rounds) for n in options.threads]

    corpus = Path(options.data) / "mp_pretrain.parquet"
    result["pretraining"] = []
    if corpus.exists():
        structures = read_optimade_parquet(corpus, columns=[]).data
        chosen = np.random.default_rng(0).permutation(len(structures))[: options.corpus]
        sample = CrystalGraphTransformer().fit_transform([structures[i] for i in chosen])
        result["pretraining"] = [time_pretraining(sample, n, options.rounds) for n in options.threads]
    else:
        print(f"There is no {corpus}: leaving out pretraining.", file=sys.stderr)

    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "speed.json").write_text(json.dumps(result, indent=2, default=float) + "\n")
    print(f"{result['machine']}; {result['rounds']} rounds; {result['edges']} edges\n\n{report(result)}")


if __name__ == "__main__":
    main()
