"""The one training loop: skorch's, with batches of crystals."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from skorch import NeuralNet
from skorch.utils import to_tensor
from torch import Tensor
from torch_geometric.data import Batch

from crystalssl._ranks import average_gradients, current_ranks, global_batch_norm, global_mean
from crystalssl.training._batching import BatchIterator, CrystalDataset, batches_for
from crystalssl.training._callbacks import FinalWeights, StopTraining
from crystalssl.training._precision import matmul_precision
from crystalssl.training._preemption import asked_to_leave
from crystalssl.training._seeding import Randomness, derive_seed

__all__ = ["CrystalNet", "PretrainingNet", "resolve_device", "train"]

_VALIDATION = 2**32 - 1  # stands for the epoch when seeding views of validation crystals


class CrystalNet(NeuralNet):
    """A skorch net that reads `CrystalDataset`.

    Whatever is random in epoch ``n`` follows from `seed` and ``n`` alone, so that a run resumed after any epoch goes on
    as if it had never stopped. What is global in torch, its generators and the precision of matrix products, is left as
    it was after every step, so that nets can be trained in threads beside each other.

    Parameters
    ----------
    module : torch.nn.Module
        Takes a batch, returns predictions of shape (n_crystals, n_targets).
    criterion : class, default=torch.nn.L1Loss
        Loss of predictions and targets. It takes ``reduction="none"``; the mean over a batch is taken here, weighed by
        the `sample_weight` of its crystals. The loss of a target that is NaN, and so missing, is zero.
    seed : int, default=0
        Seed of shuffling, dropout and views.
    precision : {"highest", "high", "medium"}, default="highest"
        How exactly matrices are multiplied, as in :func:`torch.set_float32_matmul_precision`.
    **kwargs
        Of :class:`skorch.NeuralNet`.
    """

    precision = "highest"  # of nets that were pickled before there was a choice
    _randomness: Randomness | None = None
    training_batches_: BatchIterator | None = None
    leaving_ = False
    """Whether one of the processes was asked to leave, which all know after the same step."""

    def __init__(
        self,
        module: Any,
        criterion: Any = torch.nn.L1Loss,
        *,
        seed: int = 0,
        precision: str = "highest",
        **kwargs: Any,
    ):
        super().__init__(module, criterion, **{"criterion__reduction": "none", **kwargs})
        self.seed = seed
        self.precision = precision

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("_randomness", "training_batches_"):
            state.pop(name, None)
        # skorch stores what was trained apart from the parameters, and they would be stored twice.
        if state.get("module") is getattr(self, "module_", None):
            state.pop("module", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "module" not in self.__dict__:
            self.module = self.module_

    def get_dataset(self, X: Any, y: Any = None) -> CrystalDataset:
        """Return `X` as a data set."""
        return X if isinstance(X, CrystalDataset) else CrystalDataset(X, y)

    def get_iterator(self, dataset: CrystalDataset, training: bool = False) -> BatchIterator:
        """Return the batches of one epoch."""
        generator = self._randomness.order if self._randomness else None
        ranks = current_ranks()
        iterator = batches_for(
            self.module_,
            dataset,
            self.batch_size,
            self.device,
            shuffle=training,
            generator=generator,
            share=(ranks.rank, ranks.size),
        )
        if training:
            self.training_batches_ = iterator
        return iterator

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any):
        """Make the generators of training."""
        super().on_train_begin(net, X, y, **kwargs)
        self._randomness = Randomness(self.module_, self.device, current_ranks())

    def on_epoch_begin(self, net: NeuralNet, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any):
        """Seed all that is random in this epoch."""
        super().on_epoch_begin(net, dataset_train, dataset_valid, **kwargs)
        if self._randomness is not None:
            self._randomness.seed(derive_seed(self.seed, len(self.history) - 1))

    def randomness_states(self) -> list[Tensor]:
        """Return where the generators of this process stand."""
        assert self._randomness is not None
        return self._randomness.states()

    def go_on_drawing(self, states: list[list[Tensor]], n_batches: int) -> None:
        """Have the generators go on from the states of all processes, or anew if these were another number."""
        assert self._randomness is not None
        ranks = current_ranks()
        if len(states) == ranks.size:
            self._randomness.go_on(states[ranks.rank])
        else:
            self._randomness.seed_own(derive_seed(self.seed, len(self.history) - 1, n_batches, ranks.size, ranks.rank))

    def on_train_end(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any):
        """Forget the generators and the batches."""
        super().on_train_end(net, X, y, **kwargs)
        self._randomness = None
        self.training_batches_ = None

    def on_batch_end(self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any):
        """Count a batch by the crystals of all processes, so that all come to the same losses of epochs."""
        super().on_batch_end(net, batch, training, **kwargs)
        self.history.record_batch(("train" if training else "valid") + "_batch_size", batch[0]._n_together)

    @contextlib.contextmanager
    def _step(self) -> Iterator[None]:
        drawing = contextlib.nullcontext() if self._randomness is None else self._randomness.step()
        with matmul_precision(self.precision), drawing, global_batch_norm(self.module_):
            yield

    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        """Take a step of the optimizer."""
        with self._step():
            return super().train_step(batch, **fit_params)

    def train_step_single(self, batch: Any, **fit_params: Any) -> Any:
        """Compute loss and gradients, averaged over the processes that train together."""
        step = super().train_step_single(batch, **fit_params)
        leaving = asked_to_leave()
        if current_ranks().size > 1:
            flag = step["loss"].new_tensor(float(leaving))
            step["loss"], flag = average_gradients(self.module_.parameters(), step["loss"], flag)
            leaving = bool(flag)
        self.leaving_ = leaving
        return step

    def validation_step(self, batch: Any, **fit_params: Any) -> Any:
        """Return loss and predictions of a batch of validation crystals."""
        with self._step():
            step = super().validation_step(batch, **fit_params)
            ranks = current_ranks()
            return step if ranks.size == 1 else {**step, "loss": ranks.sum_(step["loss"].clone()) / ranks.size}

    def evaluation_step(self, batch: Any, training: bool = False) -> Any:
        """Return predictions of a batch."""
        with self._step():
            return super().evaluation_step(batch, training)

    def infer(self, x: Batch, **fit_params: Any) -> Tensor:
        """Call the module, or in evaluation its moving average where there is one."""
        module = self.module_ if self.module_.training else self.averaged_module
        return module(to_tensor(x, device=self.device), **fit_params)

    def get_loss(self, y_pred: Tensor, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        """Return the mean loss of a batch, in which each crystal has its weight, and missing targets have no loss."""
        y_true = to_tensor(y_true, device=self.device)
        if y_true.is_floating_point():
            y_true = torch.where(y_true.isnan(), y_pred.detach(), y_true)
        losses = super().get_loss(y_pred, y_true, X, training)
        loss = (losses.reshape(len(losses), -1).mean(dim=1) * X.sample_weight.to(losses.device)).mean()
        return global_mean(loss, len(losses))

    @property
    def final_weights(self) -> FinalWeights | None:
        """The callback that decides which weights training leaves behind."""
        return next((callback for _, callback in self.callbacks_ if isinstance(callback, FinalWeights)), None)

    @property
    def averaged_module(self) -> torch.nn.Module:
        """The moving average of the module, or the module itself where there is none."""
        average = getattr(self.final_weights, "average_", None)
        return self.module_ if average is None else average.module


class PretrainingNet(CrystalNet):
    """A net whose module is a pretext task, which returns the loss itself."""

    def on_epoch_begin(self, net: NeuralNet, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any):
        """Record where the epoch is learnt, since a run may go on elsewhere."""
        super().on_epoch_begin(net, dataset_train, dataset_valid, **kwargs)
        self.history.record("device", torch.device(self.device).type)

    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        """Let the task do what it does after a step of the optimizer, such as moving a target network."""
        step = super().train_step(batch, **fit_params)
        self.module_.after_step()
        return step

    def infer(self, x: Batch, **fit_params: Any) -> Tensor:
        """Return the loss of a batch; its views are drawn from a generator of their own, on the device."""
        if self.module_.training:
            generator = self._randomness.generator if self._randomness else None
            seed = int(torch.randint(2**62, (), generator=generator))
        else:  # views differ between batches, but not between epochs, so that validation losses can be compared
            which = [] if current_ranks().size == 1 else [current_ranks().rank]
            seed = derive_seed(self.seed, _VALIDATION, len(self.history[-1]["batches"]), *which)
        return super().infer(x, generator=torch.Generator(self.device).manual_seed(seed), **fit_params)

    def get_loss(self, y_pred: Tensor, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        """Return what the task returned."""
        return y_pred


def resolve_device(device: str) -> str:
    """Return the torch device that "auto" stands for, or `device` itself if it can be used.

    Raises
    ------
    ValueError
        If there is no such device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.ones(1, device=device).add(1).cpu()  # "meta" makes tensors, and computes nothing
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f'device {device!r} cannot be used here ({error}); choose "auto" or "cpu"') from error
    return device


def train(net: CrystalNet, dataset: CrystalDataset) -> CrystalNet:
    """Train an initialised net until it has seen `max_epochs` epochs.

    skorch's own `fit` takes Ctrl-C for the end of training; here it is an interruption, which the caller sees.
    """
    net.notify("on_train_begin", X=dataset, y=None)
    with contextlib.suppress(StopTraining):
        net.fit_loop(dataset, epochs=net.max_epochs - len(net.history))
    net.notify("on_train_end", X=dataset, y=None)
    return net
