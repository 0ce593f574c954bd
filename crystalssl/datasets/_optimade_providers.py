"""Where the databases of OPTIMADE's providers are."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from crystalssl._suggestions import did_you_mean
from crystalssl.datasets._optimade_answers import Answer, message_of
from crystalssl.exceptions import DatasetError

__all__ = ["N_HOSTS", "find_databases"]

N_HOSTS = 8
"""Servers that are asked at the same time, each for one page."""

_BY_ADDRESS = "Give the address of a database instead, as in providers=['https://optimade.materialsproject.org']."


def find_databases(providers: str | Sequence[str] | None, session: Any) -> list[Answer]:
    """Return an empty answer for each database, with an error if it could not be found.

    Parameters
    ----------
    providers : str, sequence of str or None
        Addresses of databases and ids of registered providers; None is all of these.
    session : requests.Session
        What sends the requests.
    """
    if isinstance(providers, str):
        providers = [providers]
    if providers is not None and not all(isinstance(name, str) for name in providers):
        raise TypeError(f"providers must be addresses or ids, as text, not {providers!r}.")
    if providers is not None and not len(providers):
        raise ValueError("providers is empty: name a database, or pass None for all registered providers.")
    known = {} if providers is not None and all(map(_is_address, providers)) else _known_providers(session)
    answers: list[Answer] = []
    wanted = list(dict.fromkeys(known if providers is None else providers))
    for name in wanted:
        if not _is_address(name) and name not in known:
            raise DatasetError(
                f"No OPTIMADE provider has the id {name!r}.{did_you_mean(name, known)} Known are {', '.join(known)}; "
                "any other database is named by its address, https://…"
            )
    with ThreadPoolExecutor(N_HOSTS) as pool:
        found = pool.map(
            lambda name: ([_base(name)], None) if _is_address(name) else _databases_of(known[name], session), wanted
        )
        for name, (urls, error) in zip(wanted, found, strict=True):
            if error:
                answers.append(Answer(name, None, error))
            seen = {answer.url for answer in answers}
            answers.extend(Answer(name, url) for url in dict.fromkeys(urls) if url not in seen)
    return answers


def _is_address(provider: str) -> bool:
    return provider.startswith(("http://", "https://"))


def _base(address: str) -> str:
    """Return an address without the version that it may end in, which the client adds itself."""
    base, _, version = address.rstrip("/").rpartition("/")
    return base if version[:1] == "v" and version[1:].replace(".", "").isdigit() else address.rstrip("/")


def _known_providers(session: Any) -> dict[str, dict[str, Any]]:
    """Return the providers that are registered with OPTIMADE, by id."""
    import requests
    from optimade.utils import get_providers

    try:
        providers = {provider["id"]: provider for provider in get_providers(session=session)}
    except requests.RequestException as error:
        raise DatasetError(f"The list of OPTIMADE's providers cannot be read ({error}). {_BY_ADDRESS}") from error
    if not providers:
        raise DatasetError(f"The list of OPTIMADE's providers cannot be reached. {_BY_ADDRESS}")
    return providers


def _databases_of(provider: dict[str, Any], session: Any) -> tuple[list[str], str | None]:
    """Return the base addresses of a provider's databases, or why there are none."""
    import requests
    from optimade.utils import get_child_database_links

    try:
        # It takes the address out of the mapping that it is given.
        links = get_child_database_links(dict(provider), session=session)
    except (RuntimeError, requests.RequestException) as error:
        return [], message_of([str(error)])
    urls = [str(link.attributes.base_url).rstrip("/") for link in links]
    return urls, None if urls else "it lists no databases that may be asked"
