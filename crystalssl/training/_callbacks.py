"""What happens between batches and epochs, as skorch callbacks."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from sklearn.base import clone
from skorch.callbacks import Callback
from skorch.history import History
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from crystalssl._ranks import current_ranks
from crystalssl.exceptions import NonFiniteError, WeightsError
from crystalssl.training._checkpoints import read_checkpoint, write_checkpoint
from crystalssl.training._finite import find_fault
from crystalssl.training._jobs import from_first, gathered
from crystalssl.training._preemption import Terminated

__all__ = ["Checkpoint", "FinalWeights", "MovingAverage", "Progress", "StopTraining", "WarmupCosine", "copies_of"]


_OF_BATCHES = ("train_loss", "train_batch_size")


def copies_of(callbacks: Iterable[Any] | None) -> list[Any]:
    """Return a copy of each of some callbacks, as a list of skorch takes them.

    What cannot be cloned, because it holds something that is one of its kind, such as a trial of optuna or the writer
    of a log, is copied without what it holds.
    """
    return [(item[0], _copy_of(item[1])) if isinstance(item, tuple) else _copy_of(item) for item in callbacks or ()]


def _copy_of(callback: Any) -> Any:
    try:
        return clone(callback, safe=False)
    except Exception:  # whatever the object raises that refuses to be copied
        return copy.copy(callback)


class StopTraining(Exception):
    """Raised by a callback to end training early; skorch's own signal for that is KeyboardInterrupt."""


class WarmupCosine(Callback):
    """Raise the learning rates linearly, then lower them along a cosine to zero.

    A function of the step alone, without state: a resumed run needs nothing but the number of epochs done.

    Parameters
    ----------
    n_batches : int
        Batches per epoch.
    n_epochs : int
        Epochs of the whole run.
    warmup : float, default=0.1
        Share of the steps in which the rates rise.
    """

    def __init__(self, n_batches: int, n_epochs: int, warmup: float = 0.1):
        self.n_batches = n_batches
        self.n_epochs = n_epochs
        self.warmup = warmup

    def factor(self, step: int) -> float:
        """Return the share of the peak rate at a step, counted from 0."""
        n_steps = self.n_batches * self.n_epochs
        n_warmup = self.warmup * n_steps
        if step + 1 < n_warmup:
            return (step + 1) / n_warmup
        return 0.5 * (1 + math.cos(math.pi * (step + 1 - n_warmup) / max(n_steps - n_warmup, 1)))

    def on_train_begin(self, net, **kwargs):
        """Remember the peak rates."""
        self.peaks_ = [group["lr"] for group in net.optimizer_.param_groups]

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        """Set the rates of this step."""
        if training:
            factor = self.factor((len(net.history) - 1) * self.n_batches + len(net.history[-1]["batches"]) - 1)
            for group, peak in zip(net.optimizer_.param_groups, self.peaks_, strict=True):
                group["lr"] = peak * factor

    def on_epoch_end(self, net, **kwargs):
        """Record the rate that the epoch ended with."""
        net.history.record("learning_rate", self.peaks_[-1] * self.factor(len(net.history) * self.n_batches - 1))


class MovingAverage(AveragedModel):
    """An exponential moving average of the weights and statistics of one model.

    Early in training it forgets faster, so that short runs are not held back by their beginning.

    Parameters
    ----------
    model : torch.nn.Module
        Whose weights are averaged: always the same tensors.
    decay : float
        Per step.
    """

    def __init__(self, model: torch.nn.Module, decay: float):
        super().__init__(model, use_buffers=True)
        self.decay = decay
        # PyTorch's own update goes through all modules again at every step, a tenth of the time of a small one.
        tensors = ([*of.parameters(), *of.buffers()] for of in (self.module, model))
        pairs = [(average.detach(), current.detach()) for average, current in zip(*tensors, strict=True)]
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]  # counters of batch normalisation

    @torch.no_grad()
    def update_parameters(self, model: torch.nn.Module) -> None:
        """Take the present weights into the average."""
        n = int(self.n_averaged)
        decay = min(self.decay, (1 + n) / (10 + n)) if n else 0.0
        averages, currents = zip(*self._averaged, strict=True)
        torch._foreach_lerp_(averages, currents, 1 - decay)
        for average, current in self._copied:
            average.copy_(current)
        self.n_averaged += 1


class FinalWeights(Callback):
    """Decide which weights training leaves behind.

    Parameters
    ----------
    ema_decay : float, default=0
        Decay per step of a `MovingAverage` of the weights, which is then used for validation and prediction; 0 uses
        the weights themselves.
    monitor : str or None, default=None
        Loss in the history whose best epoch is restored at the end; None keeps the last epoch.
    patience : int or None, default=None
        Epochs without improvement of `monitor` after which training stops.
    """

    average_: MovingAverage | None = None
    best_weights_: dict[str, Tensor] | None = None

    def __init__(self, ema_decay: float = 0.0, monitor: str | None = None, patience: int | None = None):
        self.ema_decay = ema_decay
        self.monitor = monitor
        self.patience = patience

    def on_train_begin(self, net, **kwargs):
        """Start the average at the initial weights."""
        self.best_loss_ = math.inf
        self.best_epoch_ = 0
        self.best_weights_ = None
        self.average_ = None
        if self.ema_decay:
            self.average_ = MovingAverage(net.module_, self.ema_decay).eval()

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        """Update the average."""
        if training and self.average_ is not None:
            self.average_.update_parameters(net.module_)

    def on_epoch_end(self, net, **kwargs):
        """Keep the weights if they are the best so far."""
        if not math.isfinite(net.history[-1, "train_loss"]):
            raise NonFiniteError(
                f"training diverged: the loss of epoch {len(net.history)} is {net.history[-1, 'train_loss']}; lower "
                "learning_rate, or set gradient_clip"
            )
        if self.monitor is None:
            return
        loss = net.history[-1, self.monitor]
        if loss < self.best_loss_:
            self.best_loss_, self.best_epoch_ = loss, len(net.history)
            self.best_weights_ = copy.deepcopy(net.averaged_module.state_dict())
        elif self.patience is not None and len(net.history) - self.best_epoch_ >= self.patience:
            raise StopTraining

    def on_train_end(self, net, **kwargs):
        """Put the chosen weights into the net."""
        net.module_.load_state_dict(self.best_weights_ or net.averaged_module.state_dict())
        net.module_.eval()
        self.average_ = self.best_weights_ = None
        fault = find_fault(net.module_.state_dict())
        if fault is not None:
            raise NonFiniteError(f"training diverged: {fault}; lower learning_rate, or set gradient_clip")


class Progress(Callback):
    """One line with the progress of training, its losses and the time left.

    Parameters
    ----------
    n_batches : int
        Training batches per epoch.
    n_epochs : int
        Epochs of the whole run.
    description : str
        What is being trained.
    """

    def __init__(self, n_batches: int, n_epochs: int, description: str):
        self.n_batches = n_batches
        self.n_epochs = n_epochs
        self.description = description

    def on_train_begin(self, net, **kwargs):
        """Open the line."""
        from tqdm.auto import tqdm

        done = len(net.history) * self.n_batches  # not 0 when a run is resumed
        self.bar_ = tqdm(total=self.n_batches * self.n_epochs, initial=done, desc=self.description, unit="batch")

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        """Move on by one batch."""
        if training:
            self.bar_.update()

    def on_epoch_end(self, net, **kwargs):
        """Show the losses."""
        epoch = net.history[-1]
        losses = {name: f"{epoch[name + '_loss']:.4g}" for name in ("train", "valid") if name + "_loss" in epoch}
        self.bar_.set_postfix({"epoch": f"{len(net.history)}/{self.n_epochs}", **losses})

    def on_train_end(self, net, **kwargs):
        """Close the line."""
        self.bar_.close()
        del self.bar_


class Checkpoint(Callback):
    """Save all that a run needs to go on after every epoch, and go on from there if the file exists.

    After SIGTERM it is saved after the step, and the process ends. The file is replaced in one step: an interruption at
    any moment leaves the last complete one. Its hash tells if it was damaged since. Of processes that train together
    the first one reads and writes; another number of them can go on.

    Parameters
    ----------
    path : path
        The file.
    run : str
        Identifies corpus and settings. A checkpoint of another run is refused.
    corpus : str or None, default=None
        Identifies the corpus alone, to say what is other.
    """

    _unfinished: list[dict[str, Any]] | None = None  # batches of the epoch that is gone on with
    _states: list[list[Tensor]] | None = None  # and where the generators of each process stood

    def __init__(self, path: str | os.PathLike, run: str, corpus: str | None = None):
        self.path = path
        self.run = run
        self.corpus = corpus

    def _parts(self, net) -> dict[str, dict[str, Tensor]]:
        final = net.final_weights
        optimizer = {
            f"{index}.{name}": value
            for index, state in net.optimizer_.state_dict()["state"].items()
            for name, value in state.items()
        }
        parts = {"module": net.module_.state_dict(), "optimizer": optimizer}
        if final.average_ is not None:
            parts["average"] = final.average_.state_dict()
        if final.best_weights_ is not None:
            parts["best"] = final.best_weights_
        return parts

    def on_epoch_end(self, net, **kwargs):
        """Save."""
        self._unfinished = self._states = None
        self._save(net, {})

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        """Save and end, if a process was asked to leave."""
        if training and net.leaving_:
            batches = [{name: batch[name] for name in _OF_BATCHES} for batch in net.history[-1]["batches"]]
            self._save(net, {"unfinished": batches}, gathered(net.randomness_states()))
            raise Terminated(f"the state of training is in {self.path}")

    def _save(self, net, more: dict[str, Any], states: Iterable[list[Tensor]] = ()) -> None:
        if current_ranks().rank == 0:
            parts = self._parts(net)
            for rank, generators in enumerate(states):
                parts[f"random.{rank}"] = dict(zip(("cpu", "device"), generators, strict=True))
            tensors = {
                f"{part}/{name}": tensor.detach().cpu().clone()
                for part, named in parts.items()
                for name, tensor in named.items()
            }
            epochs = net.history[:-1] if more else net.history
            history = [{key: value for key, value in epoch.items() if key != "batches"} for epoch in epochs]
            final = net.final_weights
            best = [final.best_loss_, final.best_epoch_]
            state = {"run": self.run, "corpus": self.corpus, "history": history, "best": best, **more}
            write_checkpoint(Path(self.path), tensors, state)
        from_first(None)  # the others wait until it is written

    def on_epoch_begin(self, net, **kwargs):
        """Skip what was had of the epoch before."""
        if self._unfinished:
            net.history[-1]["batches"].extend(self._unfinished)
            net.training_batches_.skip = len(self._unfinished)

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        """Have the generators go on from where they were, once the order of crystals has been drawn."""
        if self._unfinished:
            net.go_on_drawing(self._states, len(self._unfinished))
            self._unfinished = self._states = None

    def on_train_begin(self, net, **kwargs):
        """Load, if there is something to load."""
        found = from_first(read_checkpoint(Path(self.path)) if current_ranks().rank == 0 else None)
        if found is None:
            return
        tensors, state = found
        if state["run"] != self.run:
            what = "with another corpus or other settings"
            if state.get("corpus") not in (None, self.corpus):
                what = "on another corpus: the crystals have changed since it was written, or are not the same"
            raise WeightsError(f"{self.path} belongs to a run {what}; delete it to start anew, or name another file")
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            part, name = key.split("/", 1)
            parts.setdefault(part, {})[name] = tensor
        net.module_.load_state_dict(parts["module"])
        optimizer = net.optimizer_.state_dict()
        for key, tensor in parts["optimizer"].items():
            index, name = key.split(".", 1)
            optimizer["state"].setdefault(int(index), {})[name] = tensor
        net.optimizer_.load_state_dict(optimizer)
        final = net.final_weights
        if "average" in parts:
            final.average_.load_state_dict(parts["average"])
        final.best_weights_ = parts.get("best")
        final.best_loss_, final.best_epoch_ = state["best"]
        net.history = History(state["history"])
        self._unfinished = state.get("unfinished")
        n_states = sum(name.startswith("random.") for name in parts)
        self._states = [[parts[f"random.{i}"][name] for name in ("cpu", "device")] for i in range(n_states)]
