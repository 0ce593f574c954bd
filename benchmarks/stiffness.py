"""How stiff the crystals of the pretraining corpus are, by a universal potential: labels to pretrain on.

    python -m venv /tmp/potential && . /tmp/potential/bin/activate
    pip install torch==2.13.0 && pip install -e . chgnet==0.4.2
    python benchmarks/stiffness.py --jobs 2

CHGNet 0.3.0 (whose weights come with the package chgnet; BSD-3-Clause; B. Deng et al., Nat. Mach. Intell. 5, 1031
(2023), doi:10.1038/s42256-023-00716-3) gives energies of crystals that are strained and whose atoms are displaced a
little; second differences of these are stiffnesses:

- log10 K: bulk modulus in GPa, from strains of ±3 % in all directions;
- log10 G, log10 softest G: shear modulus in GPa, the mean and the lowest over a basis of strains that keep the volume;
- log10 frequency: √(k / m) / 2π in THz of the element for which it is highest, k being the energy's curvature where all
  atoms of the element are displaced at random by 0.05 Å;
- log10 softest, log10 stiffest: the lowest and the highest of these k, in eV/Å².

Ions are not relaxed. Crystals of up to 20 atoms, in random order; the file grows as they come, and the script goes on
where it was interrupted. 15,264 crystals take 70 minutes of one core. benchmarks/ablation.py pretrains on them.
"""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from _common import CACHE, data_file, make_parser, sha256

from crystalssl.datasets import read_optimade_parquet

LABELS = ["log10 K", "log10 G", "log10 softest G", "log10 frequency", "log10 softest", "log10 stiffest"]
STRAIN, SHEAR, DISPLACEMENT = 0.03, 0.06, 0.05  # relative, relative (Frobenius norm), Å
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
CHUNK = 64


def labels_file(work: Path, corpus: str) -> Path:
    """Return where the labels of a corpus are, a file with a given hash."""
    return work / f"stiffness-{corpus[:16]}.csv"


def read_stiffness(work: Path, corpus: str) -> pd.DataFrame:
    """Return the labels, by the row of the corpus, or end the script with a message that says what is missing."""
    path = labels_file(work, corpus)
    if not path.exists():
        sys.exit(f"There is no {path}: run benchmarks/stiffness.py first.")
    return pd.read_csv(path, index_col="row")[LABELS]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=CACHE, help="folder of the labels (default: %(default)s)")
    parser.add_argument("--max-atoms", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1, help="processes, each computing on one thread")
    options = parser.parse_args()
    source = data_file(options.data, "mp_pretrain.parquet")
    path = labels_file(options.work, sha256(source))
    structures = read_optimade_parquet(source).data
    small = [row for row, structure in enumerate(structures) if len(structure) <= options.max_atoms]
    done = set(pd.read_csv(path).row) if path.exists() else set()
    rows = [row for row in np.random.default_rng(0).permutation(small).tolist() if row not in done]
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    calls = (joblib.delayed(measure)([structures[row] for row in chunk], chunk) for chunk in chunks)
    path.parent.mkdir(parents=True, exist_ok=True)
    with joblib.parallel_config("loky", n_jobs=options.jobs, inner_max_num_threads=1):
        for number, labels in enumerate(joblib.Parallel(return_as="generator_unordered")(calls), 1):
            labels.to_csv(path, mode="a", header=not path.exists(), index=False)
            print(f"{number * CHUNK} of {len(rows)}", flush=True)


def measure(structures: list[Any], rows: list[int]) -> pd.DataFrame:
    """Return the labels of crystals, NaN where the energy has no minimum or an atom no neighbour within 6 Å."""
    import torch
    from chgnet.model import CHGNet

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    model = CHGNet.load(use_device="cpu", verbose=False)
    model.graph_converter.set_isolated_atom_response("ignore")
    pairs = zip(structures, rows, strict=True)
    labels = [stiffness(model, structure, np.random.default_rng(row)) for structure, row in pairs]
    return pd.DataFrame(labels, columns=LABELS).assign(row=rows)


def stiffness(model: Any, structure: Any, rng: np.random.Generator) -> list[float]:
    """Return the labels of a crystal."""
    graph = model.graph_converter(structure)
    if len(graph.atom_graph[:, 0].unique()) < len(structure):  # an atom without neighbours
        return [np.nan] * len(LABELS)
    elements = sorted(set(structure.species))
    strains = np.stack([STRAIN * np.eye(3), *SHEARS])
    moves = np.stack([displacements(structure, element, rng) for element in elements])
    changes = [(strain, np.zeros_like(moves[0])) for strain in strains] + [(np.zeros((3, 3)), move) for move in moves]
    graphs = [graph] + [changed(graph, sign * strain, sign * move) for strain, move in changes for sign in (1, -1)]
    energies = [result["e"] for result in model.predict_graph(graphs, task="e", batch_size=16)]
    energy = len(structure) * np.array(energies, dtype=float)
    second = energy[1::2] + energy[2::2] - 2 * energy[0]
    bulk, *shear = second[: len(strains)] / structure.volume * GPA / (9 * STRAIN**2, *[2 * SHEAR**2] * len(SHEARS))
    n_moved = np.array([sum(species == element for species in structure.species) for element in elements])
    k = second[len(strains) :] / (n_moved * DISPLACEMENT**2)
    masses = np.array([float(element.atomic_mass) for element in elements])
    frequency = THZ * np.sqrt(max(0.0, (k / masses).max()))
    values = [bulk, np.mean(shear), min(shear), frequency, k.min(), k.max()]
    return [float(np.log10(value)) if value > 0 else np.nan for value in values]


def displacements(structure: Any, element: Any, rng: np.random.Generator) -> np.ndarray:
    """Return fractional displacements of an element's atoms in random directions."""
    vectors = rng.normal(size=(len(structure), 3))
    vectors *= DISPLACEMENT / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[np.array(structure.species) != element] = 0
    return vectors @ np.linalg.inv(structure.lattice.matrix)


def changed(graph: Any, strain: np.ndarray, move: np.ndarray) -> Any:
    """Return a graph with the same edges of a crystal that is strained and whose atoms are displaced."""
    graph = copy.copy(graph)
    graph.lattice = graph.lattice @ graph.lattice.new_tensor(np.eye(3) + strain)
    graph.atom_frac_coord = graph.atom_frac_coord + graph.lattice.new_tensor(move)
    return graph


if __name__ == "__main__":
    main()
