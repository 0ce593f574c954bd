"""As many crystals as are wanted: copies of those of the corpus of pretraining, displaced."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

__all__ = ["make_table"]


def make_table(source: Path, path: Path, crystals: int, most_atoms: int) -> None:
    """Write displaced copies of crystals to a Parquet file of OPTIMADE's columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.exists():
        return
    columns = ["immutable_id", "lattice_vectors", "species_at_sites", "cartesian_site_positions"]
    table = pq.read_table(source, columns=[*columns, "chemical_formula_reduced"])
    sizes = np.array([len(names) for names in table["species_at_sites"].to_pylist()])
    rows = np.random.default_rng(0).permutation(np.flatnonzero(sizes <= most_atoms))
    table = table.take(rows)
    rng = np.random.default_rng(1)
    partial = path.with_suffix(".partial")
    writer, written = None, 0
    for copy in itertools.count():
        if written == crystals:
            break
        part = table.slice(0, min(len(table), crystals - written))
        names = pa.array([f"{name}-{copy}" for name in part["immutable_id"].to_pylist()])
        part = part.set_column(0, "immutable_id", names).combine_chunks()
        if copy:
            lists = part["cartesian_site_positions"].combine_chunks()
            inner = lists.flatten()
            moved = inner.flatten().to_numpy(zero_copy_only=False) + rng.normal(0, 0.05, 3 * len(inner))
            lists = pa.ListArray.from_arrays(
                lists.offsets, pa.ListArray.from_arrays(np.arange(len(inner) + 1, dtype=np.int32) * 3, pa.array(moved))
            )
            part = part.set_column(
                part.schema.get_field_index("cartesian_site_positions"), "cartesian_site_positions", lists
            )
            part = part.cast(writer.schema)
        writer = writer or pq.ParquetWriter(partial, part.schema)
        writer.write_table(part, row_group_size=10_000)
        written += len(part)
    writer.close()
    partial.rename(path)
