"""Forces and stresses in the crystals of the pretraining corpus, by a universal potential: labels to pretrain on.

    python -m venv /tmp/potential && . /tmp/potential/bin/activate
    pip install torch==2.13.0 && pip install -e . sevenn==0.13.0
    python benchmarks/forces.py --jobs 2

SevenNet-0 of 11 July 2024, whose weights come with the package sevenn 0.13.0 (MIT; Y. Park et al., J. Chem. Theory
Comput. 20, 4857 (2024), doi:10.1021/acs.jctc.4c00190), was trained on relaxations of the Materials Project. Here it
gives energy, forces and stress of *frames*: corpus crystals whose atoms are displaced and whose lattice is strained at
random. One evaluation is 3 N + 7 labels.

Atoms move by normal deviates of 0.03 to 0.1 Å per coordinate, one size per frame, and the strain is a symmetric tensor
of normal deviates of 2 %. What moves follows from the row of the crystal and the number of the frame alone, so that
frames are made anew where the labels are read. Every part is a file of its own in the work folder, and the script goes
on where it was interrupted.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from _common import CACHE, data_file, make_parser, sha256

from crystalssl.datasets import read_optimade_parquet

FRAMES = ["energy", "forces", "virial"]
"""Labels that it gives."""

SMALLEST, LARGEST, STRAIN = 0.03, 0.1, 0.02  # Å, Å, relative
CHUNK = 256  # frames of a file


def labels_folder(work: Path, corpus: str) -> Path:
    """Return where the labels of a corpus are, a file with a given hash."""
    return work / f"forces-{corpus[:16]}"


def rattled(structure: Any, row: int, frame: int) -> Any:
    """Return a frame of a crystal."""
    from pymatgen.core import Lattice, Structure

    rng = np.random.default_rng([row, frame])
    size = rng.uniform(SMALLEST, LARGEST)
    strain = rng.normal(scale=STRAIN, size=(3, 3))
    # Half the sum of two deviates varies less than one of them: off the diagonal it is brought back to its size.
    strain = np.where(np.eye(3), strain, (strain + strain.T) / np.sqrt(2))
    lattice = structure.lattice.matrix @ (np.eye(3) + strain)
    positions = structure.frac_coords @ lattice + rng.normal(scale=size, size=(len(structure), 3))
    return Structure(Lattice(lattice), structure.species, positions, coords_are_cartesian=True)


def read_frames(work: Path, corpus: str) -> dict[str, np.ndarray]:
    """Return the labels of all frames there are, by field, in the order of rows and frames.

    ``row``, ``frame`` and ``energy`` (eV per atom) of shape (n_frames,), ``stress`` (eV/Å³) of shape (n_frames, 3, 3),
    ``offsets`` of shape (n_frames + 1,), and ``forces`` (eV/Å) of shape (n_atoms of all frames, 3).
    """
    parts = [dict(np.load(path)) for path in sorted(labels_folder(work, corpus).glob("*.npz"))]
    if not parts:
        raise SystemExit(f"There is nothing in {labels_folder(work, corpus)}: run benchmarks/forces.py first.")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort([joined["frame"], joined["row"]])
    starts = np.concatenate([[0], np.cumsum(joined["n_atoms"])])
    atoms = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in order])
    fields = {name: joined[name][order] for name in ("row", "frame", "energy", "stress")}
    offsets = np.concatenate([[0], np.cumsum(joined["n_atoms"][order])])
    return {**fields, "offsets": offsets, "forces": joined["forces"][atoms]}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=CACHE, help="folder of the labels (default: %(default)s)")
    parser.add_argument("--max-atoms", type=int, default=20)
    parser.add_argument("--min-atoms", type=int, default=1)
    parser.add_argument("--frames", nargs="+", type=int, default=[0], help="numbers of the frames of each crystal")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each computing on one thread")
    options = parser.parse_args()
    source = data_file(options.data, "mp_pretrain.parquet")
    folder = labels_folder(options.work, sha256(source))
    folder.mkdir(parents=True, exist_ok=True)
    structures = read_optimade_parquet(source).data
    # Parts hold crystals of one range of sizes, in an order that no option changes.
    sizes = range(options.min_atoms, options.max_atoms + 1)
    rows = np.random.default_rng(0).permutation(len(structures)).tolist()
    rows = [row for row in rows if len(structures[row]) in sizes]
    calls = []
    for frame in options.frames:
        done = finished(folder, frame)
        left = [row for row in rows if row not in done]
        for start in range(0, len(left), CHUNK):
            chunk = left[start : start + CHUNK]
            path = folder / f"frame{frame}-{chunk[0]:06d}.npz"
            calls.append(joblib.delayed(measure)([structures[row] for row in chunk], chunk, frame, path))
    with joblib.parallel_config("loky", n_jobs=options.jobs, inner_max_num_threads=1):
        for number, _ in enumerate(joblib.Parallel(return_as="generator_unordered")(calls), 1):
            print(f"{number} of {len(calls)} parts", flush=True)


def finished(folder: Path, frame: int) -> set[int]:
    """Return the rows whose frame has been evaluated."""
    return {row for path in folder.glob(f"frame{frame}-*.npz") for row in np.load(path)["row"].tolist()}


def measure(structures: list[Any], rows: list[int], frame: int, path: Path) -> None:
    """Write the labels of a frame of some crystals."""
    import torch
    from sevenn.calculator import SevenNetCalculator

    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    potential = SevenNetCalculator("7net-0", device="cpu")
    energies, stresses, forces = [], [], []
    for structure, row in zip(structures, rows, strict=True):
        atoms = rattled(structure, row, frame).to_ase_atoms()
        atoms.calc = potential
        energies.append(atoms.get_potential_energy() / len(atoms))
        stresses.append(atoms.get_stress(voigt=False))
        forces.append(atoms.get_forces())
    scratch = path.with_suffix(f".{os.getpid()}")
    with scratch.open("wb") as file:
        np.savez_compressed(
            file,
            row=np.array(rows),
            frame=np.full(len(rows), frame),
            n_atoms=np.array([len(array) for array in forces]),
            energy=np.array(energies),
            stress=np.array(stresses, np.float32),
            forces=np.concatenate(forces).astype(np.float32),
        )
    scratch.rename(path)


if __name__ == "__main__":
    main()
