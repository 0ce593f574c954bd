"""How every network of the package is trained, be it pretrained or finetuned."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import torch
from skorch.callbacks import GradientNormClipping
from skorch.helper import predefined_split
from torch import nn

from crystalssl._ranks import current_ranks
from crystalssl.exceptions import ProcessError
from crystalssl.training._batching import BatchIterator, CrystalDataset
from crystalssl.training._callbacks import Checkpoint, FinalWeights, Progress, WarmupCosine
from crystalssl.training._net import CrystalNet, train
from crystalssl.training._precision import usual_torch
from crystalssl.training._preemption import heeding_sigterm

__all__ = ["epochs_of", "fit_network"]


@usual_torch()
def fit_network(
    net_class: type[CrystalNet],
    module: nn.Module,
    training: CrystalDataset,
    validation: CrystalDataset | None,
    *,
    max_epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    gradient_clip: float | None,
    device: str,
    precision: str,
    seed: int,
    ema_decay: float = 0.0,
    patience: int | None = None,
    checkpoint: Checkpoint | None = None,
    description: str | None = None,
    further_callbacks: Iterable[Any] = (),
    **net_params: Any,
) -> CrystalNet:
    """Train a module with AdamW, warm-up and cosine decay.

    Parameters
    ----------
    net_class : type
        `CrystalNet` or a subclass.
    module : torch.nn.Module
        What to train.
    training, validation : CrystalDataset
        With validation data the weights of the best epoch are kept.
    max_epochs, batch_size, learning_rate, weight_decay, gradient_clip, device, precision, seed, ema_decay, patience
        As in the estimators.
    checkpoint : Checkpoint or None, default=None
        Saves and resumes.
    description : str or None, default=None
        Title of the progress bar; None shows none.
    further_callbacks : iterable of skorch callbacks
        They run before those of the package.
    **net_params
        Further parameters of the net.

    Returns
    -------
    CrystalNet
        The trained net.
    """
    ranks = current_ranks()
    sizes = {"batch_size": batch_size, "the training set": len(training)}
    if validation:
        sizes["the held-out set"] = len(validation)
    for name, size in sizes.items():
        if size < ranks.size:
            raise ProcessError(
                f"{ranks.size} processes share every batch, and each needs a crystal: {name} has {size}; start fewer "
                "processes, or raise it"
            )
    n_batches = len(BatchIterator(training, batch_size, shuffle=True, share=(ranks.rank, ranks.size)))
    monitor = "valid_loss" if validation else None
    callbacks: list[Any] = [
        *further_callbacks,
        ("schedule", WarmupCosine(n_batches, max_epochs)),
        ("final_weights", FinalWeights(ema_decay, monitor, patience)),
    ]
    if gradient_clip is not None:
        callbacks.append(("clip", GradientNormClipping(gradient_clip)))
    if checkpoint is not None:
        callbacks.append(("checkpoint", checkpoint))
    if description is not None:
        callbacks.append(("progress", Progress(n_batches, max_epochs, description)))
    net = net_class(
        module,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=weight_decay,
        optimizer__fused=True,  # one pass over all weights: a quarter of the time of one operation after the other
        lr=learning_rate,
        batch_size=batch_size,
        max_epochs=max_epochs,
        train_split=predefined_split(validation) if validation else None,
        callbacks=callbacks,
        callbacks__print_log=None,
        device=device,
        seed=seed,
        precision=precision,
        verbose=0,
        **net_params,
    )
    with contextlib.nullcontext() if checkpoint is None else heeding_sigterm():
        return train(net.initialize(), training)


def epochs_of(net: CrystalNet) -> list[dict[str, Any]]:
    """Return the history of a net by epoch, without its batches."""
    keys = ("epoch", "train_loss", "valid_loss", "learning_rate", "dur", "device")
    return [{key: epoch[key] for key in keys if key in epoch} for epoch in net.history]
