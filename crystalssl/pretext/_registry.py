"""Pretext tasks by name, and what users may give in place of a name."""

from __future__ import annotations

from typing import Any

from crystalssl._config import construct
from crystalssl._parameters import check_registered
from crystalssl._registry import Registry
from crystalssl.pretext._base import PretextTask

__all__ = ["TASKS", "register_task", "resolve_task"]

TASKS = Registry("pretext task", "crystalssl.tasks", PretextTask)
"""Pretext tasks by the name that users pass as ``method=`` or ``pretrain=``."""

register_task = TASKS.register


def resolve_task(method: Any, **params: Any) -> PretextTask:
    """Return the template of a pretext task, from which :meth:`PretextTask.bind` makes one with weights.

    Parameters
    ----------
    method : str, type, PretextTask or dict
        A name in `TASKS`, a class, a template, or what `to_config` returned.
    **params
        Parameters of the task; they replace those of a template.

    Returns
    -------
    PretextTask

    Raises
    ------
    InvalidParameterError
        If there is no such task.
    ValueError
        If the task does not take the parameters, or its class bears the name of another task.

    Examples
    --------
    >>> from crystalssl.pretext import SimCLR, resolve_task
    >>> resolve_task(SimCLR(temperature=0.2), projection_dim=64)
    SimCLR(temperature=0.2, projection_dim=64)
    """
    if isinstance(method, dict) and "name" in method and method.keys() <= {"name", "params"}:
        method, params = method["name"], {**method.get("params", {}), **params}
    check_registered("method", method, TASKS)
    cls, config = method, {}
    if isinstance(method, str):
        cls = TASKS[method]
    elif isinstance(method, PretextTask):
        cls, config = type(method), method.config
    TASKS.check(cls)
    return construct("method", cls, {**config, **params})
