"""Pages of a database, kept in a folder between calls."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from crystalssl import _files
from crystalssl._optimade import FIELDS
from crystalssl.exceptions import DatasetError

__all__ = ["PageStore"]


class PageStore:
    """A folder with the pages of one query to one database, each a file that is written in one step."""

    def __init__(self, folder: Path, url: str, filter: str, targets: tuple[str, ...]):
        self.query = {"url": url, "filter": filter, "fields": [*FIELDS, *targets]}
        digest = hashlib.sha256(json.dumps(self.query).encode()).hexdigest()[:16]
        self.folder = folder / f"{urlsplit(url).hostname}-{digest}"
        self.n_pages = 0

    def pages(self) -> Iterator[dict[str, Any]]:
        """Yield the pages that are there, in their order."""
        while (path := self._path()).exists():
            yield self._read(path, {"url", "next", "available", "data"})
            self.n_pages += 1

    def write(self, page: dict[str, Any]) -> None:
        """Keep the page that comes next."""
        self._write(self._path(), page)
        self.n_pages += 1

    def read_units(self) -> dict[str, str | None] | None:
        """Return the units of the targets; None if they are not kept yet."""
        path = self.folder / "query.json.gz"
        return self._read(path, {"units"})["units"] if path.exists() else None

    def write_units(self, units: dict[str, str | None]) -> None:
        """Keep the units of the targets, with the query itself."""
        self._write(self.folder / "query.json.gz", self.query | {"units": units})

    def _path(self) -> Path:
        return self.folder / f"page-{self.n_pages + 1:06d}.json.gz"

    def _read(self, path: Path, keys: set[str]) -> dict[str, Any]:
        try:
            content = json.loads(_files.decompress(_files.read_bounded(path, "dataset_bytes")))
            if not isinstance(content, dict) or not keys <= content.keys():
                raise ValueError(f"{' or '.join(sorted(keys))} missing")
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{path} cannot be read ({error}). Delete the folder {self.folder} to ask the database anew."
            ) from error
        return content

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        try:
            _files.write_atomically(path, gzip.compress(json.dumps(content).encode(), compresslevel=1))
        except OSError as error:
            raise DatasetError(f"{path} cannot be written ({error}); the pages before it are kept.") from error
