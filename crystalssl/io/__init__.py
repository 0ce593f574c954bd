"""People's files in: crystals and targets from every format that they come in, and a report of what cannot be used."""

from crystalssl.io._chunk import Chunk
from crystalssl.io._corpus import write_corpus
from crystalssl.io._read import read_crystals
from crystalssl.io._stream import iter_crystals

__all__ = ["Chunk", "iter_crystals", "read_crystals", "write_corpus"]
