"""What is read at a time, and the table of what cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl.io._rows import Problem

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Chunk", "report_of"]


@dataclass
class Chunk:
    """Some records of a source, in their order.

    Parameters
    ----------
    data : list of pymatgen.core.Structure or CrystalGraphs
        The crystals.
    target : ndarray of shape (n_crystals,) or (n_crystals, n_targets), or None
        Their targets; NaN where one of several is missing.
    target_names : list of str
        Names of the targets.
    ids : list of str
        Their ids.
    rows : list of int or None
        The row or frame of each in its file, counted from 0; None where the file is one crystal.
    files : list of str or None
        The file of each; None in memory.
    positions : list of int
        Position of each among all records of the source, those in `report` counted too.
    problems : list of (int, Problem)
        Position, and what cannot be used.
    notes : list of Problem
        What is odd in crystals that are read all the same.
    units : dict of str to str
        Units of the targets that the source states.
    """

    data: Any
    target: np.ndarray | None
    target_names: list[str]
    ids: list[str]
    rows: list[int | None]
    files: list[str | None]
    positions: list[int]
    problems: list[tuple[int, Problem]]
    notes: list[Problem]
    units: dict[str, str]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def report(self) -> pd.DataFrame:
        """The records that cannot be used: id, row, file and reason of each."""
        return report_of(problem for _, problem in self.problems)


def report_of(problems: Any, what: str = "reason") -> pd.DataFrame:
    """Return a table of problems."""
    import pandas as pd

    rows = [problem[:4] for problem in problems]
    frame = pd.DataFrame(rows, columns=["id", "row", "file", what], dtype=object)
    return frame.astype({"row": "Int64"})
