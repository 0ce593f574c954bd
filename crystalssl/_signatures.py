"""Signatures and docstrings that several classes or functions share, written once."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["inherit_sections", "takes_what", "whole_signature"]

P = ParamSpec("P")
R = TypeVar("R")

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
    section = re.search(rf"^{title}\n-+\n(.*?)(?=\n\n[^\n]*\n-+\n|\Z)", doc, re.DOTALL | re.MULTILINE)
    return re.split(r"\n(?=\S)", section[1].rstrip()) if section else []


def _names(entry: str) -> set[str]:
    """Return the names that an entry describes, such as ``"alpha, beta : float"``."""
    return {*entry.split("\n")[0].partition(" :")[0].split(", ")}


def whole_signature(cls: type) -> inspect.Signature:
    """Return the signature of a constructor, with the base class's parameters in the place of ``**`` if it has any."""
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]
    own = dict(signature.parameters)
    passed_on = next((own.pop(p.name) for p in signature.parameters.values() if p.kind == p.VAR_KEYWORD), None)
    if passed_on is None:
        return signature
    constructor = next(vars(base)["__init__"] for base in cls.__mro__[1:] if "__init__" in vars(base))
    above = [*inspect.signature(constructor).parameters.values()]
    named = [p for p in above if p.name not in own and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    rest = [p for p in above if p.kind == p.VAR_KEYWORD] if named else [passed_on]
    further = [p.replace(kind=p.KEYWORD_ONLY) for p in named]
    return signature.replace(parameters=[*own.values(), *further, *rest])


def takes_what(other: Callable[P, R]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Return a decorator of a function that takes what another one takes, with the same defaults, as ``**options``."""
    signature = inspect.signature(other)

    def decorate(function: Callable[..., R]) -> Callable[P, R]:
        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            return function(*given.args, **given.kwargs)

        called.__signature__ = signature  # type: ignore[attr-defined]
        return called

    return decorate
