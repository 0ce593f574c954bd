"""Files that are read without trusting them, and written in one step: weights, checkpoints, graphs and data sets."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import secrets
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from crystalssl._limits import LIMITS

__all__ = [
    "check_expansion",
    "decompress",
    "open_regular",
    "read_bounded",
    "sha256_of",
    "staging",
    "write_atomically",
]

_SLACK = 2**24  # bytes that may come out of any compressed file, however small
_BLOCK = 2**20


def open_regular(path: str | os.PathLike, limit: str | None = None) -> IO[bytes]:
    """Open a file for reading, if it is one.

    A FIFO would be waited for, and a device such as ``/dev/zero`` never ends.

    Parameters
    ----------
    path : path
        The file, or a symbolic link to it.
    limit : str or None, default=None
        Field of :obj:`crystalssl.LIMITS` that says how large it may be.

    Raises
    ------
    OSError
        If there is none, it is a folder, FIFO or device, or it is too large.
    """
    try:
        _check_regular(os.stat(path), path)
    except ValueError as error:  # a null byte
        raise OSError(f"{os.fspath(path)!r} is no path: {error}") from error
    # Not blocking, in case a FIFO took its place meanwhile.
    file = open(  # noqa: SIM115  (the caller closes it)
        os.fspath(path), "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
    )
    try:
        status = os.fstat(file.fileno())
        _check_regular(status, path)
        if limit is not None and status.st_size > getattr(LIMITS, limit):
            raise OSError(
                f"{os.fspath(path)} has {status.st_size:,} bytes, more than the {getattr(LIMITS, limit):,} of "
                f"crystalssl.LIMITS.{limit}; raise that limit if it is meant to be that large"
            )
    except BaseException:
        file.close()
        raise
    return file


def _check_regular(status: os.stat_result, path: str | os.PathLike) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
        raise OSError(f"{os.fspath(path)} is {kind.get(stat.S_IFMT(status.st_mode), 'a device')}, not a file")


def read_bounded(path: str | os.PathLike, limit: str) -> bytes:
    """Return the content of a file that is no larger than a limit; errors as of :func:`open_regular`."""
    with open_regular(path, limit) as file:
        allowed = getattr(LIMITS, limit)
        content = file.read(allowed + 1)
    if len(content) > allowed:  # it grew, or is of a file system that announces no sizes
        raise OSError(f"{os.fspath(path)} has more than the {allowed:,} bytes of crystalssl.LIMITS.{limit}")
    return content


def sha256_of(file: IO[bytes]) -> str:
    """Return the hash of an open file from where it stands, block by block, and go back to its beginning."""
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    file.seek(0)
    return digest.hexdigest()


def check_expansion(n_bytes: int, n_larger: int) -> None:
    """Raise OSError if some bytes of a compressed file would become more than crystals do."""
    if n_larger > LIMITS.expansion * n_bytes + _SLACK:
        raise OSError(
            f"{n_bytes:,} bytes of it become {n_larger:,} or more; no file of crystals grows more than "
            f"{LIMITS.expansion} times, the crystalssl.LIMITS.expansion"
        )


def decompress(content: bytes) -> bytes:
    """Return what a gzip file holds.

    Raises
    ------
    OSError
        If it is damaged, or grows more than ``crystalssl.LIMITS.expansion`` times. The latter is noticed on the way.
    """
    compressed, parts, n_bytes = io.BytesIO(content), [], 0
    try:
        with gzip.GzipFile(fileobj=compressed) as file:
            while part := file.read(_BLOCK):
                parts.append(part)
                n_bytes += len(part)
                check_expansion(compressed.tell(), n_bytes)
    except (EOFError, zlib.error) as error:
        raise OSError(str(error)) from error
    return b"".join(parts)


@contextlib.contextmanager
def staging(place: Path) -> Iterator[Path]:
    """Make a hidden folder beside a place, in which what belongs there is written before it is moved.

    Its name cannot be guessed, and only this user can enter it. It and the folder ``new`` in it are deleted at the end;
    anything else that is left in it stays, and the folder with it.

    Parameters
    ----------
    place : path
        Its parent is made if need be, and has to be on the same file system as what is written.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{place.name[:40]}-", dir=place.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder / "new", ignore_errors=True)
        with contextlib.suppress(OSError):  # something is left, and the caller has said so
            folder.rmdir()


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file in one step: it is the former one or the new one at any moment.

    A symbolic link in its place is replaced, not followed. The file has the permissions that the umask leaves.

    Raises
    ------
    OSError
        If it cannot be written. The former file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[:40]}-{secrets.token_hex(8)}")
    try:
        with partial.open("xb") as file:  # never through a link that someone put there
            file.write(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
