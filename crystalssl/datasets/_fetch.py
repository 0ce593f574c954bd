"""Matbench v0.1 and matminer data sets of crystals, in the manner of scikit-learn's ``fetch_*``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl._signatures import takes_what
from crystalssl.datasets._bunch import make_bunch
from crystalssl.datasets._files import read_verified
from crystalssl.datasets._registry import DatasetEntry, check_name, load_registry
from crystalssl.datasets._split_json import read_split_json
from crystalssl.exceptions import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from sklearn.utils import Bunch

_MATBENCH_DOI = "10.1038/s41524-020-00406-3"
_MATMINER_DOI = "10.1016/j.commatsci.2018.05.018"


def fetch_matbench(
    name: str,
    *,
    data_home: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    as_frame: bool = False,
    download_if_missing: bool = True,
    n_retries: int = 3,
    verbose: int = 0,
) -> Bunch | tuple[Any, Any]:
    """Load a structure task of Matbench v0.1, downloading it when it is not there yet.

    The file is read only when its sha256 is the published one. A file that is already in `data_home` is used without
    any network, and is never changed.

    Parameters
    ----------
    name : {"matbench_dielectric", "matbench_jdft2d", "matbench_phonons", "matbench_log_gvrh", "matbench_log_kvrh", \
            "matbench_perovskites", "matbench_mp_gap", "matbench_mp_e_form", "matbench_mp_is_metal"}
        The task.
    data_home : path-like or None, default=None
        Folder that holds the file or gets it; may be read-only when the file is there. None takes the environment
        variable ``CRYSTALSSL_DATA`` where it is set, else ``~/crystalssl_data``.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Whether data and target are pandas Series.
    download_if_missing : bool, default=True
        Whether to use the network when the file is missing; otherwise that is an error.
    n_retries : int, default=3
        How many more times a failed download is tried.
    verbose : int, default=0
        Above 0, a progress bar is shown during download (needs tqdm).

    Returns
    -------
    sklearn.utils.Bunch or tuple
        With ``return_X_y=True``, ``(data, target)``. Else a Bunch with

        data : list of pymatgen.core.Structure
            The crystals, in file order; a Series with ``as_frame=True``. Lengths are in Å.
        target : ndarray of shape (n_crystals,)
            The property, float64; bool for ``"matbench_mp_is_metal"``; a Series with ``as_frame=True``.
        frame : pandas.DataFrame or None
            With ``as_frame=True``, the columns ``"structure"`` and the target.
        target_names : list of str
            Name of the target's column in the file.
        unit : str
            Unit of the target.
        DESCR : str
            What it is, where it comes from, and which file was used.
        filename : str
            Path of the file used.

    Raises
    ------
    DatasetError
        When the file has another hash, or is missing and could not be downloaded. The message says what to do.

    See Also
    --------
    matbench_folds : The official folds of a task.

    Notes
    -----
    For ``"matbench_jdft2d"`` a rebuilt copy (``matbench_jdft2d.rebuilt.json.gz``) is accepted as well: the official
    structures and targets in the official order, but other bytes. The official file is preferred where both are
    present; ``filename`` and ``DESCR`` say which was used.

    References
    ----------
    A. Dunn et al., npj Comput. Mater. 6, 138 (2020), doi:10.1038/s41524-020-00406-3.

    Examples
    --------
    >>> from crystalssl.datasets import fetch_matbench
    >>> X, y = fetch_matbench("matbench_phonons", return_X_y=True)  # doctest: +SKIP
    >>> X[0].reduced_formula, y[0]  # doctest: +SKIP
    ('BaTe', 98.58577122703691)
    """
    tasks = [entry.name for entry in load_registry().values() if entry.is_matbench]
    entry = load_registry()[check_name(name, tasks, "Matbench task")]
    return _fetch(entry, data_home, return_X_y, as_frame, download_if_missing, n_retries, verbose)


@takes_what(fetch_matbench)
def fetch_matminer(name: str, **options: Any) -> Bunch | tuple[Any, Any]:
    """Load a matminer data set of crystals, downloading it when it is not there yet.

    Parameters
    ----------
    name : {"dielectric_constant", "jarvis_dft_2d", "boltztrap_mp", "elastic_tensor_2015", "piezoelectric_tensor", \
            "brgoch_superhard_training"}
        The data set. Its target is the column that the crystal learning literature evaluates on.
    data_home, return_X_y, as_frame, download_if_missing, n_retries, verbose
        As in :func:`fetch_matbench`.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        As :func:`fetch_matbench` returns. A value that is missing in the file is NaN in the target.

    References
    ----------
    L. Ward et al., Comput. Mater. Sci. 152, 60 (2018), doi:10.1016/j.commatsci.2018.05.018.

    Examples
    --------
    >>> from crystalssl.datasets import fetch_matminer
    >>> dielectric = fetch_matminer("dielectric_constant")  # doctest: +SKIP
    >>> dielectric.target_names, dielectric.unit, len(dielectric.data)  # doctest: +SKIP
    (['poly_total'], 'dimensionless', 1056)
    """
    sets = [entry.name for entry in load_registry().values() if not entry.is_matbench]
    return _fetch(load_registry()[check_name(name, sets, "matminer data set")], **options)


def _fetch(
    entry: DatasetEntry,
    data_home: str | os.PathLike[str] | None,
    return_X_y: bool,
    as_frame: bool,
    download_if_missing: bool,
    n_retries: int,
    verbose: int,
) -> Bunch | tuple[Any, Any]:
    path, content = read_verified(
        entry, data_home, download_if_missing=download_if_missing, n_retries=n_retries, verbose=verbose
    )
    is_class = entry.unit == "bool"
    from crystalssl.graphs._dicts import structure_from_dict

    converters = {"structure": structure_from_dict, entry.target: _truth if is_class else _number}
    columns = read_split_json(content, converters, str(path))
    structures = columns["structure"]
    if len(structures) != entry.rows:
        raise DatasetError(f"{path} has {len(structures)} rows, but {entry.name} has {entry.rows}.")
    return make_bunch(
        structures,
        np.array(columns[entry.target], dtype=bool if is_class else np.float64),
        entry.target,
        return_X_y=return_X_y,
        as_frame=as_frame,
        unit=entry.unit,
        DESCR=_describe(entry, path),
        filename=str(path),
    )


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _truth(value: Any) -> bool:
    # bool(None) or bool("False") would turn a defect into a label.
    if value not in (False, True):
        raise ValueError(f"expected true or false, found {value!r}")
    return bool(value)


def _describe(entry: DatasetEntry, path: Path) -> str:
    copies = {copy.filename: copy for copy in entry.rebuilt}
    copy = copies.get(path.name)
    kind = "task of Matbench v0.1" if entry.is_matbench else "data set of matminer"
    used = f"not the published file, but a copy {copy.description}" if copy else "the published file, byte for byte"
    return "\n".join(
        [
            f"{entry.name}: {kind}",
            "",
            f"{entry.summary}.",
            "",
            f":Number of crystals: {entry.rows}",
            f":Target: {entry.target} ({entry.unit})",
            f":File: {path}",
            f":Which file: {used} (sha256 {copy.sha256 if copy else entry.sha256})",
            f":Published at: {entry.url} (sha256 {entry.sha256})",
            f":Data: doi:{entry.doi}",
            f":Collection: doi:{_MATBENCH_DOI if entry.is_matbench else _MATMINER_DOI}",
        ]
    )
