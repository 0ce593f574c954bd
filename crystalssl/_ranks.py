"""What the processes that train one network together tell each other. One that trains alone tells nobody anything.

Each process has some crystals of every batch. Gradients and losses are averaged over the processes after every step, so
that a loss must be such that its average is the loss of the whole batch. Two functions see to that, and are all that
pretext tasks need: :func:`global_mean` for losses that are means over crystals, atoms or edges, and :func:`global_rows`
for losses that compare crystals with each other. Batch normalisation needs :func:`global_batch_norm`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from crystalssl.exceptions import ProcessError

__all__ = [
    "ALONE",
    "Ranks",
    "average_gradients",
    "current_ranks",
    "global_batch_norm",
    "global_mean",
    "global_rows",
    "training_as",
]


@dataclass(frozen=True)
class Ranks:
    """Which process this is, of how many that train one network.

    Parameters
    ----------
    rank, size : int
        This process, counted from 0, and the number of processes.
    group : object, default=None
        Of torch.distributed; None is the group of all.
    """

    rank: int = 0
    size: int = 1
    group: Any = None

    def sum_(self, x: Tensor) -> Tensor:
        """Replace `x` by its sum over the processes, which all get the same bits; return it.

        Raises
        ------
        ProcessError
            If another process has ended, or does not answer.
        """
        if self.size > 1:
            with self.answered():
                distributed.all_reduce(x, group=self.group)
        return x

    @contextlib.contextmanager
    def answered(self) -> Iterator[None]:
        """Say what it means if the other processes do not answer a message within a block."""
        try:
            yield
        except RuntimeError as error:
            raise ProcessError(
                f"process {self.rank} of {self.size} waits for the others in vain: one of them has ended, or hangs "
                f"({error}); torchrun names it below. The same command goes on from the last checkpoint"
            ) from error


ALONE = Ranks()
_current = ALONE


def current_ranks() -> Ranks:
    """Return with whom this process trains at the moment."""
    return _current


@contextlib.contextmanager
def training_as(ranks: Ranks) -> Iterator[Ranks]:
    """Train with other processes for the length of a block, in which all of them must do the same."""
    global _current
    before, _current = _current, ranks
    try:
        yield ranks
    finally:
        _current = before


class _Sum(torch.autograd.Function):
    """The sum over all processes; the gradient is that of the sum of what all of them make of it."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return _current.sum_(x.clone())

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return _current.sum_(grad.contiguous().clone())


def global_mean(mean: Tensor, count: int | Tensor) -> Tensor:
    """Return a loss that is a mean over things of this process, weighted by how many of all things it has.

    The average over processes is then the mean over all. In a process that trains alone it is `mean` itself.

    Parameters
    ----------
    mean : Tensor
        A scalar: the mean over the crystals, atoms or edges that this process has; any finite number if it has none.
    count : int or Tensor
        How many these are.

    Returns
    -------
    Tensor
        A scalar.

    Examples
    --------
    >>> import torch
    >>> from crystalssl.pretext import global_mean
    >>> global_mean(torch.tensor(0.5), 64)
    tensor(0.5000)
    """
    if _current.size == 1:
        return mean
    own = torch.as_tensor(count, dtype=torch.float64, device=mean.device)
    total = _current.sum_(own.clone()).clamp(min=1)
    return mean * (own * _current.size / total).to(mean.dtype)


def global_rows(x: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of these; gradients find their way back.

    In a process that trains alone it is `x` itself.

    Parameters
    ----------
    x : Tensor of shape (n_crystals, ...)
        Rows of this process.

    Returns
    -------
    Tensor of shape (n_crystals_of_all, ...)

    Examples
    --------
    >>> import torch
    >>> from crystalssl.pretext import global_rows
    >>> global_rows(torch.zeros(64, 8)).shape
    torch.Size([64, 8])
    """
    if _current.size == 1:
        return x
    counts = torch.zeros(_current.size, dtype=torch.int64, device=x.device)
    counts[_current.rank] = len(x)
    sizes = _current.sum_(counts).tolist()
    return _Sum.apply(_in_place(x, sum(sizes[: _current.rank]), sum(sizes[_current.rank + 1 :])))


def _in_place(x: Tensor, before: int, behind: int) -> Tensor:
    """Return `x` with rows of zeros for other processes' before and behind it."""
    return torch.cat([x.new_zeros(before, *x.shape[1:]), x, x.new_zeros(behind, *x.shape[1:])])


@contextlib.contextmanager
def global_batch_norm(module: nn.Module) -> Iterator[None]:
    """Have a module's batch normalisation, in training, take the statistics of all processes' rows within a block.

    Torch's own SyncBatchNorm is for GPUs only. Fewer than two rows have no statistics; the running ones serve.
    """
    norms = [] if _current.size == 1 else [part for part in module.modules() if isinstance(part, _BatchNorm)]
    for norm in norms:
        norm.forward = functools.partial(_normalise, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normalise(norm: Any, x: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, x)
    mean, squares, n = _statistics(x.detach())
    if n < 2:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
    if norm.track_running_stats:
        _remember(norm, mean, squares / (n - 1))
    weight, bias = (norm.weight, norm.bias) if norm.affine else (torch.ones_like(mean), torch.zeros_like(mean))
    return _BatchNormOfAll.apply(x, weight, bias, mean, squares / n, n, norm.eps)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return means, sums of squares about them, and the number of rows of all processes."""
    others = [0, *range(2, x.ndim)]
    own = x.new_tensor(x.numel() // max(x.shape[1], 1))
    mean = x.sum(others) / own.clamp(min=1)  # several times as fast as torch.var_mean
    squares = (x - mean.reshape([1, -1] + [1] * (x.ndim - 2))).square_().sum(others)
    # Of each process; means and squares about them can be joined without a loss of digits, sums of squares cannot.
    mine = torch.stack([own.expand_as(mean), mean, squares])[None]
    counts, means, squares = _current.sum_(_in_place(mine, _current.rank, _current.size - 1 - _current.rank)).unbind(1)
    n = counts.sum(0)
    mean = (counts * means).sum(0) / n.clamp(min=1)
    return mean, (squares + counts * (means - mean).square()).sum(0), n[0]


class _BatchNormOfAll(torch.autograd.Function):
    """Batch normalisation by given statistics of all rows, with the gradient through these: two messages per layer."""

    @staticmethod
    def forward(ctx, x, weight, bias, mean, variance, n, eps):
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps), n)
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weight, mean, scale, n = ctx.saved_tensors
        others, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
        normal = (x - mean.reshape(shape)) * scale.reshape(shape)
        own = torch.stack([grad.sum(others), (grad * normal).sum(others)])
        of_bias, of_weight = _current.sum_(own.clone()) / n
        inner = grad - of_bias.reshape(shape) - normal * of_weight.reshape(shape)
        return inner * (weight * scale).reshape(shape), own[1], own[0], None, None, None, None


def _remember(norm: Any, mean: Tensor, variance: Tensor) -> None:
    with torch.no_grad():
        norm.num_batches_tracked += 1
        momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean, momentum)
        norm.running_var.lerp_(variance, momentum)


def average_gradients(parameters: Iterable[nn.Parameter], *more: Tensor) -> list[Tensor]:
    """Replace gradients by their averages over the processes, and return those of some scalars, in one message.

    A network of this package has a few million weights: to send them while the backward pass goes on, as
    DistributedDataParallel does, would gain little, and the sum of all at once is the same at every run.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    gradients = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in trained]
    has_one = torch.tensor([parameter.grad is not None for parameter in trained], device=more[0].device)
    parts = [*gradients, has_one, *more]
    row = _current.sum_(torch.cat([part.detach().reshape(-1).to(more[0].dtype) for part in parts])).div_(_current.size)
    averages = row.split([part.numel() for part in parts])
    # A weight that no process has a gradient of is left as it is by the optimizer, which zeros are not.
    for parameter, average, anywhere in zip(trained, averages, averages[len(trained)].tolist(), strict=False):
        parameter.grad = average.view_as(parameter) if anywhere else None
    return [average[0] for average in averages[len(trained) + 1 :]]
