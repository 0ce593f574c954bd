"""Pretraining as one function of a task, its corpus, the settings and the seed."""

from __future__ import annotations

from typing import Any

import joblib
import numpy as np
import torch

from crystalssl._config import construct, source_of, to_json
from crystalssl.encoders import Encoder
from crystalssl.graphs import CrystalCorpus, CrystalGraphs
from crystalssl.pretext import PretextTask
from crystalssl.pretext._labels import Labels
from crystalssl.training._batching import CrystalDataset
from crystalssl.training._callbacks import Checkpoint
from crystalssl.training._fit import epochs_of, fit_network
from crystalssl.training._jobs import job, training_together
from crystalssl.training._net import PretrainingNet
from crystalssl.training._seeding import derive_seed, seeded
from crystalssl.training._weights import state_as_numpy

__all__ = ["key_of", "make_task", "pretrain"]


def make_task(
    template: PretextTask,
    encoder: type[Encoder],
    encoder_params: dict[str, Any],
    encoder_state: dict[str, np.ndarray] | None,
    seed: int,
) -> PretextTask:
    """Return a pretext task around an encoder.

    Parameters
    ----------
    template : PretextTask
        The task, configured.
    encoder : type
        Class of the encoder.
    encoder_params : dict
        Parameters of its constructor.
    encoder_state : dict of ndarray or None
        Weights of the encoder to start from; None starts from random ones.
    seed : int
        Seed of the random weights.

    Returns
    -------
    PretextTask

    Raises
    ------
    ValueError
        If the encoder does not take its parameters, or lacks what the task needs.
    """
    with seeded(derive_seed(seed, 1)):
        network = construct("encoder", encoder, encoder_params)
        if encoder_state is not None:
            network.load_pretrained({name: torch.from_numpy(array) for name, array in encoder_state.items()})
        return template.bind(network)


def key_of(task: PretextTask, encoder_state: dict[str, np.ndarray] | None) -> list[Any]:
    """Return what tells a task from others, for caches and checkpoints.

    That is names, parameters, the weights that it starts from, and of other people's classes what they do. Random
    initial weights follow from the seed.

    Parameters
    ----------
    task : PretextTask
        As made by :func:`make_task`.
    encoder_state : dict of ndarray or None
        Weights that the encoder starts from; None if they are random.

    Returns
    -------
    list
    """
    encoder = task.encoder
    sources = source_of([task, type(encoder)])
    return [task.name, to_json(task.config), encoder.name, to_json(encoder.config), encoder_state, sources]


def pretrain(
    task: PretextTask,
    graphs: CrystalGraphs | CrystalCorpus,
    y: np.ndarray | Labels | None,
    *,
    key: list[Any],
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
    """Pretrain the encoder of a task, in place.

    What it returns is a pure function of all but `task`, which `key` stands for, and the last two, so that
    `joblib.Memory` can cache it.

    Parameters
    ----------
    task : PretextTask
        As made by :func:`make_task`.
    graphs : CrystalGraphs or CrystalCorpus
        The corpus.
    y : ndarray of shape (n_crystals, n_labels), Labels or None
        Labels as encoded by the task, for the methods that take them.
    key : list
        What tells the task from others, of :func:`key_of`.
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
        Losses, learning rate, seconds and device of each epoch.
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
    labels = y if isinstance(y, Labels) else Labels(y)
    crystals, atoms = labels.crystals, labels.atoms
    if labels.counts is not None:
        _check_counts(labels.counts, np.diff(graphs.atom_offsets))
    dataset = CrystalDataset(graphs, crystals, np.sort(order[n_valid:]), atom_y=atoms)
    valid = CrystalDataset(graphs, crystals, np.sort(order[:n_valid]), atom_y=atoms) if n_valid else None
    settings: dict[str, Any] = {
        "max_epochs": max_epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "gradient_clip": gradient_clip,
        "precision": precision,
    }
    run = corpus = ""
    if checkpoint is not None or job().size > 1:
        # A corpus is told by its content, not by its path.
        corpus = graphs.fingerprint if isinstance(graphs, CrystalCorpus) else joblib.hash(graphs)
        content = graphs.key if isinstance(graphs, CrystalCorpus) else corpus
        run = joblib.hash([content, y, key, *settings.values(), validation_fraction, seed])
    with training_together(run) as ranks:
        net = fit_network(
            PretrainingNet,
            task,
            dataset,
            valid,
            **settings,
            device=device,
            seed=derive_seed(seed, 2),
            checkpoint=None if checkpoint is None else Checkpoint(checkpoint, run=run, corpus=corpus),
            description=f"pretraining ({task.name})" if verbose and ranks.rank == 0 else None,
        )
    return state_as_numpy(net.module_.encoder), epochs_of(net)


def _check_counts(given: np.ndarray, n_atoms: np.ndarray) -> None:
    """Raise a ValueError that names a crystal with forces on other than its atoms."""
    wrong = np.flatnonzero(given != n_atoms)
    if len(wrong):
        raise ValueError(
            f"forces of item {wrong[0]} are those of {given[wrong[0]]} atoms, but the crystal has {n_atoms[wrong[0]]}"
        )
