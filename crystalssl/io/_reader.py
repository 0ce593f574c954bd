"""From rows to chunks: targets, ids and crystals of some rows, and what is remembered from one chunk to the next."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from crystalssl.graphs import CrystalGraphs, GraphRecipe
from crystalssl.graphs._structures import plain_structure
from crystalssl.io._chunk import Chunk
from crystalssl.io._crystals import examine
from crystalssl.io._rows import Problem, Row, Unusable, Wanted
from crystalssl.io._sources import Listed, Origin, names_of
from crystalssl.io._target_table import TargetTable, find_table, is_table
from crystalssl.io._targets import Targets

__all__ = ["Reader"]


class Reader:
    """Makes chunks of rows, and remembers ids and kinds of targets from one to the next.

    Parameters
    ----------
    origin : Origin
        The source.
    target, keep_unlabelled
        As in :func:`read_crystals`.
    wanted : Wanted
        Names of columns, to which those of the targets are added.
    recipe : GraphRecipe or None
        That of the graphs, or None for structures.
    n_jobs : int
        Number of processes.
    """

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
            wanted.units.update(self.table.units)
            self.single = self.single and len(names) == 1
        else:
            wanted.columns = names  # type: ignore[assignment]
        values = None if self.table is None else self.table.values
        self.targets = Targets(names or [], values, wanted.units, keep_unlabelled=keep_unlabelled)

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

    def know(self, ids: Iterable[str]) -> None:
        """Take ids for some that occurred before."""
        self._seen.update(dict.fromkeys(ids))

    def skip(self, batch: list[Row | Problem]) -> None:
        """Pass over some rows."""
        self._position += len(batch)

    def chunk(self, batch: list[Row | Problem]) -> Chunk:
        """Return what becomes of some rows."""
        kept, problems = self._labelled(batch)
        outcomes, graphs = examine([row.item for _, row, _ in kept], self.recipe, self.n_jobs)
        crystals = [outcome.reason is None for outcome in outcomes]
        chosen, places = [], []
        for place, ((position, row, target), outcome) in enumerate(zip(kept, outcomes, strict=True)):
            if outcome.reason is not None:
                problems.append((position, _problem(row, outcome.reason, outcome.cause)))
            elif row.id in self._seen:
                file = self._seen[row.id]
                where = f" in {file}" if file is not None and file != row.file else ""
                problems.append((position, _problem(row, f"its id {row.id!r} occurs before{where}")))
            else:
                self._seen[row.id] = row.file
                chosen.append((position, row, target, outcome))
                places.append(place)
        if self.recipe is None:
            data: Any = [plain_structure(outcome.structure, outcome.arrays) for *_, outcome in chosen]  # type: ignore[arg-type]
        elif graphs is None:
            data = _empty(self.recipe)
        else:  # of the crystals, those whose ids are their own
            data = graphs if len(graphs) == len(places) else graphs[np.cumsum(crystals)[places] - 1]
        rows = [row for _, row, *_ in chosen]
        return Chunk(
            data=data,
            target=None if self.targets is None else self.targets.joined([each[2] for each in chosen], self.single),
            target_names=[] if self.targets is None else self.targets.names,
            ids=[row.id for row in rows],
            rows=[row.row for row in rows],
            files=[row.file for row in rows],
            positions=[position for position, *_ in chosen],
            problems=sorted(problems, key=lambda pair: pair[0]),
            notes=[
                Problem(row.id, row.row, row.file, note, False)
                for _, row, _, outcome in chosen
                for note in outcome.notes
            ],
            units=self.wanted.units,
        )

    def _labelled(self, batch: list[Row | Problem]) -> tuple[list[tuple[int, Row, Any]], list[tuple[int, Problem]]]:
        """Return position, row and target of those that may be used, and what is known to be of no use already."""
        numbered = list(enumerate(batch, self._position))
        self._position += len(batch)
        problems = [(position, row) for position, row in numbered if isinstance(row, Problem)]
        rows = [(position, row) for position, row in numbered if isinstance(row, Row)]
        problems += [(position, _problem(row, row.item)) for position, row in rows if isinstance(row.item, Unusable)]
        rows = [(position, row) for position, row in rows if not isinstance(row.item, Unusable)]
        kept = []
        for (position, row), target in zip(rows, self._targets([row for _, row in rows]), strict=True):
            if isinstance(target, Unusable):
                problems.append((position, _problem(row, target)))
            else:
                kept.append((position, row, target))
        return kept, problems

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
