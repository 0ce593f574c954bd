"""The layout of safetensors files, compared with their size before anything is read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import IO, NamedTuple

from crystalssl._limits import LIMITS

__all__ = ["Entry", "blocks_of", "read_header", "write_header"]

_SIZES = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "BOOL": 1},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1},
}
_ALIGNMENT = 64
_BLOCK = 2**20


class Entry(NamedTuple):
    """One tensor of a file."""

    dtype: str  # as safetensors calls it, such as "F32"
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file
    stop: int


def read_header(file: IO[bytes], n_bytes: int) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return the tensors of an open safetensors file of some bytes, and its metadata.

    Raises
    ------
    ValueError
        If it is none, or its tensors do not fill it exactly.
    """
    n_header = int.from_bytes(file.read(8), "little")
    if n_bytes < 8 or n_header > min(n_bytes - 8, LIMITS.header_bytes):
        raise ValueError(
            f"its header would have {n_header:,} bytes; the file has {n_bytes:,}, and no more than the "
            f"{LIMITS.header_bytes:,} of crystalssl.LIMITS.header_bytes are read"
        )
    try:
        header = json.loads(file.read(n_header))
        metadata = header.pop("__metadata__", {})
        entries = {name: _entry(described, 8 + n_header) for name, described in header.items()}
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"its header does not describe tensors ({error!r})") from error
    if not (isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())):
        raise ValueError("its metadata are no texts")
    at = 8 + n_header
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.start != at or entry.stop - entry.start != _SIZES[entry.dtype] * math.prod(entry.shape):
            raise ValueError(f"{name} is not where its type and shape put it")
        at = entry.stop
    if at != n_bytes:
        raise ValueError(f"it has {n_bytes:,} bytes, its tensors end at {at:,}")
    return entries, metadata


def _entry(described: dict, begin: int) -> Entry:
    start, stop = described["data_offsets"]
    shape = tuple(described["shape"])
    if not all(type(number) is int and number >= 0 for number in (start, stop, *shape)):
        raise ValueError("its header holds sizes that are no natural numbers")
    if described["dtype"] not in _SIZES:
        raise ValueError(f"its header names the type {described['dtype']!r}")
    return Entry(described["dtype"], shape, begin + start, begin + stop)


def write_header(file: IO[bytes], tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """Write the header of tensors, each a type and a shape, that follow end to end in this order.

    The first begins at a multiple of 64 bytes, and so a tensor is aligned to its items if they do not grow on the way.
    """
    header, at = {}, 0
    for name, (dtype, shape) in tensors.items():
        start, at = at, at + _SIZES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, at]}
    text = json.dumps(header).encode()
    text = text.ljust(-(-(8 + len(text)) // _ALIGNMENT) * _ALIGNMENT - 8)
    file.write(len(text).to_bytes(8, "little") + text)


def blocks_of(file: IO[bytes], entry: Entry) -> Iterator[bytes]:
    """Yield the bytes of a tensor, some at a time."""
    file.seek(entry.start)
    left = entry.stop - entry.start
    while left:
        block = file.read(min(left, _BLOCK))
        if not block:
            raise ValueError("the file was truncated while it was read")
        left -= len(block)
        yield block
