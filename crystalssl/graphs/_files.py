"""Files, read up to a limit, whatever they are or announce."""

from __future__ import annotations

import bz2
import lzma
import os
import stat
import zlib
from typing import Any

from crystalssl._limits import LIMITS

__all__ = ["read_file"]

_MEMORY = 5 * 2**24  # bytes that a file in xz format may ask for; xz -9 asks for 65 MiB
_COMPRESSIONS: dict[bytes, Any] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\x00": lambda: lzma.LZMADecompressor(memlimit=_MEMORY),
    b"]\x00\x00": lambda: lzma.LZMADecompressor(memlimit=_MEMORY),
}


def read_file(path: str, *, beginning: bool = False) -> bytes:
    """Return the content of a file, expanded if it is compressed (gzip, bzip2, xz).

    Parameters
    ----------
    path : str
        A regular file: no folder, pipe or device.
    beginning : bool, default=False
        Whether the first ``LIMITS.bytes`` are enough where the file holds more.

    Returns
    -------
    bytes

    Raises
    ------
    OSError
        If it cannot be read, or is no regular file.
    ValueError
        If it holds more than ``LIMITS.bytes``, or ends within its compressed data.
    """
    limit = LIMITS.bytes
    info = os.stat(path)  # before it is opened, which waits at a pipe
    if not stat.S_ISREG(info.st_mode):
        raise OSError("it is a folder" if stat.S_ISDIR(info.st_mode) else "it is no regular file")
    with open(path, "rb", buffering=0) as file:
        data = file.read(min(info.st_size, limit) + 1)
    whole = len(data) <= limit
    for magic, decompressor in _COMPRESSIONS.items():
        if data.startswith(magic):
            data = _expand(data, magic, decompressor, limit, whole)
            whole = whole and len(data) <= limit
            break
    if not (whole or beginning):
        raise ValueError(
            f"it holds more than {limit / 2**20:g} MiB, the crystalssl.LIMITS.bytes; raise that limit, or leave "
            "out what is not the crystal"
        )
    return data


def _expand(data: bytes, magic: bytes, decompressor: Any, limit: int, whole: bool) -> bytes:
    """Expand parts of a file that follow each other, until a little more than the limit is there."""
    expanded = b""
    while data.startswith(magic) and len(expanded) <= limit:
        part = decompressor()
        expanded += part.decompress(data, limit + 1 - len(expanded))
        if not part.eof:
            if whole and len(expanded) <= limit:
                raise ValueError("it ends within its compressed data")
            break
        data = part.unused_data
    return expanded
