"""Energies of dispersion of the crystals of the corpus and of their layers, by D3.

    pip install dftd3==1.7.0
    python benchmarks/dispersion.py --jobs 2

Layers of a crystal are often held together by dispersion, which neither the functional PBE nor a potential that was
trained on it knows. D3 with Becke-Johnson damping for PBE (S. Grimme et al., J. Comput. Chem. 32, 1456 (2011),
doi:10.1002/jcc.21759) adds it to what benchmarks/potential.py gives of the crystals at rest, -1, and of one layer in
vacuum, -2. Writes one file into the work folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
from _common import CACHE, data_file, make_parser, sha256
from _frames import LAYER, REST, frame_of

from crystalssl.datasets import read_optimade_parquet

BOHR, HARTREE = 0.529177210903, 27.211386245988  # Å, eV
CUTOFFS = {"disp2": 60, "disp3": 40, "cn": 40}  # bohr


def dispersion_file(work: Path, corpus: str) -> Path:
    """Return where the energies of a corpus are, a file with a given hash."""
    return work / f"dispersion-{corpus[:16]}.npz"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=CACHE, help="folder of the energies (default: %(default)s)")
    parser.add_argument("--max-atoms", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1, help="processes, each computing on one thread")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    source = data_file(options.data, "mp_pretrain.parquet")
    structures = read_optimade_parquet(source, columns=[]).data
    items = [(row, s) for row, s in enumerate(structures) if len(s) <= options.max_atoms]
    calls = [joblib.delayed(energies)(*item) for item in items]
    with joblib.parallel_config("loky", n_jobs=options.jobs, inner_max_num_threads=1):
        found = np.array(joblib.Parallel()(calls))
    path = dispersion_file(options.work, sha256(source))
    np.savez(path, row=[row for row, _ in items], rest=found[:, 0], layer=found[:, 1])


def energies(row: int, structure: Any) -> list[float]:
    """Return the energy per atom of dispersion in eV of a crystal and of a layer of it."""
    from dftd3.interface import DispersionModel, RationalDampingParam

    found = []
    for frame in (REST, LAYER):
        item = frame_of(structure, row, frame)
        numbers = np.array(item.atomic_numbers)
        model = DispersionModel(numbers, item.cart_coords / BOHR, item.lattice.matrix / BOHR, np.ones(3, bool))
        model.set_realspace_cutoff(**CUTOFFS)
        energy = model.get_dispersion(RationalDampingParam(method="pbe"), grad=False)["energy"]
        found.append(float(energy) * HARTREE / len(item))
    return found


if __name__ == "__main__":
    main()
