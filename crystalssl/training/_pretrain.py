"""Pretraining as one function of its corpus, its settings and its seed."""

from __future__ import annotations

import inspect
from typing import Any

import joblib
import numpy as np
import torch

from crystalssl._suggestions import did_you_mean
from crystalssl.encoders import ENCODERS, Encoder
from crystalssl.graphs import CrystalGraphs
from crystalssl.pretext import TASKS, PretextTask
from crystalssl.training._batching import CrystalDataset
from crystalssl.training._callbacks import Checkpoint
from crystalssl.training._fit import epochs_of, fit_network
from crystalssl.training._net import PretrainingNet
from crystalssl.training._seeding import derive_seed, seeded
from crystalssl.training._weights import state_as_numpy

__all__ = ["make_task", "pretrain"]


def pretrain(
    graphs: CrystalGraphs,
    y: np.ndarray | None,
    *,
    method: str,
    encoder: str,
    encoder_params: dict[str, Any],
    encoder_state: dict[str, np.ndarray] | None,
    task_params: dict[str, Any],
    max_epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    gradient_clip: float | None,
    validation_fraction: float,
    seed: int,
    device: str,
    precision: str,
    checkpoint: str | None = None,
    verbose: int = 0,
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Pretrain an encoder.

    A pure function of its arguments, the last two apart, so that `joblib.Memory` can cache it.

    Parameters
    ----------
    graphs : CrystalGraphs
        The corpus.
    y : ndarray of shape (n_crystals, n_labels) or None
        Labels as encoded by the task, for the methods that take them.
    method, encoder : str
        Names in `TASKS` and `ENCODERS`.
    encoder_params : dict
        Parameters of the encoder's constructor.
    encoder_state : dict of ndarray or None
        Weights to start from; None starts from random ones.
    task_params : dict
        Parameters of the task's constructor.
    max_epochs, batch_size, learning_rate, weight_decay, gradient_clip, validation_fraction, seed, device, precision
        As in :class:`crystalssl.PretrainedCrystalEmbedder`.
    checkpoint : str or None, default=None
        File from which an interrupted run goes on.
    verbose : int, default=0
        1 shows progress.

    Returns
    -------
    state : dict of ndarray
        Weights of the encoder.
    history : list of dict
        Losses of each epoch.
    """
    rng = np.random.default_rng(derive_seed(seed, 0))
    order = rng.permutation(len(graphs))
    n_valid = round(validation_fraction * len(graphs))
    if n_valid < 2:  # losses that compare crystals are constant on a single one, and the first epoch would be the best
        n_valid = 0
    if len(graphs) - n_valid < 2:
        raise ValueError(
            f"of {len(graphs)} crystals {n_valid} are held out, which leaves fewer than two to train on; lower "
            "validation_fraction"
        )
    dataset = CrystalDataset(graphs, y, np.sort(order[n_valid:]))
    valid = CrystalDataset(graphs, y, np.sort(order[:n_valid])) if n_valid else None

    with seeded(derive_seed(seed, 1)):
        task = make_task(method, encoder, encoder_params, task_params, encoder_state)

    resume = None
    if checkpoint is not None:
        model = [method, encoder, encoder_params, encoder_state, task_params]
        settings = [
            max_epochs,
            batch_size,
            learning_rate,
            weight_decay,
            gradient_clip,
            validation_fraction,
            seed,
            precision,
        ]
        resume = Checkpoint(checkpoint, run=joblib.hash([graphs, y, model, settings]))
    net = fit_network(
        PretrainingNet,
        task,
        dataset,
        valid,
        max_epochs=max_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        gradient_clip=gradient_clip,
        device=device,
        precision=precision,
        seed=derive_seed(seed, 2),
        checkpoint=resume,
        description=f"pretraining ({method})" if verbose else None,
    )
    trained: Encoder = net.module_.encoder
    return state_as_numpy(trained), epochs_of(net)


def make_task(
    method: str,
    encoder: str,
    encoder_params: dict[str, Any],
    task_params: dict[str, Any],
    encoder_state: dict[str, np.ndarray] | None = None,
) -> PretextTask:
    """Return a pretext task around an encoder, both with random weights unless there are some to start from.

    Raises
    ------
    ValueError
        If the encoder or the task does not take its parameters, or the encoder lacks what the task needs.
    """
    network = _construct("encoder", ENCODERS[encoder], encoder_params)
    if encoder_state is not None:
        network.load_pretrained({name: torch.from_numpy(array) for name, array in encoder_state.items()})
    return _construct("method", TASKS[method], task_params, network)


def _construct(kind: str, cls: Any, params: dict[str, Any], *args: Any) -> Any:
    try:
        return cls(*args, **params)
    except TypeError as error:
        known = inspect.signature(cls).parameters
        hint = next((did_you_mean(name, known) for name in params if name not in known), "")
        raise ValueError(f"the {kind} {cls.name!r} does not take these parameters: {error}.{hint}") from error
