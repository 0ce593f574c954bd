"""Labels of the pretraining corpus by a universal potential: forces, vibrations, stiffness and layers.

    python -m venv /tmp/potential && . /tmp/potential/bin/activate
    pip install torch==2.13.0 && pip install -e . sevenn==0.13.0
    python benchmarks/potential.py --frames -1 -2 0 1 2 --device cuda     # on a GPU; without one, --device cpu

SevenNet-0 of 11 July 2024, whose weights come with the package sevenn 0.13.0 (Y. Park et al., J. Chem. Theory Comput.
20, 4857 (2024), doi:10.1021/acs.jctc.4c00190), was trained on relaxations of the Materials Project. Here it evaluates
frames (benchmarks/_frames.py) of the crystals of the corpus:

- rattled ones, 0, 1, …: energy, forces, stress;
- the crystal at rest, -1: the same, the highest frequency of vibration, and the stiffness with clamped ions;
- a layer of it in vacuum, -2: energy, forces, stress.

The highest frequency is that of the cell, or of 2 × 2 × 2 cells of one or two atoms, found by eight steps of Lanczos'
method on the mass-weighted force constants, whose products with vectors are differences of forces. The stiffness is the
difference of stresses under strains of ± 0.5 %. A crystal at rest takes 29 evaluations, the others one each.

Every part is a file of its own in the work folder, and the script goes on where it was interrupted.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from _common import CACHE, data_file, make_parser, sha256
from _frames import REST, frame_of
from _potential import Crystals, Potential, side_by_side
from torch import Tensor
from torch_geometric.utils import scatter

from crystalssl.datasets import read_optimade_parquet

STEPS = 8  # of Lanczos' method
MOVE, STRETCH = 0.015, 0.005  # Å, relative
INVERSE_CM = 521.4708984  # of the square root of eV/(Å² u)
GPA = 160.21766208  # of eV/Å³
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def labels_folder(work: Path, corpus: str) -> Path:
    """Return where the labels of a corpus are, a file with a given hash."""
    return work / f"potential-{corpus[:16]}"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=CACHE, help="folder of the labels (default: %(default)s)")
    parser.add_argument("--max-atoms", type=int, default=20)
    parser.add_argument("--min-atoms", type=int, default=1)
    parser.add_argument("--frames", nargs="+", type=int, default=[0], help="numbers of the frames of each crystal")
    parser.add_argument("--chunk", type=int, default=2000, help="atoms that are evaluated at once")
    parser.add_argument("--jobs", type=int, default=1, help="processes that look for neighbours")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--deadline", type=float, default=np.inf, help="seconds after which no part is begun")
    options = parser.parse_args()
    started = time.monotonic()
    source = data_file(options.data, "mp_pretrain.parquet")
    folder = labels_folder(options.work, sha256(source))
    folder.mkdir(parents=True, exist_ok=True)
    structures = read_optimade_parquet(source, columns=[]).data
    sizes = range(options.min_atoms, options.max_atoms + 1)
    rows = np.random.default_rng(0).permutation(len(structures)).tolist()
    rows = [row for row in rows if len(structures[row]) in sizes]
    potential = Potential(options.device)
    calls = []
    for frame in options.frames:
        done = finished(folder, frame)
        left = [row for row in rows if row not in done]
        for chunk in chunks_of(structures, left, frame, options.chunk):
            calls.append(joblib.delayed(prepare)([structures[row] for row in chunk], chunk, frame))
    with joblib.parallel_config("loky", n_jobs=options.jobs, inner_max_num_threads=1):
        prepared = joblib.Parallel(return_as="generator")(calls)
        for number, (chunk, frame, crystals, cells) in enumerate(prepared, 1):
            if time.monotonic() - started > options.deadline:
                print("stopped at the deadline", flush=True)
                return
            labels = measure(potential, potential.put(crystals), cells, frame)
            write(folder / f"frame{frame}-{chunk[0]:06d}.npz", chunk, frame, labels)
            seconds = time.monotonic() - started
            print(f"{number} of {len(calls)} parts, frame {frame}, {len(chunk)} crystals, {seconds:.0f} s", flush=True)


def finished(folder: Path, frame: int) -> set[int]:
    """Return the rows whose frame has been evaluated."""
    return {row for path in folder.glob(f"frame{frame}-*.npz") for row in np.load(path)["row"].tolist()}


def chunks_of(structures: list[Any], rows: list[int], frame: int, n_atoms: int) -> list[list[int]]:
    """Return rows in parts of about equal numbers of atoms."""
    sizes = np.cumsum([len(structures[row]) * cells_of(len(structures[row]), frame) for row in rows])
    parts = np.split(np.array(rows, int), np.flatnonzero(np.diff(sizes // n_atoms)) + 1)
    return [part.tolist() for part in parts if len(part)]


def cells_of(n_atoms: int, frame: int) -> int:
    """Return how many cells of a crystal are taken: the highest vibration of small cells is not that of the cell."""
    return 8 if frame == REST and n_atoms <= 2 else 1


def prepare(structures: list[Any], rows: list[int], frame: int) -> tuple[list[int], int, Crystals, np.ndarray]:
    """Return frames of crystals with their neighbours, and of how many cells each is."""
    cells = np.array([cells_of(len(structure), frame) for structure in structures])
    frames = [frame_of(structure, row, frame) for structure, row in zip(structures, rows, strict=True)]
    frames = [item if n == 1 else item.make_supercell(2, in_place=False) for item, n in zip(frames, cells, strict=True)]
    return rows, frame, side_by_side(frames, 0.25 if frame == REST else 0.0), cells


def measure(potential: Potential, crystals: Crystals, cells: np.ndarray, frame: int) -> dict[str, np.ndarray]:
    """Return the labels of frames."""
    at_rest = potential(crystals)
    counts = np.bincount(crystals.crystal.cpu(), minlength=len(cells))
    kept = np.concatenate([np.arange(n) % c == 0 for n, c in zip(counts, cells, strict=True)])  # one cell's atoms
    frequency, stiffness = np.full(len(cells), np.nan), np.full((len(cells), 6, 6), np.nan)
    if frame == REST:
        frequency = highest_frequencies(potential, crystals).cpu().numpy()
        stiffness = clamped_stiffness(potential, crystals).cpu().numpy()
    return {
        "n_atoms": counts // cells,
        "energy": at_rest.energy.cpu().numpy() / counts,
        "stress": at_rest.stress.cpu().numpy().astype(np.float32),
        "forces": at_rest.forces.cpu().numpy()[kept].astype(np.float32),
        "frequency": frequency.astype(np.float32),
        "stiffness": stiffness.astype(np.float32),
    }


def highest_frequencies(potential: Potential, crystals: Any, steps: int = STEPS) -> Tensor:
    """Return the highest frequency of vibration of each cell in 1/cm, shape (n_crystals,).

    Lanczos' method for all crystals at once: its steps make a tridiagonal matrix per crystal, whose largest eigenvalue
    comes near to that of the force constants from below.
    """
    from ase.data import atomic_masses

    crystal, n_crystals = crystals.crystal, len(crystals.lattices)
    masses = torch.from_numpy(atomic_masses).to(potential.device)[crystals.numbers][:, None]

    def dot(left: Tensor, right: Tensor) -> Tensor:
        return left.new_zeros(n_crystals).index_add(0, crystal, (left * right).sum(dim=1))

    def scaled(vectors: Tensor, factors: Tensor) -> Tensor:
        return vectors * factors[crystal][:, None]

    def without_translation(vectors: Tensor) -> Tensor:
        total = vectors.new_zeros(n_crystals, 3).index_add(0, crystal, masses.sqrt() * vectors)
        mass = masses.new_zeros(n_crystals, 1).index_add(0, crystal, masses)
        return vectors - masses.sqrt() * (total / mass)[crystal]

    def product(vectors: Tensor) -> Tensor:
        moved = vectors / masses.sqrt()
        largest = scatter(moved.norm(dim=1), crystal, dim_size=n_crystals, reduce="max")
        size = MOVE / largest.clamp(min=1e-12)
        moved = scaled(moved, size)
        change = potential(crystals, -moved).forces - potential(crystals, moved).forces
        return scaled(change, 0.5 / size) / masses.sqrt()

    generator = torch.Generator().manual_seed(0)
    start = torch.randn(crystals.positions.shape, generator=generator, dtype=torch.double).to(potential.device)
    start = without_translation(start)
    basis = [scaled(start, dot(start, start).clamp(min=1e-24).rsqrt())]
    diagonal, beside = [], []
    for _ in range(steps):
        image = without_translation(product(basis[-1]))
        diagonal.append(dot(basis[-1], image))
        for _ in range(2):  # once does not suffice in floating point
            for vector in basis:
                image = image - scaled(vector, dot(vector, image))
        length = dot(image, image).sqrt()
        # Small cells have fewer modes than there are steps: what is left of them is rounding.
        length = torch.where(length > 1e-3 * diagonal[-1].abs(), length, 0)
        beside.append(length)
        basis.append(scaled(image, torch.where(length > 0, 1 / length.clamp(min=1e-12), 0)))
    matrix = torch.diag_embed(torch.stack(diagonal, dim=1))
    matrix += torch.diag_embed(torch.stack(beside[:-1], dim=1), 1) + torch.diag_embed(
        torch.stack(beside[:-1], dim=1), -1
    )
    return torch.linalg.eigvalsh(matrix)[:, -1].clamp(min=0).sqrt() * INVERSE_CM


def clamped_stiffness(potential: Potential, crystals: Any) -> Tensor:
    """Return the stiffness in GPa for atoms that follow the strain, shape (n_crystals, 6, 6), in Voigt's order."""
    columns = []
    for i, j in VOIGT:
        strain = torch.zeros(len(crystals.lattices), 3, 3, dtype=torch.double, device=potential.device)
        strain[:, i, j] += STRETCH / 2
        strain[:, j, i] += STRETCH / 2
        change = potential(crystals, strain=strain).stress - potential(crystals, strain=-strain).stress
        columns.append(torch.stack([change[:, k, m] for k, m in VOIGT], dim=1) / (2 * STRETCH))
    return torch.stack(columns, dim=2) * GPA


def write(path: Path, rows: list[int], frame: int, labels: dict[str, np.ndarray]) -> None:
    """Write a part."""
    scratch = path.with_suffix(f".{os.getpid()}")
    with scratch.open("wb") as file:
        np.savez_compressed(file, row=np.array(rows), frame=np.full(len(rows), frame), **labels)
    scratch.rename(path)


if __name__ == "__main__":
    main()
