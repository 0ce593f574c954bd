"""Which crystals `crystalssl.inspection.domain` flags, for benchmarks/uncertainty.py.

Of a model that is trained on random crystals:

- "held-out": the test set, with the ratio of the errors of flagged crystals to those of the others, of crystals with
  few atoms of unseen elements to those of all, and the errors of the fifths by distance, over that of all;
- "volume / 3", "volume / 2", "volume * 2", "volume * 4": test crystals, compressed and blown up;
- "molecules": small ones, in boxes of 15 Å;
- "monolayers": of jdft2d, after training on other sets.

Of a model that is trained on crystals without oxygen:

- "oxides": test crystals with oxygen, with the ratio of their errors to those of the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _sets import Sets
from pymatgen.core import Lattice, Structure
from sklearn.base import clone

from crystalssl import CrystalGraphs, CrystalGraphTransformer
from crystalssl.graphs import cell_features
from crystalssl.inspection import domain

FACTORS = {"volume / 3": 1 / 3, "volume / 2": 1 / 2, "volume * 2": 2.0, "volume * 4": 4.0}
KINDS = ["held-out", *FACTORS, "molecules", "monolayers", "oxides"]
MOLECULES = ["H2O", "NH3", "CH4", "CO2", "C2H6", "C6H6", "CH3OH", "N2", "O2", "SO2", "HCN", "C2H4"]
BOX = 15.0  # Å
AT_MOST = 200  # crystals of a kind
FEW = 1 / 3  # atoms of a crystal whose elements no label has seen

ERRORS = ["error_ratio", "error_few_unseen", *(f"error_fifth_{k}" for k in range(1, 6))]


def check_domain(
    keys: dict[str, Any], model: Any, sets: Sets, rest: np.ndarray, test: np.ndarray, n_train: int
) -> list[dict[str, Any]]:
    """Return a row for each kind."""
    graphs, y = sets.of(keys["task"], keys["method"])
    rows = [{**keys, "kind": "held-out", **held_out(model, graphs[test], y[test])}]
    some = graphs[test[:AT_MOST]]
    kinds = {name: scaled(some, factor) for name, factor in FACTORS.items()}
    kinds["molecules"] = molecules()
    if keys["task"] != "jdft2d":
        layers, _ = sets.of("jdft2d", keys["method"])
        kinds["monolayers"] = layers[np.random.RandomState(keys["seed"]).permutation(len(layers))[:AT_MOST]]
    rows += [{**keys, "kind": kind, **flags(model, crystals)} for kind, crystals in kinds.items()]
    has_oxygen = np.array([8 in crystal.z for crystal in graphs])
    train = rest[~has_oxygen[rest]][:n_train]
    without = clone(model).fit(graphs[train], y[train])
    oxides, others = test[has_oxygen[test]][:AT_MOST], test[~has_oxygen[test]][:AT_MOST]
    if len(oxides) and len(others):
        ratio = error(without, graphs[oxides], y[oxides]).mean() / error(without, graphs[others], y[others]).mean()
        rows.append({**keys, "kind": "oxides", **flags(without, graphs[oxides]), "error_ratio": float(ratio)})
    return rows


def flags(model: Any, crystals: CrystalGraphs) -> dict[str, Any]:
    """Return which part of crystals is flagged, and of which `predict` warns one by one."""
    flagged = float((domain(model, crystals).verdict != "inside").mean())
    features, warned = cell_features(crystals), 0
    for row in range(len(crystals)):
        outside = model._outside_domain()
        outside.add(crystals[row : row + 1], features[row : row + 1])
        warned += bool(outside.n_unseen or outside.n_unlike)
    numbers = {"n": len(crystals), "flagged": flagged, "warned": warned / len(crystals)}
    return numbers | dict.fromkeys(ERRORS, np.nan)


def error(model: Any, crystals: CrystalGraphs, y: np.ndarray) -> np.ndarray:
    return np.abs(model.predict(crystals) - y)


def held_out(model: Any, crystals: CrystalGraphs, y: np.ndarray) -> dict[str, Any]:
    errors, frame = error(model, crystals, y), domain(model, crystals)
    outside = (frame.verdict != "inside").to_numpy()
    unseen = np.array([1 - np.isin(crystal.z, model.trained_elements_).mean() for crystal in crystals])
    few = (unseen > 0) & (unseen < FEW)
    fifths = np.array_split(np.argsort(frame.distance.to_numpy(), kind="stable"), 5)
    found = {
        "error_ratio": ratio(errors[outside], errors[~outside]),
        "error_few_unseen": ratio(errors[few], errors),
        **{f"error_fifth_{k}": ratio(errors[part], errors) for k, part in enumerate(fifths, 1)},
    }
    return flags(model, crystals) | found


def ratio(some: np.ndarray, others: np.ndarray) -> float:
    return float(some.mean() / others.mean()) if len(some) and len(others) else np.nan


def scaled(crystals: CrystalGraphs, factor: float) -> CrystalGraphs:
    """Return crystals with other volumes."""
    length = factor ** (1 / 3)
    structures = [
        Structure(
            crystals.lattice[row] * length,
            crystals.atomic_numbers[atoms],
            crystals.positions[atoms] * length,
            coords_are_cartesian=True,
        )
        for row in range(len(crystals))
        for atoms in [slice(*crystals.atom_offsets[row : row + 2])]
    ]
    return CrystalGraphTransformer().transform(structures)


def molecules() -> CrystalGraphs:
    """Return molecules in boxes."""
    from ase.build import molecule

    atoms = [molecule(name) for name in MOLECULES]
    boxes = [
        Structure(Lattice.cubic(BOX), one.get_chemical_symbols(), one.positions, coords_are_cartesian=True)
        for one in atoms
    ]
    return CrystalGraphTransformer().transform(boxes)
