"""Docstrings whose sections are written once, where a base class has them."""

from __future__ import annotations

import inspect
import re

__all__ = ["inherit_sections"]

_PLACE = re.compile(r"^%\((parameters|attributes)\)s$", re.MULTILINE)


def inherit_sections(cls: type) -> None:
    """Replace lines ``%(parameters)s`` and ``%(attributes)s`` of a docstring by what stands there in a base class.

    That is the nearest base class which has such a section. What the class describes itself is left out.
    """
    doc = vars(cls).get("__doc__")
    if not doc or "%(" not in doc:
        return
    own = inspect.cleandoc(doc)

    def inherited(place: re.Match[str]) -> str:
        title = place[1].capitalize()
        described = {name for entry in _entries(own, title) for name in _names(entry)}
        bases = (_entries(inspect.cleandoc(base.__doc__ or ""), title) for base in cls.__mro__[1:])
        return "\n".join(entry for entry in next(filter(None, bases), []) if described.isdisjoint(_names(entry)))

    cls.__doc__ = _PLACE.sub(inherited, own)


def _entries(doc: str, title: str) -> list[str]:
    """Return what a section describes, one after the other."""
    section = re.search(rf"^{title}\n-+\n(.*?)(?=\n\n.*\n-+\n|\Z)", doc, re.DOTALL | re.MULTILINE)
    return re.split(r"\n(?=\S)", section[1].rstrip()) if section else []


def _names(entry: str) -> set[str]:
    """Return the names that an entry describes, such as ``"alpha, beta : float"``."""
    return {*entry.split("\n")[0].partition(" :")[0].split(", ")}
