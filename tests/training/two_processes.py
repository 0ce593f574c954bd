"""What two processes do together, started by ``torchrun``; the first one writes what came out as result.json.

torchrun --standalone --nproc-per-node 2 tests/training/two_processes.py FOLDER
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import joblib
import numpy as np
import torch

from crystalssl import CrystalGraphTransformer, PretrainedCrystalEmbedder
from crystalssl._ranks import ALONE, average_gradients, global_batch_norm, training_as
from crystalssl.augment import shallow_copy
from crystalssl.datasets import load_prototypes
from crystalssl.encoders import ENCODERS
from crystalssl.exceptions import ProcessError
from crystalssl.graphs._ragged import concatenate_ranges
from crystalssl.pretext import TASKS, resolve_task
from crystalssl.training import CrystalNet, collate, distributed
from crystalssl.training._jobs import gathered
from crystalssl.training._preemption import Terminated
from crystalssl.training._sharing import balanced
from crystalssl.training._weights import state_as_numpy

N = 12
LABELS = {
    "forces": {"n_labels": 9},
    "properties": {"n_properties": 2},
    "joint": {"n_properties": 2, "n_virials": 9, "has_forces": True},
}


def make_task(name, encoder_name):
    torch.manual_seed(0)
    cls = ENCODERS[encoder_name]
    encoder = cls(8, 1)
    task = resolve_task(name, **LABELS.get(name, {})).bind(encoder)
    for part in task.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return task.train().double()


def make_batch(graphs, rows, task):
    """The crystals with labels of all kinds; some of a kind are unknown."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(len(graphs), 11)).astype(np.float32)
    y[::3, 1] = np.nan
    if task.name.startswith("spmat"):
        y = np.array([[0], [1], [2], [-1]], np.float32).repeat(len(graphs) // 4, 0)
    atom_y = rng.normal(size=(len(graphs.atomic_numbers), 3)).astype(np.float32)
    atom_y[::5] = np.nan
    batch = collate(graphs, rows)
    for key in ("pos", "cell", "image", "distance", "edge_weight"):
        batch[key] = batch[key].double()
    batch.y = torch.from_numpy(y[rows]).double()
    starts = graphs.atom_offsets[rows]
    batch.atom_y = torch.from_numpy(atom_y[concatenate_ranges(starts, graphs.atom_offsets[rows + 1] - starts)]).double()
    return batch


def part_of(view, graphs, rows, batch):
    """What a view of all crystals shows of some."""
    first, last = graphs.atom_offsets[rows], graphs.atom_offsets[rows + 1]
    atoms = concatenate_ranges(first, last - first)
    edges = concatenate_ranges(graphs.edge_offsets[first], graphs.n_edges_of(rows))
    taken = {name: view[name][atoms] for name in ("z", "pos")}
    taken |= {name: view[name][edges] for name in ("distance", "image", "edge_weight")}
    return shallow_copy(batch, cell=view.cell[rows], **taken)


def step(task, graphs, rows, views):
    """Loss and gradients of some crystals, averaged over those that train together."""
    batch = make_batch(graphs, rows, task)
    mine = [part_of(view, graphs, rows, batch) for view in views]
    task.zero_grad()
    with global_batch_norm(task):
        loss = task.loss([task.encoder(view) for view in mine], mine, batch)
    loss.backward()
    [loss] = average_gradients(task.parameters(), loss)
    gradients = torch.cat([p.grad.reshape(-1) for p in task.parameters() if p.grad is not None])
    buffers = [buffer.double().nan_to_num().reshape(-1) for buffer in task.buffers()]
    return loss.double(), gradients, torch.cat([*buffers, torch.zeros(1)])


def difference(found, expected):
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1))


def agreement(structures, ranks):
    """Yield by how much two processes with some crystals each differ from one that has all."""
    for encoder_name in ENCODERS:
        graphs = CrystalGraphTransformer(encoder=encoder_name).transform(structures)
        rows = np.arange(len(graphs))
        mine = balanced(graphs.n_edges_of(rows), ranks.size)[ranks.rank]
        for name, cls in TASKS.items():
            if cls.needs_edges and ENCODERS[encoder_name](8, 1).edge_dim is None:
                continue
            task = make_task(name, encoder_name)
            whole, generator = make_batch(graphs, rows, task), torch.Generator().manual_seed(1)
            views = [augment(whole, generator) for augment in task.views]
            with training_as(ALONE):
                alone = step(task, graphs, rows, views)
            task = make_task(name, encoder_name)
            with training_as(ranks):
                together = step(task, graphs, mine, views)
            yield [encoder_name, name, *(difference(*pair) for pair in zip(together, alone, strict=True))]


def run(structures, method, checkpoint=None, seed=0, leave_at=None):
    """Hash of the weights, and losses, of a pretraining; SIGTERM comes to this process at a step of it."""
    calls = []
    original = CrystalNet.train_step

    def counted(net, *args, **kwargs):
        calls.append(net)
        if len(calls) == leave_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(net, *args, **kwargs)

    CrystalNet.train_step = counted
    encoder = "gatedgcn" if method == "properties" else "deepergatgnn"  # the latter has dropout
    embedder = PretrainedCrystalEmbedder(
        method, encoder=encoder, weights=None, hidden_dim=8, n_layers=1, max_epochs=3, batch_size=8,
        learning_rate=1e-2, random_state=seed, checkpoint=checkpoint,
    )  # fmt: skip
    try:
        embedder.fit(structures)
    except Terminated as error:
        return {"status": error.status, "steps": len(calls)}
    except ProcessError as error:
        return {"error": str(error)}
    finally:
        CrystalNet.train_step = original
    losses = [[epoch[name] for name in ("train_loss", "valid_loss")] for epoch in embedder.history_]
    return {"weights": joblib.hash(state_as_numpy(embedder.encoder_)), "losses": losses, "steps": len(calls)}


def pretraining(structures, ranks, folder):
    """Yield the name of each run, and what it gave each process."""
    leaving = 6 if ranks.rank else None  # the second step of the second epoch

    def both(name, *args, **kwargs):
        return name, gathered(run(structures, *args, **kwargs))

    yield both("once", "barlow")
    yield both("again", "barlow")
    yield both("left", "barlow", folder / "left", leave_at=leaving)
    yield both("resumed", "barlow", folder / "left")
    yield both("smooth", "properties")
    yield both("smooth left", "properties", folder / "smooth", leave_at=leaving)
    if ranks.rank == 0:
        shutil.copy(folder / "smooth", folder / "left by two")
    yield both("smooth resumed", "properties", folder / "smooth")
    yield both("other seeds", "barlow", seed=ranks.rank)


def main():
    folder = Path(sys.argv[1])
    structures = [s for s in load_prototypes(return_X_y=True)[0] if 2 <= len(s) <= 8]
    with distributed() as ranks, training_as(ranks):  # for what is gathered; runs find out for themselves
        result = {
            "agreement": [*agreement(structures[:N], ranks)],
            **dict(pretraining(structures[:40], ranks, folder)),
        }
    if ranks.rank == 0:  # alone from here on
        result["alone"] = run(structures[:40], "properties")
        result["alone, left by two"] = run(structures[:40], "properties", folder / "left by two")
        (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
