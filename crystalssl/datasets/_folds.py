"""The official folds of Matbench v0.1 as a scikit-learn splitter."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import Any

import numpy as np

from crystalssl.datasets._registry import check_name

_N_SPLITS = 5
_SEED = 18012019


@functools.cache
def _published_folds() -> dict[str, dict[str, Any]]:
    return json.loads(files("crystalssl.datasets").joinpath("matbench_folds.json").read_text(encoding="utf-8"))


def _sha256(ids: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


# Not a BaseCrossValidator: scikit-learn asks a splitter for split and get_n_splits only, and importing its
# model_selection takes longer than importing this whole package may.
class MatbenchFolds:
    """The five official folds of a Matbench v0.1 structure task.

    They are ``KFold(5, shuffle=True, random_state=18012019)`` over the rows in file order, stratified for
    ``"matbench_mp_is_metal"``. Every fold is checked against the published hash of its test ids before it is given
    out, so a score on these folds is comparable with the leaderboard or does not exist.

    Parameters
    ----------
    name : str
        The task, such as ``"matbench_phonons"``; see :func:`fetch_matbench`.

    Attributes
    ----------
    n_rows : int
        Number of crystals that the task has.
    stratified : bool
        Whether the folds depend on ``y``.

    See Also
    --------
    fetch_matbench : The structures and targets, in the order that the folds are defined on.

    References
    ----------
    A. Dunn et al., npj Comput. Mater. 6, 138 (2020), doi:10.1038/s41524-020-00406-3.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyRegressor
    >>> from sklearn.model_selection import cross_val_score
    >>> from crystalssl.datasets import MatbenchFolds
    >>> folds = MatbenchFolds("matbench_jdft2d")
    >>> folds
    MatbenchFolds('matbench_jdft2d')
    >>> X = np.zeros((folds.n_rows, 1))
    >>> [len(test) for train, test in folds.split(X)]
    [128, 127, 127, 127, 127]
    >>> cross_val_score(DummyRegressor(), X, np.ones(folds.n_rows), cv=folds, scoring="neg_mean_absolute_error").shape
    (5,)
    """

    def __init__(self, name: str):
        published = _published_folds()
        self.name = check_name(name, published, "Matbench task")
        self.n_rows: int = published[name]["n_rows"]
        self.stratified: bool = published[name]["stratified"]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : object
            Ignored; scikit-learn passes them.

        Returns
        -------
        int
            Always 5.
        """
        return _N_SPLITS

    def split(self, X: Any, y: Any = None, groups: object = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the training and test rows of each fold.

        Parameters
        ----------
        X : sequence of length n_rows
            All crystals of the task, in file order.
        y : array-like of shape (n_rows,) or None, default=None
            The targets; needed for ``"matbench_mp_is_metal"``, otherwise ignored.
        groups : object
            Ignored; scikit-learn passes it.

        Yields
        ------
        train : ndarray of int
            Row numbers to fit on.
        test : ndarray of int
            Row numbers to predict.

        Raises
        ------
        ValueError
            When X has another length, or when a fold differs from the published one.
        """
        from sklearn.model_selection import KFold, StratifiedKFold

        n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
        if n_rows != self.n_rows:
            raise ValueError(
                f"X has {n_rows} items, but the official folds of {self.name} are defined on all {self.n_rows} rows "
                "in file order. Pass the data set as fetch_matbench returns it; for a subset use scikit-learn's KFold."
            )
        if self.stratified and y is None:
            raise ValueError(f"The folds of {self.name} are stratified: pass its targets as y.")
        kind = StratifiedKFold if self.stratified else KFold
        folds = kind(_N_SPLITS, shuffle=True, random_state=_SEED)
        for number, (train, test) in enumerate(folds.split(np.zeros(self.n_rows), y if self.stratified else None)):
            self._check(number, test)
            yield train, test

    def ids(self, rows: Any = None) -> list[str]:
        """Return Matbench's identifiers of rows, as submissions and results files name crystals.

        Parameters
        ----------
        rows : array-like of int or None, default=None
            Row numbers, counted from 0 in file order; None is all rows.

        Returns
        -------
        list of str
            One identifier per row, in the order given: the 1-based row, zero-padded to the width of the last one.

        Raises
        ------
        ValueError
            If something else than a list of row numbers is given, or a row that the task does not have.

        Examples
        --------
        >>> from crystalssl.datasets import matbench_folds
        >>> matbench_folds("matbench_phonons").ids([0, 1264])
        ['mb-phonons-0001', 'mb-phonons-1265']
        """
        rows = np.arange(self.n_rows) if rows is None else np.asarray(rows)
        if rows.ndim != 1 or (rows.size and not np.issubdtype(rows.dtype, np.integer)):
            raise ValueError(f"rows must be a list of row numbers; found {rows.dtype} of shape {rows.shape}.")
        outside = rows[(rows < 0) | (rows >= self.n_rows)]
        if outside.size:
            raise ValueError(f"{self.name} has no row {outside[0]}: its rows are 0 to {self.n_rows - 1}.")
        width = len(str(self.n_rows))
        prefix = "mb-" + self.name.removeprefix("matbench_").replace("_", "-")
        return [f"{prefix}-{row + 1:0{width}d}" for row in rows.tolist()]

    def is_fold(self, number: int, ids: Iterable[str]) -> bool:
        """Return whether identifiers are those of the test crystals of a published fold.

        Parameters
        ----------
        number : int
            The fold, 0 to 4.
        ids : iterable of str
            Identifiers as :meth:`ids` returns them, in any order.

        Returns
        -------
        bool

        Examples
        --------
        >>> import numpy as np
        >>> from crystalssl.datasets import matbench_folds
        >>> folds = matbench_folds("matbench_jdft2d")
        >>> tests = [test for train, test in folds.split(np.zeros(folds.n_rows))]
        >>> folds.is_fold(2, folds.ids(tests[2])), folds.is_fold(2, folds.ids(tests[3]))
        (True, False)
        """
        return _sha256(ids) == _published_folds()[self.name]["sha256"][number]

    def _check(self, number: int, test: np.ndarray) -> None:
        ids = self.ids(test)
        if not self.is_fold(number, ids):
            reason = (
                "y must be the task's own targets, bool and in file order"
                if self.stratified
                else "this version of scikit-learn or numpy shuffles differently; please report it"
            )
            raise ValueError(
                f"Fold {number} of {self.name} is not the published one (sha256 of its sorted test ids is "
                f"{_sha256(ids)}, published is {_published_folds()[self.name]['sha256'][number]}): {reason}."
            )


def matbench_folds(name: str) -> MatbenchFolds:
    """Return the official cross-validation folds of a Matbench v0.1 structure task.

    Parameters
    ----------
    name : str
        The task, such as ``"matbench_phonons"``; see :func:`fetch_matbench`.

    Returns
    -------
    MatbenchFolds
        A splitter for ``cross_val_score(…, cv=matbench_folds(name))`` and everything else that takes ``cv``.

    Examples
    --------
    >>> import numpy as np
    >>> from crystalssl.datasets import matbench_folds
    >>> train, test = next(matbench_folds("matbench_phonons").split(np.zeros(1265)))
    >>> len(train), len(test)
    (1012, 253)
    """
    return MatbenchFolds(name)
