"""JSON that is decoded value by value, so that a file may be larger than memory.

The values themselves are read by Python's own decoder. ijson would read them too, at a fifth of the speed, but refuses
NaN, which Python's and pymatgen's JSON holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from crystalssl._limits import LIMITS

__all__ = ["JsonStream"]

_decode = json.JSONDecoder().raw_decode
_SPACE = re.compile(r"[ \t\n\r]*")
_BLOCK = 2**18


class JsonStream:
    """A file of JSON, and a position in it.

    Parameters
    ----------
    file : text file
        Where it is read from.

    Examples
    --------
    >>> import io
    >>> from crystalssl.io._json_stream import JsonStream
    >>> stream = JsonStream(io.StringIO('{"columns": ["a"], "data": [[1], [2]]}'))
    >>> for key in stream.members():
    ...     print(key, list(stream.items()))
    columns ['a']
    data [[1], [2]]
    """

    def __init__(self, file: IO[str]):
        self._file = file
        self._text, self._position, self._ended = "", 0, False

    def peek(self) -> str:
        """Return the next character that is no space, or nothing at the end."""
        while True:
            self._position = _SPACE.match(self._text, self._position).end()  # type: ignore[union-attr]
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._more():
                return ""

    def value(self) -> Any:
        """Decode the value that comes next."""
        self.peek()
        while True:
            try:
                value, end = _decode(self._text, self._position)
            except json.JSONDecodeError as error:
                # Not complete, or no JSON: more of the text decides.
                if len(self._text) - self._position > LIMITS.bytes:
                    raise ValueError(
                        f"no complete JSON value in {LIMITS.bytes:,} bytes, the crystalssl.LIMITS.bytes ({error.msg})"
                    ) from error
                if not self._more():
                    raise ValueError(f"it is not complete JSON ({error.msg})") from error
                continue
            if end == len(self._text) and self._more():  # a number may go on
                continue
            self._position = end
            return value

    def large(self) -> Any:
        """Decode the value that comes next, of which only the parts are held to the limits: a column of a table."""
        if self.peek() == "[":
            return list(self.items())
        return {key: self.value() for key in self.members()} if self.peek() == "{" else self.value()

    def skip(self) -> None:
        """Step over the value that comes next; a list of any length, item by item."""
        if self.peek() == "[":
            for _ in self.items():
                pass
        else:
            self.value()

    def items(self) -> Iterator[Any]:
        """Yield the items of the list that comes next, decoding one at a time."""
        self._expect("[")
        if self.peek() == "]":
            self._position += 1
            return
        while True:
            yield self.value()
            if not self._goes_on("]"):
                return

    def members(self) -> Iterator[str]:
        """Yield the keys of the object that comes next. The caller takes each value before the next key."""
        self._expect("{")
        if self.peek() == "}":
            self._position += 1
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                raise ValueError(f"it is not complete JSON (a key is {str(key)[:20]})")
            self._expect(":")
            yield key
            if not self._goes_on("}"):
                return

    def _goes_on(self, closing: str) -> bool:
        """Step over what follows a value: a comma, or the end."""
        if self.peek() == closing:
            self._position += 1
            return False
        self._expect(",")
        return True

    def _expect(self, character: str) -> None:
        found = self.peek()
        if found != character:
            raise ValueError(
                f"it is not complete JSON (expecting {character!r}, found {found!r})"
                if found
                else "it is not complete JSON (it ends early)"
            )
        self._position += 1

    def _more(self) -> bool:
        """Read on: as much again as is not decoded yet, so that a long value is tried a few times only."""
        if self._ended:
            return False
        block = self._file.read(max(_BLOCK, len(self._text) - self._position))
        self._ended = not block
        self._text, self._position = self._text[self._position :] + block, 0
        return bool(block)
