"""Elements by the symbols that people and programs write."""

from __future__ import annotations

import re
from functools import lru_cache

import gemmi

__all__ = ["atomic_number"]


_LONGEST = 50  # characters; longer symbols are none, and would fill the cache


@lru_cache(maxsize=4096)
def atomic_number(text: str, label: bool = False) -> int:
    """Return the element that a symbol names.

    Parameters
    ----------
    text : str
        A symbol, perhaps with a charge, a number or the name of a potential: Fe, Fe3+, FE, Fe1, Fe_pv, Fe(III). D and T
        are hydrogen.
    label : bool, default=False
        Whether it is the label of a site, where CA1 may be calcium or a carbon atom. The element must then be spelt Ca.

    Returns
    -------
    int
        Atomic number.

    Raises
    ------
    ValueError
        If the symbol names no element, or several: OH, NO3, O-H, CA1 as a label.

    Examples
    --------
    >>> from crystalssl.graphs._symbols import atomic_number
    >>> atomic_number("Fe3+"), atomic_number("O12A", label=True), atomic_number("D")
    (26, 8, 1)
    """
    symbol, rest = re.fullmatch(r"([A-Za-z]*)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    known = len(symbol) <= 2 and len(text) <= _LONGEST and not re.match(r"[-+/,&|]\s*[A-Za-z]", rest)
    if symbol != symbol.capitalize():  # upper case: an element only if nothing else can be meant
        known = known and not label and symbol not in ("CN", "NO") and bool(re.fullmatch(r"[\d.+-]*", rest))
        known = known and (not rest[:1].isdigit() or rest[-1] in "+-")
    if symbol == "T" and not label:  # of a zeolite's site, T is the label
        symbol = "D"
    number = gemmi.Element(symbol).atomic_number if known else 0
    if not number:
        raise ValueError(f"{'label' if label else 'symbol'} {text[:_LONGEST]!r} names no element")
    return int(number)
