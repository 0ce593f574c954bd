"""Reader of Parquet files of crystals whose columns carry the OPTIMADE names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl import _files
from crystalssl.datasets._optimade_records import crystal_of
from crystalssl.exceptions import DatasetError, InvalidStructureError

if TYPE_CHECKING:
    from sklearn.utils import Bunch

_ID = "immutable_id"
_LATTICE = "lattice_vectors"
_SPECIES = "species_at_sites"
_POSITIONS = "cartesian_site_positions"
_FORMULA = "chemical_formula_reduced"
_LAYOUT = (_ID, _LATTICE, _SPECIES, _POSITIONS, _FORMULA)


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
    table, labels = _read_table(path, columns)
    n_sites, species = _species(table, path)
    lattices = _vectors(table, _LATTICE, np.full(len(n_sites), 3), path)
    positions = _vectors(table, _POSITIONS, n_sites, path)

    ends = np.cumsum(n_sites)
    structures = []
    for row, (vectors, start, end) in enumerate(zip(lattices.reshape(-1, 3, 3), ends - n_sites, ends, strict=True)):
        try:
            structures.append(crystal_of(vectors, positions[start:end], species[start:end]))
        except InvalidStructureError as error:
            raise _bad_row(table, path, row, str(error)) from error

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


def _read_table(path: str | os.PathLike[str], columns: Sequence[str] | None) -> tuple[Any, list[str]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("Reading Parquet files needs pyarrow: pip install crystalssl[parquet]") from error

    try:
        with _files.open_regular(path) as raw, parquet.ParquetFile(raw) as file:
            _files.check_expansion(os.fstat(raw.fileno()).st_size, _announced(file.metadata))
            labels = _choose_labels(file.schema_arrow.names, columns, path)
            names = [*_LAYOUT, *labels]
            # Group by group, since pyarrow cannot read some nested columns across row groups in one go.
            groups = [file.read_row_group(number, columns=names) for number in range(file.num_row_groups)]
            table = pyarrow.concat_tables(groups or [file.read(columns=names)])
            table.validate(full=True)  # else text that is no UTF-8 and wrong list lengths are met later, or never
            return table, labels
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(f"There is no file {path}.") from error
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as a Parquet file ({error}).") from error


def _announced(metadata: Any) -> int:
    """Return how many bytes or values, whichever is more, the columns of a file will have."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    chunks = (group.column(number) for group in groups for number in range(group.num_columns))
    return sum(max(chunk.total_uncompressed_size, chunk.num_values) for chunk in chunks)


def _choose_labels(names: list[str], columns: Sequence[str] | None, path: str | os.PathLike[str]) -> list[str]:
    for name in _LAYOUT:
        if name not in names:
            raise DatasetError(f"{path} has no column {name!r}; its columns are {', '.join(names)}.")
    available = [name for name in names if name not in _LAYOUT]
    if columns is None:
        return available
    if isinstance(columns, str):
        raise TypeError(f"columns must be a list of names: write columns=[{columns!r}].")
    for name in columns:
        if name not in available:
            known = ", ".join(available) or "none"
            raise DatasetError(f"{path} has no label column {name!r}; its label columns are {known}.")
    return list(columns)


def _species(table: Any, path: str | os.PathLike[str]) -> tuple[np.ndarray, list[Any]]:
    """Return the number of sites per row, and the species of all sites end to end."""
    from crystalssl.graphs._dicts import site_species

    n_sites, flat = _flatten(table, _SPECIES, path)
    symbols = flat.to_pylist()
    known = {}
    for symbol in dict.fromkeys(symbols):
        try:
            known[symbol] = site_species(symbol)
        except (ValueError, TypeError) as error:
            row = _row_of(symbols.index(symbol), n_sites)
            raise _bad_row(table, path, row, f"{symbol!r} in {_SPECIES} is not an element symbol") from error
    return n_sites, [known[symbol] for symbol in symbols]


def _vectors(table: Any, name: str, expected: np.ndarray, path: str | os.PathLike[str]) -> np.ndarray:
    """Return all 3-vectors of a column end to end, float64 of shape (n, 3), after counting them row by row."""
    counts, flat = _flatten(table, name, path)
    wrong = np.flatnonzero(counts != expected)
    if len(wrong):
        row = int(wrong[0])
        what = f"{counts[row]} vectors in {name}, {expected[row]} expected"
        raise _bad_row(table, path, row, what if name == _LATTICE else f"{what} (the length of {_SPECIES})")
    lengths, numbers = _lengths(flat), _values(flat)
    missing = numbers.is_null().to_numpy()
    # A null inside would otherwise become NaN, and then be blamed on the crystal rather than on the file.
    bad_vectors = np.flatnonzero(lengths != 3) if (lengths != 3).any() else np.flatnonzero(missing) // 3
    if len(bad_vectors):
        row = _row_of(int(bad_vectors[0]), counts)
        raise _bad_row(table, path, row, f"a vector in {name} does not have three numbers")
    return numbers.to_numpy().astype(np.float64).reshape(-1, 3)


def _flatten(table: Any, name: str, path: str | os.PathLike[str]) -> tuple[np.ndarray, Any]:
    """Return the length of each row's list, and the lists end to end."""
    column = table[name]
    depth = 1 if name == _SPECIES else 2
    inner = column.type
    for _ in range(depth):
        inner = getattr(inner, "value_type", None)
    if inner is None:
        raise DatasetError(
            f"{path}: column {name!r} holds {column.type}, where lists nested {depth} deep are expected."
        )
    counts = _lengths(column)
    if (counts < 0).any():
        raise _bad_row(table, path, int(np.flatnonzero(counts < 0)[0]), f"{name} is missing")
    return counts, _values(column)


def _lengths(lists: Any) -> np.ndarray:
    """Return the length of each list, -1 for a missing one."""
    import pyarrow.compute

    return pyarrow.compute.fill_null(pyarrow.compute.list_value_length(lists), -1).to_numpy().astype(np.int64)


def _values(lists: Any) -> Any:
    import pyarrow.compute

    # Through compute, since .values ignores slices and missing rows, and differs between list types.
    return pyarrow.compute.list_flatten(lists)


def _row_of(item: int, counts: np.ndarray) -> int:
    """Return the row whose list holds an item of the flattened column."""
    return int(np.searchsorted(np.cumsum(counts), item, side="right"))


def _bad_row(table: Any, path: str | os.PathLike[str], row: int, what: str) -> DatasetError:
    return DatasetError(f"{path}, row {row} ({_ID} {table[_ID][row].as_py()!r}): {what}.")
