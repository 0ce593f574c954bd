"""From any source of crystals to a corpus on the disk, in a stream."""

from __future__ import annotations

import os
import warnings
from typing import Any

from crystalssl.graphs import CorpusWriter
from crystalssl.io._identity import identity_of
from crystalssl.io._stream import iter_crystals, recipe_of

__all__ = ["write_corpus"]


def write_corpus(
    source: Any,
    folder: str | os.PathLike,
    *,
    encoder: Any = "gatedgcn",
    structure: str | None = None,
    id: str | None = None,
    on_error: str = "raise",
    shard_size: int = 4096,
    part: int = 0,
    n_parts: int = 1,
    n_jobs: int | None = None,
    verbose: int = 1,
) -> None:
    """Write the graphs of any number of crystals to a :class:`~crystalssl.CrystalCorpus`.

    No more than a shard is in memory at a time. After an interruption the same call goes on behind the last shard that
    was written, to the corpus that it would have been; of one that is finished, nothing is done. The source must not
    have changed: files are told by their names, sizes and times of change, what is in memory by its content.

    Parameters
    ----------
    source
        As in :func:`read_crystals`. A stream has to be the same when writing goes on.
    folder : path
        The corpus. It is made if need be.
    encoder : str, Encoder, type, GraphRecipe or CrystalGraphTransformer, default="gatedgcn"
        The encoder that will read the graphs, or their recipe.
    structure, id
        As in :func:`read_crystals`.
    on_error : {"raise", "report"}, default="raise"
        Whether to stop at a record that cannot be used, or to leave it out; ``CrystalCorpus.report`` then lists it.
    shard_size : int, default=4096
        Records of a shard. Training shuffles whole shards: more of them mix better, larger ones are read faster.
    part : int, default=0
        Of several processes that write a corpus at once, perhaps on several machines, each gives its own number: it
        takes every n-th shard. The corpus can be read when all are finished, and is in the order of the source.
    n_parts : int, default=1
        How many processes write.
    n_jobs, verbose
        As in :func:`read_crystals`.

    Raises
    ------
    DatasetError
        If the source cannot be read, the folder not be written to (what was written before stays), or the folder holds
        what was begun from another source or with other settings.
    RecordError
        With ``on_error="raise"``, at the first record that cannot be used.

    Warns
    -----
    UserWarning
        If the corpus is finished, and whether it is of this source cannot be told, since it is a stream.

    See Also
    --------
    crystalssl.CrystalCorpus : Reads it.
    crystalssl.graphs.CorpusWriter : Writes graphs that one has.

    Examples
    --------
    >>> import tempfile
    >>> from crystalssl import CrystalCorpus
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.io import write_corpus
    >>> folder = tempfile.mkdtemp()
    >>> for part in range(2):  # on two machines
    ...     write_corpus(load_prototypes().data[:100], folder, shard_size=20, part=part, n_parts=2)
    >>> CrystalCorpus.load(folder).shards
    (20, 20, 20, 20, 20)
    """
    recipe = recipe_of(encoder)
    identity = identity_of(source)
    settings = repr([identity, structure, id, on_error, shard_size])
    with CorpusWriter(folder, recipe, part=part, n_parts=n_parts, settings=settings) as writer:
        if writer.finished:
            if identity is None:
                warnings.warn(
                    f"the corpus {folder} is finished, and whether it is of this source cannot be told of what is read "
                    "only once; nothing was written",
                    UserWarning,
                    stacklevel=2,
                )
            return
        chunks = iter_crystals(
            source,
            structure=structure,
            id=id,
            on_error=on_error,
            as_graphs=True,
            encoder=recipe,
            chunk_size=shard_size,
            chunks=slice(part + writer.n_shards * n_parts, None, n_parts),
            known_ids=writer.ids(),
            n_jobs=n_jobs,
            verbose=verbose,
        )
        for chunk in chunks:
            failed = [problem[:4] for _, problem in chunk.problems]
            writer.write(chunk.data, chunk.ids, failed=failed, n_records=len(chunk) + len(failed))
