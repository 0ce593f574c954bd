"""Jobs of several processes that train one network, as torchrun starts them."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed as dist

from crystalssl import _ranks
from crystalssl._ranks import ALONE, Ranks
from crystalssl._version import __version__
from crystalssl.exceptions import ProcessError

__all__ = ["distributed", "from_first", "gathered", "job", "training_together"]

_PATIENCE = datetime.timedelta(hours=2)
"""For how long the others are waited for outside of training: one may read a corpus, or write to a slow disk."""
_STEP = datetime.timedelta(seconds=50)
"""The same within a step."""

_job = ALONE


def job() -> Ranks:
    """Return the processes that :func:`distributed` has found."""
    return _job


@contextlib.contextmanager
def distributed(device: str = "auto") -> Iterator[Ranks]:
    """Have the processes that torchrun started pretrain one network together, for the length of a block.

    Each of them runs the same script. Within the block, `fit` of a
    :class:`~crystalssl.PretrainedCrystalEmbedder` that pretrains shares its batches among them: `batch_size` is the
    number of crystals of all, balanced by their edges, and losses are those of the whole batch. All processes end with
    the same weights. Only the first one writes the checkpoint and shows progress. All else is done by each of them for
    itself, and `memory` is not used. Without torchrun, or with one process, the block changes nothing.

    Parameters
    ----------
    device : str, default="auto"
        Where training will compute. On GPUs each process takes the one of its number on its machine, and messages go by
        NCCL, else by Gloo.

    Yields
    ------
    Ranks
        With `rank`, 0 for the first process, and `size`.

    Raises
    ------
    ProcessError
        If a machine has more processes than GPUs.

    Examples
    --------
    >>> from crystalssl import PretrainedCrystalEmbedder
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.training import distributed
    >>> X, _ = load_prototypes(return_X_y=True)
    >>> with distributed() as ranks:
    ...     embedder = PretrainedCrystalEmbedder("barlow", weights=None, max_epochs=1, random_state=0).fit(X[:20])
    >>> ranks.rank, ranks.size
    (0, 1)
    """
    global _job
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or not {"RANK", "MASTER_ADDR"} <= os.environ.keys():
        yield ALONE
        return
    on_gpu = torch.cuda.is_available() if device == "auto" else torch.device(device).type == "cuda"
    if on_gpu:
        local, n_gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if local >= n_gpus:
            raise ProcessError(
                f"this machine has {os.environ.get('LOCAL_WORLD_SIZE', local + 1)} processes and {n_gpus} GPUs: give "
                f"torchrun --nproc-per-node {n_gpus}, or compute on the CPU"
            )
        torch.cuda.set_device(local)
    ours = not dist.is_initialized()
    if ours:
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    try:
        _job = Ranks(dist.get_rank(), dist.get_world_size(), dist.new_group(timeout=_STEP))
        yield _job
    finally:
        _job = ALONE
        if ours:
            dist.destroy_process_group()


@contextlib.contextmanager
def training_together(run: str) -> Iterator[Ranks]:
    """Train with the other processes of the job, if there are any, which must do the same run.

    Parameters
    ----------
    run : str
        Identifies corpus, settings and seed.

    Raises
    ------
    ProcessError
        If other processes have another run, or other versions.
    """
    versions = {"crystalssl": __version__, "torch": torch.__version__, "Python": platform.python_version()}
    for rank, (theirs, their_run) in enumerate(_from_all((versions, run))):
        if theirs != versions:
            raise ProcessError(
                f"process {rank} of {_job.size} runs {_listed(theirs)}, this one {_listed(versions)}; install the same "
                "everywhere"
            )
        if their_run != run:
            raise ProcessError(
                f"process {rank} of {_job.size} has other crystals, settings or another seed than process {_job.rank}; "
                "give all of them the same files and parameters, with random_state"
            )
    with _ranks.training_as(_job) as ranks:
        yield ranks


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _from_all(value: Any) -> list[Any]:
    values = [value] * _job.size
    if _job.size > 1:
        with _job.answered():
            dist.all_gather_object(values, value)
    return values


def from_first(value: Any) -> Any:
    """Return the value that the first process of those that train together gives; others may give None."""
    if _ranks.current_ranks().size == 1:
        return value
    box = [value]
    with _job.answered():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def gathered(value: Any) -> list[Any]:
    """Return what each of the processes that train together gives."""
    return _from_all(value) if _ranks.current_ranks().size > 1 else [value]
