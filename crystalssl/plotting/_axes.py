"""The one place that imports matplotlib's pyplot."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def axes_or_new(ax: Axes | None, figsize: tuple[float, float] | None = None) -> Axes:
    """Return `ax`, or the axes of a new figure of a size in inches."""
    try:
        from matplotlib import pyplot
        from matplotlib.axes import Axes
    except ImportError as error:
        raise ImportError('Figures need matplotlib: pip install "crystalssl[plot]"') from error
    if ax is None:
        return pyplot.subplots(layout="constrained", figsize=figsize)[1]
    if not isinstance(ax, Axes):
        shape = f" of shape {ax.shape}" if hasattr(ax, "shape") else ""
        raise TypeError(
            f"ax is a {type(ax).__name__}{shape}; expected matplotlib axes, as of pyplot.subplots(), or None for new "
            "ones. Standard deviations, units and other arguments are given by name"
        )
    return ax


def with_unit(label: str, unit: str) -> str:
    """Return ``"label (unit)"``, or the label alone where there is no unit."""
    return f"{label} ({unit})" if unit else label
