"""
Linear probing
==============

What do the vectors of a pretrained encoder know, without any training of the encoder? Run it with::

    python examples/linear_probing.py --data FOLDER

Ridge regression predicts the bulk modulus of Materials Project crystals (mp_elastic.parquet in the folder) from the
vectors. Without that file, it predicts the density of the prototypes that come with pymatgen.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crystalssl import CrystalGraphTransformer, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes, read_optimade_parquet
from crystalssl.plotting import ParityDisplay

matplotlib.use("Agg")
SHARED = Path(sys.argv[0]).resolve().parents[2] / "shared" / "data"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--methods", nargs="+", default=["joint", "barlow"], help="whose bundled weights to use")
parser.add_argument("--data", type=Path, default=os.environ.get("CRYSTALSSL_DATA") or SHARED)
parser.add_argument("--figure", type=Path, default=Path(sys.argv[0]).parent / "figures" / "linear_probing.png")
options = parser.parse_args()

file = Path(options.data) / "mp_elastic.parquet"
if file.exists():
    crystals = read_optimade_parquet(file, columns=["log10_k_vrh"])
    X, y, name, unit = crystals.data, crystals.target["log10_k_vrh"].to_numpy(), "bulk modulus", "log10 GPa"
else:
    print(f"There is no {file}: using the prototypes of pymatgen.")
    (X, y), name, unit = load_prototypes(return_X_y=True), "density", "g/cm³"

known = set(PretrainedCrystalEmbedder(options.methods[0]).fit(X).elements_)
keep = [i for i, structure in enumerate(X) if known.issuperset(structure.atomic_numbers)]
graphs = CrystalGraphTransformer().fit_transform([X[i] for i in keep])
train, test, y_train, y_test = train_test_split(graphs, y[keep], test_size=0.2, random_state=0)

n_panels = len(options.methods)
figure, panels = pyplot.subplots(1, n_panels, figsize=(4 * n_panels, 4.5), layout="constrained", squeeze=False)
print(f"{name} of {len(test)} crystals, learnt from {len(train)}")
for method, panel in zip(options.methods, panels[0], strict=True):
    # The readout is free to choose: mean, maximum and minimum over atoms give three times the features of the mean.
    probe = make_pipeline(
        PretrainedCrystalEmbedder(method, readout="mean+max+min"), StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))
    ).fit(train, y_train)
    predicted = probe.predict(test)
    error = mean_absolute_error(y_test, predicted)
    print(f"  {method:<10} R² {r2_score(y_test, predicted):.3f}, MAE {error:.3f} {unit}")
    panel.set_title(method)
    ParityDisplay.from_predictions(y_test, predicted, unit=unit, ax=panel)
options.figure.parent.mkdir(exist_ok=True)
figure.savefig(options.figure, dpi=100, bbox_inches="tight")
print(f"figure: {options.figure}")
