"""
Screen candidates, with intervals
=================================

A few crystals are labelled; which of many others are worth a calculation or an experiment? A model ranks them, says how
sure it is of each, and which are of a kind that it does not know.

The crystals come with pymatgen, and the stiffest are searched for. Their bulk moduli were computed with the universal
potential CHGNet. Those of the candidates are known here as well, so that the choice can be checked in the end; the
model does not see them.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot
from sklearn.model_selection import GroupShuffleSplit

from crystalssl import CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes
from crystalssl.exceptions import OutsideDomainWarning
from crystalssl.inspection import domain
from crystalssl.plotting import IntervalCalibrationDisplay

warnings.filterwarnings("ignore", category=OutsideDomainWarning)  # the table below says it of each crystal
figures = Path("figures")
figures.mkdir(exist_ok=True)

# %%
# Crystals
# --------
# Those with elements that the weights have never seen are left out, and large cells to save time. Candidates have
# formulas that no labelled crystal has.
crystals, moduli = load_prototypes("bulk_modulus", return_X_y=True)
known = set(PretrainedCrystalEmbedder("joint").fit(crystals).elements_)
keep = [i for i, crystal in enumerate(crystals) if known.issuperset(crystal.atomic_numbers) and len(crystal) <= 10]
X, y = [crystals[i] for i in keep], moduli[keep]
formulas = np.array([crystal.reduced_formula for crystal in X])
train, new = next(GroupShuffleSplit(1, train_size=60, random_state=0).split(X, groups=formulas))
X_train, X_new, y_train, y_new = [X[i] for i in train], [X[i] for i in new], y[train], y[new]
print(f"{len(X_train)} labelled crystals, {len(X_new)} candidates")

# %%
# A model that knows how wrong it is
# ----------------------------------
# Each network of the ensemble leaves a fifth of the crystals out, so that every label is predicted once by a network
# that has not seen it. These errors give the score and the intervals, without a further fit. Crystals of one formula
# are left out together, as those of the candidates are new.
model = CrystalSSLRegressor(ensemble="cross-validated", ensemble_size=5, random_state=0)
model.fit(X_train, y_train, groups=formulas[train])
print(f"R² of what was left out: {model.oof_score_:.2f}")

# %%
# Predictions, intervals and domain
# ---------------------------------
# An interval holds for crystals like those of training. ``domain`` says which candidates are not: its verdict names
# what speaks against a prediction.
lower, upper = model.predict_interval(X_new, coverage=0.8)
table = pd.DataFrame(
    {
        "formula": formulas[new],
        "predicted": model.predict(X_new),
        "lower": lower,
        "upper": upper,
        "verdict": domain(model, X_new)["verdict"],
        "true": y_new,  # for the check alone
    }
)
print(table["verdict"].value_counts().to_string())

# %%
# The best
# --------
# Among those that the model knows, take the largest predictions; or the largest lower ends, which prefers crystals that
# are surely stiff to those that may be very stiff.
inside = table[table["verdict"] == "inside"]
best = inside.nlargest(10, "predicted")
sure = inside.nlargest(10, "lower")
print(best.round(0).to_string(index=False))

# %%
# How good was the choice?
# ------------------------
# Ten crystals drawn at random would have the mean of all candidates.
held = (table["lower"] <= table["true"]) & (table["true"] <= table["upper"])
print(f"true modulus: {table['true'].mean():.0f} GPa on average, {best['true'].mean():.0f} GPa of the ten best,")
print(f"              {sure['true'].mean():.0f} GPa of the ten with the largest lower ends")
print(f"{held.mean():.0%} of the 80 % intervals hold the true value")

figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
rows = np.arange(len(best))
left.errorbar(
    best["predicted"],
    rows,
    xerr=[best["predicted"] - best["lower"], best["upper"] - best["predicted"]],
    fmt="o",
    capsize=3,
    label="predicted, 80 % interval",
)
left.plot(best["true"], rows, "x", color="C3", label="true")
left.set(yticks=rows, yticklabels=best["formula"], xlabel="bulk modulus (GPa)", title="The ten best")
left.invert_yaxis()
left.legend()
IntervalCalibrationDisplay.from_estimator(model, X_new, y_new, ax=right)
right.set_title("All candidates")
figure.savefig(figures / "screening.png")

# %%
# Millions of candidates
# ----------------------
# ``model.save("model")`` writes a folder. From the shell, files of any size are screened in a stream:
#
# .. code-block:: bash
#
#     crystalssl screen model candidates.parquet --top 100 --domain --all predictions -o best.csv
#
# Candidates that will be screened again are best written as a corpus of graphs once, with ``write_corpus``.
