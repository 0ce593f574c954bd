"""Which elements the corpus of the bundled weights has, and how much room each takes in it.

    python benchmarks/corpus_elements.py

Writes crystalssl/estimators/corpus_elements.csv, with a row for each element of mp_pretrain.parquet (Materials Project,
CC-BY 4.0, doi:10.1063/1.4812323): its part of the atoms of a crystal, on average over crystals, and its volume in Å³.
The volumes of a crystal's atoms add up to that of its cell: a fit to the logarithms of the cells' volumes, in which
large errors count less than by their square. Takes half a minute.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _common import data_file, make_parser
from pymatgen.core import Element
from scipy.optimize import least_squares

from crystalssl.datasets import read_optimade_parquet
from crystalssl.graphs import N_ELEMENTS

FILE = Path(__file__).resolve().parents[1] / "crystalssl" / "estimators" / "corpus_elements.csv"
SCALE = 0.1  # relative errors of volumes beyond which they count less


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--file", type=Path, default=FILE, help="where to write (default: %(default)s)")
    options = parser.parse_args()
    crystals = read_optimade_parquet(data_file(options.data, "mp_pretrain.parquet"), columns=["band_gap"]).data
    counts = np.zeros((len(crystals), N_ELEMENTS + 1))
    for row, crystal in enumerate(crystals):
        counts[row] = np.bincount(crystal.atomic_numbers, minlength=N_ELEMENTS + 1)
    numbers = np.flatnonzero(counts.any(axis=0))
    counts = counts[:, numbers]
    volumes = fit_volumes(counts, np.array([crystal.volume for crystal in crystals]))
    shares = (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
    rows = zip(numbers.tolist(), shares, volumes, strict=True)
    lines = [f"{z},{Element.from_Z(z).symbol},{share:.6f},{volume:.2f}\n" for z, share, volume in rows]
    options.file.write_text("atomic_number,symbol,share,volume\n" + "".join(lines))
    print(f"{len(lines)} elements of {len(crystals)} crystals in {options.file}")


def fit_volumes(counts: np.ndarray, volumes: np.ndarray) -> np.ndarray:
    """Return volumes of elements from those of crystals, of which `counts` has the atoms of each element."""

    def errors(logs: np.ndarray) -> np.ndarray:
        return np.log(counts @ np.exp(logs) / volumes)

    def slopes(logs: np.ndarray) -> np.ndarray:
        parts = counts * np.exp(logs)
        return parts / parts.sum(axis=1, keepdims=True)

    start = np.full(counts.shape[1], np.log(volumes.sum() / counts.sum()))
    return np.exp(least_squares(errors, start, slopes, loss="soft_l1", f_scale=SCALE).x)


if __name__ == "__main__":
    main()
