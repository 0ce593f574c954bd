"""The crystals that ship inside pymatgen, as an embedded toy data set."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl.datasets._bunch import package
from crystalssl.exceptions import DatasetError

if TYPE_CHECKING:
    from sklearn.utils import Bunch

_TAGS = ("mineral", "aflow", "pearson", "strukturbericht")


def load_prototypes(*, return_X_y: bool = False, as_frame: bool = False) -> Bunch | tuple[Any, Any]:
    """Load the crystallographic prototypes of AFLOW that pymatgen carries, with their mass density as a toy target.

    The density is computed from the structure, so nothing is learned that a formula does not give: the set is for
    examples and tests, where a download would be in the way. A few prototypes are near copies of others (two
    descriptions of quartz, of pyrite, …), which a random split may divide between training and test rows.

    Parameters
    ----------
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Whether data and target are pandas Series.

    Returns
    -------
    sklearn.utils.Bunch or tuple
        With ``return_X_y=True``, ``(data, target)``. Else a Bunch with

        data : list of pymatgen.core.Structure
            Ordered crystals of elements, in the order of pymatgen's file; a Series with ``as_frame=True``. Lengths
            are in Å.
        target : ndarray of shape (n_crystals,)
            Mass density in g/cm³, float64; a Series with ``as_frame=True``.
        tags : pandas.DataFrame of shape (n_crystals, 4)
            Names of each prototype: ``"mineral"``, ``"aflow"`` label, ``"pearson"`` symbol and ``"strukturbericht"``;
            empty where there is none.
        frame : pandas.DataFrame or None
            With ``as_frame=True``, the structures, tags and target.
        target_names : list of str
            ``["density"]``.
        unit : str
            ``"g/cm^3"``.
        DESCR : str
            What it is and where it comes from.
        filename : str
            pymatgen's file.

    References
    ----------
    Mehl, M. J. et al. The AFLOW library of crystallographic prototypes: part 1. Computational Materials Science 136,
    S1-S828 (2017). doi:10.1016/j.commatsci.2017.01.017

    Examples
    --------
    >>> from crystalssl.datasets import load_prototypes
    >>> prototypes = load_prototypes()
    >>> halite = prototypes.tags["mineral"].tolist().index("Halite, Rock Salt")
    >>> prototypes.data[halite].reduced_formula, round(float(prototypes.target[halite]), 2), prototypes.unit
    ('NaCl', 2.16, 'g/cm^3')
    """
    import pandas as pd

    from crystalssl.graphs._dicts import structure_from_dict

    path, records = _read_library()
    structures, tags = [], []
    for record in records:
        structure = structure_from_dict(record["snl"])
        if _is_real(structure):
            structures.append(structure)
            # Absent names are written both as "" and as "None" in the file.
            tags.append([name if (name := record["tags"].get(tag)) not in (None, "None") else "" for tag in _TAGS])
    return package(
        structures,
        np.array([float(structure.density) for structure in structures]),
        "density",
        return_X_y=return_X_y,
        as_frame=as_frame,
        tags=pd.DataFrame(tags, columns=list(_TAGS)),
        unit="g/cm^3",
        DESCR=_DESCRIPTION.format(count=len(structures), path=path),
        filename=str(path),
    )


_DESCRIPTION = """AFLOW crystallographic prototypes: {count} crystals that ship inside pymatgen

Toy data set. The target is computed from the structure itself (mass of the cell over its volume), so that it needs no
label and no download; it says nothing about how well a model predicts measured properties. Some prototypes are near
copies of others.

:Number of crystals: {count}
:Target: density (g/cm^3), computed from the structure
:File: {path}
:Data: doi:10.1016/j.commatsci.2017.01.017
"""


def _read_library() -> tuple[Path, list[dict[str, Any]]]:
    # Importing the module would take seconds: it decodes every structure and three more tables. The file lies beside
    # it both where prototypes is a package and where it is a single module with an uncompressed file (before 2025).
    spec = importlib.util.find_spec("pymatgen.analysis.prototypes")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).with_name("aflow_prototypes.json")
        if path.exists():
            return path, json.loads(path.read_bytes())
        path = path.with_suffix(".json.gz")
        if path.exists():
            return path, json.loads(gzip.decompress(path.read_bytes()))
    raise DatasetError(
        "This version of pymatgen does not carry its file aflow_prototypes.json: pip install -U pymatgen"
    )


def _is_real(structure: Any) -> bool:
    """Whether each site holds one element, neither a mixture nor a placeholder."""
    from pymatgen.core import Element

    return structure.is_ordered and all(isinstance(species, Element) for species in structure.species)
