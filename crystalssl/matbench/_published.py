"""Errors that others have published."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

_MATBENCH = "doi:10.1038/s41524-020-00406-3"


def leaderboard() -> Any:
    """Return published errors on the structure tasks of Matbench v0.1.

    Those of the leaderboard were submitted with every prediction, and are ranked. Those of later publications were
    reported by their authors; some have used more data, which ``"note"`` says.

    Returns
    -------
    pandas.DataFrame
        One row per task and algorithm, with the columns ``"task"``, ``"algorithm"``, ``"mean"`` and ``"std"`` of the
        mean absolute error over the five folds (in the task's unit; NaN where no deviation is known), ``"source"``
        (``"leaderboard"`` or ``"publication"``), ``"reference"`` and ``"note"``.

    References
    ----------
    Dunn, A. et al. Benchmarking materials property prediction methods: the Matbench test set and Automatminer
    reference algorithm. npj Computational Materials 6, 138 (2020). doi:10.1038/s41524-020-00406-3;
    https://matbench.materialsproject.org

    Examples
    --------
    >>> from crystalssl.matbench import leaderboard
    >>> frame = leaderboard()
    >>> frame[(frame.task == "matbench_phonons") & (frame.source == "leaderboard")].algorithm.tolist()[:3]
    ['MegNet (kgcnn v2.1.0)', 'coNGN', 'ALIGNN']
    """
    import pandas as pd

    parts = []
    for source in ("leaderboard", "publication"):
        name = "leaderboard.csv" if source == "leaderboard" else "publications.csv"
        with files("crystalssl.matbench").joinpath(name).open(encoding="utf-8") as file:
            parts.append(pd.read_csv(file).assign(source=source))
    frame = pd.concat(parts, ignore_index=True).rename(columns={"mean_mae": "mean", "std_mae": "std"})
    frame = frame.fillna({"reference": _MATBENCH, "note": ""})
    return frame[["task", "algorithm", "mean", "std", "source", "reference", "note"]]
