"""
Let a grid search choose the pretraining
========================================

Let a grid search choose the pretraining, as it would choose any other parameter. Each name brings its own encoder, so
that this compares encoders too; docs/choosing.md has a search over objectives alone. Run it with::

    python examples/choose_pretraining.py --data FOLDER

Predicts the highest phonon frequency of crystals (matbench_phonons.json.gz in the folder) from few labels. Without that
file, it predicts the density of the prototypes that come with pymatgen.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib import pyplot
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import fetch_matbench, load_prototypes
from crystalssl.exceptions import DatasetError

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--labels", type=int, default=120, help="crystals that the search gets")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--data", type=Path, help="folder of the files (default: that of CRYSTALSSL_DATA)")
parser.add_argument("--figure", type=Path, default=Path(sys.argv[0]).parent / "figures" / "choose_pretraining.png")
options = parser.parse_args()

try:
    X, y = fetch_matbench("matbench_phonons", data_home=options.data, return_X_y=True, download_if_missing=False)
    unit = "1/cm"
except DatasetError as error:
    print(f"{error}\nUsing the prototypes of pymatgen instead.")
    (X, y), unit = load_prototypes(return_X_y=True), "g/cm³"
known = set(PretrainedCrystalEmbedder("joint").fit(X).elements_)
keep = [i for i, structure in enumerate(X) if known.issuperset(structure.atomic_numbers)]
X_train, X_test, y_train, y_test = train_test_split(
    [X[i] for i in keep], y[keep], train_size=options.labels, random_state=0
)

model = Pipeline(
    [
        ("graphs", CrystalGraphTransformer()),
        ("model", CrystalSSLRegressor(max_epochs=options.epochs, random_state=0)),
    ]
)
grid = {"model__pretrain": [None, "joint", "barlow"], "model__freeze_encoder": [False]}
# Freezing the encoder makes sense only where it knows something.
grid = [grid, {"model__pretrain": ["joint", "barlow"], "model__freeze_encoder": [True]}]
# A misspelt name is an error, where the search would otherwise write NaN and choose another.
search = GridSearchCV(model, grid, cv=3, scoring="neg_mean_absolute_error", error_score="raise").fit(X_train, y_train)

results = search.cv_results_
labels = [
    f"{params['model__pretrain'] or 'from scratch'}{', frozen' if params['model__freeze_encoder'] else ''}"
    for params in results["params"]
]
means, deviations = -results["mean_test_score"], results["std_test_score"]
print(f"mean absolute error in {unit}, cross-validated on {len(X_train)} crystals")
for label, mean, deviation in zip(labels, means, deviations, strict=True):
    print(f"  {label:<16} {mean:.3g} ± {deviation:.2g}")
# The search has fitted its choice to all of X_train.
error = mean_absolute_error(y_test, search.predict(X_test))
print(f"chosen: {labels[search.best_index_]}; on the {len(X_test)} other crystals its error is {error:.3g} {unit}")

figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
colors = np.where(np.arange(len(labels)) == search.best_index_, "C1", "C0")
axes.barh(labels, means, xerr=deviations, color=colors, capsize=3)
axes.invert_yaxis()
axes.set(xlabel=f"cross-validated MAE ({unit})", title=f"{len(X_train)} labels; chosen: {labels[search.best_index_]}")
options.figure.parent.mkdir(exist_ok=True)
figure.savefig(options.figure, dpi=100)
print(f"figure: {options.figure}")
