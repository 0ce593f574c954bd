"""Properties of the crystals that ship with pymatgen, by a universal potential: labels of `load_prototypes`.

    python -m venv /tmp/potential && . /tmp/potential/bin/activate
    pip install torch==2.13.0 && pip install -e . chgnet==0.4.2
    python benchmarks/label_prototypes.py

CHGNet 0.3.0 (whose weights come with the package chgnet; BSD-3-Clause; B. Deng et al., Nat. Mach. Intell. 5, 1031
(2023), doi:10.1038/s42256-023-00716-3) gives energies and forces of the crystals as pymatgen has them, unrelaxed:

- bulk_modulus, in GPa: from the second difference of the energy under strains of ±3 % in all directions, ions fixed;
- shear_modulus, in GPa: the mean over five strains of 6 % that keep the volume, ions fixed;
- highest_frequency, in 1/cm: of the vibrations at Γ, from the forces when each atom is displaced by ±0.01 Å.

A value is missing where the energy has no minimum, an atom has no neighbour within 6 Å, an element comes after
plutonium, or, for the frequency, the cell has more than 20 atoms. Writes crystalssl/datasets/prototypes.csv, a row as
soon as it is known, and goes on where it was interrupted. 288 crystals take half an hour of one core.
"""

from __future__ import annotations

import argparse
import copy
import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from crystalssl.datasets import load_prototypes

FILE = Path(__file__).resolve().parents[1] / "crystalssl" / "datasets" / "prototypes.csv"
COLUMNS = ["aflow", "formula", "bulk_modulus", "shear_modulus", "highest_frequency"]
STRAIN, SHEAR = 0.03, 0.06  # relative; the latter a Frobenius norm
GPA = 160.21766  # in one eV/Å³
THZ = 15.633302  # √(eV/Å²/u) / 2π
# A basis of the strains that leave the volume as it is.
SHEARS = SHEAR * np.array(
    [
        np.diag([1, -1, 0]) / np.sqrt(2),
        np.diag([1, 1, -2]) / np.sqrt(6),
        np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]) / np.sqrt(2),
        np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]]) / np.sqrt(2),
        np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0]]) / np.sqrt(2),
    ]
)
STEP = 0.01  # Å
WAVENUMBER = 33.35641  # 1/cm in one THz
MAX_ATOMS = 20
MAX_NUMBER = 94  # the last element that CHGNet knows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=FILE, help="where to write (default: %(default)s)")
    options = parser.parse_args()
    import torch
    from chgnet.model import CHGNet

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    model = CHGNet.load(use_device="cpu", verbose=False)
    model.graph_converter.set_isolated_atom_response("ignore")
    done = 0
    if options.file.exists():
        with options.file.open(encoding="utf-8", newline="") as file:
            done = sum(1 for _ in csv.DictReader(file))
    else:
        options.file.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    prototypes = load_prototypes()
    structures, labels = prototypes.data, prototypes.tags["aflow"]
    for row in range(done, len(structures)):
        structure, aflow = structures[row], labels[row]
        values = [f"{value:.4g}" if np.isfinite(value) else "" for value in measure(model, structure)]
        with options.file.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([aflow, structure.reduced_formula, *values])
        print(f"{row + 1} of {len(structures)}: {structure.reduced_formula} {' '.join(values)}", flush=True)


def measure(model: Any, structure: Any) -> tuple[float, float, float]:
    """Return the properties of a crystal, NaN where there is none."""
    graph = model.graph_converter(structure)
    isolated = len(graph.atom_graph[:, 0].unique()) < len(structure)
    if isolated or max(structure.atomic_numbers) > MAX_NUMBER:
        return (np.nan,) * 3
    still = np.zeros((len(structure), 3))
    strains = [np.zeros((3, 3)), *(sign * strain for strain in (STRAIN * np.eye(3), *SHEARS) for sign in (1, -1))]
    results = predict(model, [changed(graph, strain, still) for strain in strains], "e")
    energy = len(structure) * np.array([result["e"] for result in results], dtype=float)
    second = energy[1::2] + energy[2::2] - 2 * energy[0]
    bulk = second[0] / structure.volume * GPA / (9 * STRAIN**2)
    shear = second[1:].mean() / structure.volume * GPA / (2 * SHEAR**2)
    frequency = highest_frequency(model, graph, structure) if len(structure) <= MAX_ATOMS else np.nan
    return tuple(value if value > 0 else np.nan for value in (bulk, shear, frequency))  # type: ignore[return-value]


def predict(model: Any, graphs: list[Any], task: str) -> list[dict[str, Any]]:
    """Return what the potential says of changed copies of a crystal; large crystals go one by one, to save memory."""
    return model.predict_graph(graphs, task=task, batch_size=max(1, 64 // len(graphs[0].atomic_number)))


def highest_frequency(model: Any, graph: Any, structure: Any) -> float:
    """Return the highest frequency at Γ in 1/cm, from central differences of the forces."""
    n = 3 * len(structure)
    inverse = np.linalg.inv(structure.lattice.matrix)
    moves = [sign * STEP * np.eye(n)[i].reshape(-1, 3) @ inverse for i in range(n) for sign in (1, -1)]
    results = predict(model, [changed(graph, np.zeros((3, 3)), move) for move in moves], "ef")
    forces = np.array([result["f"].reshape(-1) for result in results], dtype=float)
    hessian = -(forces[0::2] - forces[1::2]) / (2 * STEP)
    mass = np.repeat([float(element.atomic_mass) for element in structure.species], 3)
    dynamical = (hessian + hessian.T) / 2 / np.sqrt(np.outer(mass, mass))
    return float(THZ * WAVENUMBER * np.sqrt(max(np.linalg.eigvalsh(dynamical)[-1], 0.0)))


def changed(graph: Any, strain: np.ndarray, move: np.ndarray) -> Any:
    """Return a graph with the same edges of a crystal that is strained and whose atoms are displaced."""
    graph = copy.copy(graph)
    graph.lattice = graph.lattice @ graph.lattice.new_tensor(np.eye(3) + strain)
    graph.atom_frac_coord = graph.atom_frac_coord + graph.lattice.new_tensor(move)
    return graph


if __name__ == "__main__":
    main()
