"""What databases that speak OPTIMADE answered, and what is told of it."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl.exceptions import DatasetError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Answer", "describe", "message_of", "objects", "report_of", "table_of", "targets_of", "units_of"]

_LONGEST_MESSAGE = 600  # characters; servers answer with whole web pages


@dataclass
class Answer:
    """What came from one database.

    Parameters
    ----------
    provider : str
        The provider as it was asked for: its id, or the address.
    url : str or None
        Base address of the database; None where it could not be found out.
    error : str or None, default=None
        Why not all of it could be read.
    """

    provider: str
    url: str | None
    error: str | None = None
    structures: list[Any] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[tuple[str | None, str]] = field(default_factory=list)  # of records that are no crystals, by id
    available: int | None = None  # records that match, as the database counts them
    complete: bool = False  # whether that is all that matches
    units: dict[str, str | None] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def n_records(self) -> int:
        """Number of records read, crystals or not."""
        return len(self.ids) + len(self.reasons)


def units_of(answers: list[Answer], target: Any, targets: tuple[str, ...]) -> Any:
    """Return the unit of the target, or a list of the units of several.

    Raises
    ------
    DatasetError
        If two databases state different ones.
    """
    units: dict[str, str | None] = {}
    for name in targets:
        stated = {answer.units[name]: answer.url for answer in answers if answer.units.get(name)}
        if len(stated) > 1:
            (first, here), (second, there), *_ = stated.items()
            raise DatasetError(
                f"{name!r} is in {first} in {here}, but in {second} in {there}: fetch them by themselves."
            )
        units[name] = next(iter(stated), None)
    if not targets:
        return None
    return units[target] if isinstance(target, str) else list(units.values())


def _column(values: list[Any]) -> np.ndarray:
    """Return values as bool or float64 where all are that, else as they are."""
    if values and all(isinstance(value, bool) for value in values):
        return np.array(values)
    if all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values):
        with contextlib.suppress(OverflowError):  # of an integer of hundreds of digits
            return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return objects(values)


def objects(values: list[Any]) -> np.ndarray:
    """Return values as they are, in an array."""
    array = np.empty(len(values), dtype=object)  # np.array would look into lists
    array[:] = values
    return array


def targets_of(answers: list[Answer], target: Any, targets: tuple[str, ...]) -> np.ndarray | pd.DataFrame | None:
    """Return the values of the target, or a frame of those of several; None if there is none."""
    import pandas as pd

    if not targets:
        return None
    labels = {name: _column([values[name] for answer in answers for values in answer.values]) for name in targets}
    if isinstance(target, str):
        return labels[target]
    # With its type said, pandas does not turn text into a type of its own.
    return pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in labels.items()})


def report_of(answers: list[Answer]) -> pd.DataFrame:
    """Return the records that are no crystals, and why."""
    import pandas as pd

    rows = [(name, answer.url, reason) for answer in answers for name, reason in answer.reasons]
    return pd.DataFrame(rows, columns=["id", "provider", "reason"], dtype=object)


def table_of(answers: list[Answer]) -> pd.DataFrame:
    """Return a row for each database."""
    import pandas as pd

    return pd.DataFrame(
        {
            "provider": [answer.provider for answer in answers],
            "url": pd.Series([answer.url for answer in answers], dtype=object),
            "n_crystals": [len(answer.ids) for answer in answers],
            "n_reported": [len(answer.reasons) for answer in answers],
            "n_available": pd.array([answer.available for answer in answers], dtype="Int64"),
            "complete": [answer.complete for answer in answers],
            "error": pd.Series([answer.error for answer in answers], dtype=object),
            "warnings": pd.Series([answer.warnings for answer in answers], dtype=object),
        }
    )


def describe(filter: str, answers: list[Answer]) -> str:
    """Return a summary in a few lines."""
    lines = [
        f"{sum(len(answer.ids) for answer in answers)} crystals from OPTIMADE databases",
        "",
        f":Filter: {filter or 'none'}",
        f":Records that cannot be used: {sum(len(answer.reasons) for answer in answers)}",
        *(f":Database: {answer.url or answer.provider}, {_outcome(answer)}" for answer in answers),
    ]
    return "\n".join(lines)


def _outcome(answer: Answer) -> str:
    if answer.error:
        return f"{len(answer.ids)} crystals, failed: {answer.error}"
    if answer.complete:
        return f"{len(answer.ids)} crystals, all that match"
    count = "an unknown number" if answer.available is None else answer.available
    return f"{len(answer.ids)} crystals, from the first {answer.n_records} of {count} records that match"


def message_of(errors: Any) -> str | None:
    """Return errors, as text or as JSON:API describes them, in one short line; None if there are none."""
    if not errors:
        return None
    texts = []
    for error in errors if isinstance(errors, list) else [errors]:
        if isinstance(error, dict):
            error = ": ".join(str(error[key]) for key in ("title", "detail") if error.get(key)) or json.dumps(error)
        texts.append(str(error).removeprefix("RuntimeError: "))
    # Addresses repeat the fields that are always asked for.
    text = re.sub(r"response_fields=[\w%,]+", "response_fields=…", " ".join("; ".join(texts).split()))
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}…"
