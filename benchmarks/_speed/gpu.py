"""Encoders on a graphics card: graphs per second from the iterator on, and the share of time that the card waits."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from crystalssl import CrystalGraphTransformer
from crystalssl.encoders import ENCODERS
from crystalssl.training import BatchIterator, CrystalDataset

from .data import Crystals
from .training import WithHead, make_head

BATCH_SIZE = 128
_ROUNDS = 5


def time_gpu(crystals: Crystals, size: int) -> Iterator[dict[str, Any]]:
    """Yield the speed of every encoder, batches made and sent on the way."""
    structures = crystals.phonons.data[:size]
    y = np.random.default_rng(0).normal(size=(len(structures), 1)).astype(np.float32)
    for name, encoder_class in ENCODERS.items():
        graphs = CrystalGraphTransformer(encoder=name).transform(structures)
        batches = BatchIterator(CrystalDataset(graphs, y), BATCH_SIZE)
        encoder = encoder_class()
        model = WithHead(encoder, make_head(encoder.graph_dim)).cuda()
        training = functools.partial(train, batches, model, torch.optim.Adam(model.parameters(), lr=1e-3))
        seconds = wall_seconds(training)
        yield {
            "name": name,
            "training": len(structures) / seconds,
            "forward": len(structures) / wall_seconds(functools.partial(forward, batches, model)),
            "waits": max(1 - busy_seconds(training) / seconds, 0.0),
        }


def train(batches: BatchIterator, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model.train()
    for batch, target in batches:
        optimizer.zero_grad()
        F.l1_loss(model(batch.to("cuda")), target.to("cuda")).backward()
        optimizer.step()
    torch.cuda.synchronize()


@torch.inference_mode()
def forward(batches: BatchIterator, model: torch.nn.Module) -> None:
    model.eval()
    for batch, _ in batches:
        model(batch.to("cuda"))
    torch.cuda.synchronize()


def wall_seconds(call: Callable[[], Any]) -> float:
    """Return the median of some calls, after one that is not counted."""
    times = []
    for _ in range(_ROUNDS + 1):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def busy_seconds(call: Callable[[], Any]) -> float:
    """Return for how long the card's kernels and copies run in a call; they run one after another."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
    return sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6
