"""The crystals that ship inside pymatgen, as an embedded toy data set."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl._suggestions import did_you_mean
from crystalssl.datasets._bunch import make_bunch
from crystalssl.datasets._registry import read_table
from crystalssl.exceptions import DatasetError

if TYPE_CHECKING:
    from sklearn.utils import Bunch

_TAGS = ("mineral", "aflow", "pearson", "strukturbericht")
_UNITS = {"density": "g/cm^3", "bulk_modulus": "GPa", "shear_modulus": "GPa", "highest_frequency": "1/cm"}


def load_prototypes(
    target: str = "density", *, return_X_y: bool = False, as_frame: bool = False
) -> Bunch | tuple[Any, Any]:
    """Load the crystallographic prototypes of AFLOW that pymatgen carries, with a property of each.

    The set is for examples and tests, where a download would be in the way. The density is computed from the structure,
    so that nothing is learned that a formula does not give. The other properties are those of a universal potential,
    CHGNet: they are worth predicting, but they are not measured. A few prototypes are near copies of others (two
    descriptions of quartz, of pyrite, …), which a random split may divide between training and test rows.

    Parameters
    ----------
    target : {"density", "bulk_modulus", "shear_modulus", "highest_frequency"}, default="density"
        Which property: the mass density in g/cm³; the bulk or the shear modulus in GPa, with ions that do not relax; or
        the highest frequency of the vibrations at Γ in 1/cm. Crystals whose property is not known are left out: the
        potential does not know their elements, is not stable there or, for the frequency, the cell has more than 20
        atoms.
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
            The property, float64; a Series with ``as_frame=True``.
        tags : pandas.DataFrame of shape (n_crystals, 4)
            Names of each prototype: ``"mineral"``, ``"aflow"`` label, ``"pearson"`` symbol and ``"strukturbericht"``;
            empty where there is none.
        frame : pandas.DataFrame or None
            With ``as_frame=True``, the structures, tags and target.
        target_names : list of str
            ``[target]``.
        unit : str
            ``"g/cm^3"``, ``"GPa"`` or ``"1/cm"``.
        DESCR : str
            What it is and where it comes from.
        filename : str
            pymatgen's file.

    Raises
    ------
    ValueError
        If there is no such target.

    References
    ----------
    Mehl, M. J. et al. The AFLOW library of crystallographic prototypes: part 1. Computational Materials Science 136,
    S1-S828 (2017). doi:10.1016/j.commatsci.2017.01.017
    Deng, B. et al. CHGNet as a pretrained universal neural network potential. Nature Machine Intelligence 5, 1031-1041
    (2023). doi:10.1038/s42256-023-00716-3

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

    if target not in _UNITS:
        raise ValueError(f"there is no target {target!r}.{did_you_mean(target, _UNITS)} Choose one of {list(_UNITS)}")
    path, records = _read_library()
    structures, tags = [], []
    for record in records:
        structure = structure_from_dict(record["snl"])
        if _is_real(structure):
            structures.append(structure)
            # Absent names are written both as "" and as "None" in the file.
            tags.append([name if (name := record["tags"].get(tag)) not in (None, "None") else "" for tag in _TAGS])
    if target == "density":
        values = [float(structure.density) for structure in structures]
    else:
        labels = {(row["aflow"], row["formula"]): row[target] for row in read_table("prototypes.csv")}
        keys = [(names[_TAGS.index("aflow")], s.reduced_formula) for names, s in zip(tags, structures, strict=True)]
        values = [float(labels.get(key) or "nan") for key in keys]
    known = np.flatnonzero(~np.isnan(values))
    return make_bunch(
        [structures[row] for row in known],
        np.array(values)[known],
        target,
        return_X_y=return_X_y,
        as_frame=as_frame,
        tags=pd.DataFrame([tags[row] for row in known], columns=list(_TAGS)),
        unit=_UNITS[target],
        DESCR=_DESCRIPTION.format(count=len(known), path=path, target=target, unit=_UNITS[target]),
        filename=str(path),
    )


_DESCRIPTION = """AFLOW crystallographic prototypes: {count} crystals that ship inside pymatgen

Toy data set. The density is computed from the structure itself (mass of the cell over its volume), so it says nothing
about how well a model predicts measured properties. Moduli and frequencies are computed from the structures by the
universal potential CHGNet 0.3.0 (BSD-3-Clause) with `python benchmarks/label_prototypes.py`. Some prototypes are near
copies of others.

:Number of crystals: {count}
:Target: {target} ({unit})
:File: {path}
:Data: doi:10.1016/j.commatsci.2017.01.017
:Potential: doi:10.1038/s42256-023-00716-3
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
