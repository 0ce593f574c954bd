"""Where data set files lie, how they are downloaded, and how they are checked before anything is read from them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from crystalssl import _files
from crystalssl.exceptions import DatasetError

if TYPE_CHECKING:
    from crystalssl.datasets._registry import DatasetEntry


def get_data_home(data_home: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder that data sets are read from and downloaded to.

    Unlike scikit-learn's function of the same name, it creates nothing: the folder may be read-only, and is made by
    the first download.

    Parameters
    ----------
    data_home : path-like or None, default=None
        The folder. None takes the environment variable ``CRYSTALSSL_DATA`` where it is set, else
        ``~/crystalssl_data``. ``~`` is expanded.

    Returns
    -------
    pathlib.Path
        Absolute path, which need not exist.

    Examples
    --------
    >>> from crystalssl.datasets import get_data_home
    >>> get_data_home("~/crystals").name
    'crystals'
    """
    if data_home is None:
        # An empty variable is how shells unset one in practice, so it counts as unset.
        data_home = os.environ.get("CRYSTALSSL_DATA") or "~/crystalssl_data"
    try:
        return Path(data_home).expanduser().absolute()
    except RuntimeError as error:  # ~ of a user that there is not
        raise DatasetError(f"the data home {os.fspath(data_home)!r} cannot be found: {error}") from error


def read_verified(
    entry: DatasetEntry,
    data_home: str | os.PathLike[str] | None = None,
    *,
    download_if_missing: bool = True,
    n_retries: int = 3,
    verbose: int = 0,
) -> tuple[Path, bytes]:
    """Read a data set file after checking its sha256, downloading it first when it is nowhere in the data home.

    The published file is preferred over rebuilt copies. A file that is already there is never changed.

    Parameters
    ----------
    entry : DatasetEntry
        The data set.
    data_home : path-like or None, default=None
        See :func:`get_data_home`.
    download_if_missing : bool, default=True
        Whether to use the network when the file is missing.
    n_retries : int, default=3
        How many more times a failed download is tried.
    verbose : int, default=0
        Above 0, a progress bar is shown during download.

    Returns
    -------
    path : pathlib.Path
        The file used.
    content : bytes
        Its content, still compressed.
    """
    home = get_data_home(data_home)
    for filename, sha256 in [(entry.filename, entry.sha256), *((copy.filename, copy.sha256) for copy in entry.rebuilt)]:
        path = home / filename
        content = _read_checked(path, sha256, entry)
        if content is not None:
            return path, content
    path = home / entry.filename
    if not download_if_missing:
        raise DatasetError(f"{entry.name} is not in {home} and download_if_missing is False. {_by_hand(entry, path)}")
    return path, _download(entry, path, n_retries, verbose)


def _read_checked(path: Path, sha256: str, entry: DatasetEntry) -> bytes | None:
    """Return the content of a file with a hash, or None if there is no file."""
    try:
        with _files.open_regular(path, "dataset_bytes") as file:
            found = _files.sha256_of(file)
            content = file.read() if found == sha256 else b""  # what is refused costs no memory
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DatasetError(
            f"{path} (data set {entry.name}) cannot be read: {error}. Remove it, or let data_home name another folder."
        ) from error
    if found != sha256:
        raise DatasetError(
            f"{path} is not the known file of {entry.name}: expected sha256 {sha256}, found {found}. "
            "It may be truncated, or another version. It was left as it is: delete or rename it, then download "
            f"{entry.url} to {path.parent / entry.filename} (or call again with a network, which does so)."
        )
    return content


def _download(entry: DatasetEntry, path: Path, n_retries: int, verbose: int) -> bytes:
    import pooch

    try:
        with _files.staging(path) as staged:
            source = pooch.create(
                path=staged / "new",
                base_url="",
                registry={path.name: f"sha256:{entry.sha256}"},
                urls={path.name: entry.url},
                retry_if_failed=n_retries,
            )
            content = Path(source.fetch(path.name, progressbar=verbose > 0)).read_bytes()
            # A file of its own: pooch's could be read by this user only, whatever the umask says.
            _files.write_atomically(path, content)
            return content
    # requests' errors are OSErrors, as is a folder that cannot be written; pooch raises ValueError for a wrong hash.
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{entry.name} could not be downloaded from {entry.url} to {path.parent} "
            f"({type(error).__name__}: {error}). {_by_hand(entry, path)}"
        ) from error


def _by_hand(entry: DatasetEntry, path: Path) -> str:
    return (
        f"To do it by hand, download {entry.url} and save it as {path} (sha256 {entry.sha256}); or let data_home, or "
        f"the environment variable CRYSTALSSL_DATA, name a folder that holds {entry.filename}."
    )
