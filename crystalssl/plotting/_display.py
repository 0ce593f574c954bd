"""What displays share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from crystalssl.plotting._axes import axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Display"]

D = TypeVar("D", bound="Display")


class Display:
    """Base class of displays: a subclass writes `_draw`."""

    figsize: ClassVar[tuple[float, float] | None] = None
    """Of a new figure, in inches; None is matplotlib's."""
    ax_: Any
    figure_: Any

    def plot(self: D, ax: Axes | None = None) -> D:
        """Draw it.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure. Several displays of a kind may share axes.

        Returns
        -------
        Display
            Itself, with the attributes of what was drawn.
        """
        ax = axes_or_new(ax, self.figsize)
        self._draw(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw(self, ax: Axes) -> None:
        raise NotImplementedError
