"""Parquet, Feather and Arrow files: OPTIMADE's columns, or one column of crystals, in a stream."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from crystalssl import _files
from crystalssl._optimade import FIELDS, LAYOUT, structure_from_record
from crystalssl.exceptions import InvalidStructureError
from crystalssl.graphs._arrays import CrystalArrays
from crystalssl.graphs._symbols import atomic_number
from crystalssl.io._records import IDS, Records
from crystalssl.io._rows import Row, Unusable, Wanted, find_name
from crystalssl.io._source_file import SourceFile

__all__ = ["announced", "crystals_of", "read_arrow", "read_parquet"]

_SPECIES = ("name", "chemical_symbols", "concentration")
_PEEKED = 20


def read_parquet(source: SourceFile, wanted: Wanted) -> Iterator[Row]:
    """Read a Parquet file, a part of a row group at a time."""
    parquet = _pyarrow("parquet")
    with source.local() as path, _files.open_regular(path) as raw, parquet.ParquetFile(raw) as file:
        _files.check_expansion(os.fstat(raw.fileno()).st_size, announced(file.metadata))

        def batches(columns: list[str] | None, size: int) -> Iterator[Any]:
            # Group by group, since pyarrow cannot read some nested columns across row groups in one go.
            for group in range(file.num_row_groups):
                yield from file.iter_batches(size, row_groups=[group], columns=columns)

        yield from _read(source, wanted, file.schema_arrow, batches)


def read_arrow(source: SourceFile, wanted: Wanted) -> Iterator[Row]:
    """Read an Arrow file (Feather) or stream, a batch at a time."""
    with source.local() as path, _files.open_regular(path) as raw:
        n_bytes = os.fstat(raw.fileno()).st_size
        schema, _ = _stored(raw, source.head)

        def batches(columns: list[str] | None, size: int) -> Iterator[Any]:
            for batch in _stored(raw, source.head)[1]:
                _files.check_expansion(n_bytes, batch.nbytes)
                for start in range(0, batch.num_rows, size):
                    yield batch.slice(start, size)

        yield from _read(source, wanted, schema, batches)


def _stored(raw: Any, head: bytes) -> tuple[Any, Iterator[Any]]:
    """Return the schema of an Arrow file, and its batches from the first on."""
    ipc = _pyarrow("ipc")
    raw.seek(0)
    if head.startswith(b"ARROW1"):
        file = ipc.open_file(raw)
        return file.schema, map(file.get_batch, range(file.num_record_batches))
    stream = ipc.open_stream(raw)
    return stream.schema, iter(stream)


def announced(metadata: Any) -> int:
    """Return how many bytes or values, whichever is more, the columns of a Parquet file will have."""
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    chunks = (group.column(number) for group in groups for number in range(group.num_columns))
    return sum(max(chunk.total_uncompressed_size, chunk.num_values) for chunk in chunks)


def _read(source: SourceFile, wanted: Wanted, schema: Any, batches: Any) -> Iterator[Row]:
    names = schema.names
    wanted.check(names, source.label)
    for field in schema:
        if unit := (field.metadata or {}).get(b"unit"):
            wanted.units[field.name] = unit.decode(errors="replace")
    records = Records.of(source, wanted)
    extra = [find_name(name, names) for name in wanted.columns]
    extra = [*dict.fromkeys([wanted.id or next((name for name in IDS if name in names), None), *extra])]
    is_optimade = wanted.structure is None and set(LAYOUT) <= set(names)
    if is_optimade:
        columns = [name for name in FIELDS if name in names]
    else:
        with contextlib.closing(batches(None, _PEEKED)) as first:
            sample = next(first, None)
        column = None if sample is None else records.choose(sample.to_pylist())
        columns = names if column is None else [column]
    columns = list(dict.fromkeys([*columns, *(name for name in extra if name)]))
    number = 0
    for part in batches(columns, wanted.chunk_size):
        batch = _pyarrow().Table.from_batches([part]).select(columns)  # batches of older releases cannot select
        batch.validate(full=True)  # else text that is no UTF-8 and wrong list lengths are met later, or never
        if is_optimade:
            values = batch.select([name for name in columns if name not in FIELDS]).to_pylist()
            for item, known in zip(crystals_of(batch), values or [{}] * batch.num_rows, strict=True):
                yield records.ready(item, known, number)
                number += 1
        else:
            for known in batch.to_pylist():
                yield records.row(known, number)
                number += 1


def crystals_of(batch: Any) -> list[Any]:
    """Return the crystal of each row as CrystalArrays or a Structure, or Unusable where there is none.

    Rows are read together as long as all are plain: lists of the right lengths, full sites of known elements. Where one
    is not, the batch is halved until that one is left, and read by itself for the reason.

    Parameters
    ----------
    batch : pyarrow.Table
        With the columns of OPTIMADE's names.
    """
    plain = _plain_crystals(batch)
    if plain is not None:
        return plain
    if batch.num_rows > 1:
        half = batch.num_rows // 2
        return crystals_of(batch.slice(0, half)) + crystals_of(batch.slice(half))
    record = batch.select([name for name in FIELDS if name in batch.schema.names]).to_pylist()[0]
    try:
        return [structure_from_record(record)]
    except InvalidStructureError as error:
        return [Unusable(str(error))]


def _plain_crystals(batch: Any) -> list[CrystalArrays] | None:
    columns = {name: batch.column(name) for name in FIELDS if name in batch.schema.names}
    if batch.num_rows == 0:
        return []
    if any(depth is None for depth in map(_depth, (columns[name] for name in LAYOUT))):
        return None
    n_sites, symbols = _flat(columns["species_at_sites"])
    lattices = _vectors(columns["lattice_vectors"], np.full(batch.num_rows, 3))
    positions = _vectors(columns["cartesian_site_positions"], n_sites)
    if lattices is None or positions is None or not (n_sites > 0).all() or not _is_full(columns, n_sites):
        return None
    lattices = lattices.reshape(-1, 3, 3)
    if not (np.isfinite(positions).all() and (abs(np.linalg.det(lattices)) > 1e-6).all()):  # NaN is not larger either
        return None
    numbers = _numbers(symbols)
    if numbers is None:
        return None
    ends = np.cumsum(n_sites)
    return [
        CrystalArrays(numbers[start:end], positions[start:end], lattice)
        for start, end, lattice in zip((ends - n_sites).tolist(), ends.tolist(), lattices, strict=True)
    ]


def _numbers(symbols: Any) -> np.ndarray | None:
    """Return the atomic number of each site, or None if not all are elements' own symbols."""
    types = _pyarrow("types")
    if types.is_dictionary(symbols.type):
        symbols = symbols.cast(symbols.type.value_type)
    if symbols.null_count or not (types.is_string(symbols.type) or types.is_large_string(symbols.type)):
        return None
    encoded = symbols.combine_chunks() if hasattr(symbols, "combine_chunks") else symbols
    encoded = encoded.dictionary_encode()
    known = encoded.dictionary.to_pylist()
    try:
        if not all(symbol.isalpha() and symbol == symbol.capitalize() for symbol in known):
            return None
        table = np.array([atomic_number(symbol) for symbol in known], dtype=np.uint8)
    except ValueError:
        return None
    return table[np.asarray(encoded.indices)]


def _is_full(columns: Mapping[str, Any], n_sites: np.ndarray) -> bool:
    """Return whether no further column says anything that makes a crystal other than its sites."""
    compute = _pyarrow("compute")
    for name, column in columns.items():
        if name in LAYOUT or column.null_count == len(column):
            continue
        if name == "nsites":
            same = np.asarray(compute.fill_null(column, -1)) == n_sites
            if not (same | np.asarray(column.is_null())).all():
                return False
        elif name == "nperiodic_dimensions":
            if set(compute.unique(column).to_pylist()) - {None, 3}:
                return False
        elif name == "dimension_types":
            counts, flat = _flat(column)
            if not ((counts == 3) | (counts == -1)).all() or set(compute.unique(flat).to_pylist()) - {1}:
                return False
        elif name == "species":
            if not _is_plain(column):
                return False
        elif _depth(column) is None or (_flat(column)[0] > 0).any():  # assemblies, structure_features
            return False
    return True


def _is_plain(species: Any) -> bool:
    """Return whether all species are elements by their own names."""
    flat = _flat(species)[1] if _depth(species) else None
    if flat is None or not _pyarrow("types").is_struct(flat.type):
        return False
    compute = _pyarrow("compute")
    fields = {field.name for field in flat.type}
    if not fields.issuperset(_SPECIES):
        return False
    names, symbols, shares = (compute.struct_field(flat, name) for name in _SPECIES)
    if "attached" in fields and compute.struct_field(flat, "attached").null_count != len(flat):
        return False
    if _depth(symbols) is None or _depth(shares) is None:
        return False
    counts, symbols = _flat(symbols)
    n_shares, shares = _flat(shares)
    if not ((counts == 1).all() and (n_shares == 1).all()):
        return False
    same = compute.all(compute.equal(names, symbols)).as_py()
    return same is True and not names.null_count and set(compute.unique(shares).to_pylist()) <= {1}


def _vectors(column: Any, expected: np.ndarray) -> np.ndarray | None:
    """Return all 3-vectors of a column end to end, float64 of shape (n, 3), or None if they are not as expected."""
    counts, flat = _flat(column)
    if not np.array_equal(counts, expected) or _depth(flat) is None:
        return None
    lengths, numbers = _flat(flat)
    if not (lengths == 3).all() or numbers.null_count or not _is_numeric(numbers):
        return None
    return np.asarray(numbers).astype(np.float64).reshape(-1, 3)


def _is_numeric(values: Any) -> bool:
    types = _pyarrow("types")
    return types.is_floating(values.type) or types.is_integer(values.type)


def _depth(column: Any) -> Any:
    """Return the type of a list's items, or None if it is no list."""
    return getattr(column.type, "value_type", None) if "list" in str(column.type).partition("<")[0] else None


def _flat(lists: Any) -> tuple[np.ndarray, Any]:
    """Return the length of each list, -1 for a missing one, and the lists end to end."""
    compute = _pyarrow("compute")
    counts = compute.fill_null(compute.list_value_length(lists), -1)
    # Through compute, since .values ignores slices and missing rows, and differs between list types.
    return np.asarray(counts).astype(np.int64), compute.list_flatten(lists)


def _pyarrow(module: str | None = None) -> Any:
    import importlib

    try:
        importlib.import_module("pyarrow.ipc")
        return importlib.import_module(f"pyarrow.{module}" if module else "pyarrow")
    except ImportError as error:
        raise ImportError("Reading Parquet and Arrow files needs pyarrow: pip install crystalssl[parquet]") from error
