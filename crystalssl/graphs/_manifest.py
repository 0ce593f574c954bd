"""What a corpus says of itself: each part that one process has written lists its shards, and their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crystalssl import _files
from crystalssl.exceptions import DatasetError, RecipeMismatchError
from crystalssl.graphs._recipe import GraphRecipe
from crystalssl.graphs._storage import COLUMNS_FILE

__all__ = [
    "RECORDS",
    "Manifest",
    "Shard",
    "is_corpus",
    "part_name",
    "read_manifest",
    "read_manifests",
    "unfinished_parts",
    "write_manifest",
]

RECORDS, _MANIFEST = "records.json", "manifest.json"
_FORMAT = 1
_PART = re.compile(r"part-(\d+)-of-(\d+)")


def part_name(part: int, n_parts: int) -> str:
    """Return the name of the folder of a part."""
    return f"part-{part:05d}-of-{n_parts:05d}"


@dataclass(frozen=True)
class Shard:
    """A folder of `CrystalGraphs` within a corpus."""

    name: str
    """Its path in the folder of the corpus."""
    n_crystals: int
    n_atoms: int
    n_edges: int
    n_records: int
    """Records of the source that went into it, those of no use counted too."""
    elements: list[int]
    n_bytes: int
    sha256: str
    """Of recipe and columns."""
    records_sha256: str

    def check(self, corpus: Path) -> None:
        """Raise DatasetError if its file is not there, or of another size."""
        path = corpus / self.name / COLUMNS_FILE
        try:
            n_bytes = os.stat(path).st_size
        except OSError as error:
            raise self.broken(corpus, f"its {path.name} cannot be read ({error.strerror})") from error
        if n_bytes != self.n_bytes:
            raise self.broken(corpus, f"its {path.name} has {n_bytes:,} bytes, not {self.n_bytes:,}")

    def read(self, corpus: Path, name: str) -> bytes:
        """Return the content of records.json."""
        try:
            content = _files.read_bounded(corpus / self.name / name, "dataset_bytes")
        except OSError as error:
            raise self.broken(corpus, f"its {name} cannot be read ({error})") from error
        if hashlib.sha256(content).hexdigest() != self.records_sha256:
            raise self.broken(corpus, f"its {name} was altered")
        return content

    def broken(self, corpus: Path, reason: str) -> DatasetError:
        """Return an error that says what to do."""
        part = Path(self.name).parent
        return DatasetError(
            f"shard {self.name} of the corpus {corpus}: {reason}; restore it, or delete {corpus / part} and write "
            "that part again"
        )


@dataclass(frozen=True)
class Manifest:
    """What one part says of itself."""

    recipe: GraphRecipe
    shards: list[Shard]


def write_manifest(folder: Path, recipe: GraphRecipe, shards: Sequence[Shard]) -> None:
    """Write the manifest of a part that is complete."""
    said: dict[str, Any] = {
        "format": _FORMAT,
        "recipe": recipe.to_dict(),
        "n_crystals": sum(shard.n_crystals for shard in shards),
        "n_atoms": sum(shard.n_atoms for shard in shards),
        "n_edges": sum(shard.n_edges for shard in shards),
        "elements": sorted({z for shard in shards for z in shard.elements}),
        "shards": [asdict(shard) for shard in shards],
    }
    content = json.dumps({**said, "sha256": _checksum(said)}, indent=1).encode()
    _files.write_atomically(folder / _MANIFEST, content)


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a part, or None if the part is not complete.

    Raises
    ------
    DatasetError
        If it was altered or cannot be read.
    """
    path = folder / _MANIFEST
    if not os.path.lexists(path):
        return None
    try:
        said = json.loads(_files.read_bounded(path, "dataset_bytes"))
        if said["format"] != _FORMAT:
            raise ValueError(f"it has format {said['format']}, this version reads format {_FORMAT}; update crystalssl")
        if said.pop("sha256") != _checksum(said):
            raise ValueError("it was altered")
        return Manifest(GraphRecipe(**said["recipe"]), [Shard(**shard) for shard in said["shards"]])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DatasetError(f"{path} is not the manifest of a corpus: {error}; restore it") from error


def _checksum(said: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def is_corpus(folder: str | os.PathLike) -> bool:
    """Whether a folder is meant as a corpus, unfinished and damaged ones included."""
    try:
        return any(_PART.fullmatch(name) for name in os.listdir(folder))
    except (OSError, ValueError):  # ValueError: a null byte
        return False


def unfinished_parts(folder: str | os.PathLike) -> list[str]:
    """Return the names of the parts of a corpus that are not finished, or not begun."""
    wanted, _ = _parts(folder)
    return [name for name in wanted if not os.path.lexists(Path(folder, name, _MANIFEST))]


def _parts(folder: str | os.PathLike) -> tuple[list[str], list[str]]:
    """Return the names that the parts of a corpus should have, and those that they have."""
    found = [match for name in sorted(os.listdir(folder)) if (match := _PART.fullmatch(name))]
    n_parts = max((int(match[2]) for match in found), default=0)
    return [part_name(part, n_parts) for part in range(n_parts)], [match[0] for match in found]


def read_manifests(folder: Path) -> list[Manifest]:
    """Return the manifests of all parts of a corpus, in order.

    Raises
    ------
    DatasetError
        If there is none, one is missing or was altered, or a shard is missing.
    RecipeMismatchError
        If the recipes differ.
    """
    try:
        wanted, names = _parts(folder)
    except (OSError, ValueError) as error:
        raise DatasetError(f"the corpus {folder} cannot be read ({error}); name another folder") from error
    if not names:
        raise DatasetError(f"{folder} is not a corpus: it has no part; write one with crystalssl.io.write_corpus")
    n_parts = len(wanted)
    found = {name: read_manifest(folder / name) for name in names if name in wanted}
    if surplus := [name for name in names if name not in wanted]:
        raise DatasetError(f"the corpus {folder} was written in {n_parts} parts, but holds {surplus[0]} too; delete it")
    if missing := [name for name in wanted if found.get(name) is None]:
        raise DatasetError(
            f"the corpus {folder} is not complete: {missing[0]} is not finished "
            f"({n_parts - len(missing)} of {n_parts} parts are); run what writes it again, which goes on where it "
            "stopped"
        )
    manifests = [manifest for manifest in map(found.get, wanted) if manifest is not None]
    for name, manifest in zip(wanted, manifests, strict=True):
        if manifest.recipe != manifests[0].recipe:
            raise RecipeMismatchError(
                f"the corpus {folder} was built with two recipes: {wanted[0]} with {manifests[0].recipe}, {name} with "
                f"{manifest.recipe}; write one of them again"
            )
        for shard in manifest.shards:
            shard.check(folder)
    return manifests
