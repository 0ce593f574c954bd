"""How often the shell of the twelfth neighbour is larger than twelve, and what keeping it whole costs.

python benchmarks/shells.py
"""

from __future__ import annotations

import numpy as np
from _common import load_task, make_parser

from crystalssl import CrystalGraphTransformer

options = make_parser(__doc__).parse_args()
structures = load_task("matbench_phonons", options.data).data
for encoder in ("cgcnn", "gatedgcn"):
    graphs = CrystalGraphTransformer(encoder).transform(structures)
    degrees = np.diff(graphs.edge_offsets)
    more = np.maximum.reduceat(degrees, graphs.atom_offsets[:-1]) > graphs.recipe.max_neighbors
    edges = graphs.n_edges / np.minimum(degrees, graphs.recipe.max_neighbors).sum() - 1
    print(f"{encoder}, shell of {graphs.recipe.shell} Å: crystals with more {more.mean():.1%}, edges {edges:+.1%}")
