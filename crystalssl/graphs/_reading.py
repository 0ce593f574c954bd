"""Crystals from files and texts: the format by name or content, and what was noted while reading."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from crystalssl._limits import LIMITS
from crystalssl.graphs._arrays import CrystalArrays
from crystalssl.graphs._cif import read_cif
from crystalssl.graphs._dicts import crystal_from_dict
from crystalssl.graphs._files import read_file
from crystalssl.graphs._poscar import looks_like_poscar, read_poscar

if TYPE_CHECKING:
    from pymatgen.core import Structure

__all__ = ["CONTENTS", "kind_of_name", "parse_crystal", "read_crystal"]

_NAMES = {
    "cif": ("*.cif", "*.mcif"),
    "json": ("*.json",),
    "yaml": ("*.yaml", "*.yml"),
    "xsf": ("*.xsf",),
    "cssr": ("*.cssr",),
    "res": ("*.res",),
    "mcsqs": ("*rndstr.in*", "*lat.in*", "*bestsqs*"),
    "poscar": ("*.vasp", "*poscar*", "*contcar*", "*chgcar*", "*chg", "*locpot*", "*aeccar*", "*elfcar*", "*parchg*"),
}
_COMPRESSED = re.compile(r"\.(gz|bz2|xz|lzma)$")
# Behind the block's name a line ends or a tag begins: `data_id,structure` is the header of a table.
_CIF = re.compile(rb"(\xef\xbb\xbf)?(\s*#[^\n]*\n)*\s*data_[^\s,;|]*(\s*\Z| *[\r\n]|\s+(_|loop_|#))", re.IGNORECASE)
_VALUES_PER_SITE = 64  # in JSON; beyond, a few bytes of text can take a hundred times as much memory
_LINES_PER_SITE = 2  # in formats that pymatgen reads, a hundred thousand of lines in some seconds
_MAX_YAML = 2**18  # bytes; its parser takes seconds for more
_NESTED = re.compile(r"(?:[\[{]\s*){20}|(?:-\s+){20}")
_TAKEN = "CIF, POSCAR (CONTCAR, CHGCAR, LOCPOT), JSON and YAML of pymatgen, JSON of jarvis, XSF, CSSR, RES or mcsqs"

_MULTILINE = re.MULTILINE | re.IGNORECASE
# What pymatgen's readers of these formats leave out, and so read as another crystal.
_SYMMETRIC = "it has symmetry, which pymatgen's reader of this format leaves out; write it as CIF"
_UNREAD: dict[str, list[tuple[re.Pattern, str]]] = {
    "res": [
        (re.compile(r"^\s*(SYMM|LATT\s+(?!\s|-1\b))", _MULTILINE), _SYMMETRIC),
        (
            re.compile(r"\A(?!(.*\n)*\s*LATT\b)", re.IGNORECASE),
            "it has no line LATT, which stands for a centre of symmetry",
        ),
        # The sixth word of a site; 10 is added to what is not refined.
        (
            re.compile(r"^\s*[A-Z][a-z]?\S*\s+\d+(\s+[-+.\deE]+){3}[ \t]+(?!1?1(\.0*)?(\s|$))[-+.\d]", re.MULTILINE),
            "it has sites that are not fully occupied; order the structure first",
        ),
    ],
    "cssr": [
        (re.compile(r"SPGR\s*=\s*(?!\s|1\b)"), _SYMMETRIC),
        (re.compile(r"\A.*\n.*\n\s*\d+\s+[1-9]"), "its coordinates are not fractional, which pymatgen takes them for"),
    ],
    "xsf": [
        (
            re.compile(r"^\s*(SLAB|POLYMER|MOLECULE|DIM-GROUP\s+[0-2])\b", _MULTILINE),
            "it is periodic along fewer than three axes; write it as a CRYSTAL, with vacuum in the cell",
        ),
    ],
}
# How many sites there are, by the file's own word.
_ANNOUNCED = {
    "xsf": re.compile(r"^\s*PRIMCOORD.*\n\s*(\d+)", re.MULTILINE),
    "cssr": re.compile(r"\A.*\n.*\n\s*(\d+)"),
}


def read_crystal(source: str) -> tuple[Structure | CrystalArrays, list[str]]:
    """Read a file, or a text that holds what a file would.

    Parameters
    ----------
    source : str
        A path; a string of several lines is the text itself.

    Returns
    -------
    crystal : Structure or CrystalArrays
    notes : list of str
        What the user should know about the file.

    Raises
    ------
    Exception
        Whatever the format's parser raises.
    """
    if "\n" in source:
        data = source.encode()
        if len(data) > LIMITS.bytes:
            raise ValueError(f"it holds more than {LIMITS.bytes:,} bytes, the crystalssl.LIMITS.bytes; raise that")
        return _parse(data, _format_by_content(data))
    kind = kind_of_name(source)
    data = read_file(source, beginning=kind == "poscar")
    return _parse(data, kind or _format_by_content(data))


def parse_crystal(data: bytes, name: str = "") -> tuple[Structure | CrystalArrays, list[str]]:
    """Read the content of a file, whose name counts only where the content does not tell what it is.

    Parameters
    ----------
    data : bytes
        The content, expanded.
    name : str, default=""
        The file's name.

    Returns
    -------
    crystal : Structure or CrystalArrays
    notes : list of str
        What the user should know about the file.
    """
    kind = kind_of_name(name)
    if kind is None or kind in CONTENTS:
        kind = next((kind for kind, matches in CONTENTS.items() if matches(data)), kind)
    return _parse(data, kind or _format_by_content(data))


def kind_of_name(path: str) -> str | None:
    """Return the format that a file's name stands for, if any."""
    name = _COMPRESSED.sub("", os.path.basename(path).lower())
    kinds = (kind for kind, patterns in _NAMES.items() if any(fnmatch(name, pattern) for pattern in patterns))
    return next(kinds, None)


CONTENTS: dict[str, Callable[[bytes], Any]] = {
    "cif": _CIF.match,
    "json": lambda data: data.lstrip()[:1] in (b"{", b"["),
    "poscar": lambda data: looks_like_poscar(data[:4000].decode(errors="replace")),
}
"""The formats that are known by their content, and what tells them."""


def _format_by_content(data: bytes) -> str:
    for kind, matches in CONTENTS.items():
        if matches(data):
            return kind
    raise ValueError(
        f"neither its name nor its content is that of {_TAKEN}; read it yourself, e.g. with pymatgen's "
        "Structure.from_file or ase.io.read, and pass the Structure or Atoms"
    )


def _parse(data: bytes, kind: str) -> tuple[Structure | CrystalArrays, list[str]]:
    if kind == "cif":
        return read_cif(data)
    text = data.decode(errors="replace")
    if kind == "poscar":
        return read_poscar(text), []
    if kind == "json":
        if text.count(",") > _VALUES_PER_SITE * LIMITS.sites:
            raise ValueError(f"it holds more values than a crystal of {LIMITS.sites} sites (crystalssl.LIMITS.sites)")
        return crystal_from_dict(json.loads(text)), []
    if kind == "yaml":
        return crystal_from_dict(_load_yaml(text)), []
    if text.count("\n") > _LINES_PER_SITE * LIMITS.sites:
        raise ValueError(f"it holds more lines than a crystal of {LIMITS.sites} sites (crystalssl.LIMITS.sites)")
    for pattern, what in _UNREAD.get(kind, []):
        if pattern.search(text):
            raise ValueError(what)
    announced = _ANNOUNCED[kind].search(text) if kind in _ANNOUNCED else None
    if announced and int(announced[1]) > text.count("\n"):
        raise ValueError(f"it announces {announced[1]} sites on {text.count(chr(10))} lines")
    from pymatgen.core import Structure

    # What pymatgen warns of goes its way: to catch it would take the filters and the warnings of other threads.
    structure = Structure.from_str(text, fmt=kind)  # type: ignore[arg-type]
    LIMITS.check_sites(len(structure))
    if announced and int(announced[1]) != len(structure):
        raise ValueError(f"it announces {announced[1]} sites, but lists {len(structure)}")
    return structure, []


def _load_yaml(text: str) -> Any:
    from ruamel.yaml import YAML

    if len(text) > _MAX_YAML:
        raise ValueError(f"it holds more than {_MAX_YAML // 1024} KiB of YAML, which is slow to read; write JSON")
    if _NESTED.search(text):
        raise ValueError("its lists are nested deeper than those of any crystal")
    return YAML(typ="safe", pure=True).load(text)
