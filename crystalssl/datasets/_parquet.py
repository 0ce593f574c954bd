"""Reader of Parquet files of crystals whose columns carry the OPTIMADE names."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from crystalssl import _files
from crystalssl.exceptions import DatasetError

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from sklearn.utils import Bunch

    from crystalssl.graphs._arrays import CrystalArrays

_ID = "immutable_id"
_FORMULA = "chemical_formula_reduced"
_BESIDE = (_ID, _FORMULA)


def read_optimade_parquet(path: str | os.PathLike[str], *, columns: Sequence[str] | None = None) -> Bunch:
    """Read crystals and their labels from a Parquet file with OPTIMADE column names.

    Parameters
    ----------
    path : path-like
        A file with one crystal per row and the columns ``immutable_id``, ``lattice_vectors`` (3 × 3, Å),
        ``species_at_sites`` (n element symbols), ``cartesian_site_positions`` (n × 3, Å),
        ``chemical_formula_reduced``, and any number of label columns.
    columns : sequence of str or None, default=None
        The label columns to read. None reads all columns that are not part of the layout.

    Returns
    -------
    sklearn.utils.Bunch
        With

        data : list of pymatgen.core.Structure
            The crystals, in file order; coordinates are float64 whatever the file holds.
        target : pandas.DataFrame of shape (n_crystals, n_labels)
            The label columns with the file's types; a missing number is NaN.
        target_names : list of str
            Names of the label columns.
        ids : ndarray of shape (n_crystals,), dtype object
            The ``immutable_id`` column.
        formulas : ndarray of shape (n_crystals,), dtype object
            The ``chemical_formula_reduced`` column.
        DESCR : str
            Summary.
        filename : str
            The path.

    Raises
    ------
    ImportError
        When pyarrow is not installed.
    DatasetError
        When the file is missing, is not Parquet, lacks a column, or has a row that is not a crystal; the message names
        the row, counted from 0.

    References
    ----------
    Andersen, C. W. et al. OPTIMADE, an API for exchanging materials data. Scientific Data 8, 217 (2021).
    doi:10.1038/s41597-021-00974-z

    Examples
    --------
    >>> import tempfile, pyarrow, pyarrow.parquet
    >>> from crystalssl.datasets import read_optimade_parquet
    >>> polonium = {
    ...     "immutable_id": ["po"],
    ...     "lattice_vectors": [[[3.35, 0, 0], [0, 3.35, 0], [0, 0, 3.35]]],
    ...     "species_at_sites": [["Po"]],
    ...     "cartesian_site_positions": [[[0.0, 0.0, 0.0]]],
    ...     "chemical_formula_reduced": ["Po"],
    ...     "band_gap": [0.0],
    ... }
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pyarrow.parquet.write_table(pyarrow.table(polonium), f"{folder}/polonium.parquet")
    ...     crystals = read_optimade_parquet(f"{folder}/polonium.parquet")
    >>> crystals.data[0].formula, crystals.target_names, crystals.ids.tolist()
    ('Po1', ['band_gap'], ['po'])
    """
    from crystalssl.graphs._arrays import CrystalArrays
    from crystalssl.graphs._structures import plain_structure

    table, labels, crystals = _read_table(path, columns)
    structures = [
        plain_structure(None, crystal) if isinstance(crystal, CrystalArrays) else crystal for crystal in crystals
    ]

    from sklearn.utils import Bunch

    return Bunch(
        data=structures,
        target=table.select(labels).to_pandas(),
        target_names=labels,
        ids=table[_ID].to_numpy(),
        formulas=table[_FORMULA].to_numpy(),
        DESCR=f"{len(structures)} crystals read from {path}; labels: {', '.join(labels) or 'none'}.",
        filename=str(path),
    )


def _read_table(
    path: str | os.PathLike[str], columns: Sequence[str] | None
) -> tuple[Any, list[str], list[CrystalArrays | Structure]]:
    """Return what stands beside the crystals, which of it are labels, and the crystals."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("Reading Parquet files needs pyarrow: pip install crystalssl[parquet]") from error

    from crystalssl._optimade import FIELDS, LAYOUT
    from crystalssl.io._arrow import announced, crystals_of
    from crystalssl.io._rows import Unusable

    tables: list[Any] = []
    crystals: list[Any] = []
    try:
        with _files.open_regular(path) as raw, parquet.ParquetFile(raw) as file:
            _files.check_expansion(os.fstat(raw.fileno()).st_size, announced(file.metadata))
            labels = _choose_labels(file.schema_arrow.names, columns, (*_BESIDE, *LAYOUT), path)
            fields = [name for name in FIELDS if name in file.schema_arrow.names]
            names = list(dict.fromkeys([*_BESIDE, *fields, *labels]))
            # Group by group, since pyarrow cannot read some nested columns across row groups in one go.
            groups = (file.read_row_group(number, columns=names) for number in range(file.num_row_groups))
            for table in itertools.chain(groups, [] if file.num_row_groups else [file.read(columns=names)]):
                table.validate(full=True)  # else text that is no UTF-8 and wrong list lengths are met later, or never
                found = crystals_of(table)
                for row, crystal in enumerate(found, len(crystals)):
                    if isinstance(crystal, Unusable):
                        name = table[_ID][row - len(crystals)].as_py()
                        raise DatasetError(f"{path}, row {row} ({_ID} {name!r}): {crystal}.")
                crystals += found
                tables.append(table.select([*_BESIDE, *labels]))
            return pyarrow.concat_tables(tables), labels, crystals
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(f"There is no file {path}.") from error
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as a Parquet file ({error}).") from error


def _choose_labels(
    names: list[str], columns: Sequence[str] | None, layout: Sequence[str], path: str | os.PathLike[str]
) -> list[str]:
    for name in layout:
        if name not in names:
            raise DatasetError(f"{path} has no column {name!r}; its columns are {', '.join(names)}.")
    available = [name for name in names if name not in layout]
    if columns is None:
        return available
    if isinstance(columns, str):
        raise TypeError(f"columns must be a list of names: write columns=[{columns!r}].")
    for name in columns:
        if name not in available:
            known = ", ".join(available) or "none"
            raise DatasetError(f"{path} has no label column {name!r}; its label columns are {known}.")
    return list(columns)
