"""Predictions of any number of crystals in a folder of Parquet files, to which they are added in a stream."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crystalssl import _files
from crystalssl.cli._records import source_of
from crystalssl.exceptions import ResultsError

__all__ = ["Predicted", "Predictions", "settings_of"]

_KEY = b"crystalssl"


class Predicted(NamedTuple):
    """What became of some crystals of a source."""

    ids: list[str]
    values: list[list[Any]]  # a column each
    failed: list[list[Any]]  # id, row, file and reason


class Predictions:
    """A folder of Parquet files, one for each part of a source, which readers of data sets take as one table.

    Each appears in one step. What is there when it is opened is not computed again.

    Parameters
    ----------
    folder : path
        Made if need be.
    types : mapping of str to pyarrow.DataType
        Names and types of the values.
    settings : str
        Tells model and source from others.

    Raises
    ------
    ResultsError
        If the folder holds other things, or predictions of another model or source.
    """

    def __init__(self, folder: str | os.PathLike, types: Mapping[str, Any], settings: str):
        self.folder, self._types, self._settings = Path(folder), dict(types), settings
        self.paths: list[Path] = []
        names = sorted(os.listdir(self.folder)) if self.folder.exists() else []
        expected = [f"part-{number:06d}.parquet" for number in range(len(names))]
        if others := [name for name, wanted in zip(names, expected, strict=True) if name != wanted]:
            raise ResultsError(f"{folder} holds {others[0]}, which is no next part; choose another folder")
        for name in names:
            path = self.folder / name
            if self._said(path)["settings"] != settings:
                raise ResultsError(
                    f"{path} was predicted by another model, or for another source, or one that has changed since; "
                    "choose another folder, or delete it"
                )
            self.paths.append(path)

    @staticmethod
    def _said(path: Path) -> dict[str, Any]:
        import pyarrow.parquet as pq

        try:
            return json.loads(pq.read_schema(path).metadata[_KEY])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ResultsError(
                f"{path} is not a file of predictions ({error}); delete it, and what follows it"
            ) from error

    def write(self, predicted: Predicted) -> None:
        """Add the next part."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        # A part without crystals has the types of the others, or readers do not take all as one table.
        arrays = [pa.array(predicted.ids, pa.string()), *map(pa.array, predicted.values, self._types.values())]
        said = {"settings": self._settings, "failed": predicted.failed}
        table = pa.table(arrays, ["id", *self._types]).replace_schema_metadata({_KEY: json.dumps(said, default=str)})
        content = pa.BufferOutputStream()
        pq.write_table(table, content)
        path = self.folder / f"part-{len(self.paths):06d}.parquet"
        try:
            _files.write_atomically(path, content.getvalue().to_pybytes())
        except OSError as error:
            raise ResultsError(
                f"{path} could not be written ({error}); the parts before it are kept, and the same command goes on"
            ) from error
        self.paths.append(path)

    def read(self) -> Iterator[Predicted]:
        """Yield the parts that are there."""
        import pyarrow.parquet as pq

        for path in list(self.paths):
            columns = pq.read_table(path)
            ids, *values = (columns[name].to_pylist() for name in ("id", *self._types))
            yield Predicted(ids, values, self._said(path)["failed"])


def settings_of(model: str, source: tuple[str, ...], columns: Sequence[str], reading: Mapping[str, Any]) -> str:
    """Return a hash of what predictions depend on: the model, the source and how it is read, the columns."""
    from crystalssl.io._identity import identity_of

    digest = hashlib.sha256(_files.read_bounded(Path(model, "config.json"), "json_bytes"))
    read_by = [reading["structure"], reading["id"]]
    digest.update(repr([identity_of(source_of(source)), read_by, list(columns)]).encode())
    return digest.hexdigest()
