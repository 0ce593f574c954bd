"""POSCAR files of VASP, and the heads of files that begin like one (CONTCAR, CHGCAR, LOCPOT)."""

from __future__ import annotations

import re

import numpy as np

from crystalssl._limits import LIMITS
from crystalssl.graphs._arrays import CrystalArrays
from crystalssl.graphs._symbols import atomic_number

__all__ = ["looks_like_poscar", "read_poscar"]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_COUNTS = re.compile(r"\s*[0-9]+(\s+[0-9]+)*\s*")


def looks_like_poscar(text: str) -> bool:
    """Whether a text has the scale and the lattice of a POSCAR in its second to fifth lines."""
    try:
        _lattice(text[:4000].replace("\r\n", "\n").split("\n"))
    except ValueError:
        return False
    return True


def read_poscar(text: str) -> CrystalArrays:
    """Read positions, lattice and elements; velocities and grids, which follow them, are left.

    Elements stand in the sixth line, or behind the coordinates of every site. VASP finds them elsewhere if they do not,
    and no comment or file beside this one decides what it is.

    Parameters
    ----------
    text : str
        The file, or its beginning.

    Returns
    -------
    CrystalArrays
        With positions and lattice in Å, scaled as the second line says.

    Raises
    ------
    ValueError
        If a line is not what it should be, or no elements are named.
    """
    lines = text.replace("\r\n", "\n").split("\n", 100 + LIMITS.sites)
    lattice, factors = _lattice(lines)
    row = 5
    symbols: list[str] = []
    counts: list[int] = []
    while not _COUNTS.fullmatch(_line(lines, row)):
        symbols += lines[row].split()
        row += 1
        if row > 50 or not all(symbol[0].isalpha() for symbol in symbols):
            raise ValueError(f"line {row} should give elements, or the numbers of their atoms: {lines[row - 1][:40]!r}")
    while len(counts) < max(len(symbols), 1) and _COUNTS.fullmatch(_line(lines, row)):
        counts += [int(word[:12]) for word in lines[row].split()]
        row += 1
    n_sites = sum(counts)
    LIMITS.check_sites(n_sites)
    if symbols and len(symbols) != len(counts):
        raise ValueError(f"it names {len(symbols)} elements, but gives {len(counts)} numbers of atoms")
    mode = _line(lines, row).split()
    selective = bool(mode) and mode[0][0] in "sS"
    if selective:
        row += 1
        mode = _line(lines, row).split()
    if not mode or not mode[0].isalpha():
        raise ValueError(f"line {row + 1} should say Direct or Cartesian")
    if row + n_sites >= len(lines):
        raise ValueError(f"it announces {n_sites} sites on {len(lines)} lines")
    sites = [_line(lines, row + 1 + site).split() for site in range(n_sites)]
    try:
        # VASP writes the element with its potential: Fe_pv, Fe/0a1b2c3d.
        names = [re.split("[/_.]", name)[0] for name in symbols]
        # One word behind the coordinates is an element, more are flags or remarks.
        kinds = names or [words[-1] if len(words) == (7 if selective else 4) else "" for words in sites]
        numbers = np.array([atomic_number(kind, label=not names) for kind in kinds], dtype=np.uint8).repeat(
            counts if names else 1
        )
    except ValueError as error:
        raise ValueError(
            f"its elements are unknown ({error}); name them in a line above the numbers of atoms"
            if names
            else "it names no elements (VASP 4 has a POTCAR for that); name them in a line above the numbers of atoms"
        ) from error
    coordinates = np.array([_numbers(words[:3], 3) for words in sites]).reshape(n_sites, 3)
    positions = coordinates * factors if mode[0][0] in "cCkK" else coordinates @ lattice
    return CrystalArrays(numbers, positions, lattice)


def _lattice(lines: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return lattice vectors and what Cartesian coordinates are multiplied by, both with the file's scale applied."""
    scale = _line(lines, 1).split()
    factors = _numbers(scale[: 3 if len(scale) >= 3 else 1], 3 if len(scale) >= 3 else 1)
    lattice = np.array([_numbers(_line(lines, row).split()[:3], 3) for row in (2, 3, 4)])
    if len(factors) == 3 and (factors <= 0).any():
        raise ValueError(f"its scale {' '.join(scale[:3])} should be three positive factors, or one number")
    if factors[0] < 0:  # the volume
        factors = np.cbrt([-factors[0] / abs(np.linalg.det(lattice))])
    return lattice * factors, factors


def _numbers(words: list[str], n: int) -> np.ndarray:
    if len(words) != n or not all(map(_NUMBER.fullmatch, words)):
        raise ValueError(f"{' '.join(words)[:60]!r} should be {n} numbers")
    return np.array([float(word) for word in words])


def _line(lines: list[str], row: int) -> str:
    if row >= len(lines):
        raise ValueError(f"it ends before line {row + 1}")
    line = lines[row]
    if not (line.isascii() and line.replace("\t", " ").isprintable()):
        raise ValueError(f"line {row + 1} holds characters that no program writes there: {line[:40]!r}")
    return line
