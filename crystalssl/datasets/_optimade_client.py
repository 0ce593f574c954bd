"""Pages of structures out of OPTIMADE databases: optimade's own client, held to limits, with pages kept on disk."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from crystalssl._optimade import FIELDS, structure_from_record
from crystalssl._suggestions import did_you_mean
from crystalssl._version import __version__
from crystalssl.datasets._optimade_answers import Answer, message_of
from crystalssl.datasets._optimade_pages import PageStore
from crystalssl.exceptions import InvalidStructureError

__all__ = ["Query", "session_type"]

_LONGEST_WAIT = 60.0  # seconds between requests, whatever a server asks for


@dataclass(frozen=True)
class Query:
    """What is asked of every database, and how.

    Parameters
    ----------
    filter : str
        OPTIMADE filter.
    targets : tuple of str
        Properties wanted with each structure.
    limit : int or None
        Most records that are read from a database.
    page_size : int or None
        Records per request; None leaves it to the server.
    timeout : float
        Seconds to wait for a connection, and for each part of an answer.
    session : type
        The subclass of ``requests.Session`` that sends the requests.
    folder : pathlib.Path or None
        Where pages are kept.
    stop : threading.Event
        Once set, nothing more is asked.
    progress : callable
        Called with the answer after each of its pages.
    """

    filter: str
    targets: tuple[str, ...]
    limit: int | None
    page_size: int | None
    timeout: float
    session: type
    folder: Path | None
    stop: threading.Event
    progress: Callable[[Answer], None]

    def read(self, provider: str, url: str) -> Answer:
        """Read the database at a base address, as far as that works."""
        return _Reading(self, Answer(provider, url), url).run()


class _BadAnswerError(Exception):
    """A database answered with something that cannot be used."""


class _Reading:
    """The state of one query to one database."""

    def __init__(self, query: Query, answer: Answer, url: str):
        self.query, self.answer, self.url = query, answer, url
        self.store = None if query.folder is None else PageStore(query.folder, url, query.filter, query.targets)
        self.known: set[str] = set()  # ids of the records so far
        self.links: set[str] = set()  # pages asked for so far
        self.next: str | None = None
        self.cut = False  # whether records beyond the limit were left aside
        self.fault: Exception | None = None

    def run(self) -> Answer:
        from optimade.client import OptimadeClient

        client = OptimadeClient(
            base_urls=[self.url],
            http_timeout=self.query.timeout,
            http_client=self.query.session,
            use_async=False,  # so that it works where an event loop runs, as in Jupyter
            silent=True,
        )
        # Even a silent client of optimade 1.5 with rich prints its errors; they are told of by our caller.
        client._progress.console.quiet = True
        client.headers = {"User-Agent": f"crystalssl/{__version__} {client.headers['User-Agent']}"}
        if self._take_units(client):
            started = self._take_stored_pages()
            if not started or (self.next and not self._is_full()):
                self._ask(client)
            self.answer.complete = self.answer.error is None and self.next is None and not self.cut
        return self.answer

    def _ask(self, client: Any) -> None:
        """Take the pages that are still to come."""
        # The client compares numbers with it, so that it must be one; it counts from where this call starts.
        client.max_results_per_provider = (self.query.limit or sys.maxsize) - self.answer.n_records
        client.callbacks = [self._take_page]
        page_limit = self.query.page_size
        if page_limit is not None and self.query.limit is not None:
            page_limit = min(page_limit, self.query.limit)
        result = client.get_one(
            "structures",
            quote(self.query.filter),
            self.url,
            response_fields=list(dict.fromkeys((*FIELDS, *self.query.targets))),
            page_limit=page_limit,
            override_url=self.next,
        )[self.url]
        # The client turns every exception into text, ours as well.
        if self.fault is not None and not isinstance(self.fault, _BadAnswerError):
            raise self.fault
        self.answer.error = message_of(self.fault or result.errors)

    def _take_units(self, client: Any) -> bool:
        """Find out the targets' units; False if the database cannot be asked, or has none of the targets."""
        answer, targets = self.answer, self.query.targets
        if not targets:
            return True
        stored = self.store.read_units() if self.store else None
        if stored is None:
            result = client.get_one("info/structures", "", self.url)[self.url]
            known = result.data.get("properties") if isinstance(result.data, dict) else None
            if result.errors or not isinstance(known, dict):
                answer.error = message_of(result.errors) or "its /info/structures does not list properties"
                return False
            stored = {name: _unit(known[name]) for name in targets if name in known}
            missing = [f"no property {name!r}.{did_you_mean(name, known)}" for name in targets if name not in known]
            if not stored:
                answer.error = f"it has {' '.join(missing)}"
                return False
            if self.store and not missing:
                self.store.write_units(stored)
            answer.warnings.extend(missing)
        answer.units = stored
        return True

    def _take_stored_pages(self) -> bool:
        """Take what an earlier call kept; False if there is nothing."""
        started = False
        for page in self.store.pages() if self.store else ():
            started = True
            self._take_records(page["data"])
            self.links.add(page["url"])
            self.next, self.answer.available = page["next"], page["available"]
            self.query.progress(self.answer)
        return started

    def _is_full(self) -> bool:
        return self.query.limit is not None and self.answer.n_records >= self.query.limit

    def _take_page(self, url: str, page: dict[str, Any]) -> dict[str, Any]:
        """Take what the client has received from an address; called by it after each page."""
        try:
            return self._checked_page(url, page)
        except Exception as error:
            self.fault = error
            raise

    def _checked_page(self, url: str, page: dict[str, Any]) -> dict[str, Any]:
        if self.query.stop.is_set():
            raise _BadAnswerError("stopped")
        if page["errors"]:
            raise _BadAnswerError(message_of(page["errors"]))
        if not isinstance(page["data"], list):
            raise _BadAnswerError(f"{url} answers without a list of structures")
        # Either may be null, which the client does not expect.
        meta, links = page["meta"], page["links"] = page["meta"] or {}, page["links"] or {}
        if not isinstance(meta, dict) or not isinstance(links, dict):
            raise _BadAnswerError(f"{url} answers with meta or links that are no objects")
        warning = message_of(meta.get("warnings"))
        if warning and warning not in self.answer.warnings:
            self.answer.warnings.append(warning)
        available = meta.get("data_returned")
        self.answer.available = available if isinstance(available, int) else None
        n_new = self._take_records(page["data"])
        self.links.add(url)
        self.next = self._next_link(url, links.get("next"), n_new)
        if self.store:
            self.store.write({"url": url, "next": self.next, "available": self.answer.available, "data": page["data"]})
        self.query.progress(self.answer)
        delay = meta.get("request_delay")
        if self.next and isinstance(delay, int | float) and not self._is_full():
            self.query.stop.wait(min(max(delay, 0), _LONGEST_WAIT))
        return {"next": self.next}

    def _next_link(self, url: str, link: Any, n_new: int) -> str | None:
        if isinstance(link, dict):
            link = link.get("href")
        if not link:
            return None
        try:
            link = urljoin(url, str(link))
            same_host = _host(link) == _host(url)
        except ValueError as error:
            raise _BadAnswerError(f"the page after {url} has no address that makes sense: {link} ({error})") from error
        if not same_host:
            raise _BadAnswerError(f"the page after {url} is said to be on another server, {link}, which was not asked")
        if link in self.links or (n_new == 0 and not self.cut):
            raise _BadAnswerError(f"its pages run in a circle: after {url} comes {link}, and nothing new with it")
        return link

    def _take_records(self, records: list[Any]) -> int:
        """Take records up to the limit; return how many of them had not come before."""
        answer, n_new = self.answer, 0
        for record in records:
            if self._is_full():
                self.cut = True
                break
            if not isinstance(record, dict) or not isinstance(record.get("id"), str):
                answer.reasons.append((None, "the record has no id, or none that is text"))
                continue
            name, attributes = record["id"], record.get("attributes")
            if name in self.known:
                answer.reasons.append((name, "the same id came before"))
                continue
            self.known.add(name)
            n_new += 1
            try:
                if not isinstance(attributes, dict):
                    raise InvalidStructureError("the record has no attributes")
                structure = structure_from_record(attributes)
            except InvalidStructureError as error:
                answer.reasons.append((name, str(error)))
                continue
            answer.structures.append(structure)
            answer.ids.append(name)
            answer.values.append({target: attributes.get(target) for target in self.query.targets})
        return n_new


def session_type(n_retries: int) -> type:
    """Return a ``requests.Session`` that tries again after errors that may pass: lost connections, time-outs, 429, 5xx.

    The client repeats a request after a 429 alone, and without end.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    class PatientRetry(Retry):
        def get_retry_after(self, response: Any) -> float | None:
            asked = super().get_retry_after(response)
            return None if asked is None else min(asked, _LONGEST_WAIT)

    class Session(requests.Session):
        def __init__(self) -> None:
            super().__init__()
            retry = PatientRetry(total=n_retries, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504))
            for scheme in ("http://", "https://"):
                self.mount(scheme, HTTPAdapter(max_retries=retry))

    return Session


def _host(url: str) -> tuple[str | None, int | None]:
    """Return host and port; http and https of one host count as one, since servers behind proxies mix them up."""
    parts = urlsplit(url)
    return parts.hostname, None if parts.port in (80, 443) else parts.port


def _unit(description: Any) -> str | None:
    """Return the unit in the description of a property."""
    unit = description.get("unit") if isinstance(description, dict) else None
    return unit if isinstance(unit, str) else None
