"""Parts that the layers of several encoders share, and how a layer comes to have a fast form."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["KERNELS", "BatchNorm", "Layer", "fast_form", "gaussian_expansion"]

KERNELS = ("fast", "plain")
"""The two forms of a layer."""

Forward = TypeVar("Forward", bound=Callable[..., Any])


class Layer(nn.Module):
    """A module whose `forward` may have a fast form beside the plain one, see :func:`fast_form`."""

    kernels: str = "fast"

    def use_kernels(self, kernels: str) -> None:
        """Choose the form, "fast" or "plain", of this layer and of all layers inside."""
        for part in self.modules():
            if isinstance(part, Layer):
                part.kernels = kernels


def fast_form(fast: Callable[..., Any]) -> Callable[[Forward], Forward]:
    """Return a decorator of the plain `forward` of a :class:`Layer`: its fast form is used unless ``kernels="plain"``.

    Parameters
    ----------
    fast : callable
        Takes what `forward` takes, the layer first, and returns what it returns, to rounding. Its first derivatives by
        all weights and by the vectors of atoms and edges are the same. It need not have others.
    """

    def decorate(plain: Forward) -> Forward:
        @functools.wraps(plain)
        def forward(self: Layer, *inputs: Any) -> Any:
            return (plain if self.kernels == "plain" else fast)(self, *inputs)

        return forward  # type: ignore[return-value]

    return decorate


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that also takes fewer than two rows: they have no statistics, and the running ones serve."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the rows of `x`."""
        if len(x) == 0:  # of which PyTorch's backward pass fails
            return x
        if len(x) == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def gaussian_expansion(distances: Tensor, centers: Tensor, width: float) -> Tensor:
    """Return ``exp(-((d - µ) / width)²)`` for every distance and centre; a masked (infinite) distance gives zeros.

    Parameters
    ----------
    distances : Tensor of shape (n_edges,)
        In Å.
    centers : Tensor of shape (n_gaussians,)
        In Å.
    width : float
        In Å.
    """
    # Numbers too small for normal floating point would make this 40 times slower, and then every product that they
    # enter. They are kept out of the exponential, and their results (below 1e-26) set to zero.
    exponents = -((distances[:, None] - centers) / width).square()
    return F.threshold(exponents.clamp(min=-80).exp(), 1e-26, 0.0)


def once_per_value(embed: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """Return a method of a :class:`Layer` that computes each distinct value's row once, unless ``kernels="plain"``.

    Crystals have few lengths and few angles, each of them many times. No gradient flows into the values.

    Parameters
    ----------
    embed : callable
        The method: takes values of shape (n_values,), returns rows of shape (n_values, ·).
    """

    @functools.wraps(embed)
    def forward(self: Layer, values: Tensor) -> Tensor:
        if self.kernels == "plain":
            return embed(self, values)
        distinct, which = values.unique(return_inverse=True)
        return embed(self, distinct).index_select(0, which)

    return forward
