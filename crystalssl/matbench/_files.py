"""The files of a run: one per finished fold, then the two of a submission."""

from __future__ import annotations

import datetime
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

from crystalssl._files import decompress, read_bounded, write_atomically
from crystalssl._version import __version__
from crystalssl.datasets import matbench_folds
from crystalssl.datasets._registry import load_registry
from crystalssl.exceptions import ResultsError

N_FOLDS = 5
RESULTS_NAME = "results.json.gz"
INFO_NAME = "info.json"
_FOLDS_NAME = "folds"
# Of the official package that the layout is of; its reader warns of another.
_VERSION = "0.6"
_BENCHMARK = "matbench_v0.1"
_WRITER = "written_by_crystalssl"
_KEYS = {"@module", "@class", "version", "tasks", "user_metadata", "benchmark_name", "datestamp", "hash"}


def is_classification(task: str) -> bool:
    """Return whether a task's targets are classes.

    Parameters
    ----------
    task : str
        Name of a structure task.

    Returns
    -------
    bool
    """
    return load_registry()[task].unit == "bool"


def timestamp() -> str:
    """Return the time in UTC, as Matbench writes it.

    Returns
    -------
    str
        It sorts as the time does.
    """
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y.%m.%d %H:%M.%S")


def fold_path(folder: Path, task: str, number: int) -> Path:
    """Return where a finished fold of a task, number 0 to 4, is kept in the folder of a run."""
    return folder / _FOLDS_NAME / task / f"fold_{number}.json"


def write_fold(folder: Path, fold: dict[str, Any]) -> None:
    """Write a finished fold, in one piece or not at all.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the run.
    fold : dict
        ``"task"``, ``"number"``, ``"result"`` as Matbench records it, and what the run says of itself.
    """
    text = _json(fold)
    content = _json({"fold": fold, "sha256": _sha256(text)})
    write_whole(fold_path(folder, fold["task"], fold["number"]), content.encode())


def read_fold(folder: Path, task: str, number: int) -> dict[str, Any] | None:
    """Read a finished fold and check that nobody has changed it.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the run.
    task : str
        Name of the task.
    number : int
        The fold, 0 to 4.

    Returns
    -------
    dict or None
        What :func:`write_fold` was given; None if the fold is not finished.
    """
    path = fold_path(folder, task, number)
    if not path.exists():
        return None
    content = _load(path)
    try:
        fold = content["fold"]
        intact = content["sha256"] == _sha256(_json(fold)) and (fold["task"], fold["number"]) == (task, number)
        intact = intact and matbench_folds(task).is_fold(number, fold["result"]["data"])
    except (KeyError, TypeError) as error:
        raise ResultsError(
            f"{path} is no fold that crystalssl has written; delete it to run the fold again."
        ) from error
    if not intact:
        raise ResultsError(f"{path} was changed after it was written; delete it to run the fold again.")
    return fold


def read_folds(folder: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """Read all finished folds of a run.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the run.

    Returns
    -------
    dict
        By task and number, in the order of the registry; tasks without a finished fold are left out.
    """
    tasks = [entry.name for entry in load_registry().values() if entry.is_matbench]
    found = {task: {n: read_fold(folder, task, n) for n in range(N_FOLDS)} for task in tasks}
    return {
        task: done
        for task, folds in found.items()
        if (done := {n: fold for n, fold in folds.items() if fold is not None})
    }


def check_free(folder: Path) -> None:
    """Raise if a folder holds results of others, which a run would overwrite.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of a run that is about to begin.
    """
    path = folder / RESULTS_NAME
    if path.exists() and _WRITER not in read_submission(path)["user_metadata"]:
        raise ResultsError(f"{path} was not written by crystalssl; name another folder.")


def write_submission(folder: Path, metadata: dict[str, Any]) -> list[str]:
    """Write the results of all tasks with five finished folds, as the official package's ``to_file`` does.

    The same folds give the same bytes: the time in the file is that of the last one.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the run.
    metadata : dict
        Free text about the run.

    Returns
    -------
    list of str
        The tasks written; if there is none, there is no file.
    """
    complete = {task: folds for task, folds in read_folds(folder).items() if len(folds) == N_FOLDS}
    if not complete:
        (folder / RESULTS_NAME).unlink(missing_ok=True)  # of folds that somebody has deleted
        return []
    document = {
        "@module": "matbench.bench",
        "@class": "MatbenchBenchmark",
        "version": _VERSION,
        "benchmark_name": _BENCHMARK,
        "datestamp": max(fold["finished"] for folds in complete.values() for fold in folds.values()),
        "user_metadata": {**metadata, _WRITER: __version__},
        "tasks": {
            task: {
                "@module": "matbench.task",
                "@class": "MatbenchTask",
                "benchmark_name": _BENCHMARK,
                "dataset_name": task,
                "results": {f"fold_{number}": fold["result"] for number, fold in sorted(folds.items())},
            }
            for task, folds in complete.items()
        },
    }
    # The official reader makes the same text of what it has read, and compares the hashes.
    document["hash"] = _sha256(_json(document))
    # mtime=0: the time of day is no part of the results.
    write_whole(folder / RESULTS_NAME, gzip.compress(_json(document).encode(), mtime=0))
    return list(complete)


def read_submission(path: Path) -> dict[str, Any]:
    """Read results in the layout of Matbench v0.1, ours or anyone's, and check them as the official reader does.

    Parameters
    ----------
    path : pathlib.Path
        ``results.json.gz``, or the same unpacked.

    Returns
    -------
    dict
        The whole document.

    Raises
    ------
    ResultsError
        If it is something else, was changed after it was written, or has other folds than the published ones.
    """
    document = _load(path)
    if not isinstance(document, dict) or set(document) != _KEYS or document["benchmark_name"] != _BENCHMARK:
        raise ResultsError(f"{path} does not hold results of {_BENCHMARK}.")
    rest = {key: value for key, value in document.items() if key != "hash"}
    if document["hash"] != _sha256(_json(rest)):
        raise ResultsError(f"{path} was changed after it was written: its content has another hash than it says.")
    for task in {*document["tasks"]} & {*load_registry()}:  # not those on compositions, whose folds are not known here
        for number in range(N_FOLDS):
            try:
                ids = document["tasks"][task]["results"][f"fold_{number}"]["data"]
            except (KeyError, TypeError) as error:
                raise ResultsError(f"{path} lacks fold_{number} of {task}.") from error
            if not matbench_folds(task).is_fold(number, ids):
                raise ResultsError(f"{path}: fold_{number} of {task} does not have the test crystals of that fold.")
    return document


def read_info(folder: Path) -> dict[str, Any]:
    """Read what a submission says of itself.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the run or submission.

    Returns
    -------
    dict
        Empty if there is no ``info.json``.
    """
    path = folder / INFO_NAME
    if not path.exists():
        return {}
    info = _load(path)
    if not isinstance(info, dict):
        raise ResultsError(f"{path} must hold an object with names such as 'algorithm'.")
    return info


def write_info(folder: Path, info: dict[str, Any]) -> None:
    """Write what a submission says of itself, if it is not there already.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the run.
    info : dict
        What shall be in the file.
    """
    if info != read_info(folder):
        write_whole(folder / INFO_NAME, (json.dumps(info, indent=2, ensure_ascii=False) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one piece: whoever reads it sees the old content or the new.

    Parameters
    ----------
    path : pathlib.Path
        Folders above it are made.
    content : bytes
        What it shall hold.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ResultsError(f"{path} could not be written: {error}.") from error


def _load(path: Path) -> Any:
    try:
        content = read_bounded(path, "dataset_bytes")
        return json.loads(decompress(content) if content.startswith(b"\x1f\x8b") else content)
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read: {error}.") from error


def _json(value: Any) -> str:
    """Return the text that Matbench hashes: keys are sorted in objects of objects, but not in objects of arrays."""
    return json.dumps(_sorted(value))


def _sorted(value: Any) -> Any:
    return {key: _sorted(value[key]) for key in sorted(value)} if isinstance(value, dict) else value


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
