"""Files of one crystal, or of a few as CIF: handed on as they are, and parsed when their turn comes."""

from __future__ import annotations

from collections.abc import Iterator

from crystalssl._limits import LIMITS
from crystalssl.io._rows import File, Row, Text, Wanted
from crystalssl.io._source_file import SourceFile, text_of

__all__ = ["read_cif_blocks", "read_single"]

_SITES = b"_atom_site_fract_x"


def read_single(source: SourceFile, wanted: Wanted) -> Iterator[Row]:
    """Hand on a file of one crystal. A short one is in memory already."""
    item = Text(source.head, source.name) if source.is_short else File(source.path)
    yield Row(item, {}, source.id, None, source.label)


def read_cif_blocks(source: SourceFile, wanted: Wanted) -> Iterator[Row]:
    """Read each structure of a CIF file, of which most have one."""
    if source.is_short and source.head.lower().count(_SITES) < 2:
        yield from read_single(source, wanted)
        return
    with source.open() as file:
        data = text_of(file.read(LIMITS.bytes + 1))
    if len(data) > LIMITS.bytes or data.lower().count(_SITES) < 2:
        yield from read_single(source, wanted)
        return
    from gemmi import cif

    blocks = [block for block in cif.read_string(data) if block.find_values(_SITES.decode())]
    for number, block in enumerate(blocks):
        yield Row(
            Text(block.as_string().encode(), "x.cif"), {}, f"{source.id}:{block.name or number}", number, source.label
        )
