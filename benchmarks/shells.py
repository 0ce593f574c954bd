"""How often the shell of the twelfth neighbour is larger than twelve, and what keeping it whole costs.

python benchmarks/shells.py
"""

from __future__ import annotations

import numpy as np
from _common import load_task, make_parser

from crystalssl import CrystalGraphTransformer

options = make_parser(__doc__).parse_args()
graphs = CrystalGraphTransformer().transform(load_task("matbench_phonons", options.data).data)
degrees = np.diff(graphs.edge_offsets)
tied = np.maximum.reduceat(degrees, graphs.atom_offsets[:-1]) > graphs.recipe.max_neighbors
print(f"crystals with a tie: {tied.mean():.1%}; edges: {graphs.n_edges / np.minimum(degrees, 12).sum() - 1:+.1%}")
