"""The values to predict: from the records themselves, or from a table beside the crystals."""

from __future__ import annotations

import contextlib
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crystalssl._suggestions import did_you_mean
from crystalssl.exceptions import DatasetError
from crystalssl.io._records import is_missing, known_names, lookup
from crystalssl.io._rows import Unusable, find_name, split_unit

__all__ = ["Targets", "number_or_text"]

_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+\.\d*")
_COMMA = re.compile(r"[+-]?[\d.]+(,\d+)+")
_MISSING = {"n/a", "nan", "none", "null", "-", "--", "?", "."}


def number_or_text(value: Any) -> float | bool | str | None:
    """Return what a cell holds: a number, truth, a class's name, or None where it is missing.

    Raises
    ------
    Unusable
        If it is none of these, or infinite.

    Examples
    --------
    >>> from crystalssl.io._targets import number_or_text
    >>> number_or_text("1.5e-3"), number_or_text("True"), number_or_text("metal"), number_or_text("NaN")
    (0.0015, True, 'metal', None)
    """
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.size == 1):
        value = value.item()
    if is_missing(value):
        return None
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in _MISSING or text in ("NA", "na"):  # Na is sodium
            return None
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        if "_" in text:  # which Python would take between digits
            return text
        if _GROUPED.fullmatch(text):
            text = text.replace(",", "")
        elif _COMMA.fullmatch(text):
            raise Unusable(f"is {text!r}, whose comma may be that of decimals or of thousands; write a point, or none")
        try:
            value = float(text)
        except ValueError:
            return text
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, numbers.Real) or type(value).__name__ == "Decimal":
        number = float(value)
        if math.isinf(number):
            raise Unusable("is infinite")
        return None if math.isnan(number) else number
    raise Unusable(f"is a {type(value).__name__}, not a number or the name of a class")


class Targets:
    """Finds the targets of records, and gives all of a column one type.

    Parameters
    ----------
    names : sequence of str
        The columns.
    table : mapping of str to sequence, or None
        Values by id, where they come from a table of their own.
    units : dict of str to str
        Where the units are put that the names of columns tell.
    keep_unlabelled : bool, default=False
        Whether a record without any target is kept, with NaN.
    """

    def __init__(
        self,
        names: Sequence[str],
        table: Mapping[str, Sequence[Any]] | None,
        units: dict[str, str],
        *,
        keep_unlabelled: bool = False,
    ):
        self.names, self.table, self.keep_unlabelled = list(names), table, keep_unlabelled
        self._kinds: list[str | None] = [None] * len(self.names)
        self._found = table is not None
        self.units = units

    def start(self, rows: Sequence[Mapping[str, Any]], values: Sequence[Sequence[Any] | Unusable]) -> None:
        """Learn from the first records what the columns hold: numbers, truth or names.

        Raises
        ------
        DatasetError
            If no record has a column.
        """
        for position, name in enumerate(self.names):
            if self.table is None and name not in self.units:
                found = next(filter(None, (find_name(name, row) for row in rows)), "")
                if unit := split_unit(found)[1] or split_unit(name)[1]:
                    self.units[name] = unit
            if not self._found and rows and all(find_name(name, row) is None for row in rows):
                known = known_names(rows[:100])
                shown = ", ".join(map(repr, known[:20])) or "no values besides the crystal"
                raise DatasetError(
                    f"no record has a target {name!r}; they have {shown}.{did_you_mean(name, known)} The table of a "
                    "folder's targets is given by its path."
                )
            if self._kinds[position] is None:
                kinds = []
                for row_values in values:
                    if not isinstance(row_values, Unusable):
                        # An infinite value is told of when its record's turn comes.
                        with contextlib.suppress(Unusable):
                            kinds.append(type(number_or_text(row_values[position])))
                kinds = [kind for kind in kinds if kind is not type(None)]
                if kinds:
                    self._kinds[position] = max((float, bool, str), key=kinds.count).__name__
        self._found = self._found or bool(rows)

    def raw(self, values: Mapping[str, Any]) -> list[Any]:
        """Return what a record holds of the targets."""
        return [lookup(values, name) for name in self.names]

    def parsed(self, found: Sequence[Any]) -> tuple[Any, ...]:
        """Return the targets of a record; None where one is missing.

        Raises
        ------
        Unusable
            If a value is not of its column's kind, or all are missing.
        """
        values = []
        for name, kind, value in zip(self.names, self._kinds, found, strict=True):
            try:
                parsed = number_or_text(value)
            except Unusable as error:
                raise Unusable(f"its target {name!r} {error}") from error
            if parsed is not None and kind == "float":
                if isinstance(parsed, str):
                    raise Unusable(f"its target {name!r} is {parsed[:40]!r}, not a number")
                parsed = float(parsed)
            elif parsed is not None and kind == "bool":
                if parsed not in (0, 1):
                    raise Unusable(f"its target {name!r} is {parsed!r}, neither true nor false")
                parsed = bool(parsed)
            elif parsed is not None and kind == "str":
                parsed = value.strip() if isinstance(value, str) else str(value)
            values.append(parsed)
        if all(value is None for value in values) and not self.keep_unlabelled:
            missing = f"its target {self.names[0]!r} is" if len(values) == 1 else f"its {len(values)} targets are"
            raise Unusable(f"{missing} missing; leave it out, or keep it with keep_unlabelled=True")
        return tuple(values)

    def joined(self, rows: Sequence[tuple[Any, ...]], single: bool) -> np.ndarray:
        """Return the targets of some records as an array of shape (n,) or (n, n_targets)."""
        columns = []
        for kind, *values in zip(self._kinds, *rows, strict=True) if rows else ((kind,) for kind in self._kinds):
            if kind in ("float", None):
                columns.append(np.array([np.nan if value is None else value for value in values], dtype=np.float64))
            elif kind == "bool" and None not in values:
                columns.append(np.array(values, dtype=bool))
            else:
                column = np.empty(len(values), dtype=object)
                column[:] = values
                columns.append(column)
        if single:
            return columns[0]
        if len({column.dtype for column in columns}) > 1:
            columns = [column.astype(object) for column in columns]
        return np.stack(columns, axis=1)
