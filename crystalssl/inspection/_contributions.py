"""What each atom adds to a prediction."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch_geometric.data import Batch

from crystalssl.estimators._finetuning import FinetunedEstimator
from crystalssl.estimators._network import PropertyNetwork
from crystalssl.estimators._target import ClassCodes
from crystalssl.graphs import N_ELEMENTS
from crystalssl.inspection._model import chunks_of, unwrap
from crystalssl.training import BatchIterator, CrystalDataset
from crystalssl.training._net import resolve_device
from crystalssl.training._precision import matmul_precision, usual_torch

__all__ = ["atom_contributions"]

_BATCH_SIZE = 64
"""Crystals at once; gradients take some MB for each."""
_EQUAL = 1e-4
"""Relative difference of what the network knows of two atoms that comes from rounding."""
_TOLERANCE = 0.1
"""Part of all contributions to a prediction that may be missing before they are made to add up."""


def atom_contributions(model: Any, X: Any, n_steps: int = 32) -> Bunch:
    """Return what the element of each atom adds to the prediction of a crystal.

    These are integrated gradients (Sundararajan et al.). All atoms start as an average one, whose first vector in the
    network is the mean over the elements that the model was trained on, and turn into what they are along a straight
    line, in the place where they are. The prediction for average atoms is the baseline: what arrangement and cell alone
    suggest. The contributions of the atoms add up to what the prediction differs from that. In an ensemble they are
    means over the networks.

    A contribution is what the network makes of an atom, beside its neighbours, not what physics does. Atoms that are
    equal by symmetry have equal ones. Those of a supercell are smaller, since they share the same sum.

    Parameters
    ----------
    model : CrystalSSLRegressor, CrystalSSLClassifier or Pipeline
        The fitted model, or a Pipeline or search that ends in it.
    X : sequence or iterator of crystals, or CrystalGraphs
        As for `predict`; with a Pipeline, as for that.
    n_steps : int, default=32
        Points on the line at which gradients are taken, by Gauss-Legendre quadrature. What is missing from the sum,
        less than 1 % of the contributions as a rule, is shared among the atoms in proportion to theirs. Each step takes
        as long as a few predictions.

    Returns
    -------
    sklearn.utils.Bunch
        Three frames with a column for each target, in its unit, or the probability of each class.

        - ``atoms``: a row for each atom, with the levels ``crystal``, the position in X, ``atom``, the position in the
          crystal, and ``element``.
        - ``elements``: their sums over the atoms of each element of a crystal.
        - ``baseline``: a row for each crystal. With the sum over its atoms it is the prediction.

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    TypeError
        If it is none of those above, or its encoder does not look up the first vectors of atoms by
        ``torch.nn.functional.embedding`` or ``torch.nn.Embedding``, as those of this package do.
    ValueError
        If `n_steps` is no positive integer.
    InvalidStructureError
        If a crystal is invalid, or holds an element that neither pretraining nor training has seen.

    Warns
    -----
    ConvergenceWarning
        If more than 10 % are missing from a sum; more `n_steps` help.

    References
    ----------
    M. Sundararajan, A. Taly and Q. Yan, ICML 2017, arXiv:1703.01365.

    Examples
    --------
    >>> import numpy as np
    >>> from crystalssl import CrystalSSLRegressor
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.inspection import atom_contributions
    >>> X, y = load_prototypes(return_X_y=True)
    >>> model = CrystalSSLRegressor(max_epochs=1, random_state=0).fit(X[:50], y[:50])
    >>> found = atom_contributions(model, X[:2])
    >>> total = found.baseline.y + found.atoms.y.groupby("crystal").sum()
    >>> bool(np.allclose(total, model.predict(X[:2]), rtol=1e-4))
    True
    """
    import pandas as pd
    from pymatgen.core import Element

    if not isinstance(n_steps, Integral) or isinstance(n_steps, bool) or n_steps < 1:
        raise ValueError(f"n_steps must be a positive integer; got {n_steps!r}")
    model, X = unwrap(model, X)
    rows, values, baselines, missing = [], [], [], []
    for graphs, indices in chunks_of(model, X):
        found = _contributions(model, CrystalDataset(graphs), model.target_.sizes(graphs, indices), int(n_steps))
        counts = np.diff(graphs.atom_offsets)
        crystals = np.repeat(indices, counts)
        atoms = np.arange(graphs.n_atoms) - np.repeat(graphs.atom_offsets[:-1], counts)
        rows += zip(crystals.tolist(), atoms.tolist(), graphs.atomic_numbers.tolist(), strict=True)
        for kept, part in zip((values, baselines, missing), found, strict=True):
            kept.append(part)
    _check_sums(np.concatenate(missing), int(n_steps))
    columns = model.classes_ if isinstance(model.target_, ClassCodes) else model.target_names_
    symbols = {z: Element.from_Z(z).symbol for z in {z for *_, z in rows}}
    index = pd.MultiIndex.from_tuples(
        [(crystal, atom, symbols[z]) for crystal, atom, z in rows], names=["crystal", "atom", "element"]
    )
    frame = pd.DataFrame(np.concatenate(values), index, columns)
    baseline = pd.DataFrame(np.concatenate(baselines), columns=columns).rename_axis("crystal")
    return Bunch(atoms=frame, elements=frame.groupby(["crystal", "element"]).sum(), baseline=baseline)


@usual_torch()
def _contributions(
    model: FinetunedEstimator, crystals: CrystalDataset, sizes: np.ndarray, n_steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return contributions of atoms, baselines of crystals, and the part of the former that was missing from sums."""
    device = resolve_device(model.device)
    scales = getattr(model, "_scales", [model.target_])
    parts = []
    for member, net in enumerate(model.nets_):
        module = net.module_ if device == "cpu" else copy.deepcopy(net.module_).to(device)
        module.eval()
        found, start = [], 0
        with matmul_precision(model.precision):
            for batch, _ in BatchIterator(crystals, _BATCH_SIZE, with_cell=module.reads_cell):
                some = torch.from_numpy(sizes[start : start + batch.num_graphs]).to(device)
                start += batch.num_graphs
                unit = _unit(model.target_, scales[member % len(scales)], some)
                found.append(_integrate(module, unit, batch.to(device), model.trained_elements_, n_steps))
        parts.append([np.concatenate(part) for part in zip(*found, strict=True)])
    values, baselines, missing = (np.mean(part, axis=0) for part in zip(*parts, strict=True))
    return values, baselines, missing


def _unit(target: Any, scale: Any, sizes: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what turns outputs of a network into predictions, as target.to_unit(scale.unscale(·), sizes) does."""
    if isinstance(target, ClassCodes):
        return lambda outputs: torch.softmax(outputs.double() / target.temperature, dim=1)
    factor, shift, logged = (torch.from_numpy(x).to(sizes.device) for x in (scale.scale_, scale.mean_, target.log_))

    def to_unit(outputs: Tensor) -> Tensor:
        values = outputs.double() * factor + shift
        return torch.where(logged, torch.where(logged, values, 0.0).exp(), values) * sizes

    return to_unit


def _integrate(
    module: PropertyNetwork, unit: Callable[[Tensor], Tensor], batch: Batch, elements: np.ndarray, n_steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return contributions (n_atoms, n_targets), baselines and parts that were missing, (n_crystals, n_targets)."""
    with FirstVectors(batch.z) as first, torch.no_grad():
        nodes = module.encoder(batch).node
    table = first.table(module)
    end = table[batch.z]
    start = table[torch.from_numpy(elements).to(table.device)].mean(dim=0).expand_as(end)
    with torch.no_grad():
        predictions = unit(module(batch))
        with FirstVectors(batch.z, start):
            baselines = unit(module(batch))
    values = torch.zeros(len(end), predictions.shape[1], dtype=torch.float64, device=end.device)
    for point, weight in zip(*np.polynomial.legendre.leggauss(n_steps), strict=True):
        with torch.enable_grad():
            vectors = torch.lerp(start, end, (1 + point) / 2).requires_grad_()
            with FirstVectors(batch.z, vectors):
                outputs = unit(module(batch))
            for target, output in enumerate(outputs.T):
                (gradient,) = torch.autograd.grad(output.sum(), vectors, retain_graph=target < outputs.shape[1] - 1)
                values[:, target] += weight / 2 * (gradient * (end - start)).sum(dim=1)
    values = _share_alike(values, _equal_atoms(nodes, batch))
    missing = predictions - baselines - _sums(values, batch)
    total = _sums(values.abs(), batch).clamp(min=torch.finfo(torch.float64).tiny)
    values += values.abs() / total[batch.batch] * missing[batch.batch]
    # Of contributions that are nothing beside the prediction, rounding may be all that is missing.
    parts = missing.abs() / torch.maximum(total, 1e-4 * predictions.abs())
    return values.cpu().numpy(), baselines.cpu().numpy(), parts.cpu().numpy()


def _equal_atoms(nodes: Tensor, batch: Batch) -> Tensor:
    """Return numbers of sets of atoms, (n_atoms,), that are the same in a crystal by all that the network knows."""
    directions = torch.cos(torch.arange(nodes.shape[1], device=nodes.device, dtype=torch.float64))  # any will do
    seen = nodes.double() @ directions
    kind = batch.batch * (N_ELEMENTS + 1) + batch.z
    order = torch.argsort(seen, stable=True)
    order = order[torch.argsort(kind[order], stable=True)]
    is_other = (kind[order].diff() != 0) | (seen[order].diff() > _EQUAL * seen.abs().mean())
    sets = torch.empty_like(kind)
    sets[order] = F.pad(is_other.cumsum(0), (1, 0))
    return sets


def _share_alike(values: Tensor, sets: Tensor) -> Tensor:
    """Return the mean over each set; which of equal atoms holds a maximum is decided by rounding alone."""
    n_sets = int(sets.max()) + 1
    sums = values.new_zeros(n_sets, values.shape[1]).index_add(0, sets, values)
    return (sums / torch.bincount(sets, minlength=n_sets)[:, None])[sets]


def _sums(values: Tensor, batch: Batch) -> Tensor:
    return values.new_zeros(batch.num_graphs, values.shape[1]).index_add(0, batch.batch, values)


def _check_sums(missing: np.ndarray, n_steps: int) -> None:
    worst = int(missing.max(axis=1).argmax())
    if missing[worst].max() > _TOLERANCE:
        warnings.warn(
            f"with n_steps={n_steps} the contributions to the prediction of item {worst} lacked "
            f"{100 * missing[worst].max():.0f} % of their size before they were made to add up; raise n_steps",
            ConvergenceWarning,
            stacklevel=3,
        )


class FirstVectors(TorchFunctionMode):
    """Where it is on, the first vectors of atoms are others than those of their elements, in an encoder of any kind.

    Parameters
    ----------
    z : Tensor of shape (n_atoms,)
        The atomic numbers that vectors are looked up for, the very tensor.
    vectors : Tensor of shape (n_atoms, dim) or None, default=None
        What is found instead; None changes nothing.
    """

    def __init__(self, z: Tensor, vectors: Tensor | None = None):
        super().__init__()
        self.z, self.vectors = z, vectors
        self.tables: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Call a function of torch, and look what is looked up."""
        if func is F.embedding and args[0] is self.z:
            self.tables.append(args[1].detach())
            if self.vectors is not None:
                return self.vectors
        return func(*args, **(kwargs or {}))

    def table(self, module: PropertyNetwork) -> Tensor:
        """Return the vectors of all elements, which were looked up."""
        if len(self.tables) != 1:
            raise TypeError(
                f"{type(module.encoder).__name__} looks up vectors for its atomic numbers {len(self.tables)} times; "
                "contributions of atoms take an encoder that does so once, as torch.nn.functional.embedding(batch.z, "
                "table) or torch.nn.Embedding"
            )
        return self.tables[0]
