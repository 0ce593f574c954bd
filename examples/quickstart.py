"""From a list of crystals to predictions, with and without pretraining.

    python examples/quickstart.py

288 crystals come with pymatgen, so nothing is downloaded. A model gets the mass density of 48 of them and predicts that
of the others. That is repeated with three other choices of the 48 for each of these models:

- the package's own network, GatedGCN, trained from scratch,
- the same network finetuned from weights that were pretrained with the joint objective, the default,
- CGCNN finetuned from weights that were pretrained by Barlow Twins,
- ridge regression on the vectors that the pretrained network makes of crystals, which are not trained any further.

The density of a crystal follows from its structure, and the joint objective has seen the volumes of its corpus, so this
shows how the package is used, not how well it predicts what is measured: for that see docs/results.md.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot
from pymatgen.core import Lattice, Structure
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import ShuffleSplit, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes
from crystalssl.plotting import plot_predictions

matplotlib.use("Agg")  # writes files, needs no screen

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--labels", type=int, default=48, help="crystals whose density the models get")
parser.add_argument("--repeats", type=int, default=3, help="random choices of these crystals")
parser.add_argument("--figure", type=Path, default=Path(__file__).parent / "figures" / "quickstart.png")
options = parser.parse_args()
started = time.perf_counter()

# 1. Crystals are pymatgen Structures, in a list. The weights know the elements that they were pretrained on: the few
#    crystals with other elements are left out.
X, y = load_prototypes(return_X_y=True)
known = set(PretrainedCrystalEmbedder("joint").fit(X).elements_)
keep = [i for i, structure in enumerate(X) if known.issuperset(structure.atomic_numbers)]
X, y = [X[i] for i in keep], y[keep]
print(f"{len(X)} crystals, densities from {y.min():.1f} to {y.max():.1f} g/cm³")

# 2. Estimators take lists of Structures. Here many models see the same crystals, so their graphs are built once.
graphs = CrystalGraphTransformer().fit_transform(X)
print(graphs)

# 3. Models are scikit-learn estimators. The first three differ in nothing but `pretrain`.
models = {
    "from scratch": CrystalSSLRegressor(pretrain=None, random_state=0),
    "joint": CrystalSSLRegressor(random_state=0),
    "Barlow Twins": CrystalSSLRegressor(pretrain="barlow", random_state=0),
    # Means alone: with 48 labels, a part of the features is better than all of them.
    "ridge": make_pipeline(
        PretrainedCrystalEmbedder("joint", readout="mean"), StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))
    ),
}

# 4. scikit-learn splits the graphs, fits and scores.
splits = ShuffleSplit(n_splits=options.repeats, train_size=options.labels, random_state=0)
figure, panels = pyplot.subplots(1, len(models), figsize=(2.9 * len(models), 3.6), layout="constrained")
errors = {}
print(f"\nmean absolute error in g/cm³ with {options.labels} labels, {options.repeats} repeats")
for (name, model), panel in zip(models.items(), panels, strict=True):
    result = cross_validate(
        model, graphs, y, cv=splits, scoring="neg_mean_absolute_error", return_estimator=True, return_indices=True
    )
    scores = -result["test_score"]
    errors[name] = scores.mean()
    print(f"  {name:<13} {scores.mean():.2f} ± {scores.std():.2f}   {result['fit_time'].sum():4.0f} s")
    test = result["indices"]["test"][0]
    panel.set_title(name)
    plot_predictions(y[test], result["estimator"][0].predict(graphs[test]), panel, unit="g/cm³")
limits = min(panel.get_xlim()[0] for panel in panels), max(panel.get_xlim()[1] for panel in panels)
for panel in panels:
    panel.set(xlim=limits, ylim=limits)
    panel.label_outer()  # the scales are the same, so one set of labels does
best = min(errors, key=errors.__getitem__)
gain = 1 - errors[best] / errors["from scratch"]
print(f"lowest error: {best}, " + (f"{gain:.0%} below that from scratch" if gain else "pretraining did not help"))

# 5. A fitted model predicts any list of Structures.
model = models[best].fit(X, y)
salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
print(f"\nrock salt: {model.predict([salt])[0]:.2f} g/cm³ predicted, {salt.density:.2f} g/cm³ true")

options.figure.parent.mkdir(exist_ok=True)
figure.savefig(options.figure, dpi=100, bbox_inches="tight")
print(f"figure: {options.figure}\ntime: {time.perf_counter() - started:.0f} s")
