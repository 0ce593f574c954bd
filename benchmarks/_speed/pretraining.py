"""A step of pretraining on two views in supervised steps of the same encoder on the same batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch_geometric.data import Batch

from crystalssl.encoders import CGCNN, Encoder, GatedGCN
from crystalssl.pretext import TASKS

from .data import CORPUS, Crystals
from .limits import gemm_limit
from .race import AT_MOST, Differs, Pace, compare
from .training import WithHead, epoch, make_head

BATCH_SIZE = 64
SUPERVISED = "supervised step"
BARLOW = "Barlow Twins step"


def time_pretraining(crystals: Crystals, pace: Pace, threads: list[int], size: int) -> Iterator[dict[str, Any]]:
    """Barlow Twins on crystals of the corpus, or of matbench_phonons where there is no corpus."""
    name = CORPUS if crystals.corpus else "phonons"
    for encoder_class in (CGCNN, GatedGCN):
        batches = crystals.batches(size, BATCH_SIZE, encoder_class.name, name)
        checked = check_views(encoder_class(), batches[0])
        for n in threads:
            supervised = WithHead(encoder := encoder_class(), make_head(encoder.graph_dim))
            barlow = pretraining_epoch("barlow", encoder_class(), batches)
            yield compare(
                f"pretraining {encoder_class.__name__} on two views",
                {SUPERVISED: epoch(supervised, batches, [b.y for b in batches]), BARLOW: barlow},
                work=sum(batch.num_graphs for batch in batches), unit="crystals", threads=n, pace=pace,
                checked=checked, base=SUPERVISED, goals={BARLOW: (AT_MOST, 2.2)}, limit=gemm_limit(barlow, n),
            )  # fmt: skip


def pretraining_epoch(method: str, encoder: Encoder, batches: list[Batch]) -> Callable[[], None]:
    """Return a function that pretrains an encoder on all batches once."""
    task = TASKS[method]().bind(encoder).train()
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)

    def train() -> None:
        for batch in batches:
            optimizer.zero_grad()
            task(batch, generator).backward()
            optimizer.step()

    return train


def check_views(encoder: Encoder, batch: Batch) -> str:
    """Check that the step encodes two views of every crystal, with all its edges."""
    seen: list[tuple[int, int]] = []
    task = TASKS["barlow"]().bind(encoder).train()
    encoder.register_forward_pre_hook(lambda module, args: seen.append((args[0].num_graphs, len(args[0].distance))))
    task(batch, torch.Generator().manual_seed(0))
    n_graphs, n_edges = (sum(numbers) for numbers in zip(*seen, strict=True))
    if (n_graphs, n_edges) != (2 * batch.num_graphs, 2 * len(batch.distance)):
        raise Differs(f"Barlow Twins encodes {n_graphs} graphs of a batch of {batch.num_graphs}")
    return "two views of every crystal, with all edges"
