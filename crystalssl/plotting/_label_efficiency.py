"""Error against the number of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crystalssl.plotting._axes import axes_or_new, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_label_efficiency(frame: Any, ax: Axes | None = None, unit: str = "") -> Axes:
    """Plot the mean absolute error of each method against the number of labelled crystals.

    Lines join the means over the repetitions; bars span one standard deviation either way.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per method, number of labels and repetition, with the columns ``"method"``, ``"n_labels"`` and
        ``"mae"``.
    ax : matplotlib.axes.Axes or None, default=None
        Where to draw; None makes a new figure.
    unit : str, default=""
        Unit of the error, for the label.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import pandas as pd
    >>> from crystalssl.plotting import plot_label_efficiency
    >>> runs = [("scratch", 10, 3.0), ("scratch", 10, 5.0), ("scratch", 20, 2.0), ("barlow", 10, 2.5)]
    >>> ax = plot_label_efficiency(pd.DataFrame(runs, columns=["method", "n_labels", "mae"]), unit="eV")
    >>> ax.get_ylabel(), ax.get_legend_handles_labels()[1]
    ('MAE (eV)', ['scratch', 'barlow'])
    """
    missing = {"method", "n_labels", "mae"} - set(frame.columns)
    if missing:
        raise ValueError(f"the frame lacks the columns {sorted(missing)}; it has {list(frame.columns)}")
    ax = axes_or_new(ax)
    from matplotlib.transforms import ScaledTranslation

    groups = frame.groupby("method", sort=False)
    for number, (method, runs) in enumerate(groups):
        errors = runs.groupby("n_labels")["mae"]
        # A single repetition has no spread; its bar has no length.
        spread = errors.std().fillna(0.0)
        mean = errors.mean()
        # Drawn side by side, three points apart, where bars of several methods would hide each other.
        inches = 3 / 72 * (number - (groups.ngroups - 1) / 2)
        shifted = ax.transData + ScaledTranslation(inches, 0, ax.figure.dpi_scale_trans)
        bars = ax.errorbar(mean.index, mean, spread, capsize=2, label=str(method), transform=shifted)
        bars.lines[0].set(marker="o", markersize=4)
        # Axes do not see by themselves what is drawn with another transformation than theirs.
        ax.update_datalim([(x, y) for ends in (mean - spread, mean + spread) for x, y in ends.items()])
    ax.autoscale_view()
    ax.set(xlabel="labelled crystals", ylabel=with_unit("MAE", unit))
    ax.legend()
    return ax
