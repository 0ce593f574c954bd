"""
Few labels, with and without pretraining
========================================

From a list of crystals to predictions, with and without pretraining. Run it with::

    python examples/quickstart.py

The crystals come with pymatgen, so nothing is downloaded. Their bulk moduli were computed with the universal potential
CHGNet (`load_prototypes` says how). A network gets the moduli of 25, 50 and 100 crystals and predicts those of the
others, each with three random choices of the labelled crystals. It is the same network twice: trained from scratch, and
finetuned from the weights that ship with the package. These were pretrained on 15,790 other crystals whose atoms are
displaced, to predict among others the forces that pull them back, so a gain is to be expected here; docs/results.md has
sets where it is smaller.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from pymatgen.core import Lattice, Structure
from sklearn.model_selection import ShuffleSplit, learning_curve

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes
from crystalssl.exceptions import OutsideDomainWarning
from crystalssl.plotting import LabelEfficiencyDisplay

matplotlib.use("Agg")  # writes files, needs no screen
# So few labels never hold all elements, which the models warn of.
warnings.filterwarnings("ignore", category=OutsideDomainWarning)

# Compositions that the pretraining corpus holds too: they would not be new to the pretrained network.
IN_CORPUS = {"Pa", "KCSN", "CeNiC2", "Fe3W3C", "Hg", "CO", "CaFe(SiO3)2", "FeCuS2", "Ga3Pt5", "AgTe4Au", "I"}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--labels", type=int, nargs="+", default=[25, 50, 100], help="crystals whose modulus is given")
parser.add_argument("--repeats", type=int, default=3, help="random choices of these crystals")
parser.add_argument("--jobs", type=int, default=2, help="processes")
parser.add_argument("--figure", type=Path, default=Path(sys.argv[0]).parent / "figures" / "quickstart.png")
options = parser.parse_args()
started = time.perf_counter()
print("You will see how much further a few labels go when the network was pretrained on unlabelled crystals.\n")

# %%
# 1. Crystals are pymatgen Structures, in a list. The weights know the elements that they were pretrained on: the few
#    crystals with other elements are left out.
X, y = load_prototypes("bulk_modulus", return_X_y=True)
known = set(PretrainedCrystalEmbedder("joint").fit(X).elements_)
keep = [i for i, s in enumerate(X) if known.issuperset(s.atomic_numbers) and s.reduced_formula not in IN_CORPUS]
X, y = [X[i] for i in keep], y[keep]
print(f"{len(X)} crystals, bulk moduli from {y.min():.0f} to {y.max():.0f} GPa, half of them below {np.median(y):.0f}")

# %%
# 2. Estimators take lists of Structures. Here many models see the same crystals, so their graphs are built once.
graphs = CrystalGraphTransformer("gatedgcn").fit_transform(X)

# %%
# 3. Models are scikit-learn estimators. These two differ in nothing but `pretrain`.
models = {
    "from scratch": CrystalSSLRegressor(pretrain=None, random_state=0),
    "pretrained": CrystalSSLRegressor(pretrain="joint", random_state=0),
}

# %%
# 4. scikit-learn splits the graphs, fits and scores.
most = max(options.labels)
splits = ShuffleSplit(n_splits=options.repeats, train_size=most, random_state=0)
runs = []
for name, model in models.items():
    sizes, _, scores = learning_curve(
        model, graphs, y, train_sizes=options.labels, cv=splits, scoring="neg_mean_absolute_error", n_jobs=options.jobs
    )
    runs += [(name, n, -score) for n, row in zip(sizes, scores, strict=True) for score in row]
runs = pd.DataFrame(runs, columns=["method", "n_labels", "mae"])

errors = runs.pivot_table(index="n_labels", columns="method", values="mae", aggfunc=["mean", "std"])
print(
    f"\nmean absolute error in GPa, mean ± standard deviation over {options.repeats} choices of the labelled crystals\n"
)
print("  labels   from scratch     pretrained   lower by")
for n in sizes:
    mean, spread = errors.loc[n, "mean"], errors.loc[n, "std"]
    cells = "   ".join(f"{mean[name]:5.1f} ± {spread[name]:4.1f}" for name in models)
    print(f"  {n:6}   {cells}   {1 - mean['pretrained'] / mean['from scratch']:8.0%}")

# %%
# 5. A fitted model predicts any list of Structures.
model = models["pretrained"].fit(graphs, y)
magnesia = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
modulus = model.predict([magnesia])[0]
print(f"\nmagnesium oxide: {modulus:.0f} GPa predicted (160 GPa measured; the potential behind the labels is too soft)")

display = LabelEfficiencyDisplay.from_results(runs, unit="GPa")
display.ax_.set(title="Bulk modulus from few labels", ylim=(0, None))
options.figure.parent.mkdir(exist_ok=True)
display.figure_.savefig(options.figure, dpi=120, bbox_inches="tight")
print(f"\nfigure: {options.figure}\ntime: {time.perf_counter() - started:.0f} s")
