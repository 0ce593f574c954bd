"""Any estimator on the official folds."""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from joblib.parallel import get_active_backend
from sklearn.base import clone, is_classifier
from sklearn.utils import Bunch
from tqdm import tqdm

from crystalssl._suggestions import did_you_mean
from crystalssl._version import __version__
from crystalssl.datasets import fetch_matbench, matbench_folds
from crystalssl.datasets._registry import check_name, load_registry
from crystalssl.exceptions import ResultsError
from crystalssl.matbench._describe import describe, differences
from crystalssl.matbench._files import (
    INFO_NAME,
    N_FOLDS,
    RESULTS_NAME,
    check_free,
    fold_path,
    is_classification,
    read_fold,
    read_folds,
    read_info,
    timestamp,
    write_fold,
    write_info,
    write_submission,
)
from crystalssl.matbench._scores import classification_scores, regression_scores

# Half the width of a 95 % interval of a normal distribution, in standard deviations.
_Z95 = 1.959963984540054
_INFO_KEYS = ("authors", "algorithm", "algorithm_long", "bibtex_refs", "notes", "requirements")


def run(
    estimator: Any,
    tasks: str | Iterable[str] | None = None,
    *,
    out: str | os.PathLike[str],
    folds: int | Iterable[int] | None = None,
    return_std: bool = False,
    info: Mapping[str, Any] | None = None,
    n_jobs: int | None = None,
    data_home: str | os.PathLike[str] | None = None,
    verbose: int = 1,
) -> Bunch:
    """Run an estimator on the official folds of Matbench v0.1, and write the files of a submission.

    A clone is fitted to the training crystals of each fold. What it predicts for the test crystals is written into
    `out` as soon as the fold is done, so that a run that broke off goes on where it was when the call is repeated.
    Another estimator, data set or version is then refused: the five folds of a task are of one model.

    Parameters
    ----------
    estimator : scikit-learn estimator
        Takes a list of pymatgen Structures: one of crystalssl's, or a Pipeline that begins with a featuriser. A
        regressor, or for ``"matbench_mp_is_metal"`` a classifier, whose ``predict_proba`` is recorded where it has one.
        It is not changed. Give it a `random_state`, which is recorded with all its parameters.
    tasks : str, iterable of str or None, default=None
        Names such as ``"matbench_phonons"``; see :func:`crystalssl.datasets.fetch_matbench`. None is all structure
        tasks of the estimator's kind. Others can be added to `out` later, also with another estimator.
    out : path-like
        Folder of the run; made if it is not there.
    folds : int, iterable of int or None, default=None
        Folds to run, of 0 to 4; None is all. A task gets into the submission when it has all five.
    return_std : bool, default=False
        Record the standard deviations of ``predict(X, return_std=True)``, and 95 % intervals of normal distributions
        that have them. For regressors only.
    info : mapping or None, default=None
        What ``info.json`` says, for people: any of ``"authors"``, ``"algorithm"``, ``"algorithm_long"``,
        ``"bibtex_refs"``, ``"notes"``, ``"requirements"``. What is not given stays as it is in the file, or is made
        from the estimator.
    n_jobs : int or None, default=None
        Folds of a task that run at the same time, through joblib or one of its clusters. Set the threads of each by
        ``OMP_NUM_THREADS``; it may change the last bits.
    data_home : path-like or None, default=None
        Folder of the data sets, as in :func:`crystalssl.datasets.fetch_matbench`.
    verbose : int, default=1
        Above 0, a bar and one line per fold on stderr.

    Returns
    -------
    sklearn.utils.Bunch
        folder : pathlib.Path
            `out`.
        scores : pandas.DataFrame
            One row for each finished fold of `tasks`: ``"task"``, ``"fold"``, the scores of Matbench, and
            ``"seconds"`` that fitting and predicting took.
        complete : list of str
            Tasks in ``results.json.gz``: all in `out` that have five folds.
        results : pathlib.Path or None
            ``results.json.gz``; None as long as no task is complete.
        info : pathlib.Path
            ``info.json``.

    Raises
    ------
    ResultsError
        If `out` holds folds of another estimator, data set or version, or files that were changed.
    ValueError
        If an argument or a prediction cannot be recorded.

    See Also
    --------
    compare : Where the results stand among published ones.
    crystalssl.datasets.matbench_folds : The folds, as a splitter for scikit-learn.

    References
    ----------
    A. Dunn et al., npj Comput. Mater. 6, 138 (2020), doi:10.1038/s41524-020-00406-3.

    Examples
    --------
    >>> from crystalssl import CrystalSSLRegressor, matbench
    >>> model = CrystalSSLRegressor(random_state=0)
    >>> run = matbench.run(model, ["matbench_phonons", "matbench_jdft2d"], out="submission")  # doctest: +SKIP
    >>> run.complete, run.results.name  # doctest: +SKIP
    (['matbench_jdft2d', 'matbench_phonons'], 'results.json.gz')
    """
    if not hasattr(estimator, "get_params") or isinstance(estimator, type):
        raise TypeError(f"estimator must be a scikit-learn estimator with fit and predict; found {estimator!r}.")
    tasks = _check_tasks(estimator, tasks)
    numbers = _check_folds(folds)
    if return_std:
        _check_return_std(estimator, tasks)
    folder = Path(out).expanduser()
    check_free(folder)
    _check_info(info)
    key = {**describe(estimator), "return_std": bool(return_std)}
    # Before anything is fitted: a run of days shall not find out at its end, nor that it cannot write.
    done = {task: _finished(folder, task, key) for task in tasks}
    write_info(folder, _complete_info(estimator, info, folder))

    n_left = sum(number not in done[task] for task in tasks for number in numbers)
    with tqdm(
        total=len(tasks) * len(numbers),
        initial=len(tasks) * len(numbers) - n_left,
        desc="Matbench",
        unit="fold",
        file=sys.stderr,
        disable=verbose <= 0,
    ) as bar:
        for task in tasks:
            left = [number for number in numbers if number not in done[task]]
            if left:
                calls = _calls(estimator, task, left, done[task], key, folder, data_home)
                backend, _ = get_active_backend()  # that of ray yields nothing before all is done
                return_as = "generator" if backend.supports_return_generator else "list"
                for line in joblib.Parallel(n_jobs=n_jobs, return_as=return_as)(calls):
                    if verbose > 0:
                        tqdm.write(line, file=sys.stderr)
                    bar.update()
            complete = write_submission(folder, read_info(folder))
    return Bunch(
        folder=folder,
        scores=_scores(folder, tasks),
        complete=complete,
        results=folder / RESULTS_NAME if complete else None,
        info=folder / INFO_NAME,
    )


def _check_tasks(estimator: Any, tasks: str | Iterable[str] | None) -> list[str]:
    known = [entry.name for entry in load_registry().values() if entry.is_matbench]
    classifies = is_classifier(estimator)
    if tasks is None:
        return [task for task in known if is_classification(task) == classifies]
    tasks = [tasks] if isinstance(tasks, str) else list(dict.fromkeys(tasks))
    if not tasks:
        raise ValueError("tasks is empty; None stands for all.")
    for task in tasks:
        check_name(task, known, "Matbench task")
        if is_classification(task) != classifies:
            needed, found = ("classifier", "regressor") if is_classification(task) else ("regressor", "classifier")
            raise ValueError(f"{task} needs a {needed}, but {type(estimator).__name__} is a {found}.")
    return tasks


def _check_folds(folds: int | Iterable[int] | None) -> list[int]:
    if folds is None:
        return list(range(N_FOLDS))
    numbers = np.unique(np.atleast_1d(np.asarray(folds if np.isscalar(folds) else list(folds))))  # type: ignore[arg-type]
    if not numbers.size or numbers.dtype.kind not in "iu" or numbers[0] < 0 or numbers[-1] >= N_FOLDS:
        raise ValueError(f"folds must be numbers from 0 to {N_FOLDS - 1}, or None for all; found {folds!r}.")
    return numbers.tolist()


def _check_return_std(estimator: Any, tasks: list[str]) -> None:
    for task in tasks:
        if is_classification(task):
            raise ValueError(f"return_std=True is for regressors: Matbench records no uncertainties of {task}.")
    last = estimator
    while hasattr(last, "steps"):  # a Pipeline passes the argument on to its last step
        last = last.steps[-1][1]
    parameters = inspect.signature(last.predict).parameters.values() if hasattr(last, "predict") else ()
    if not any(p.name == "return_std" or p.kind is p.VAR_KEYWORD for p in parameters):
        raise ValueError(f"return_std=True needs an estimator with predict(X, return_std=True); {last!r} has none.")


def _check_info(info: Mapping[str, Any] | None) -> None:
    for name in info or ():
        if name not in _INFO_KEYS:
            raise ValueError(f"info has no {name!r}.{did_you_mean(name, _INFO_KEYS)} Known: {', '.join(_INFO_KEYS)}.")


def _finished(folder: Path, task: str, key: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Return the finished folds of a task, or raise if another model made them."""
    found = {}
    for number in range(N_FOLDS):
        fold = read_fold(folder, task, number)
        if fold is not None:
            changes = differences(fold["key"], key)
            if changes:
                raise ResultsError(
                    f"{fold_path(folder, task, number)} is of another estimator or version. Name another folder, or "
                    f"delete this one's folds of {task} to run them again. " + "; ".join(changes[:5])
                )
            found[number] = fold
    return found


def _calls(
    estimator: Any,
    task: str,
    numbers: list[int],
    done: dict[int, dict[str, Any]],
    key: dict[str, Any],
    folder: Path,
    data_home: str | os.PathLike[str] | None,
) -> Any:
    """Yield one delayed call for each fold that is left."""
    bunch: Any = fetch_matbench(task, data_home=data_home)
    file = Path(bunch.filename)
    data = {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    for number, fold in done.items():
        if fold["data"] != data:
            raise ResultsError(
                f"{fold_path(folder, task, number)} was run on {fold['data']['file']} (sha256 "
                f"{fold['data']['sha256']}), but now there is {file} (sha256 {data['sha256']}). Put the old file back, "
                "or name another folder."
            )
    splits = list(matbench_folds(task).split(bunch.data, bunch.target))
    for number in numbers:
        train, test = splits[number]
        yield joblib.delayed(_run_fold)(
            estimator,
            [bunch.data[row] for row in train],
            bunch.target[train],
            [bunch.data[row] for row in test],
            bunch.target[test],
            matbench_folds(task).ids(test),
            {"task": task, "number": number, "key": key, "data": data, "unit": bunch.unit},
            folder,
        )


def _run_fold(
    estimator: Any,
    X_train: list[Any],
    y_train: np.ndarray,
    X_test: list[Any],
    y_test: np.ndarray,
    ids: list[str],
    fold: dict[str, Any],
    folder: Path,
) -> str:
    """Fit, predict, write the fold, and return a line about it. The estimator never gets the test targets."""
    started = time.perf_counter()
    name = f"{fold['task']} fold {fold['number']}"
    try:
        predicted, std = _fit_predict(clone(estimator), X_train, y_train, X_test, fold["key"]["return_std"])
    except Exception as error:
        if sys.version_info >= (3, 11):
            error.add_note(f"in {name}; folds that were finished are kept in {folder}")
        raise
    seconds = time.perf_counter() - started
    classes = is_classification(fold["task"])
    predicted = _check_predictions(predicted, ids, "prediction", classes)
    uncertainty = None
    if std is not None:
        std = _check_predictions(std, ids, "standard deviation", False)
        uncertainty = {
            id: {"ci_lower": mean - _Z95 * deviation, "ci_upper": mean + _Z95 * deviation, "std": deviation}
            for id, mean, deviation in zip(ids, predicted.tolist(), std.tolist(), strict=True)
        }
    scores = classification_scores(y_test, predicted) if classes else regression_scores(y_test, predicted)
    result = {
        "data": dict(zip(ids, predicted.tolist(), strict=True)),
        "uncertainty": uncertainty,
        "parameters": fold["key"],
        "scores": scores,
    }
    write_fold(folder, {**fold, "seconds": seconds, "finished": timestamp(), "result": result})
    shown = f"ROC AUC {scores['rocauc']:.4g}" if classes else f"MAE {scores['mae']:.4g} {fold['unit']}"
    return f"{name}: {shown}, {seconds:.0f} s"


def _fit_predict(
    model: Any, X_train: list[Any], y_train: np.ndarray, X_test: list[Any], return_std: bool
) -> tuple[Any, Any]:
    model.fit(X_train, y_train)
    if return_std:
        return model.predict(X_test, return_std=True)
    if is_classifier(model) and hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(X_test))[:, list(model.classes_).index(True)], None
    return model.predict(X_test), None


def _check_predictions(values: Any, ids: list[str], what: str, classes: bool) -> np.ndarray:
    values = np.asarray(values)
    if values.shape not in ((len(ids),), (len(ids), 1)):
        raise ValueError(f"expected one {what} for each of {len(ids)} test crystals; found the shape {values.shape}.")
    values = values.ravel()
    if classes and values.dtype == bool:
        return values
    values = values.astype(np.float64)
    if classes:
        # A sum in single precision may end a little beyond 1.
        values = np.where(np.abs(values - 0.5) < 0.5 + 1e-6, values.clip(0.0, 1.0), values)
    lowest, highest = (0.0, 1.0) if classes else (0.0 if what == "standard deviation" else -np.inf, np.inf)
    wrong = np.flatnonzero(~np.isfinite(values) | (values < lowest) | (values > highest))
    if wrong.size:
        raise ValueError(f"the {what} of {ids[wrong[0]]} is {values[wrong[0]]}, which Matbench does not take.")
    return values


def _complete_info(estimator: Any, info: Mapping[str, Any] | None, folder: Path) -> dict[str, Any]:
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    versions = {**describe(estimator)["versions"], "crystalssl": __version__}
    made = {
        "authors": "",
        "algorithm": " + ".join(type(step).__name__ for step in steps),
        "algorithm_long": " ".join(repr(estimator).split()),
        "bibtex_refs": [],
        "notes": "",
        "requirements": {"python": [f"{name}=={version}" for name, version in sorted(versions.items())]},
    }
    return {**made, **read_info(folder), **(info or {})}


def _scores(folder: Path, tasks: list[str]) -> Any:
    import pandas as pd

    folds = read_folds(folder)
    return pd.DataFrame(
        {"task": task, "fold": number, **fold["result"]["scores"], "seconds": fold["seconds"]}
        for task in tasks
        for number, fold in folds.get(task, {}).items()
    )
