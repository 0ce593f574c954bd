"""What a network must not hold."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["find_fault"]


def find_fault(state: Mapping[str, Tensor]) -> str | None:
    """Return what is wrong with the tensors of a module, or None: NaN, infinity, or a variance below zero.

    Examples
    --------
    >>> import torch
    >>> find_fault({"norm.weight": torch.ones(2), "norm.running_var": torch.tensor([0.5, -1.0])})
    'the tensor norm.running_var holds a negative variance, -1'
    """
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        finite = torch.isfinite(tensor)
        if not finite.all():
            return f"the tensor {name} holds {float(tensor[~finite][0])}"
        if name.endswith("running_var") and (tensor < 0).any():
            return f"the tensor {name} holds a negative variance, {float(tensor.min()):g}"
    return None
