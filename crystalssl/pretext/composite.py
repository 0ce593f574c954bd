"""Several tasks on one encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch

from crystalssl.augment import Augmentation
from crystalssl.encoders import Encoded, Encoder
from crystalssl.pretext._base import PretextTask

__all__ = ["WeightedTasks"]


class WeightedTasks(PretextTask):
    """A weighted sum of tasks on one encoder; equal views are made and encoded once for all tasks that ask for them.

    Parameters
    ----------
    encoder : Encoder
        The network to pretrain.
    tasks : sequence of PretextTask
        Tasks that were made with this encoder.
    weights : sequence of float
        One per task.
    """

    def __init__(self, encoder: Encoder, tasks: Sequence[PretextTask], weights: Sequence[float]):
        super().__init__(encoder)
        for name, weight in zip((task.name for task in tasks), weights, strict=True):
            if not weight > 0:
                raise ValueError(f"the weight of the task {name!r} must be positive, got {weight!r}; or leave it out")
        for task in tasks:
            del task.encoder  # it is this module's; the tasks only judge what it makes
        self.tasks = torch.nn.ModuleList(tasks)
        self.weights = list(weights)
        self.views: list[Augmentation] = []
        self.views_of: list[list[int]] = []
        for task in tasks:
            mine: list[int] = []
            for view in task.views:
                # The two views of one task are drawn separately even though they are equal.
                shared = [i for i, other in enumerate(self.views) if other == view and i not in mine]
                if not shared:
                    self.views.append(view)
                mine.append(shared[0] if shared else len(self.views) - 1)
            self.views_of.append(mine)

    def check_elements(self, elements: Sequence[int]) -> None:
        """Raise ValueError if a task has nothing to learn."""
        for task in self.tasks:
            task.check_elements(elements)  # type: ignore[operator]

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return the weighted sum of the tasks' losses."""
        total = encoded[0].graph.new_zeros(())
        for task, weight, mine in zip(self.tasks, self.weights, self.views_of, strict=True):
            total = total + weight * task.loss([encoded[i] for i in mine], [views[i] for i in mine], batch)  # type: ignore[operator]
        return total


class Composite(WeightedTasks):
    """Any weighted sum of registered tasks.

    Parameters
    ----------
    encoder : Encoder
        The network to pretrain.
    tasks : dict of str to float or None, default=None
        Weight of each task, by name; None is ``{"mask": 1.0, "cosine": 1.0}``. Tasks that learn from labels have
        methods of their own.
    params : dict of str to dict or None, default=None
        Parameters of the tasks, by name.

    Examples
    --------
    >>> from crystalssl import PretrainedCrystalEmbedder
    >>> from crystalssl.datasets import load_prototypes
    >>> X, _ = load_prototypes(return_X_y=True)
    >>> embedder = PretrainedCrystalEmbedder(
    ...     "composite", encoder="cgcnn", weights=None, max_epochs=1, random_state=0,
    ...     task_params={"tasks": {"mask": 1.0, "cosine": 0.5}, "params": {"cosine": {"perturbation": 0.1}}},
    ... )
    >>> len(embedder.fit(X[:20]).history_)
    1
    """

    name = "composite"
    encoder_name = "cgcnn"

    def __init__(
        self,
        encoder: Encoder,
        tasks: dict[str, float] | None = None,
        params: dict[str, dict[str, Any]] | None = None,
    ):
        from crystalssl.pretext import TASKS

        weights = {"mask": 1.0, "cosine": 1.0} if tasks is None else tasks
        params = params or {}
        free = sorted(name for name, task in TASKS.items() if not task.needs_labels and task is not type(self))
        for name in [*weights, *params]:
            if name not in free:
                raise ValueError(f"a composite cannot hold the task {name!r}; choose from {free}")
        if not weights or set(params) - set(weights):
            raise ValueError(f"tasks are {sorted(weights)}, params are given for {sorted(params)}")
        super().__init__(
            encoder, [TASKS[name](encoder, **params.get(name, {})) for name in weights], list(weights.values())
        )
