"""The warning that crystals are unlike those that a model was trained on."""

from __future__ import annotations

import warnings

import numpy as np

from crystalssl.estimators._geometry import UNUSUAL, excess, geometry
from crystalssl.exceptions import OutsideDomainWarning, UnseenElementsWarning
from crystalssl.graphs import CrystalGraphs

__all__ = ["FAR_BEYOND", "MUCH", "OutsideDomain"]

MUCH = 1 / 3
"""Part of a crystal's atoms whose elements no label has seen from which on it is worth a warning.
benchmarks/uncertainty.py tells how those err that hold less."""
FAR_BEYOND = 3.0
"""Margins beyond which a cell is worth a warning. benchmarks/outside.py tells how often there is one for nothing."""


class OutsideDomain:
    """Crystals unlike those of training, of which there is one warning. Only what costs next to nothing is looked at.

    Parameters
    ----------
    trained : ndarray of int or None
        Atomic numbers that labels were known for; None says nothing.
    known_cells : ndarray of shape (n_crystals, 3) or None
        What cells were trained on, see :func:`geometry`; None says nothing.
    """

    def __init__(self, trained: np.ndarray | None, known_cells: np.ndarray | None):
        self.trained, self.known_cells = trained, known_cells
        self.elements: set[int] = set()
        self.n_crystals = self.n_unseen = self.n_unlike = 0
        self.most_unseen, self.most_unlike = (0.0, 0), (0.0, 0, "")  # by how much, item, in which way

    def add(self, graphs: CrystalGraphs, cell_features: np.ndarray | None) -> None:
        """Look at some crystals, the next ones; at their cells, if their features are given."""
        self._add_elements(graphs)
        if self.known_cells is not None and cell_features is not None:
            self._add_cells(excess(geometry(graphs, cell_features), self.known_cells))
        self.n_crystals += len(graphs)

    def _add_elements(self, graphs: CrystalGraphs) -> None:
        elements = set() if self.trained is None else set(graphs.elements).difference(self.trained.tolist())
        if not elements:
            return
        unseen = np.add.reduceat(np.isin(graphs.atomic_numbers, list(elements)), graphs.atom_offsets[:-1], dtype=int)
        shares = unseen / np.diff(graphs.atom_offsets)
        much = shares >= MUCH
        atoms = graphs.atomic_numbers[np.repeat(much, np.diff(graphs.atom_offsets))]
        self.elements |= elements.intersection(atoms.tolist())
        self.n_unseen += np.count_nonzero(much)
        worst = int(shares.argmax())
        if shares[worst] > self.most_unseen[0]:
            self.most_unseen = shares[worst], self.n_crystals + worst

    def _add_cells(self, beyond: np.ndarray) -> None:
        self.n_unlike += np.count_nonzero(beyond.max(axis=1) >= FAR_BEYOND)
        worst, reason = np.unravel_index(beyond.argmax(), beyond.shape)
        if beyond[worst, reason] > self.most_unlike[0]:
            self.most_unlike = beyond[worst, reason], self.n_crystals + int(worst), UNUSUAL[reason]

    def warn(self, stacklevel: int) -> None:
        """Warn of those that were found, if any were."""
        found, hints = [], []
        if self.elements:
            from pymatgen.core import Element

            symbols = ", ".join(Element.from_Z(z).symbol for z in sorted(self.elements))
            found.append(
                f"{self.n_unseen} of {self.n_crystals} crystals hold elements that no training label has seen, "
                f"{symbols}, in a third or more of their atoms, item {self.most_unseen[1]} the most"
            )
            hints.append("train on crystals that hold them")
        if self.n_unlike:
            _, worst, reason = self.most_unlike
            found.append(
                f"{self.n_unlike} of {self.n_crystals} have cells unlike all of training, item {worst} the most "
                f"({reason})"
            )
            hints.append("crystalssl.inspection.domain tells which")
        if found:
            warnings.warn(
                f"{'; '.join(found)}. Their predictions may be far off: {'; '.join(hints)}",
                UnseenElementsWarning if self.elements else OutsideDomainWarning,
                stacklevel=stacklevel,
            )
