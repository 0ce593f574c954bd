"""Several tasks on one encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sklearn.utils._param_validation import InvalidParameterError
from torch import Tensor
from torch_geometric.data import Batch

from crystalssl.augment import Augmentation
from crystalssl.encoders import Encoded, Encoder
from crystalssl.pretext._base import PretextTask
from crystalssl.pretext._registry import TASKS, register_task, resolve_task

__all__ = ["Composite", "WeightedTasks"]


class WeightedTasks(PretextTask):
    """A weighted sum of tasks on one encoder; equal views are made and encoded once for all tasks that ask for them.

    Parameters
    ----------
    tasks : sequence of PretextTask
        Templates of the tasks.
    weights : sequence of float
        One per task.
    view : Augmentation or None, default=None
        One view for all tasks, in place of their own.
    """

    def __init__(self, tasks: Sequence[PretextTask], weights: Sequence[float], view: Augmentation | None = None):
        super().__init__()
        for name, weight in zip((task.name for task in tasks), weights, strict=True):
            if not weight > 0:
                raise ValueError(f"the weight of the task {name!r} must be positive, got {weight!r}; or leave it out")
        self.templates = tuple(tasks)
        self.weights = list(weights)
        self.views_of: list[list[int]] = []
        for task in tasks:
            mine: list[int] = []
            for wanted in task.views if view is None else [view]:
                # The two views of one task are drawn separately even though they are equal.
                shared = [i for i, other in enumerate(self.views) if other == wanted and i not in mine]
                if not shared:
                    self.views.append(wanted)
                mine.append(shared[0] if shared else len(self.views) - 1)
            self.views_of.append(mine)

    def build(self, encoder: Encoder) -> None:
        """Make the tasks."""
        tasks = [template.bind(encoder) for template in self.templates]
        for task in tasks:
            # The encoder is a part of this module. The tasks reach it, but it is no part of theirs: it would stand in
            # the weights once for each of them.
            del task.encoder
            vars(task)["encoder"] = encoder
        self.tasks = torch.nn.ModuleList(tasks)

    def check_elements(self, elements: Sequence[int]) -> None:
        """Raise ValueError if a task has nothing to learn."""
        for template in self.templates:
            template.check_elements(elements)

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return the weighted sum of the tasks' losses."""
        total = encoded[0].graph.new_zeros(())
        for task, weight, mine in zip(self.tasks, self.weights, self.views_of, strict=True):
            total = total + weight * task.loss([encoded[i] for i in mine], [views[i] for i in mine], batch)  # type: ignore[operator]
        return total

    def after_step(self) -> None:
        """Have all tasks do what they do after a step."""
        for task in self.tasks:
            task.after_step()  # type: ignore[operator]


@register_task
class Composite(WeightedTasks):
    """Any weighted sum of tasks.

    Parameters
    ----------
    tasks : dict of str to float, list, or None, default=None
        Weight of each task, by name; or a list of names, classes or templates. None is
        ``{"mask": 1.0, "cosine": 1.0}``. Tasks that learn from labels have methods of their own.
    params : dict of str to dict or None, default=None
        Parameters of the tasks, by name, where `tasks` are a dict.
    weights : list of float or None, default=None
        Weights of the tasks, where they are a list; None weighs them alike.

    Examples
    --------
    >>> from crystalssl import PretrainedCrystalEmbedder
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.pretext import BYOL, Composite
    >>> X, _ = load_prototypes(return_X_y=True)
    >>> method = Composite([BYOL(projection_dim=32), "mask"], weights=[1.0, 0.5])
    >>> embedder = PretrainedCrystalEmbedder(method, encoder="cgcnn", weights=None, max_epochs=1, random_state=0)
    >>> len(embedder.fit(X[:20]).history_)
    1

    By names, which a search can go over:

    >>> task_params = {"tasks": {"byol": 1.0, "mask": 0.5}, "params": {"byol": {"projection_dim": 32}}}
    >>> embedder = PretrainedCrystalEmbedder("composite", weights=None, task_params=task_params)
    """

    name = "composite"
    encoder_name = "cgcnn"

    def __init__(
        self,
        tasks: dict[str, float] | Sequence[Any] | None = None,
        params: dict[str, dict[str, Any]] | None = None,
        weights: Sequence[float] | None = None,
    ):
        if tasks is None:
            tasks = {"mask": 1.0, "cosine": 1.0}
        if isinstance(tasks, dict):
            if weights is not None:
                raise ValueError("tasks by name have their weights beside them; leave weights out, or give a list")
            params = params or {}
            for name in params:
                if name not in tasks:
                    _part(name)  # which says if it is misspelt
            parts = [_part(name, **params.get(name, {})) for name in tasks]
            if not tasks or set(params) - set(tasks):
                raise ValueError(f"tasks are {sorted(tasks)}, params are given for {sorted(params)}")
            weights = list(tasks.values())
        else:
            if params is not None:
                raise ValueError("params are those of tasks by name; a list holds templates, which have their own")
            parts = [_part(task) for task in tasks]
            weights = [1.0] * len(parts) if weights is None else weights
            if not parts or len(weights) != len(parts):
                raise ValueError(f"a composite needs one weight for each of its tasks, got {weights} for {tasks}")
        super().__init__(parts, weights)


def _part(task: Any, **params: Any) -> PretextTask:
    """Return the template of a task that a composite can hold."""
    try:
        part = resolve_task(task, **params)
    except InvalidParameterError as error:
        raise ValueError(_refusal(task)) from error
    if part.needs_labels or isinstance(part, Composite):
        raise ValueError(_refusal(part.name))
    if part.n_labels_param is not None and part.config[part.n_labels_param]:
        raise ValueError(f"a composite has no labels; leave {part.n_labels_param} out of {part!r}")
    return part


def _refusal(task: Any) -> str:
    free = sorted(name for name, cls in TASKS.items() if not cls.needs_labels and cls is not Composite)
    return f"a composite cannot hold the task {task!r}; choose from {free}"
