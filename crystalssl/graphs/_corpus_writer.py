"""Writes a corpus shard by shard."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crystalssl.exceptions import DatasetError
from crystalssl.graphs._crystal_graphs import CrystalGraphs
from crystalssl.graphs._manifest import RECORDS, Shard, is_corpus, part_name, read_manifest, write_manifest
from crystalssl.graphs._recipe import RECIPES, GraphRecipe
from crystalssl.graphs._storage import read_meta, save_columns

__all__ = ["CorpusWriter"]

_MOST = 2**16  # crystals of a shard: whole shards are in memory


class CorpusWriter:
    """Write graphs to a :class:`~crystalssl.CrystalCorpus` in a stream.

    It is for graphs that one makes or has; :func:`crystalssl.io.write_corpus` reads any source of crystals. As a
    context manager it finishes the corpus if nothing went wrong. Otherwise all shards that were written stay, and the
    next writer of the same part goes on behind them.

    Parameters
    ----------
    folder : path
        The corpus. It is made if need be.
    encoder : str, Encoder, type or GraphRecipe
        The encoder that will read the graphs, or their recipe.
    part : int, default=0
        The number of this writer, if several write a corpus at once.
    n_parts : int, default=1
        Several processes write a corpus at once, each a part of its own. It can be read when all parts are finished:
        first the first shards of all parts in their order, then the second ones, and so on.
    settings : str, default=""
        What the graphs are made of, in any words. A part that was begun with others is not gone on with.

    Attributes
    ----------
    n_records : int
        Records of the source that earlier writers of the part have dealt with, and this one.
    finished : bool
        Whether the part is complete.

    Raises
    ------
    DatasetError
        If the part was begun with another recipe or other settings.
    FileExistsError
        If the folder holds other things.

    Examples
    --------
    >>> import tempfile
    >>> from crystalssl import CrystalCorpus, CrystalGraphTransformer
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.graphs import CorpusWriter
    >>> crystals, folder = load_prototypes().data, tempfile.mkdtemp()
    >>> with CorpusWriter(folder, "cgcnn") as writer:
    ...     for start in range(0, 100, 50):
    ...         writer.write(CrystalGraphTransformer("cgcnn").transform(crystals[start : start + 50]))
    >>> len(CrystalCorpus.load(folder))
    100
    """

    def __init__(self, folder: str | os.PathLike, encoder: Any, *, part: int = 0, n_parts: int = 1, settings: str = ""):
        if not 0 <= part < n_parts:
            raise ValueError(f"part must be one of 0 to {n_parts - 1}, got {part}")
        self.folder, self._name, self.n_parts = Path(folder), part_name(part, n_parts), n_parts
        self.recipe = encoder if isinstance(encoder, GraphRecipe) else RECIPES.of(encoder)
        self._settings = hashlib.sha256(settings.encode()).hexdigest()
        self._shards: list[Shard] = []
        if os.path.lexists(self.folder) and not is_corpus(self.folder) and any(self.folder.iterdir()):
            raise FileExistsError(f"{self.folder} exists and is not a corpus; choose another name")
        place = self.folder / self._name
        while (shard := place / f"{len(self._shards):06d}").exists():
            self._shards.append(self._found(shard))
        self.finished = read_manifest(place) is not None

    def _found(self, folder: Path) -> Shard:
        """Return a shard that an earlier writer has left."""
        try:
            meta = read_meta(folder)
            recipe, settings = GraphRecipe(**meta["recipe"]), meta.pop("settings")
            names = {"n_crystals", "n_atoms", "n_edges", "n_records", "elements", "n_bytes", "sha256", "records_sha256"}
            shard = Shard(f"{self._name}/{folder.name}", **{name: meta[name] for name in names})
            shard.check(self.folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"{folder} is not a shard of a corpus: {error}; delete it, and what follows it"
            ) from error
        if recipe != self.recipe or settings != self._settings:
            what = (
                f"by {recipe}, not {self.recipe}"
                if recipe != self.recipe
                else "from another source, one that has changed since, or otherwise"
            )
            raise DatasetError(
                f"{folder.parent} was begun {what}; go on as it was begun, delete it, or name another folder"
            )
        return shard

    @property
    def n_records(self) -> int:
        """Records of the source that were dealt with."""
        return sum(shard.n_records for shard in self._shards)

    @property
    def n_crystals(self) -> int:
        """Crystals that were written."""
        return sum(shard.n_crystals for shard in self._shards)

    @property
    def n_shards(self) -> int:
        """Shards that were written."""
        return len(self._shards)

    def ids(self) -> list[str]:
        """Return the ids of all crystals that were written."""
        return [name for shard in self._shards for name in json.loads(shard.read(self.folder, RECORDS))["ids"]]

    def write(
        self,
        graphs: CrystalGraphs,
        ids: Sequence[str] = (),
        *,
        failed: Sequence[Sequence[Any]] = (),
        n_records: int | None = None,
    ) -> None:
        """Write a shard. It appears in one step, or not at all.

        Parameters
        ----------
        graphs : CrystalGraphs
            Some thousand, at most 65,536: shards are read as a whole.
        ids : sequence of str, default=()
            Their ids; without any, the positions in the corpus are the ids.
        failed : sequence of (id, row, file, reason), default=()
            Records of the source that cannot be used.
        n_records : int or None, default=None
            Records that these crystals come from; None means one for each.

        Raises
        ------
        RecipeMismatchError
            If the graphs are of another recipe.
        ValueError
            If the part is finished, or there are too many crystals or ids.
        DatasetError
            If it cannot be written, for instance because the disk is full. What was written before stays.
        """
        if self.finished:
            raise ValueError(f"{self.folder / self._name} is finished; write another part, or to another folder")
        graphs.check_recipe(self.recipe)
        if len(graphs) > _MOST:
            raise ValueError(f"{len(graphs):,} crystals are too many for a shard; write at most {_MOST:,} at a time")
        if len(ids) not in (0, len(graphs)):
            raise ValueError(f"there are {len(ids)} ids, but {len(graphs)} crystals")
        said = {"ids": [*map(str, ids)], "failed": [[*record] for record in failed]}
        records = json.dumps(said, default=str).encode()
        facts = {
            "n_atoms": graphs.n_atoms,
            "n_edges": graphs.n_edges,
            "elements": [*graphs.elements],
            "n_records": len(graphs) if n_records is None else n_records,
            "settings": self._settings,
            "records_sha256": hashlib.sha256(records).hexdigest(),
        }
        folder = self.folder / self._name / f"{len(self._shards):06d}"
        try:
            save_columns(folder, graphs.columns, self.recipe, packed=True, facts=facts, further={RECORDS: records})
        except DatasetError as error:
            raise DatasetError(
                f"{error}. The {self.n_crystals:,} crystals before are in {self.folder}, and the same call goes on "
                "from there"
            ) from error
        self._shards.append(self._found(folder))

    def close(self) -> None:
        """Finish the part: write its manifest.

        Raises
        ------
        ValueError
            If nothing was written.
        DatasetError
            If it cannot be written.
        """
        if self.finished:
            return
        if not self.n_crystals and self.n_parts == 1:  # one of many may have got nothing to do
            raise ValueError(f"no crystal was written to {self.folder / self._name}; at least one is needed")
        try:
            write_manifest(self.folder / self._name, self.recipe, self._shards)
        except OSError as error:
            raise DatasetError(
                f"the manifest of {self.folder} could not be written ({error}); make room, and call again"
            ) from error
        self.finished = True

    def __enter__(self) -> CorpusWriter:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.close()
