"""
A property from few labels
==========================

You know the bulk modulus of fifty crystals and want that of the others. The crystals here ship with pymatgen, and
their moduli were computed with the universal potential CHGNet; take yours with `crystalssl.io.read_crystals`.
"""

import pandas as pd
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import train_test_split

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor
from crystalssl.datasets import load_prototypes
from crystalssl.plotting import LabelEfficiencyDisplay, ParityDisplay

# %%
# Crystals are pymatgen structures in a list, and what is to be predicted is a vector. Large cells are left out, so
# that this page is quick.
structures, y = load_prototypes("bulk_modulus", return_X_y=True)
small = [i for i, structure in enumerate(structures) if len(structure) <= 12]
structures, y = [structures[i] for i in small], y[small]
len(structures), structures[0].formula

# %%
# Estimators take the list as it is. Where several models see the same crystals, build the graphs once: they slice and
# split like an array.
graphs = CrystalGraphTransformer("gatedgcn").fit_transform(structures)
train, test, y_train, y_test = train_test_split(graphs, y, train_size=50, random_state=0)
graphs

# %%
# A model is a scikit-learn estimator. It starts from the weights `"joint"`, which ship with the package.
model = CrystalSSLRegressor(max_epochs=40, random_state=0).fit(train, y_train)
predicted = model.predict(test)
print(f"mean absolute error: {mean_absolute_error(y_test, predicted):.1f} GPa")
ParityDisplay.from_predictions(y_test, predicted, unit="GPa")

# %%
# The warning names elements that no training crystal holds: the predictions for those crystals deserve less trust.
#
# Is it the pretraining? The same network from random weights, with several numbers of labels. One choice of the
# labelled crystals says little, so there are two here, and there should be more where it matters.
runs = []
for seed in range(2):
    train, test, y_train, y_test = train_test_split(graphs, y, train_size=50, random_state=seed)
    for n_labels in (20, 50):
        for name, pretrain in {"from scratch": None, "pretrained": "joint"}.items():
            model = CrystalSSLRegressor(pretrain=pretrain, max_epochs=40, random_state=seed)
            model.fit(train[:n_labels], y_train[:n_labels])
            runs.append((name, n_labels, mean_absolute_error(y_test, model.predict(test))))
runs = pd.DataFrame(runs, columns=["method", "n_labels", "mae"])
LabelEfficiencyDisplay.from_results(runs, unit="GPa")

# %%
# As a table:
runs.pivot_table(index="n_labels", columns="method", values="mae").round(1)

# %%
# From here: `docs/choosing.md` says which method to take, `docs/trust.md` how much to believe a prediction.
