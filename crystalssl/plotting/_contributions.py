"""Numbers of atoms, drawn on the crystal."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl._steps import split
from crystalssl.plotting._arguments import check_fitted, check_numbers, target_of
from crystalssl.plotting._axes import axes_or_new, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["AtomContributionsDisplay"]

_FACE = 1e-3  # in cell vectors: how near to the face of a cell an atom is drawn on the opposite one as well
_SCALE = 0.55  # of the atomic radii, so that atoms behind others are seen
_MOST_LABELS = 60
_LETTER = 0.2  # Å, about half the size of one


class AtomContributionsDisplay:
    """A crystal seen from a side, its atoms coloured by a number each, such as their parts in a prediction.

    Made by :meth:`from_estimator`, or by :meth:`from_values`, which takes any numbers.

    Parameters
    ----------
    atomic_numbers : ndarray of shape (n_atoms,), int
        The atoms.
    positions : ndarray of shape (n_atoms, 3)
        Cartesian coordinates in Å.
    lattice : ndarray of shape (3, 3)
        Cell vectors in rows, in Å.
    values : ndarray of shape (n_atoms,)
        A number for each atom.
    label : str, default="contribution"
        What they are.
    unit : str, default=""
        Their unit.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the atoms.
    figure_ : matplotlib.figure.Figure
        Their figure.
    atoms_ : matplotlib.collections.PatchCollection
        Circles, from the farthest to the nearest, those of the opposite faces of the cell included.
    indices_ : ndarray of int
        Which atom each circle is.
    colorbar_ : matplotlib.colorbar.Colorbar
        The scale of the numbers, on which 0 is white.
    """

    def __init__(
        self,
        *,
        atomic_numbers: np.ndarray,
        positions: np.ndarray,
        lattice: np.ndarray,
        values: np.ndarray,
        label: str = "contribution",
        unit: str = "",
    ):
        self.atomic_numbers, self.positions, self.lattice = atomic_numbers, positions, lattice
        self.values, self.label, self.unit = values, label, unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        crystal: Any,
        *,
        target: Any = None,
        n_steps: int = 32,
        view: tuple[float, float] = (25.0, 15.0),
        ax: Axes | None = None,
    ) -> AtomContributionsDisplay:
        """Draw what each atom adds to a prediction.

        Parameters
        ----------
        estimator : CrystalSSLRegressor, CrystalSSLClassifier or Pipeline
            Fitted; also a fitted search.
        crystal : pymatgen Structure, ASE Atoms, path, or whatever the estimator takes as an item of X
            The crystal.
        target : str, int, class or None, default=None
            Which target, by its name or its number, or which class; None where there is one.
        n_steps : int, default=32
            Of :func:`crystalssl.inspection.atom_contributions`, which says what is drawn.
        view : tuple of two floats, default=(25.0, 15.0)
            As for :meth:`from_values`.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        AtomContributionsDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        InvalidStructureError
            If the crystal is none, or holds an element that neither pretraining nor training has seen.
        ValueError
            If there is no such target, or there are several and none is named.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("Agg")
        >>> from crystalssl import CrystalSSLRegressor
        >>> from crystalssl.datasets import load_prototypes
        >>> from crystalssl.plotting import AtomContributionsDisplay
        >>> X, y = load_prototypes(return_X_y=True)
        >>> model = CrystalSSLRegressor(max_epochs=1, random_state=0).fit(X[:50], y[:50])
        >>> display = AtomContributionsDisplay.from_estimator(model, X[0])
        >>> len(display.values) == len(X[0])
        True
        """
        check_fitted(estimator)
        from crystalssl.inspection import atom_contributions

        atoms = atom_contributions(estimator, [crystal], n_steps).atoms
        column, name, unit = target_of(split(estimator)[1], list(atoms.columns), target)
        label = f"contribution to {name}" if name else "contribution"
        return cls.from_values(crystal, atoms.iloc[:, column], label=label, unit=unit, view=view, ax=ax)

    @classmethod
    def from_values(
        cls,
        crystal: Any,
        values: Any,
        *,
        label: str = "contribution",
        unit: str = "",
        view: tuple[float, float] = (25.0, 15.0),
        ax: Axes | None = None,
    ) -> AtomContributionsDisplay:
        """Draw numbers of atoms.

        Parameters
        ----------
        crystal : pymatgen Structure, ASE Atoms, path, or whatever the estimators take as an item of X
            The crystal.
        values : array-like of shape (n_atoms,)
            A number for each atom, in the order of the crystal.
        label : str, default="contribution"
            What they are.
        unit : str, default=""
            Their unit.
        view : tuple of two floats, default=(25.0, 15.0)
            Degrees by which the crystal is turned to the side, and tilted towards the eye, from a view along its second
            cell vector's side with the third one upwards.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        AtomContributionsDisplay

        Raises
        ------
        InvalidStructureError
            If the crystal is none.
        ValueError
            If there are not as many values as atoms, or one is not finite.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("Agg")
        >>> from pymatgen.core import Lattice, Structure
        >>> from crystalssl.plotting import AtomContributionsDisplay
        >>> chloride = Structure(Lattice.cubic(4.1), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        >>> display = AtomContributionsDisplay.from_values(chloride, [0.4, -0.1], unit="eV/atom")
        >>> len(display.indices_)  # eight corners and a centre
        9
        """
        from crystalssl.graphs._structures import crystal_arrays

        crystal = crystal_arrays(crystal)
        n_atoms = len(crystal.atomic_numbers)
        values = check_numbers("values", values)
        if len(values) != n_atoms:
            raise ValueError(f"values has {len(values)} numbers, the crystal {n_atoms} atoms; expected one for each")
        display = cls(
            atomic_numbers=np.asarray(crystal.atomic_numbers),
            positions=np.asarray(crystal.positions),
            lattice=np.asarray(crystal.lattice),
            values=values,
            label=label,
            unit=unit,
        )
        return display.plot(ax, view=view)

    def plot(self, ax: Axes | None = None, *, view: tuple[float, float] = (25.0, 15.0)) -> AtomContributionsDisplay:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.
        view : tuple of two floats, default=(25.0, 15.0)
            Degrees by which the crystal is turned to the side, and tilted towards the eye.

        Returns
        -------
        AtomContributionsDisplay
            Itself, with the attributes of what was drawn.
        """
        ax = axes_or_new(ax)
        from matplotlib.collections import PatchCollection
        from matplotlib.patches import Circle
        from pymatgen.core import Element

        turn = _rotation(self.lattice, *view)
        self._draw_cell(ax, self.lattice @ turn)
        where, indices = _with_images(self.positions, self.lattice)
        seen = where @ turn
        order = np.argsort(seen[:, 2], kind="stable")  # the nearest last, above the others
        seen, self.indices_ = seen[order], indices[order]
        elements = [Element.from_Z(int(z)) for z in self.atomic_numbers]
        radii = [_SCALE * float(element.atomic_radius or 1.5) for element in elements]
        circles = [Circle((x, y), radii[index]) for (x, y, _), index in zip(seen, self.indices_, strict=True)]
        self.atoms_ = PatchCollection(circles, cmap="RdBu_r", edgecolor="0.2", linewidth=0.8, zorder=2)
        self.atoms_.set_array(self.values[self.indices_])
        reach = np.abs(self.values).max() or 1.0
        self.atoms_.set_clim(-reach, reach)
        ax.add_collection(self.atoms_)
        if len(seen) <= _MOST_LABELS:
            for (x, y, z), index in zip(seen, self.indices_, strict=True):
                # Above its own circle, below those that hide it.
                hidden = np.hypot(*(seen[:, :2] - (x, y)).T) < np.array(radii)[self.indices_] + _LETTER
                if not (hidden & (seen[:, 2] > z + 1e-6)).any():
                    color = "white" if abs(self.values[index]) > 0.6 * reach else "black"
                    ax.text(x, y, elements[index].symbol, ha="center", va="center", color=color, zorder=3)
        ax.autoscale_view()
        ax.margins(0.05)
        ax.set(aspect="equal")
        ax.axis("off")
        self.colorbar_ = ax.figure.colorbar(self.atoms_, ax=ax, label=with_unit(self.label, self.unit), shrink=0.8)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @staticmethod
    def _draw_cell(ax: Axes, lattice: np.ndarray) -> None:
        """Draw the twelve edges; the three that meet in the farthest corner are behind the atoms, dotted."""
        corners = np.array([*itertools.product((0, 1), repeat=3)])
        depth = (corners @ lattice)[:, 2]
        farthest = corners[depth.argmin()]
        for axis, corner in itertools.product(range(3), corners):
            if corner[axis]:
                continue
            ends = np.array([corner, corner + np.eye(3, dtype=int)[axis]])
            behind = (ends == farthest).all(axis=1).any()
            x, y, _ = (ends @ lattice).T
            ax.plot(x, y, color="0.45", linewidth=1, linestyle=":" if behind else "-", zorder=1)


def _rotation(lattice: np.ndarray, turned: float, tilted: float) -> np.ndarray:
    """Return the matrix from Cartesian coordinates to right, up, and towards the eye."""
    up = lattice[2] / np.linalg.norm(lattice[2])
    right = lattice[0] - (lattice[0] @ up) * up
    right /= np.linalg.norm(right)
    frame = np.column_stack([right, up, np.cross(right, up)])
    a, b = np.radians([turned, tilted])
    around_up = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    around_right = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    return frame @ around_up @ around_right


def _with_images(positions: np.ndarray, lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return positions within the cell, those on its faces on the opposite ones as well, and whose they are."""
    inside = positions @ np.linalg.inv(lattice) % 1.0
    inside[inside > 1 - _FACE] -= 1.0
    found, indices = [], []
    for index, place in enumerate(inside):
        shifts = itertools.product(*[(0, 1) if coordinate < _FACE else (0,) for coordinate in place])
        for shift in shifts:
            found.append(place + shift)
            indices.append(index)
    return np.array(found) @ lattice, np.array(indices)
