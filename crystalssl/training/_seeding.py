"""Randomness that follows from one seed, whatever other threads do, and leaves torch's global generators alone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

from crystalssl._ranks import ALONE, Ranks

__all__ = ["MAX_SEED", "Dropout", "Randomness", "derive_seed", "draws_globally", "seeded"]

MAX_SEED = 2**31 - 1
"""What numpy's RandomState draws on every platform."""


def derive_seed(seed: int, *path: int) -> int:
    """Return a seed that depends on `seed` and on where it is used, such as the number of the epoch.

    Examples
    --------
    >>> derive_seed(0, 1) == derive_seed(0, 1), derive_seed(0, 1) == derive_seed(0, 2)
    (True, False)
    """
    return int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0]) >> 1


# ------------------------------------------------------------------ initial weights


def _drawing_functions() -> Iterator[Any]:
    """Yield what draws random numbers and can be told from which generator."""
    yield from (function for name, function in vars(nn.init).items() if name.endswith("_") and callable(function))
    new = ["rand", "randn", "randint", "randperm", "normal", "rand_like", "randn_like", "randint_like", "poisson"]
    in_place = ["uniform_", "normal_", "random_", "bernoulli_", "exponential_", "geometric_", "cauchy_", "log_normal_"]
    both = ["bernoulli", "multinomial"]
    yield from (getattr(torch, name) for name in new + both)
    yield from (getattr(torch.Tensor, name) for name in in_place + both)


# Older releases give none to those of "_like". What nn.init fills with a constant needs none.
_DRAWING = frozenset(function for function in _drawing_functions() if "generator" in (function.__doc__ or ""))


class seeded(TorchFunctionMode):
    """Have this thread draw initial weights on the CPU from a generator of its own, seeded with `seed`.

    Modules offer no way to say what their weights are drawn from. A mode of torch does: it sees every call of this
    thread, and no other thread sees it. The numbers are those that torch's global generator, which is left alone, would
    give after ``torch.manual_seed(seed)``.

    Examples
    --------
    >>> with seeded(0):
    ...     weights = torch.rand(2)
    >>> bool((weights == torch.rand(2, generator=torch.Generator().manual_seed(0))).all())
    True
    """

    def __init__(self, seed: int):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWING and kwargs.get("generator") is None:
            kwargs = {**kwargs, "generator": self.generator}
        return func(*args, **kwargs)


# ------------------------------------------------------------------ training


class Dropout(nn.Dropout):
    """Torch's dropout, except that its masks can be drawn from a generator that is lent to it."""

    generator: torch.Generator | None = None
    """On the device of the input; None is torch's global one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x`, in training with components set to zero and the rest scaled up."""
        if self.generator is None or not self.training or self.p in (0, 1):
            return super().forward(x)
        # As torch does it on CPUs, to the bit.
        mask = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
        return x * mask.div_(1 - self.p)


def draws_globally(module: nn.Module) -> bool:
    """Return whether training a module may draw from torch's global generators.

    Torch's own modules do if they drop something; they take no other generator. Those of this package do not. What
    others do in theirs, and in the augmentations of a task, nobody can know, so they may.
    """
    parts: list[Any] = [*module.modules()]
    for part in parts:  # which grow meanwhile: the augmentations of a task are no modules
        parts += [*getattr(part, "views", ()), *getattr(part, "augmentations", ())]
    return any(_draws_globally(part) for part in parts)


def _draws_globally(part: Any) -> bool:
    home = type(part).__module__
    if home.startswith("torch.nn.modules."):
        rate = part.p if isinstance(part, _DropoutNd) else getattr(part, "dropout", 0)  # recurrent layers, attention
        return isinstance(part, (nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)) or (
            isinstance(rate, (int, float)) and rate > 0
        )
    return home.partition(".")[0] != __name__.partition(".")[0]


# Held by the thread whose step draws from torch's global generators.
_global_generators = threading.RLock()


class Randomness:
    """All that is random in the training of a module.

    Parameters
    ----------
    module : torch.nn.Module
        What is trained.
    device : str
        Where.
    ranks : Ranks
        Processes that train it together: they draw the same order of crystals, and views and masks of their own.
    """

    def __init__(self, module: nn.Module, device: str, ranks: Ranks = ALONE):
        self._ranks = ranks
        self._on_cpu = torch.Generator()
        self._on_device = self._on_cpu if torch.device(device).type == "cpu" else torch.Generator(device)
        self.order = self._on_cpu if ranks.size == 1 else torch.Generator()
        """What the order of crystals is drawn from."""
        self._is_lent = False
        self._dropouts = [part for part in module.modules() if isinstance(part, Dropout)]
        self._draws_globally = draws_globally(module)

    def seed(self, seed: int) -> None:
        """Begin again from a seed."""
        self.order.manual_seed(seed)
        self.seed_own(seed if self._ranks.size == 1 else derive_seed(seed, self._ranks.rank))

    def seed_own(self, seed: int) -> None:
        """Begin again from a seed, but for the order of crystals."""
        self._on_cpu.manual_seed(seed)
        self._on_device.manual_seed(seed)

    def states(self) -> list[torch.Tensor]:
        """Return where all that is random stands, but for the order of crystals."""
        return [self._on_cpu.get_state(), self._on_device.get_state()]

    def go_on(self, states: list[torch.Tensor]) -> None:
        """Go on from :meth:`states`."""
        self._on_cpu.set_state(states[0])
        self._on_device.set_state(states[1])

    @property
    def generator(self) -> torch.Generator | None:
        """What the seeds of views are drawn from, on the CPU.

        It is None, which torch takes for its global generator, while that one stands in for it.
        """
        return None if self._is_lent else self._on_cpu

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Have a step, forwards and backwards, draw from these generators alone.

        Steps of modules that draw from torch's global generators find these in their place, and wait for each other.
        """
        if self._draws_globally:
            with _in_place_of_the_global({self._on_cpu, self._on_device}):
                self._is_lent = True
                try:
                    yield
                finally:
                    self._is_lent = False
            return
        for dropout in self._dropouts:
            dropout.generator = self._on_device
        try:
            yield
        finally:
            for dropout in self._dropouts:
                dropout.generator = None


@contextlib.contextmanager
def _in_place_of_the_global(generators: Iterable[torch.Generator]) -> Iterator[None]:
    """Lend the states of generators to the global ones of their devices, and take them back with what was drawn."""
    with _global_generators:
        pairs = [(own, _global_generator(own.device)) for own in generators]
        states = [found.get_state() for _, found in pairs]
        try:
            for own, found in pairs:
                found.set_state(own.get_state())
            yield
        finally:
            for (own, found), state in zip(pairs, states, strict=True):
                own.set_state(found.get_state())
                found.set_state(state)


def _global_generator(device: torch.device) -> torch.Generator:
    if device.type == "cpu":
        return torch.default_generator
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return torch.get_device_module(device).default_generators[device.index or 0]
