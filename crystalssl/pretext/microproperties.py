"""Properties of atoms that follow from the element, predicted from atoms' vectors where some elements are masked."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch_geometric.data import Batch

from crystalssl._ranks import global_mean
from crystalssl.encoders import Encoded, Encoder, valence_electrons
from crystalssl.graphs import N_ELEMENTS
from crystalssl.pretext._labels import mean_where
from crystalssl.pretext._registry import register_task
from crystalssl.pretext.mask import MaskedAtoms

__all__ = ["AtomicStiffness", "ValenceElectrons", "atomic_stiffness"]

_N_VALENCE_CLASSES = 17


@functools.lru_cache(maxsize=1)
def atomic_stiffness() -> np.ndarray:
    """Return the stiffness of the elements.

    Returns
    -------
    ndarray of shape (119,), float32
        By atomic number; NaN for the elements without a value.

    References
    ----------
    R. Jin, X. Yuan and E. Gao, Nat. Commun. 14, 4258 (2023), doi:10.1038/s41467-023-39826-7.

    Examples
    --------
    >>> from crystalssl.pretext import atomic_stiffness
    >>> float(atomic_stiffness()[14])
    10.61...
    """
    table = np.full(N_ELEMENTS + 1, np.nan, np.float32)
    rows = np.loadtxt(Path(__file__).with_name("atomic_stiffness.csv"), delimiter=",", skiprows=1, usecols=(0, 2))
    table[rows[:, 0].astype(int)] = rows[:, 1]
    table.setflags(write=False)
    return table


@register_task
class ValenceElectrons(MaskedAtoms):
    """Predict every atom's number of valence electrons, 17 classes, as in DSSL.

    The paper does not say which view the atoms are read from. Here it is the one with masked atoms: for an atom whose
    element is given there would be nothing to predict.

    Parameters
    ----------
    %(parameters)s

    References
    ----------
    N. Fu, L. Wei and J. Hu, J. Phys. Chem. Lett. 15, 2841 (2024), doi:10.1021/acs.jpclett.4c00100, eq. 4.
    """

    name = "valence"
    encoder_name = "deepergatgnn"

    classes: Tensor

    def build(self, encoder: Encoder) -> None:
        """Make the layer that predicts valence electrons, and the table of what is right."""
        from pymatgen.core import Element

        classes = torch.full((N_ELEMENTS + 1,), -1)  # of elements whose electronic structure pymatgen does not have
        for element in Element:
            if "Electronic structure" in element.data:
                classes[element.Z] = valence_electrons(element.symbol)
        self.register_buffer("classes", classes, persistent=False)
        self.classifier = nn.Linear(encoder.node_dim, _N_VALENCE_CLASSES)

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return the mean cross entropy over atoms of elements with a known number; 0 if there are none."""
        target = self.classes[batch.z]
        total = cross_entropy(self.classifier(encoded[0].node), target, ignore_index=-1, reduction="sum")
        n_known = (target >= 0).sum()
        return global_mean(total / n_known.clamp(min=1), n_known)


@register_task
class AtomicStiffness(MaskedAtoms):
    """Predict every atom's stiffness, as in DSSL; atoms of elements without a value are left out.

    As for :class:`ValenceElectrons`, atoms are read from the view with masked atoms.

    Parameters
    ----------
    %(parameters)s

    References
    ----------
    R. Jin, X. Yuan and E. Gao, Nat. Commun. 14, 4258 (2023), doi:10.1038/s41467-023-39826-7.
    N. Fu, L. Wei and J. Hu, J. Phys. Chem. Lett. 15, 2841 (2024), doi:10.1021/acs.jpclett.4c00100, eq. 4.
    """

    name = "stiffness"
    encoder_name = "deepergatgnn"

    stiffness: Tensor

    def build(self, encoder: Encoder) -> None:
        """Make the layer that predicts stiffness, and the table of what is right."""
        self.register_buffer("stiffness", torch.from_numpy(atomic_stiffness().copy()), persistent=False)
        self.regressor = nn.Linear(encoder.node_dim, 1)

    def check_elements(self, elements: Sequence[int]) -> None:
        """Raise ValueError if no element has a stiffness."""
        if np.isnan(atomic_stiffness()[list(elements)]).all():
            raise ValueError(
                f"none of the elements of the corpus (atomic numbers {sorted(elements)}) has a tabulated atomic "
                f"stiffness, which the pretext task {self.name!r} learns from; choose another method"
            )

    def loss(self, encoded: list[Encoded], views: list[Batch], batch: Batch) -> Tensor:
        """Return the mean absolute error over atoms with a value; 0 if there are none."""
        target = self.stiffness[batch.z]
        known = ~target.isnan()
        error = (self.regressor(encoded[0].node)[:, 0] - target.nan_to_num()).abs()
        return mean_where(known, error)
