"""Crystals from any source, a chunk at a time."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl.exceptions import RecordError
from crystalssl.graphs import RECIPES, CrystalGraphs, GraphRecipe
from crystalssl.graphs._structures import plain_structure
from crystalssl.io._crystals import examine
from crystalssl.io._rows import Problem, Row, Unusable, Wanted
from crystalssl.io._sources import Listed, Origin, names_of, opened
from crystalssl.io._target_table import TargetTable, find_table, is_table
from crystalssl.io._targets import Targets

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure

__all__ = ["Chunk", "iter_crystals", "report_of"]

_BAR_AFTER = 3.0  # seconds


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


def iter_crystals(
    source: Any,
    target: Any = None,
    *,
    structure: str | None = None,
    id: str | None = None,
    on_error: str = "raise",
    keep_unlabelled: bool = False,
    as_graphs: bool = False,
    encoder: Any = "gatedgcn",
    chunk_size: int = 1000,
    n_jobs: int | None = None,
    verbose: int = 1,
) -> Iterator[Chunk]:
    """Read crystals from any source, a chunk at a time, so that the source may be larger than memory.

    Parameters
    ----------
    source, target, structure, id, on_error, keep_unlabelled, as_graphs, encoder
        As in :func:`read_crystals`.
    chunk_size : int, default=1000
        Records of a chunk. Files of tables are read in parts of this size.
    n_jobs, verbose
        As in :func:`read_crystals`.

    Yields
    ------
    Chunk
        With ``data``, ``target``, ``ids``, ``rows``, ``files`` and ``positions`` of the crystals that can be used, and
        in ``report`` those that cannot.

    Raises
    ------
    DatasetError
        If the source cannot be read at all, or has no such column.
    RecordError
        With ``on_error="raise"``, at the first record that cannot be used.

    See Also
    --------
    read_crystals : All at once.

    Examples
    --------
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.io import iter_crystals
    >>> for chunk in iter_crystals(load_prototypes().data[:250], as_graphs=True, chunk_size=100):
    ...     print(len(chunk), chunk.data.n_atoms > 100)
    100 True
    100 True
    50 True
    """
    if on_error not in ("raise", "report"):
        raise ValueError(f"on_error must be 'raise' or 'report', got {on_error!r}")
    if not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(f"chunk_size must be a positive integer, got {chunk_size!r}")
    recipe = _recipe_of(encoder) if as_graphs else None
    wanted = Wanted(structure, id, [], chunk_size)
    return _chunks(source, target, wanted, on_error, keep_unlabelled, recipe, n_jobs, verbose)


def _recipe_of(encoder: Any) -> GraphRecipe:
    if isinstance(encoder, GraphRecipe):
        return encoder
    if hasattr(encoder, "fit") and hasattr(encoder, "cutoff"):  # a CrystalGraphTransformer
        return encoder.fit().recipe_
    return RECIPES.of(encoder)


def _chunks(
    source: Any,
    target: Any,
    wanted: Wanted,
    on_error: str,
    keep_unlabelled: bool,
    recipe: GraphRecipe | None,
    n_jobs: int | None,
    verbose: int,
) -> Iterator[Chunk]:
    from joblib import effective_n_jobs
    from tqdm import tqdm

    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(opened(source))
        reader = _Reader(origin, target, wanted, keep_unlabelled, recipe, effective_n_jobs(n_jobs))
        bar = stack.enter_context(
            tqdm(total=origin.total, desc="reading", unit=" records", delay=_BAR_AFTER, disable=not verbose)
        )
        rows = iter(reader.rows())
        stack.callback(getattr(rows, "close", lambda: None))
        batches = iter(lambda: list(itertools.islice(rows, wanted.chunk_size)), [])
        for batch in itertools.chain(batches, reader.left()):
            chunk = reader.chunk(batch)
            if on_error == "raise":
                for position, problem in chunk.problems:
                    if problem.error:
                        raise _error(problem, position) from problem.cause
            yield chunk
            bar.update(len(batch))


class _Reader:
    """What is remembered from one chunk to the next."""

    def __init__(
        self,
        origin: Origin,
        target: Any,
        wanted: Wanted,
        keep_unlabelled: bool,
        recipe: GraphRecipe | None,
        n_jobs: int,
    ):
        self.origin, self.wanted, self.recipe, self.n_jobs = origin, wanted, recipe, n_jobs
        self.table: TargetTable | None = None
        self.targets: Targets | None = None
        self.single = True
        self._seen: dict[str, str | None] = {}
        self._position = 0
        if target is None:
            return
        names = None
        if not is_table(target):
            self.single = not isinstance(target, Sequence) or isinstance(target, str)
            names = [target] if self.single else list(target)
            if not names:
                raise ValueError("target is an empty list; for crystals alone, leave it out")
        if found := find_table(target, origin.folder, origin.label, names):
            self.table = TargetTable(*found, wanted.id)
            names, wanted.id = self.table.names, None
            self.single = self.single and len(names) == 1
        else:
            wanted.columns = names  # type: ignore[assignment]
        values = None if self.table is None else self.table.values
        self.targets = Targets(names or [], values, keep_unlabelled=keep_unlabelled)

    def rows(self) -> Iterator[Row | Problem]:
        """Yield the records of the source."""
        listed = None
        if self.table is not None:
            yield from self.table.problems
            listed = Listed(self.table.path, self.table.has)
        yield from self.origin.rows(self.wanted, listed)

    def left(self) -> Iterator[list[Row | Problem]]:
        """Yield what is in the table of targets alone, once all other records are read."""
        if self.table is not None and (left := self.table.left()):
            yield list(left)

    def chunk(self, batch: list[Row | Problem]) -> Chunk:
        """Return what becomes of some rows."""
        start, self._position = self._position, self._position + len(batch)
        problems: list[tuple[int, Problem]] = []
        good: list[tuple[int, Row]] = []
        for position, row in enumerate(batch, start):
            if isinstance(row, Problem):
                problems.append((position, row))
            elif isinstance(row.item, Unusable):
                problems.append((position, _problem(row, row.item)))
            else:
                good.append((position, row))
        targets = self._targets([row for _, row in good])
        for (position, row), value in zip(good, targets, strict=True):
            if isinstance(value, Unusable):
                problems.append((position, _problem(row, value)))
        kept = [(*pair, value) for pair, value in zip(good, targets, strict=True) if not isinstance(value, Unusable)]
        outcomes, graphs = examine([row.item for _, row, _ in kept], self.recipe, self.n_jobs)

        chosen, built, structures, notes = [], [], [], []
        n_built = 0
        for (position, row, value), outcome in zip(kept, outcomes, strict=True):
            if outcome.arrays is None:
                problems.append((position, _problem(row, outcome.reason, outcome.cause)))
                continue
            n_built += 1
            if row.id in self._seen:
                file = self._seen[row.id]
                where = f" in {file}" if file is not None and file != row.file else ""
                problems.append((position, _problem(row, f"its id {row.id!r} occurs before{where}")))
                continue
            self._seen[row.id] = row.file
            notes += [Problem(row.id, row.row, row.file, note, False) for note in outcome.notes]
            chosen.append((position, row, value))
            built.append(n_built - 1)
            if self.recipe is None:
                structures.append(plain_structure(outcome.structure, outcome.arrays))
        if self.recipe is not None:
            graphs = _empty(self.recipe) if graphs is None else graphs
            data: list[Structure] | CrystalGraphs = (
                graphs if len(built) == len(graphs) else graphs[np.array(built, int)]
            )
        else:
            data = structures
        rows = [row for _, row, _ in chosen]
        return Chunk(
            data=data,
            target=None if self.targets is None else self.targets.joined([value for *_, value in chosen], self.single),
            target_names=[] if self.targets is None else self.targets.names,
            ids=[row.id for row in rows],
            rows=[row.row for row in rows],
            files=[row.file for row in rows],
            positions=[position for position, _, _ in chosen],
            problems=sorted(problems, key=lambda pair: pair[0]),
            notes=notes,
            units={} if self.targets is None else {**self.wanted.units, **self.targets.units},
        )

    def _targets(self, rows: list[Row]) -> list[Any]:
        """Return the targets of each row, or why it has none."""
        if self.targets is None:
            return [None] * len(rows)
        found: list[Any] = []
        for row in rows:
            try:
                found.append(self._found(row))
            except Unusable as error:
                found.append(error)
        self.targets.start([row.values for row in rows], found)
        parsed: list[Any] = []
        for value in found:
            try:
                parsed.append(value if isinstance(value, Unusable) else self.targets.parsed(value))
            except Unusable as error:
                parsed.append(error)
        return parsed

    def _found(self, row: Row) -> Sequence[Any]:
        assert self.targets is not None
        if self.table is None:
            return self.targets.raw(row.values)
        names = names_of(row.id, row.file if row.row is None else None)
        found = self.table.take(names)
        if found is None and not self.targets.keep_unlabelled:
            raise Unusable(f"{os.path.basename(self.table.label)} does not list it")
        return [None] * len(self.targets.names) if found is None else found


def _empty(recipe: GraphRecipe) -> CrystalGraphs:
    return CrystalGraphs(
        recipe,
        atomic_numbers=np.empty(0, np.uint8),
        positions=np.empty((0, 3)),
        lattice=np.empty((0, 3, 3)),
        neighbors=np.empty(0, np.int32),
        images=np.empty((0, 3), np.int8),
        distances=np.empty(0, np.float32),
        atom_offsets=np.zeros(1, np.int64),
        edge_offsets=np.zeros(1, np.int64),
    )


def _problem(row: Row, reason: Any, cause: BaseException | None = None) -> Problem:
    return Problem(row.id, row.row, row.file, str(reason), cause=cause)


def _error(problem: Problem, position: int) -> RecordError:
    place = problem.file or "the table or list"
    if problem.row is not None:
        place = f"row {problem.row} of {place}"
    name = f" (id {problem.id!r})" if problem.id is not None else ""
    return RecordError(
        f"item {position}, {place}{name}: {problem.reason}. on_error='report' leaves out what cannot be used, and "
        "lists it.",
        position,
        problem.id,
        problem.row,
        problem.file,
    )
