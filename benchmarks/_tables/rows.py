"""Which rows of the result files belong together: those of one version of the package and of the newest weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from _common import SCRATCH, encoder_of, weights_sha256

from crystalssl.training import bundled_weights

SHORT = 8  # characters of a hash that are shown
MEASURED = ["mae", "r2", "seconds", "feature_seconds", "r2_log_volume", "crystals_per_second", "n_labels"]


class ResultFiles:
    """The CSV files of a folder, each row with the version and the changed parameters that its settings stand for.

    Parameters
    ----------
    folder : path
        As benchmarks/results.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.settings = _read(self.folder / "settings.csv")
        self.pretraining = _read(self.folder / "pretraining.csv")
        self._frames: dict[str, pd.DataFrame] = {}
        self._order = {weights: number for number, weights in enumerate(self.pretraining.weights)}

    def read(self, name: str) -> pd.DataFrame:
        """Return a file; rows whose settings are in no row of settings.csv are left out, since nobody knows them."""
        if name not in self._frames:
            self._frames[name] = self._read(name)
        return self._frames[name]

    def _read(self, name: str) -> pd.DataFrame:
        frame = _read(self.folder / f"{name}.csv")
        if not {"settings", "weights"} <= set(frame):
            return frame
        if "method" in frame:
            # Weights may have been measured in a folder before they were bundled.
            shipped = {weights_sha256(name): name for name in bundled_weights()}
            frame = frame.assign(method=frame.weights.map(shipped).fillna(frame.method))
            frame = frame.drop_duplicates([name for name in frame if name not in MEASURED], keep="last")
        named = self.settings.assign(age=range(len(self.settings)))
        frame = frame.merge(named, on="settings", how="inner")
        return frame.assign(weights_age=frame.weights.map(self._order).fillna(-1).astype(int))

    def unknown(self) -> dict[str, list[str]]:
        """Return, by file, the settings that settings.csv lacks."""
        found = {}
        for path in sorted(self.folder.glob("*.csv")):
            frame = _read(path)
            if {"settings", "weights"} <= set(frame):
                missing = sorted(set(frame.settings) - set(self.settings.settings))
                if missing:
                    found[path.stem] = missing
        return found

    def about(self, weights: str) -> pd.Series | None:
        """Return the row of a pretraining, None for weights that are in none."""
        rows = self.pretraining[self.pretraining.weights == weights]
        return rows.iloc[-1] if len(rows) else None


@dataclass
class Chosen:
    """The rows of a method and of its baseline that are compared, and what they were measured with."""

    method: str
    weights: str
    version: str
    frame: pd.DataFrame

    @property
    def baseline(self) -> str:
        return SCRATCH + encoder_of(self.method)

    def note(self, files: ResultFiles) -> str:
        """Return a sentence on weights, version and seeds, in italics."""
        seeds = sorted(self.frame.seed.unique(), key=int)
        said = f"*{weights_said(self.method, self.weights, files)}; finetuned with version {self.version}; "
        return f"{said}{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}.*"


def weights_said(method: str, weights: str, files: ResultFiles) -> str:
    """Return which weights of a method these are, and whether they are the ones that ship."""
    about = files.about(weights)
    said = f"`{method}`: weights `{weights[:SHORT]}`"
    if about is not None:
        said += f" ({about.epochs} epochs on {int(about.n_crystals):,} crystals with version {about.version})"
    if weights != weights_sha256(method):
        said += f", older than those that ship, `{weights_sha256(method)[:SHORT]}`"
    return said


def choose(
    frame: pd.DataFrame,
    method: str,
    cells: Iterable[Sequence[str]],
    columns: Sequence[str],
    changes: str = "",
    with_baseline: bool = True,
) -> Chosen | None:
    """Return the rows of a method with the newest weights and settings that have every cell, None if none has.

    Seeds that lack a cell are left out, so that a benchmark that is still running makes no lopsided means.

    Parameters
    ----------
    frame : DataFrame
        Of :meth:`ResultFiles.read`.
    method : str
        Bundled weights or ``scratch:ENCODER``.
    cells : list of tuples
        Values of `columns`, such as tasks and sizes, for each of which there has to be a row.
    columns : list of str
    changes : str
        What ``--set`` changed, as in settings.csv.
    with_baseline : bool
        Whether the same is asked of the same encoder from scratch, whose rows are then returned too.
    """
    cells = set(map(tuple, cells))
    frame = frame[[tuple(row) in cells for row in frame[list(columns)].to_numpy()]]
    rows = frame[(frame.changes == changes) & (frame.method == method)]
    for (_, age), part in sorted(rows.groupby(["weights_age", "age"]), key=lambda item: item[0], reverse=True):
        parts = [part]
        if with_baseline and not method.startswith(SCRATCH):
            parts.insert(0, frame[(frame.age == age) & (frame.method == SCRATCH + encoder_of(method))])
        if "seed" in frame:
            whole = [_whole_seeds(one, columns, len(cells)) for one in parts]
            parts = [one[one.seed.isin(set.intersection(*whole))] for one in parts]
        if all(len(one[list(columns)].drop_duplicates()) == len(cells) for one in parts):
            return Chosen(method, part.weights.iloc[0], part.version.iloc[0], pd.concat(parts))
    return None


def counted(n: int, what: str) -> str:
    """Return a number and what it is of, as "1 seed" and "2 seeds"."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _whole_seeds(frame: pd.DataFrame, columns: Sequence[str], n_cells: int) -> set[str]:
    """Return the seeds that have every cell."""
    counts = frame[[*columns, "seed"]].drop_duplicates().groupby("seed").size()
    return set(counts.index[counts == n_cells])


def _read(path: Path) -> pd.DataFrame:
    """Return a CSV file, the numbers that are measured as such and all else as text."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    return frame.assign(**{name: pd.to_numeric(frame[name]) for name in MEASURED if name in frame})
