"""State of fitted estimators as arrays and JSON values, for tools that store estimators without pickle."""

from __future__ import annotations

import copyreg
import json
from pathlib import Path
from typing import Any

import torch

__all__ = ["PlainState", "skops_trusted_types"]


class PlainState:
    """Base class of estimators that hold networks of torch, which pickle stores well and skops cannot.

    skops asks for `__getstate__` alone. Pickle, joblib and copy ask for `__reduce_ex__` first, which answers with the
    state as it is. So each has its own, and `__setstate__` takes both.
    """

    def _state(self) -> dict[str, Any]:
        """Return the state as it is."""
        return super().__getstate__()  # type: ignore[misc]

    def _learnt(self, state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
        """Return what was learnt as JSON values and tensors, and take it out of a state; None if nothing was."""
        raise NotImplementedError

    def _restore(self, learnt: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Take what :meth:`_learnt` returned."""
        raise NotImplementedError

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self),), self._state()  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        state = self._state()
        found = self._learnt(state)
        if found is not None:
            learnt, tensors = found
            arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
            state |= {"_learnt_json": json.dumps(learnt), "_learnt_arrays": arrays}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        learnt, arrays = state.pop("_learnt_json", None), state.pop("_learnt_arrays", {})
        super().__setstate__(state)  # type: ignore[misc]
        if learnt is not None:
            # Copies, since torch wants memory that it may write to.
            self._restore(json.loads(learnt), {name: torch.tensor(array) for name, array in arrays.items()})


def skops_trusted_types() -> list[str]:
    """Return the types of this package that skops has to trust to load its estimators, fitted or not.

    Returns
    -------
    list of str
        For ``skops.io.load(file, trusted=crystalssl.skops_trusted_types())``. Nothing of them executes what a file
        says. Types of other packages, such as those of callbacks, are not among them.

    Examples
    --------
    >>> import crystalssl
    >>> crystalssl.skops_trusted_types()[0]
    'crystalssl.estimators._classifier.CrystalSSLClassifier'
    """
    from crystalssl import CrystalGraphTransformer, CrystalSSLClassifier, CrystalSSLRegressor, PretrainedCrystalEmbedder
    from crystalssl.graphs import GraphRecipe

    types = (
        *(CrystalSSLClassifier, CrystalSSLRegressor, PretrainedCrystalEmbedder, CrystalGraphTransformer, GraphRecipe),
        type(Path()),
    )
    return [f"{cls.__module__}.{cls.__qualname__}" for cls in types]
