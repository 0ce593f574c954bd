"""Crystals from any source, a chunk at a time."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from crystalssl.exceptions import RecordError
from crystalssl.graphs import RECIPES, GraphRecipe
from crystalssl.io._chunk import Chunk
from crystalssl.io._reader import Reader
from crystalssl.io._rows import Problem, Wanted
from crystalssl.io._sources import opened

__all__ = ["iter_crystals", "recipe_of"]

_BAR_AFTER = 3.0  # seconds


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
    chunks: slice | None = None,
    known_ids: Iterable[str] = (),
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
    chunks : slice or None, default=None
        Which chunks to read, such as ``slice(3, None, 8)``, every eighth from the fourth on; None reads all. Of the
        others, rows are passed over without being parsed: that is how several processes read one source, and how
        reading goes on where it stopped.
    known_ids : iterable of str, default=()
        Ids that occur before: a record with one of them cannot be used, as with one of a chunk that is read.
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
    chunks = slice(None) if chunks is None else chunks
    if (chunks.start or 0) < 0 or (chunks.step or 1) < 1 or chunks.stop is not None:
        raise ValueError(f"chunks must be a slice from a chunk on, with a positive step, and no stop; got {chunks}")
    recipe = recipe_of(encoder) if as_graphs else None
    wanted = Wanted(structure, id, [], chunk_size)
    return _chunks(source, target, wanted, on_error, keep_unlabelled, recipe, n_jobs, verbose, chunks, known_ids)


def recipe_of(encoder: Any) -> GraphRecipe:
    """Return the recipe that is meant by an encoder, its name, a transformer, or a recipe."""
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
    chunks: slice,
    known_ids: Iterable[str],
) -> Iterator[Chunk]:
    from joblib import effective_n_jobs
    from tqdm import tqdm

    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(opened(source))
        reader = Reader(origin, target, wanted, keep_unlabelled, recipe, effective_n_jobs(n_jobs))
        reader.know(known_ids)
        bar = stack.enter_context(
            tqdm(total=origin.total, desc="reading", unit=" records", delay=_BAR_AFTER, disable=not verbose)
        )
        rows = iter(reader.rows())
        stack.callback(getattr(rows, "close", lambda: None))
        batches = iter(lambda: list(itertools.islice(rows, wanted.chunk_size)), [])
        chosen = itertools.count(chunks.start or 0, chunks.step or 1)
        following = next(chosen)
        for number, batch in enumerate(itertools.chain(batches, reader.left())):
            bar.update(len(batch))
            if number != following:
                reader.skip(batch)
                continue
            following = next(chosen)
            chunk = reader.chunk(batch)
            if on_error == "raise":
                for position, problem in chunk.problems:
                    if problem.error:
                        raise _error(problem, position) from problem.cause
            yield chunk


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
