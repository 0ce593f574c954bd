"""A page that shows crystals as points, for a browser without a network."""

from __future__ import annotations

import base64
import html
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crystalssl import _files
from crystalssl.plotting._arguments import crystals_of

__all__ = ["write_map"]

_PAGE = Path(__file__).with_name("map_page")
_MOST_CLASSES = 65_535
_STEPS = 65_535
"""Into which cell vectors are divided, far below any uncertainty of positions."""


def write_map(
    path: str | os.PathLike,
    X: Any,
    points: Any,
    *,
    columns: Mapping[str, Any] | None = None,
    ids: Any = None,
    title: str = "Crystals",
) -> None:
    """Write a page on which crystals are points that can be searched, selected and looked at.

    The page is one file that loads nothing else. It colours points by any column, shows formula, id and values of the
    one under the pointer, searches by formula, elements or id, selects by a lasso, exports the ids of what was found or
    selected, and shows the unit cell of the one that is clicked on in three dimensions, with 3Dmol.js. It draws without
    a graphics card, and a hundred thousand crystals are no burden.

    Parameters
    ----------
    path : path
        Where to write; a file in its place is replaced.
    X : sequence of crystals, or CrystalGraphs
        The crystals.
    points : array-like of shape (n_crystals, 2)
        Where they lie, such as the `points` of an :class:`EmbeddingDisplay`.
    columns : mapping or None, default=None
        Values by name, each array-like of shape (n_crystals,): numbers, NaN where not known, or classes. The name is
        the best place for the unit. The first one colours the points at first.
    ids : sequence of str or None, default=None
        Of the crystals; None numbers them from 0.
    title : str, default="Crystals"
        Of the page.

    Raises
    ------
    ValueError
        If lengths do not fit, or a point is not finite.
    InvalidStructureError
        If a crystal is invalid.

    References
    ----------
    N. Rego and D. Koes, Bioinformatics 31, 1322 (2015), doi:10.1093/bioinformatics/btu829.

    Examples
    --------
    >>> from crystalssl import PretrainedCrystalEmbedder
    >>> from crystalssl.datasets import load_prototypes
    >>> from crystalssl.plotting import EmbeddingDisplay, write_map
    >>> X, y = load_prototypes(return_X_y=True)
    >>> points = EmbeddingDisplay.from_estimator(PretrainedCrystalEmbedder().fit(X), X).points  # doctest: +SKIP
    >>> write_map("map.html", X, points, columns={"density (g/cm³)": y})  # doctest: +SKIP
    """
    crystals = crystals_of(X)
    n = len(crystals)
    points = np.asarray(points, dtype=float)
    if points.shape != (n, 2):
        raise ValueError(f"points have shape {points.shape}; expected ({n}, 2), two numbers for each crystal")
    if n == 0 or not np.isfinite(points).all():
        raise ValueError("there are no crystals" if n == 0 else "a point is not finite")
    names = [str(name) for name in (range(n) if ids is None else ids)]
    if len(names) != n:
        raise ValueError(f"there are {len(names)} ids for {n} crystals")
    data = {
        "ids": names,
        "points": _packed(_in_a_square(points), "<f4"),
        "columns": [_column(str(name), values, n) for name, values in (columns or {}).items()],
        **_packed_crystals(crystals),
    }
    # In a page "</script>" would end the data, whatever it is part of.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "TITLE": html.escape(str(title)),
        "STYLE": (_PAGE / "map.css").read_text(encoding="utf-8"),
        "VIEWER": (_PAGE / "3Dmol-min.js").read_text(encoding="utf-8"),
        "SCRIPT": (_PAGE / "map.js").read_text(encoding="utf-8"),
        "DATA": text,
    }
    pieces = (_PAGE / "map.html").read_text(encoding="utf-8").split("%%")
    page = "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))
    _files.write_atomically(Path(path), page.encode())


def _packed_crystals(crystals: list[Any]) -> dict[str, Any]:
    """Return cells, atoms and formulas."""
    from pymatgen.core import Element
    from pymatgen.core.composition import reduce_formula

    symbols = [Element.from_Z(z).symbol for z in range(1, 119)]
    formulas, places = [], []
    for numbers, positions, lattice in crystals:
        counts = np.bincount(numbers).tolist()
        amounts = {symbols[z - 1]: count for z, count in enumerate(counts) if count}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No Pauling electronegativity")  # of noble gases
            formulas.append(reduce_formula(amounts)[0])
        inside = np.asarray(positions) @ np.linalg.inv(lattice) % 1.0
        places.append(np.round(inside * _STEPS))
    return {
        "symbols": symbols,
        "formulas": formulas,
        "sizes": _packed([len(crystal[0]) for crystal in crystals], "<u4"),
        "atoms": _packed(np.concatenate([crystal[0] for crystal in crystals]), "u1"),
        "places": _packed(np.concatenate(places), "<u2"),
        "lattices": _packed([crystal[2] for crystal in crystals], "<f4"),
    }


def _column(name: str, values: Any, n: int) -> dict[str, Any]:
    array = np.asarray(values)
    if array.shape != (n,):
        raise ValueError(f"the column {name!r} has shape {array.shape}; expected ({n},), one value for each crystal")
    if array.dtype.kind in "fiu":
        numbers = np.where(np.isfinite(array.astype(float)), array, np.nan)
        return {"name": name, "numbers": _packed(numbers, "<f4")}
    classes, counts = np.unique(array.astype(str), return_counts=True)
    if len(classes) > _MOST_CLASSES:
        raise ValueError(f"the column {name!r} has {len(classes)} different texts; leave it out, or give them as ids")
    classes = classes[np.argsort(-counts, kind="stable")]
    order = {label: number for number, label in enumerate(classes.tolist())}
    codes = [order[label] for label in array.astype(str).tolist()]
    return {"name": name, "classes": classes.tolist(), "codes": _packed(codes, "<u2")}


def _in_a_square(points: np.ndarray) -> np.ndarray:
    """Return points between -1 and 1, with the same scale on both axes."""
    low, high = points.min(axis=0), points.max(axis=0)
    return (points - (low + high) / 2) / ((high - low).max() / 2 or 1.0)


def _packed(values: Any, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode("ascii")
