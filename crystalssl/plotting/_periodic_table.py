"""The periodic table, coloured by a number for each element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl.plotting._arguments import check_fitted, check_pair, elements_of_each, known_of
from crystalssl.plotting._axes import with_unit
from crystalssl.plotting._display import Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PeriodicTableDisplay"]


class PeriodicTableDisplay(Display):
    """The periodic table, coloured by the error of crystals that hold an element.

    Made by :meth:`from_estimator`, :meth:`from_predictions` or :meth:`from_values`.

    Parameters
    ----------
    values : dict
        Numbers by symbol.
    counts : dict or None, default=None
        Crystals that hold an element, by symbol, shown in its box.
    label : str, default=""
        Name of the values, with their unit.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the boxes.
    figure_ : matplotlib.figure.Figure
        Their figure.
    boxes_ : matplotlib.collections.PatchCollection
        Those that have a number, in the order of `values`.
    colorbar_ : matplotlib.colorbar.Colorbar
        The scale.
    """

    figsize = (12.0, 6.0)

    def __init__(self, *, values: dict[str, float], counts: dict[str, int] | None = None, label: str = ""):
        self.values, self.counts, self.label = values, counts, label

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, target: str | int | None = None, ax: Axes | None = None
    ) -> PeriodicTableDisplay:
        """Draw the mean absolute errors of an estimator.

        Parameters
        ----------
        estimator : regressor or Pipeline
            Fitted.
        X : sequence of crystals, or CrystalGraphs
            Crystals that it was not fitted on.
        y : array-like of shape (n_crystals,) or (n_crystals, n_targets)
            True values, NaN where not known. Columns of a frame are found by name.
        target : str, int or None, default=None
            Which of several targets, by name or number.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        PeriodicTableDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If y does not fit.
        """
        check_fitted(estimator)
        known = known_of(estimator, y, target)
        errors = np.abs(known.of(estimator.predict(X)) - known.truth)
        elements = elements_of_each(X)
        label = with_unit(f"mean absolute error{f' of {known.name}' if known.name else ''}", known.unit)
        return cls._of_errors([elements[row] for row in known.rows], errors, label, ax)

    @classmethod
    def from_predictions(
        cls, X: Any, y_true: Any, y_pred: Any, *, unit: str = "", ax: Axes | None = None
    ) -> PeriodicTableDisplay:
        """Draw the mean absolute errors of predictions.

        Parameters
        ----------
        X : sequence of crystals, or CrystalGraphs
            The crystals.
        y_true, y_pred : array-like of shape (n_crystals,)
            True and predicted values.
        unit : str, default=""
            Their unit, for the label.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        PeriodicTableDisplay

        Raises
        ------
        ValueError
            If lengths differ, or values are not finite.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("Agg")
        >>> from pymatgen.core import Lattice, Structure
        >>> from crystalssl.plotting import PeriodicTableDisplay
        >>> salts = [
        ...     Structure.from_spacegroup("Fm-3m", Lattice.cubic(5), pair, [[0, 0, 0], [0.5, 0.5, 0.5]])
        ...     for pair in (["Na", "Cl"], ["K", "Cl"])
        ... ]
        >>> PeriodicTableDisplay.from_predictions(salts, [1.0, 2.0], [1.5, 4.0], unit="eV").values
        {'Na': 0.5, 'Cl': 1.25, 'K': 2.0}
        """
        y_true, y_pred = check_pair(y_true, y_pred)
        elements = elements_of_each(X)
        if len(elements) != len(y_true):
            raise ValueError(f"X holds {len(elements)} crystals, y_true {len(y_true)} values; they must be as many")
        return cls._of_errors(elements, np.abs(y_pred - y_true), with_unit("mean absolute error", unit), ax)

    @classmethod
    def _of_errors(
        cls, elements: list[np.ndarray], errors: np.ndarray, label: str, ax: Axes | None
    ) -> PeriodicTableDisplay:
        from pymatgen.core import Element

        counts = np.bincount(np.concatenate(elements))
        sums = np.bincount(np.concatenate(elements), np.repeat(errors, [len(numbers) for numbers in elements]))
        present = {Element.from_Z(int(z)).symbol: int(z) for z in np.flatnonzero(counts)}
        values = {symbol: float(sums[z] / counts[z]) for symbol, z in present.items()}
        return cls(values=values, counts={symbol: int(counts[z]) for symbol, z in present.items()}, label=label).plot(
            ax
        )

    @classmethod
    def from_values(
        cls,
        values: Mapping[str, float],
        *,
        counts: Mapping[str, int] | None = None,
        label: str = "",
        ax: Axes | None = None,
    ) -> PeriodicTableDisplay:
        """Draw any numbers.

        Parameters
        ----------
        values : mapping
            Numbers by symbol, such as ``{"Na": 0.1}``.
        counts : mapping or None, default=None
            Crystals that hold an element, by symbol, to show in its box.
        label : str, default=""
            Name of the values, with their unit.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        PeriodicTableDisplay

        Raises
        ------
        ValueError
            If there are no values, one is not finite, or a symbol is of no element.
        """
        from pymatgen.core import Element

        if not values:
            raise ValueError("values is empty; expected numbers by symbol")
        for symbol, value in values.items():
            if not Element.is_valid_symbol(symbol):
                raise ValueError(f"there is no element {symbol!r}")
            if not np.isfinite(value):
                raise ValueError(f"the value of {symbol} is {value}; leave it out")
        numbers = {symbol: float(value) for symbol, value in values.items()}
        return cls(values=numbers, counts=dict(counts) if counts else None, label=label).plot(ax)

    def _draw(self, ax: Axes) -> None:
        from matplotlib.collections import PatchCollection
        from matplotlib.patches import Rectangle

        places = {symbol: (column, row) for symbol, column, row in _table()}
        boxes = {symbol: Rectangle((x - 0.47, y - 0.47), 0.94, 0.94) for symbol, (x, y) in places.items()}
        empty = [box for symbol, box in boxes.items() if symbol not in self.values]
        ax.add_collection(PatchCollection(empty, facecolor="0.95", edgecolor="0.85", linewidth=0.5))
        self.boxes_ = PatchCollection([boxes[symbol] for symbol in self.values], cmap="viridis", edgecolor="0.4")
        numbers = np.array([*self.values.values()])
        self.boxes_.set(array=numbers, linewidth=0.5)
        ax.add_collection(self.boxes_)
        # Figures of the size of the boxes, whatever the size of the axes.
        shades = self.boxes_.to_rgba(numbers) @ (0.299, 0.587, 0.114, 0)
        ink = dict(zip(self.values, np.where(shades > 0.55, "black", "white"), strict=True))
        size = ax.get_window_extent().width / ax.figure.dpi * 72 / 19
        for symbol, (x, y) in places.items():
            color = ink.get(symbol, "0.6")
            ax.text(x, y - 0.08, symbol, ha="center", va="center", color=color, fontsize=0.42 * size)
            if symbol in self.values:
                text = f"{self.values[symbol]:.3g}"
                ax.text(x, y + 0.3, text, ha="center", va="center", color=color, fontsize=0.24 * size)
            if self.counts and symbol in self.counts:
                text = str(self.counts[symbol])
                ax.text(x + 0.42, y - 0.34, text, ha="right", va="center", color=color, fontsize=0.17 * size)
        ax.set(xlim=(0.4, 18.6), ylim=(9.6, 0.4), aspect="equal")
        ax.axis("off")
        # In the gap above the transition metals.
        scale = ax.inset_axes((0.2, 0.88, 0.42, 0.035))
        self.colorbar_ = ax.figure.colorbar(self.boxes_, cax=scale, orientation="horizontal", label=self.label)


def _table() -> list[tuple[str, float, float]]:
    """Return symbol, column and row of each element; lanthanoids and actinoids lie below."""
    from pymatgen.core import Element

    places = []
    for z in range(1, 119):
        element = Element.from_Z(z)
        first = 57 if 57 <= z <= 71 else 89 if 89 <= z <= 103 else None
        if first is None:
            places.append((element.symbol, float(element.group), float(element.row)))
        else:
            places.append((element.symbol, 3.0 + z - first, 8.1 if first == 57 else 9.1))
    return places
