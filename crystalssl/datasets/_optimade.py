"""Structures from the databases that speak OPTIMADE."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crystalssl._suggestions import did_you_mean
from crystalssl.datasets._bunch import make_bunch
from crystalssl.datasets._optimade_answers import (
    Answer,
    describe,
    objects,
    report_of,
    table_of,
    targets_of,
    units_of,
)
from crystalssl.datasets._optimade_client import Query, session_type
from crystalssl.datasets._optimade_providers import N_HOSTS, find_databases
from crystalssl.exceptions import DatasetError, SkippedStructureWarning

if TYPE_CHECKING:
    from sklearn.utils import Bunch

_BAR_AFTER = 3.0  # seconds


def fetch_optimade(
    filter: str = "",
    providers: str | Sequence[str] | None = None,
    *,
    target: str | Sequence[str] | None = None,
    limit: int | None = 1000,
    page_size: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    on_error: str = "report",
    timeout: float = 30.0,
    n_retries: int = 3,
    return_X_y: bool = False,
    as_frame: bool = False,
    verbose: int = 1,
) -> Bunch | tuple[Any, Any]:
    """Fetch the structures that match a filter from databases that speak OPTIMADE.

    The databases are asked by the client of ``optimade`` (``pip install 'crystalssl[optimade]'``): up to eight servers
    at a time, each for one page after the other, with the pauses that it asks for.

    Parameters
    ----------
    filter : str, default=""
        What to look for, in OPTIMADE's language, such as ``'elements HAS ALL "Si", "O" AND nelements = 2'``. The
        empty filter matches everything.
    providers : str, sequence of str or None, default=None
        Base addresses of databases (``"https://optimade.materialsproject.org"``) and ids of registered providers
        (``"mp"``, ``"oqmd"``), whose databases are looked up. None asks all registered providers.
    target : str, sequence of str or None, default=None
        Properties to return with each structure, by the names that the database gives them (``"_oqmd_band_gap"``).
    limit : int or None, default=1000
        Most records to read from each database, usable or not; None reads all.
    page_size : int or None, default=None
        Records per request. None leaves it to the server; most refuse more than some hundred.
    resume : path-like or None, default=None
        Folder that keeps each page as it comes. A later call with the same filter, database and target reads what is
        there, and asks for the rest alone, or for nothing. What is kept does not expire: delete the folder to ask anew.
    on_error : {"report", "raise"}, default="report"
        With ``"report"``, a database that fails is reported in ``databases`` and by a warning, what it sent before is
        kept, and it is an error only if all fail. With ``"raise"``, the first that fails is an error.
    timeout : float, default=30.0
        Seconds to wait for a connection and for each part of an answer.
    n_retries : int, default=3
        How many more times a request is sent after a time-out, a lost connection, or the status 429, 500, 502, 503 or
        504, with growing pauses.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch. Records that cannot be used are then told of by a
        warning.
    as_frame : bool, default=False
        Whether data is a pandas Series, and a single target as well.
    verbose : int, default=1
        Above 0, a progress bar is shown on stderr if it takes more than three seconds.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        With ``return_X_y=True``, ``(data, target)``. Else a Bunch with

        data : list of pymatgen.core.Structure
            The crystals, database by database in the order asked for; a Series with ``as_frame=True``. Lengths in Å.
        target : ndarray of shape (n_crystals,), DataFrame of shape (n_crystals, n_targets) or None
            Values of the property: bool, float64, or object where some are neither numbers nor missing. A missing
            number is NaN. A DataFrame if `target` is a sequence, None if it is None.
        frame : pandas.DataFrame or None
            With ``as_frame=True``, the columns ``"structure"`` and the targets.
        target_names : list of str
            Names of the targets.
        unit : str, list or None
            Unit of the target as the databases state it, None where they state none; a list if `target` is a sequence.
        ids : ndarray of shape (n_crystals,), dtype object
            Ids, unique within a database.
        providers : ndarray of shape (n_crystals,), dtype object
            Base address of the database that each crystal is from.
        report : pandas.DataFrame
            Columns ``id``, ``provider`` (base address) and ``reason``: each record that is no crystal that this package
            can use, such as disordered ones, those without sites, and those not periodic in three dimensions.
        databases : pandas.DataFrame
            A row for each database, with ``provider`` (as asked for), ``url``, ``n_crystals``, ``n_reported``,
            ``n_available`` (records that match, if it says so), ``complete`` (whether that is all that matches),
            ``error`` (None if there was none) and ``warnings`` (what the server remarked).
        filter : str
            The filter.
        DESCR : str
            Summary.

    Raises
    ------
    ImportError
        When the client is not installed.
    ValueError
        When a parameter makes no sense.
    DatasetError
        When the filter is not in OPTIMADE's language, a provider is not known, no database could be read, two
        databases state different units for a target, or the folder `resume` cannot be read or written.

    Warns
    -----
    UserWarning
        When a database failed, but not all; when no crystal has a value of a target.
    SkippedStructureWarning
        With ``return_X_y=True``, when records cannot be used.

    See Also
    --------
    read_optimade_parquet : Files with the same fields.

    References
    ----------
    Evans, M. L. et al. optimade-python-tools: a Python library for serving and consuming materials data via OPTIMADE
    APIs. Journal of Open Source Software 6, 3458 (2021). doi:10.21105/joss.03458

    Andersen, C. W. et al. OPTIMADE, an API for exchanging materials data. Scientific Data 8, 217 (2021).
    doi:10.1038/s41597-021-00974-z

    Examples
    --------
    >>> from crystalssl.datasets import fetch_optimade
    >>> silica = fetch_optimade(  # doctest: +SKIP
    ...     'chemical_formula_reduced = "O2Si"', ["mp", "oqmd"], limit=50, resume="silica"
    ... )
    >>> silica.data[0].reduced_formula, silica.databases[["url", "n_crystals", "error"]]  # doctest: +SKIP

    What is no filter is refused before any database is asked:

    >>> fetch_optimade("nelements equals 2", "mp")
    Traceback (most recent call last):
        ...
    crystalssl.exceptions.DatasetError: 'nelements equals 2' is not an OPTIMADE filter: ...
    """
    targets = (target,) if isinstance(target, str) else tuple(dict.fromkeys(target or ()))
    _check_parameters(limit, page_size, timeout, n_retries, on_error)
    if return_X_y and not targets:
        raise ValueError("return_X_y=True needs a target, such as target='_oqmd_band_gap'.")
    _check_filter(filter)
    bar = _Progress(limit, verbose)
    query = Query(
        filter=filter,
        targets=targets,
        limit=limit,
        page_size=page_size,
        timeout=timeout,
        session=session_type(n_retries),
        folder=None if resume is None else Path(resume).expanduser(),
        stop=threading.Event(),
        progress=bar.show,
    )
    with bar:
        answers = _read(query, find_databases(providers, query.session()), on_error)
    _check_answers(answers, resume)
    report = report_of(answers)
    for name in targets:
        if all(values[name] is None for answer in answers for values in answer.values):
            warnings.warn(f"None of the crystals has a value of {name!r}.", stacklevel=2)
    if return_X_y and len(report):
        warnings.warn(
            f"{len(report)} records cannot be used, the first, {report.id[0]} of {report.provider[0]}, because: "
            f"{report.reason[0]}. Without return_X_y, all are in `report`.",
            SkippedStructureWarning,
            stacklevel=2,
        )
    return make_bunch(
        [structure for answer in answers for structure in answer.structures],
        targets_of(answers, target, targets),
        target if isinstance(target, str) else list(targets),
        return_X_y=return_X_y,
        as_frame=as_frame,
        unit=units_of(answers, target, targets),
        ids=objects([name for answer in answers for name in answer.ids]),
        providers=objects([answer.url for answer in answers for _ in answer.ids]),
        report=report,
        databases=table_of(answers),
        filter=filter,
        DESCR=describe(filter, answers),
    )


def _check_parameters(limit: Any, page_size: Any, timeout: Any, n_retries: Any, on_error: Any) -> None:
    if on_error not in ("report", "raise"):
        raise ValueError(f"on_error must be 'report' or 'raise', not {on_error!r}.{did_you_mean(on_error, ['report'])}")
    for name, value in (("limit", limit), ("page_size", page_size)):
        if value is not None and not _is_number(value, int, 1):
            raise ValueError(f"{name} must be a positive integer or None, not {value!r}.")
    if not _is_number(n_retries, int, 0):
        raise ValueError(f"n_retries must be an integer that is not negative, not {n_retries!r}.")
    if not _is_number(timeout, (int, float), 1e-3):
        raise ValueError(f"timeout must be a positive number of seconds, not {timeout!r}.")


def _is_number(value: Any, kind: Any, least: float) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and value >= least


def _check_filter(filter: str) -> None:
    """Refuse what no server would understand; also where a missing client is noticed."""
    try:
        import optimade.client  # noqa: F401  # asks for its own extra, which the parser alone would not
        from optimade.exceptions import BadRequest
        from optimade.filterparser import LarkParser
    except ImportError as error:
        raise ImportError(
            "Asking OPTIMADE databases needs the client of optimade: pip install 'crystalssl[optimade]'"
        ) from error
    if filter:
        try:
            LarkParser().parse(filter)
        except BadRequest as error:
            raise DatasetError(
                f"{filter!r} is not an OPTIMADE filter: {' '.join(error.detail.split())} "
                "See https://github.com/Materials-Consortia/OPTIMADE for the language."
            ) from error


def _read(query: Query, asked: list[Answer], on_error: str) -> list[Answer]:
    """Ask the databases: the servers at the same time, the databases of a server one after the other."""
    servers: dict[str, list[Answer]] = {}
    for answer in asked:
        if answer.url is not None:
            servers.setdefault(urlsplit(answer.url).netloc, []).append(answer)
    answers = {answer.url: answer for answer in asked}
    pool = ThreadPoolExecutor(N_HOSTS)
    try:
        _raise_first(asked, on_error)
        for future in as_completed([pool.submit(_read_server, query, group) for group in servers.values()]):
            _raise_first(future.result(), on_error)
            answers.update((answer.url, answer) for answer in future.result())
    finally:
        # After an error or Ctrl-C: nothing waits for pages that are still under way.
        query.stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
    return [answer if answer.url is None else answers[answer.url] for answer in asked]


def _read_server(query: Query, group: list[Answer]) -> list[Answer]:
    return [query.read(answer.provider, answer.url) for answer in group if answer.url is not None]


def _raise_first(answers: Iterable[Answer], on_error: str) -> None:
    failed = next((answer for answer in answers if answer.error), None)
    if failed and on_error == "raise":
        raise DatasetError(f"{failed.url or failed.provider} could not be read: {failed.error}")


def _check_answers(answers: list[Answer], resume: Any) -> None:
    """Raise if all databases failed, warn if some did."""
    failed = [answer for answer in answers if answer.error]
    lines = [f"{answer.url or answer.provider}: {answer.error}" for answer in failed]
    n_records = sum(answer.n_records for answer in failed)
    if failed and len(failed) == len(answers):
        kept = f"are kept in {resume}: the same call goes on from there" if resume else "are lost; resume= keeps them"
        raise DatasetError(
            "No database could be read to the end:\n"
            + "\n".join(f"- {line}" for line in lines)
            + (f"\nThe {n_records} records that came {kept}." if n_records else "")
        )
    if failed:
        warnings.warn(
            f"{len(failed)} of {len(answers)} databases could not be read to the end (see `databases`), the first: "
            f"{lines[0]}",
            stacklevel=3,
        )


class _Progress:
    """A bar on stderr that counts records, once it takes more than three seconds."""

    def __init__(self, limit: int | None, verbose: int):
        from tqdm import tqdm

        self._limit, self._lock = limit, threading.Lock()
        self._counts: dict[str | None, tuple[int, int | None]] = {}
        self._bar = tqdm(desc="OPTIMADE", unit=" records", delay=_BAR_AFTER, disable=verbose < 1)

    def show(self, answer: Answer) -> None:
        """Count what came; called from several threads."""
        expected = answer.available if self._limit is None else min(answer.available or self._limit, self._limit)
        with self._lock:
            self._counts[answer.url] = (answer.n_records, expected)
            totals = [expected for _, expected in self._counts.values() if expected is not None]
            self._bar.total = sum(totals) or None
            self._bar.update(sum(count for count, _ in self._counts.values()) - self._bar.n)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()
