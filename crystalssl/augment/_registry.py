"""Augmentations by name, and what users may give as a view."""

from __future__ import annotations

from typing import Any

from crystalssl._parameters import check_registered
from crystalssl._registry import Registry
from crystalssl.augment._base import Augmentation, Compose

__all__ = ["AUGMENTATIONS", "register_augmentation", "resolve_view", "resolve_views"]

AUGMENTATIONS = Registry("augmentation", "crystalssl.augmentations", Augmentation)
"""Augmentations by name."""

register_augmentation = AUGMENTATIONS.register


def resolve_view(view: Any) -> Augmentation:
    """Return one augmentation from what users give.

    Parameters
    ----------
    view : str, type, Augmentation, dict, or list of these
        A name in `AUGMENTATIONS`, a class, an instance, what `to_config` returned, or several to apply in order.

    Returns
    -------
    Augmentation

    Raises
    ------
    InvalidParameterError
        If there is no such augmentation.
    ValueError
        If an augmentation does not take its parameters.

    Examples
    --------
    >>> from crystalssl.augment import resolve_view
    >>> resolve_view(["perturb", {"name": "mask-atoms", "params": {"rate": 0.2}}])
    Compose(augmentations=[RandomPerturbation(distance=0.05), AtomMasking(rate=0.2)])
    """
    if isinstance(view, (list, tuple)):
        parts = [resolve_view(part) for part in view]
        return parts[0] if len(parts) == 1 else Compose(parts)
    params: dict[str, Any] = {}
    if isinstance(view, dict) and view.keys() <= {"name", "params"}:
        view, params = view.get("name"), view.get("params", {})
        if view == Compose.name:  # which is not registered: in a list it stands for itself
            return Compose([resolve_view(part) for part in params["augmentations"]])
    check_registered("views", view, AUGMENTATIONS)
    if isinstance(view, Augmentation):
        return view
    cls = AUGMENTATIONS[view] if isinstance(view, str) else view
    try:
        return cls(**params)
    except TypeError as error:
        raise ValueError(f"the augmentation {cls.name!r} does not take these parameters: {error}") from error


def resolve_views(views: Any) -> list[Augmentation]:
    """Return the augmentations that make the two views of a crystal.

    Parameters
    ----------
    views : str, type, Augmentation, dict, list of these, or pair of lists
        One recipe for both views, as taken by :func:`resolve_view`; or two lists, one for each view.

    Returns
    -------
    list of two Augmentation
    """
    if isinstance(views, (list, tuple)) and any(isinstance(view, (list, tuple)) for view in views):
        if not (len(views) == 2 and all(isinstance(view, (list, tuple)) for view in views)):
            raise ValueError(
                f"views are one list of augmentations for both views, or two lists, one for each; got {views!r}"
            )
        return [resolve_view(view) for view in views]
    view = resolve_view(views)
    return [view, view]
