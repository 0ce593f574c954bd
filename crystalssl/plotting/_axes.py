"""The one place that imports matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def axes_or_new(ax: Axes | None) -> Axes:
    """Return `ax`, or the axes of a new figure."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("Figures need matplotlib: pip install crystalssl[plot]") from error
    return pyplot.subplots(layout="constrained")[1]


def with_unit(label: str, unit: str) -> str:
    """Return ``"label (unit)"``, or the label alone where there is no unit."""
    return f"{label} ({unit})" if unit else label
