"""One file: what it begins with, and its content, expanded, up to what crystals take."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import functools
import gzip
import io
import lzma
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from crystalssl import _files

__all__ = ["SourceFile", "expanded", "id_of", "text_of"]

_HEAD = 2**16  # bytes that formats are told by
_MEMORY = 5 * 2**24  # bytes that a file in xz format may ask for; xz -9 asks for 65 MiB
_COMPRESSIONS: dict[bytes, Any] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lambda raw: _open_xz(raw),
}
_ENDING = re.compile(r"\.(gz|bz2|xz)$", re.IGNORECASE)
_FORMAT = re.compile(
    r"(?<=[^/])\.(cif|mcif|vasp|poscar|contcar|json|jsonl|ndjson|ya?ml|xsf|cssr|res|xyz|extxyz|traj|db|csv|tsv|txt|dat|xml"
    r"|parquet|pq|feather|arrow|ipc|zip|tar|tgz)$",
    re.IGNORECASE,
)
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class SourceFile:
    """A file on this machine.

    Parameters
    ----------
    path : Path
        Where it is.
    label : str
        What users call it: its path, or that of the archive and the name in it.
    id : str
        What its crystal is called where nothing else names it: its name without endings.
    folder : Path or None, default=None
        Folder that a table of file names may not lead out of; None takes the file's own.
    """

    def __init__(self, path: Path, label: str, id: str, folder: Path | None = None):
        self.path, self.label, self.id = path, _printable(label), _printable(id)
        self.folder = folder or path.parent

    @property
    def name(self) -> str:
        """The file's name without the ending of a compressed one."""
        return _ENDING.sub("", self.path.name)

    @functools.cached_property
    def head(self) -> bytes:
        """The first bytes of the content."""
        with self.open() as file:
            return file.read(_HEAD)

    @property
    def is_short(self) -> bool:
        """Whether the head is all."""
        return len(self.head) < _HEAD

    @functools.cached_property
    def is_compressed(self) -> bool:
        """Whether the file is in the format of gzip, bzip2 or xz, whatever its name is."""
        with _files.open_regular(self.path) as raw:
            return raw.read(6).startswith(tuple(_COMPRESSIONS))

    @contextlib.contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the content for reading, expanded on the way."""
        with _files.open_regular(self.path) as raw, expanded(raw) as file:
            yield file

    @contextlib.contextmanager
    def open_text(self) -> Iterator[IO[str]]:
        """Open the content as text: Unicode by its mark, else UTF-8, else what Windows writes in the west."""
        with self.open() as file:
            text = io.TextIOWrapper(file, encoding=self.encoding, newline="")
            try:
                yield text
            finally:
                text.detach()

    @functools.cached_property
    def encoding(self) -> str:
        """The encoding of the text."""
        if known := _unicode_of(self.head):
            return known
        decoder = codecs.getincrementaldecoder("utf-8")()
        with self.open() as file:
            try:
                while block := file.read(2**20):
                    decoder.decode(block)
                decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                return "cp1252" if not set(self.head) & {0x81, 0x8D, 0x8F, 0x90, 0x9D} else "latin-1"
        return "utf-8"

    @contextlib.contextmanager
    def local(self) -> Iterator[Path]:
        """Have the expanded content as a file, for libraries that want one."""
        if not self.is_compressed:
            with _files.open_regular(self.path):  # they would wait at a FIFO
                pass
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="crystalssl-") as folder:
            path = Path(folder, self.name)
            with self.open() as file, path.open("xb") as copy:
                shutil.copyfileobj(file, copy, 2**20)
            yield path


@contextlib.contextmanager
def expanded(raw: IO[bytes]) -> Iterator[IO[bytes]]:
    """Expand what an open file holds on the way, if it is compressed, up to what files of crystals become."""
    magic = raw.read(6)
    raw.seek(0)
    opener = next((opener for start, opener in _COMPRESSIONS.items() if magic.startswith(start)), None)
    if opener is None:
        yield raw
        return
    with opener(raw) as file:
        yield io.BufferedReader(_Bounded(file, raw), buffer_size=_HEAD)


class _Bounded(io.RawIOBase):
    """A file that is expanded no further than files of crystals are."""

    def __init__(self, expanded: IO[bytes], compressed: IO[bytes]):
        self._expanded, self._compressed, self._n_bytes = expanded, compressed, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._expanded.read(len(buffer))
        except EOFError as error:
            raise OSError("it ends within its compressed data") from error
        except (lzma.LZMAError, ValueError) as error:
            raise OSError(f"its compressed data are damaged ({error})") from error
        except Exception as error:  # zlib.error is no more than an Exception
            raise OSError(f"its compressed data are damaged ({error})") from error
        self._n_bytes += len(data)
        _files.check_expansion(self._compressed.tell(), self._n_bytes)
        buffer[: len(data)] = data
        return len(data)


def _open_xz(raw: IO[bytes]) -> lzma.LZMAFile:
    beginning = raw.read(1024)
    raw.seek(0)
    try:
        lzma.LZMADecompressor(memlimit=_MEMORY).decompress(beginning, 1)
    except lzma.LZMAError as error:
        raise OSError(f"it cannot be expanded ({error})") from error
    return lzma.LZMAFile(raw)


def text_of(data: bytes) -> bytes:
    """Return a text in UTF-8 that may be in another Unicode, as the editor of Windows writes it."""
    known = _unicode_of(data)
    return data if known is None else data.decode(known, errors="replace").encode()


def _unicode_of(data: bytes) -> str | None:
    """Return the encoding that a text's mark tells, or the zeros that letters have in UTF-16."""
    if mark := next((mark for mark in _MARKS if data.startswith(mark)), None):
        return _MARKS[mark]
    zeros = "".join(str(int(not byte)) for byte in data[:4])
    return {"0101": "utf-16-le", "1010": "utf-16-be"}.get(zeros)


def _printable(name: str) -> str:
    """Return a name that can be written as UTF-8: bytes of other encodings as their hexadecimal numbers."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def id_of(path: str | os.PathLike[str]) -> str:
    """Return a path without the endings that tell format and compression.

    Examples
    --------
    >>> from crystalssl.io._source_file import id_of
    >>> id_of("a/mp-1.cif.gz"), id_of("POSCAR"), id_of("LiFe0.5"), id_of("Si.relaxed.vasp")
    ('a/mp-1', 'POSCAR', 'LiFe0.5', 'Si.relaxed')
    """
    return _FORMAT.sub("", _ENDING.sub("", Path(path).as_posix()))
