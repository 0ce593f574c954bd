"""Of which crystals `predict` warns, by what costs next to nothing: elements without labels, and cells.

    python benchmarks/outside.py

No network is needed. Of each set, and of the corpus of pretraining, on which the limits were chosen, 200 random
crystals are looked at beside 100 or 1,000 random others that a model would be trained on, in 20 draws. Writes
results/outside.csv: the part of the crystals of which there would be a warning, and the part whose cells
`crystalssl.inspection.domain` flags. They are looked at as they are, with volumes that are changed by a factor, and
beside molecules in boxes and monolayers of jdft2d. Takes some minutes of one core.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from _common import data_file, make_parser, markdown
from _domain import FACTORS, molecules, scaled
from _sets import UNITS, Sets

from crystalssl import CrystalGraphs, CrystalGraphTransformer
from crystalssl.datasets import read_optimade_parquet
from crystalssl.estimators._geometry import excess, geometry
from crystalssl.estimators._outside import FAR_BEYOND, MUCH
from crystalssl.graphs import cell_features

SETS = ["phonons", "jdft2d", "dielectric", "log10 K", "perovskites"]
SIZES = (100, 1000)
N_DRAWS, N_SEEN, N_CORPUS = 20, 200, 4000


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--sets", nargs="+", choices=UNITS, default=SETS, metavar="SET", help=f"{[*UNITS]}")
    options = parser.parse_args()
    sets = Sets(options.data)
    layers, _ = sets.of("jdft2d", "joint")
    others = {"molecules": molecules(), "monolayers": layers[drawn(len(layers), N_SEEN)]}
    rows: list[dict[str, Any]] = []
    for name in ["corpus", *options.sets]:
        graphs = corpus(options) if name == "corpus" else sets.of(name, "joint")[0]
        seen = drawn(len(graphs), N_SEEN)
        rest = np.setdiff1d(np.arange(len(graphs)), seen)
        kinds = {"as they are": graphs[seen]} | {kind: scaled(graphs[seen], x) for kind, x in FACTORS.items()} | others
        kinds = {kind: (crystals, cell_features(crystals)) for kind, crystals in kinds.items()}
        known = geometry(graphs, cell_features(graphs))
        for size in SIZES:
            if size > 0.8 * len(graphs):
                continue
            trains = [np.random.RandomState(draw).permutation(rest)[:size] for draw in range(N_DRAWS)]
            for kind, of_kind in kinds.items():
                if (name, kind) != ("jdft2d", "monolayers"):
                    found = np.mean([look(*of_kind, graphs[train], known[train]) for train in trains], axis=0)
                    rows.append(
                        {"set": name, "labels": size, "crystals": kind, "warned": found[0], "flagged": found[1]}
                    )
        print(name, flush=True)
    frame = pd.DataFrame(rows).round(4)
    frame.to_csv(options.results / "outside.csv", index=False)
    for title, column in (("of which predict warns", "warned"), ("whose cells domain flags", "flagged")):
        table = frame.pivot_table(column, ["set", "labels"], "crystals", sort=False)
        cells = table.map(lambda part: "" if np.isnan(part) else f"{part:.1%}").reset_index()
        print(f"\nparts of crystals {title}\n\n{markdown([*cells.columns], cells.to_numpy().tolist())}")


def corpus(options: Any) -> CrystalGraphs:
    crystals = read_optimade_parquet(data_file(options.data, "mp_pretrain.parquet"), columns=["band_gap"]).data
    return CrystalGraphTransformer().transform([crystals[row] for row in drawn(len(crystals), N_CORPUS)])


def drawn(n_crystals: int, n: int) -> np.ndarray:
    return np.random.RandomState(0).permutation(n_crystals)[:n]


def look(
    crystals: CrystalGraphs, features: np.ndarray, training: CrystalGraphs, known: np.ndarray
) -> tuple[float, float]:
    """Return which part of crystals there is a warning of, and which part has cells that are flagged."""
    beyond = excess(geometry(crystals, features), known).max(axis=1)
    unseen = ~np.isin(crystals.atomic_numbers, training.elements)
    shares = np.add.reduceat(unseen, crystals.atom_offsets[:-1], dtype=int) / np.diff(crystals.atom_offsets)
    return float(((shares >= MUCH) | (beyond >= FAR_BEYOND)).mean()), float((beyond >= 1).mean())


if __name__ == "__main__":
    main()
