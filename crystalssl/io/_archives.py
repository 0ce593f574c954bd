"""Archives: what is in a zip or tar file is written to a folder of its own, and read from there."""

from __future__ import annotations

import contextlib
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from crystalssl import _files
from crystalssl.exceptions import DatasetError
from crystalssl.io._rows import Problem
from crystalssl.io._source_file import SourceFile

__all__ = ["is_archive", "unpacked"]

MAX_MEMBERS = 2_000_000
"""Files in an archive."""


def is_archive(source: SourceFile) -> bool:
    """Whether a file is a zip or tar archive (and none that stands for a document, as those of Excel)."""
    return _is_zip(source.head) or _is_tar(source.head)


def _is_zip(head: bytes) -> bool:
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


@contextlib.contextmanager
def unpacked(source: SourceFile) -> Iterator[tuple[Path, list[Problem]]]:
    """Unpack an archive into a folder that is deleted at the end.

    No name leads out of it, no link is made, and no more is written than an archive of crystals holds.

    Parameters
    ----------
    source : SourceFile
        The archive.

    Yields
    ------
    folder : Path
        With what could be unpacked.
    problems : list of Problem
        What could not.

    Raises
    ------
    DatasetError
        If the archive is damaged, encrypted, or becomes too large.
    """
    with tempfile.TemporaryDirectory(prefix="crystalssl-") as folder:
        problems: list[Problem] = []
        n_bytes, n_written = source.path.stat().st_size, 0
        members = _zip_members(source) if _is_zip(source.head) else _tar_members(source)
        try:
            for number, (name, what, content) in enumerate(members):
                if number >= MAX_MEMBERS:
                    raise OSError(f"it holds more than {MAX_MEMBERS:,} files")
                if reason := what or _refusal(name):
                    problems.append(Problem(None, None, f"{source.label}/{name}", reason))
                    continue
                path = Path(folder, name)
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("xb") as file:
                        while block := content.read(2**20):
                            n_written += len(block)
                            _files.check_expansion(n_bytes, n_written)  # of sparse files, too, which are nowhere whole
                            file.write(block)
                except FileExistsError:
                    reason = "the archive holds a file of this name before"
                    problems.append(Problem(None, None, f"{source.label}/{name}", reason))
        except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, tarfile.TarError) as error:
            raise DatasetError(f"{source.label} cannot be unpacked: {error}.") from error
        yield Path(folder), problems


def _refusal(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in name:
        return "its name leads out of the archive; nothing is read from there"
    return ""


def _zip_members(source: SourceFile) -> Iterator[tuple[str, str, IO[bytes]]]:
    """Yield name, reason for refusal and content of each file."""
    with source.local() as path, zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        _files.check_expansion(path.stat().st_size, sum(member.file_size for member in members))
        if any(member.filename == "[Content_Types].xml" for member in members):
            raise ValueError(
                "it is an Excel workbook or the like; save it as CSV, or pass what pandas.read_excel returns"
            )
        for member in members:
            if member.flag_bits & 1:
                raise ValueError("it is encrypted; unpack it first")
            is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
            with archive.open(member) as content:
                yield member.filename, "it is a link; links are not followed" if is_link else "", content


def _tar_members(source: SourceFile) -> Iterator[tuple[str, str, IO[bytes]]]:
    with source.open() as file, tarfile.open(fileobj=file, mode="r|") as archive:
        for member in archive:
            if member.isdir():
                continue
            content = archive.extractfile(member) if member.isreg() else None
            what = "it is a link; links are not followed" if member.issym() or member.islnk() else "it is no file"
            yield member.name, "" if content else what, content  # type: ignore[misc]
