"""How far predictions move when positions do, by little: by a displacement, or by the rounding of files.

    PYTHONPATH=CHECKOUT python benchmarks/continuity.py

Fits the default regressor on 200 crystals of matbench_phonons and predicts others: as they are, with every atom moved
by 0.0001 Å in a random direction, and read back from files that round coordinates. Prints the largest and the median
change, and the 99th percentile, as shares of the target's standard deviation. PYTHONPATH chooses another checkout to
compare with.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
from _common import make_parser

import crystalssl
from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor
from crystalssl.datasets import fetch_matbench


def moved(structures: list, rng: np.random.Generator, distance: float) -> list:
    """Return copies with every atom moved by a distance in Å."""
    copies = []
    for structure in structures:
        steps = rng.normal(size=(len(structure), 3))
        steps *= distance / np.linalg.norm(steps, axis=1, keepdims=True)
        copy = structure.copy()
        for site, step in enumerate(steps):
            copy.translate_sites([site], step, frac_coords=False, to_unit_cell=False)
        copies.append(copy)
    return copies


def written(structures: list, folder: Path, kind: str) -> list[Path]:
    """Return files of the structures, whose coordinates are rounded."""
    paths = []
    for number, structure in enumerate(structures):
        path = folder / f"{number}.{'cif' if kind == 'cif' else 'vasp'}"
        if kind == "cif":
            structure.to(filename=str(path), symprec=1e-3)
        else:
            from pymatgen.io.vasp import Poscar

            path.write_text(Poscar(structure).get_str(significant_figures=5))
        paths.append(path)
    return paths


def main() -> None:
    options = make_parser(__doc__).parse_args()
    warnings.simplefilter("ignore")
    X, y = fetch_matbench("matbench_phonons", data_home=options.data, return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    train, test = order[:200], order[200:500]
    model = CrystalSSLRegressor(random_state=0).fit([X[i] for i in train], y[train])
    others = [X[i] for i in test]
    predicted, deviation = model.predict(others), y.std()
    graphs = CrystalGraphTransformer("gatedgcn").transform(others)
    print(f"{Path(crystalssl.__file__).parent}: {graphs.n_edges / graphs.n_atoms:.2f} edges per atom")
    print("| change | crystals | largest | 99th percentile | median |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        changes = {
            "every atom moved by 0.0001 Å": (others, moved(others, np.random.default_rng(1), 1e-4)),
            "CIF with symmetry, symprec 0.001": (others[:240], written(others[:240], Path(folder), "cif")),
            "POSCAR with five digits": (others[:240], written(others[:240], Path(folder), "vasp")),
        }
        for name, (before, after) in changes.items():
            change = abs(model.predict(after) - predicted[: len(before)]) / deviation
            figures = " | ".join(f"{value:.3%}" for value in (change.max(), *np.quantile(change, [0.99, 0.5])))
            print(f"| {name} | {len(before)} | {figures} |")


if __name__ == "__main__":
    main()
