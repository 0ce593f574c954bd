"""
Screen candidates, and know what to believe
===========================================

A model ranks candidates by a predicted property. How large is the error to be expected, and is a candidate of a kind
that the model knows at all? An ensemble of which every network leaves out another part of the crystals answers the
first, the distance from the training crystals the second.
"""

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from crystalssl import CrystalSSLRegressor
from crystalssl.datasets import load_prototypes
from crystalssl.inspection import domain, neighbors

# %%
# Crystals with known moduli, and candidates, whose moduli are looked at only in the end.
structures, y = load_prototypes("bulk_modulus", return_X_y=True)
small = [i for i, structure in enumerate(structures) if len(structure) <= 8]
structures, y = [structures[i] for i in small], y[small]
X, candidates, y_known, y_candidates = train_test_split(structures, y, train_size=80, random_state=0)
len(X), len(candidates)

# %%
# Polymorphs of one formula stay together, so that what is left out is as new as the candidates are. The score is R² of
# predictions for crystals that a network has not seen; no further fit is needed for it.
model = CrystalSSLRegressor(ensemble="cross-validated", ensemble_size=4, max_epochs=30, random_state=0)
model.fit(X, y_known, groups=[crystal.reduced_formula for crystal in X])
print(f"R² of what was left out: {model.oof_score_:.2f}")

# %%
# An interval for each candidate, which is wider where networks disagree and where the candidate is far from training.
# Then whether it is inside what the model knows, and why not.
lower, upper = model.predict_interval(candidates, coverage=0.8)
table = pd.DataFrame(
    {
        "formula": [crystal.reduced_formula for crystal in candidates],
        "predicted": model.predict(candidates),
        "lower": lower,
        "upper": upper,
        "verdict": domain(model, candidates)["verdict"].to_numpy(),
    }
)
table.sort_values("lower", ascending=False).head(8).round(0)

# %%
# Ranked by the lower end, a candidate comes first if it is good even where the prediction errs. Those outside are for
# a calculation or an experiment, not for a ranking:
table["inside"] = table.verdict == "inside"
table.groupby("inside").size()

# %%
# What does the best prediction rest on? The nearest training crystals, with their labels.
best = int(table.lower.idxmax())
neighbors(model, [candidates[best]], k=3)

# %%
# Here the moduli of the candidates are known. How many lie inside their intervals, in and out of the domain?
table["covered"] = (table.lower <= y_candidates) & (y_candidates <= table.upper)
print(f"asked for 80 %, covered {np.mean(table.covered):.0%}")
table.groupby("inside").covered.mean().round(2)

# %%
# The same in the shell, for files larger than memory: `crystalssl screen model candidates.parquet --top 20`.
