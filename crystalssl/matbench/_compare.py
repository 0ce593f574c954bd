"""Results beside each other and beside published ones."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crystalssl.datasets._registry import check_name, load_registry
from crystalssl.exceptions import ResultsError
from crystalssl.matbench._files import (
    INFO_NAME,
    N_FOLDS,
    RESULTS_NAME,
    is_classification,
    read_folds,
    read_info,
    read_submission,
)
from crystalssl.matbench._published import leaderboard
from crystalssl.plotting._axes import axes_or_new, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_YOURS = "yours"
# Of the errors on the leaderboard.
_DIGITS = 4
# Test crystals for each training crystal of a fold.
_TEST_SHARE = 1 / (N_FOLDS - 1)


def compare(results: Any) -> MatbenchComparison:
    """Compare results on Matbench with each other, and with what others have published.

    Parameters
    ----------
    results : path-like, Bunch, mapping or iterable of these
        What :func:`run` returned, its folder, a ``results.json.gz`` of anyone, or a folder that holds one, such as a
        submission in Matbench's repository. Several are compared with each other too; a mapping gives them names,
        which otherwise are the algorithms of their ``info.json``.

    Returns
    -------
    MatbenchComparison
        Tables and a figure.

    Raises
    ------
    ResultsError
        If a file is missing, was changed after it was written, or has other folds than the published ones.
    ValueError
        If there are no results, or two have one name.

    See Also
    --------
    run : Makes such results.

    Examples
    --------
    >>> from crystalssl import matbench
    >>> comparison = matbench.compare("submission")  # doctest: +SKIP
    >>> comparison.table.query("source == 'yours'")[["task", "mean", "std", "rank"]]  # doctest: +SKIP
    >>> comparison.plot("matbench_phonons")  # doctest: +SKIP
    """
    if isinstance(results, str | os.PathLike) or hasattr(results, "folder"):
        results = [results]
    if isinstance(results, Mapping):
        named = [(str(name), *_read(item)[1:]) for name, item in results.items()]
    elif isinstance(results, Iterable):
        named = [_read(item) for item in results]
    else:
        raise TypeError(f"results must be a folder, a {RESULTS_NAME}, or several of them; found {results!r}.")
    names = [name for name, *_ in named]
    if not names:
        raise ValueError("there are no results to compare.")
    if len(set(names)) < len(names):
        raise ValueError(f"results have the same name: {names}. Pass a mapping of names to results.")
    return MatbenchComparison(_folds_table(named))


class MatbenchComparison:
    """Results on Matbench beside each other and beside published ones; made by :func:`compare`.

    Parameters
    ----------
    folds : pandas.DataFrame
        As the attribute.

    Attributes
    ----------
    folds : pandas.DataFrame
        One row per task, algorithm and fold of the results compared: ``"task"``, ``"algorithm"``, ``"fold"``,
        ``"metric"`` (``"mae"``, or ``"rocauc"`` for classes) and ``"score"``.
    table : pandas.DataFrame
        One row per task and algorithm, best first, published ones included: ``"task"``, ``"algorithm"``, ``"metric"``,
        ``"mean"`` and ``"std"`` (with ``ddof=0``) over the folds, ``"unit"``, ``"n_folds"``, ``"source"`` (``"yours"``,
        ``"leaderboard"`` or ``"publication"``), ``"reference"`` and ``"note"``. Results with all five folds of a task
        that is on the leaderboard also have ``"rank"``, the place that they would take there, and ``"percentile"``, the
        share of its entries, in per cent, with a larger error.
    paired : pandas.DataFrame
        One row per task and pair of results, over the folds that both have: ``"first"``, ``"second"``, ``"n_folds"``,
        ``"difference"`` (mean of first minus second), ``"wins"`` (folds in which the first is better), and
        ``"p_value"`` of the corrected resampled t-test.

    Notes
    -----
    Training crystals of any two folds overlap, so that the folds are no independent trials; the test corrects the
    variance for that [1]_. With five folds it finds large differences only, and it says nothing of other seeds: a
    random seed moves the error of a network too. Of published results only mean and deviation are known here; for a
    pairwise comparison, pass the authors' own ``results.json.gz``.

    References
    ----------
    .. [1] Nadeau, C. & Bengio, Y. Inference for the generalization error. Machine Learning 52, 239-281 (2003).
       doi:10.1023/A:1024068626366

    Examples
    --------
    >>> import pandas as pd
    >>> from crystalssl.matbench import MatbenchComparison
    >>> folds = pd.DataFrame(
    ...     [("matbench_phonons", name, fold, "mae", error + fold) for name, error in [("a", 30.0), ("b", 33.0)]
    ...      for fold in range(5)],
    ...     columns=["task", "algorithm", "fold", "metric", "score"],
    ... )
    >>> comparison = MatbenchComparison(folds)
    >>> comparison.table[comparison.table.source == "yours"][["algorithm", "mean", "rank"]].values.tolist()
    [['a', 32.0, 5], ['b', 35.0, 7]]
    >>> comparison.paired[["difference", "wins"]].values.tolist()
    [[-3.0, 5.0]]
    """

    def __init__(self, folds: Any):
        self.folds = folds
        self.table = _table(folds)
        self.paired = _paired(folds)

    def __repr__(self) -> str:
        return "\n\n".join([_text(self.table), *([_text(self.paired)] if len(self.paired) else [])])

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False) + (self.paired.to_html(index=False) if len(self.paired) else "")

    def plot(self, task: str | None = None, ax: Axes | None = None) -> Axes:
        """Plot the mean errors on a task, best first.

        Bars span one standard deviation over the folds either way.

        Parameters
        ----------
        task : str or None, default=None
            The task; None where there is only one.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            With one bar for each algorithm.

        Raises
        ------
        ValueError
            If there is no such task among the results.
        """
        tasks = list(dict.fromkeys(self.folds.task))
        if task is None:
            if len(tasks) > 1:
                raise ValueError(f"there are results on several tasks; name one of {', '.join(tasks)}.")
            task = tasks[0]
        rows = self.table[self.table.task == check_name(task, tasks, "task of these results")].reset_index(drop=True)
        if ax is None:
            ax = axes_or_new(ax)
            figure: Any = ax.figure
            figure.set_figheight(1.2 + 0.22 * len(rows))
        from matplotlib.ticker import LogLocator

        for source, style in _STYLES.items():
            part = rows[rows.source == source]
            if len(part):
                ax.errorbar(part["mean"], part.index, xerr=part["std"].fillna(0.0), label=source, linestyle="", **style)
        ax.set_yticks(rows.index, rows.algorithm)
        for label, source in zip(ax.get_yticklabels(), rows.source, strict=True):
            label.set_fontweight("bold" if source == _YOURS else "normal")
        ax.invert_yaxis()
        metric = rows.metric[0]
        if metric == "mae":
            # The error of the mean of all training targets is ten times that of the best.
            ax.set_xscale("log")
            # matplotlib's own labels, such as "2×10¹", overlap.
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter("")
        ax.set(title=task, xlabel=with_unit("MAE", rows.unit[0]) if metric == "mae" else "ROC AUC")
        ax.legend()
        return ax


_STYLES: dict[str, dict[str, Any]] = {
    _YOURS: {"marker": "o", "color": "C3", "zorder": 3},
    "leaderboard": {"marker": "s", "color": "C0", "markersize": 4},
    "publication": {"marker": "D", "color": "0.5", "markersize": 4},
}


def _read(item: Any) -> tuple[str, dict[str, dict[int, dict[str, float]]]]:
    """Return the name of results and, by task and fold, their scores."""
    path = Path(getattr(item, "folder", item)).expanduser()
    if path.is_dir():
        folds = read_folds(path)
        name = read_info(path).get("algorithm") or path.name
        if folds:
            return name, {task: {n: fold["result"]["scores"] for n, fold in by.items()} for task, by in folds.items()}
        if not (path / RESULTS_NAME).exists():
            raise ResultsError(f"{path} holds neither folds of crystalssl.matbench.run nor a {RESULTS_NAME}.")
        path = path / RESULTS_NAME
    else:
        beside = read_info(path.parent) if (path.parent / INFO_NAME).exists() else {}
        name = beside.get("algorithm") or path.name
    document = read_submission(path)
    scores = {
        task: {number: content["results"][f"fold_{number}"]["scores"] for number in range(N_FOLDS)}
        for task, content in document["tasks"].items()
        if task in load_registry()
    }
    return name, scores


def _folds_table(named: list[tuple[str, dict[str, dict[int, dict[str, float]]]]]) -> Any:
    import pandas as pd

    rows = []
    for name, tasks in named:
        for task, folds in tasks.items():
            metric = "rocauc" if is_classification(task) else "mae"
            rows += [(task, name, number, metric, scores[metric]) for number, scores in sorted(folds.items())]
    if not rows:
        raise ValueError("the results have no structure task in common with Matbench v0.1.")
    return pd.DataFrame(rows, columns=["task", "algorithm", "fold", "metric", "score"])


def _table(folds: Any) -> Any:
    import pandas as pd

    published = leaderboard()
    parts = []
    for task in dict.fromkeys(folds.task):
        others = published[published.task == task].assign(metric="mae", n_folds=N_FOLDS)
        board = others.loc[others.source == "leaderboard", "mean"]
        scores = folds[folds.task == task].groupby(["algorithm", "metric"], sort=False)["score"]
        ours = pd.DataFrame({"mean": scores.mean(), "std": scores.std(ddof=0), "n_folds": scores.size()}).reset_index()
        ours = ours.assign(task=task, source=_YOURS, reference="", note="")
        if len(board):
            ranked = ours["n_folds"] == N_FOLDS
            means = ours["mean"].round(_DIGITS)
            ours["rank"] = [1 + int((board < mean).sum()) for mean in means]
            ours["percentile"] = [100 * float((board > mean).mean()) for mean in means]
            ours[["rank", "percentile"]] = ours[["rank", "percentile"]].where(ranked)
        rows = pd.concat([ours, others], ignore_index=True) if len(others) else ours
        rows = rows.assign(unit=load_registry()[task].unit)
        parts.append(rows.sort_values("mean", ascending=not is_classification(task), kind="stable"))
    columns = ["task", "algorithm", "metric", "mean", "std", "unit", "n_folds", "rank", "percentile"]
    frame = pd.concat(parts, ignore_index=True).reindex(columns=[*columns, "source", "reference", "note"])
    return frame.astype({"rank": "Int64"})


def _paired(folds: Any) -> Any:
    import pandas as pd

    rows = []
    for task in dict.fromkeys(folds.task):
        scores = folds[folds.task == task].pivot(index="fold", columns="algorithm", values="score")
        sign = -1 if is_classification(task) else 1
        for first, second in itertools.combinations(dict.fromkeys(folds[folds.task == task].algorithm), 2):
            differences = (scores[first] - scores[second]).dropna().to_numpy()
            if len(differences):
                wins = int((sign * differences < 0).sum())
                row = (len(differences), float(differences.mean()), wins, _p_value(differences))
                rows.append((task, first, second, *row))
    return pd.DataFrame(rows, columns=["task", "first", "second", "n_folds", "difference", "wins", "p_value"])


def _p_value(differences: Any) -> float:
    """Two-sided p-value of the corrected resampled t-test; NaN where there is no variance to test against."""
    from scipy.stats import t

    n = len(differences)
    variance = differences.var(ddof=1) if n > 1 else 0.0
    if variance == 0.0:
        return math.nan
    statistic = differences.mean() / math.sqrt((1 / n + _TEST_SHARE) * variance)
    return float(2 * t.sf(abs(statistic), n - 1))


def _text(frame: Any) -> str:
    shown = frame.drop(columns=["reference", "note", "metric"], errors="ignore")
    return shown.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.4g}")
