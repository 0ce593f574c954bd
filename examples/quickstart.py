"""
Few labels, with and without pretraining
========================================

From a list of crystals to predictions with intervals. The crystals come with pymatgen, so nothing is downloaded. Their
bulk moduli were computed with the universal potential CHGNet (the documentation of ``load_prototypes`` says how).

A network gets the moduli of 16 or 32 crystals and predicts those of the others. It is the same network twice: trained
from scratch, and finetuned from the weights that ship with the package. These were pretrained on 15,790 other crystals
whose atoms are displaced, to predict among others the forces that pull them back, so a gain is to be expected here;
`results <https://github.com/crystalssl/crystalssl/blob/main/docs/results.md>`_ has sets where it is smaller.
"""

import warnings
from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure
from sklearn.model_selection import ShuffleSplit, train_test_split

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes
from crystalssl.exceptions import OutsideDomainWarning
from crystalssl.plotting import LabelEfficiencyDisplay, ParityDisplay

# So few labels never hold all elements, which the models warn of.
warnings.filterwarnings("ignore", category=OutsideDomainWarning)
figures = Path("figures")
figures.mkdir(exist_ok=True)

# %%
# Crystals
# --------
# They are pymatgen Structures, in a list. The weights know the elements that they were pretrained on: the few crystals
# with other elements are left out, and so are compositions that the pretraining corpus holds too, which would not be
# new to the pretrained network. Large cells are left out to save time.
in_corpus = {"Pa", "KCSN", "CeNiC2", "Fe3W3C", "Hg", "CO", "CaFe(SiO3)2", "FeCuS2", "Ga3Pt5", "AgTe4Au", "I"}
crystals, moduli = load_prototypes("bulk_modulus", return_X_y=True)
known = set(PretrainedCrystalEmbedder("joint").fit(crystals).elements_)
keep = [
    i
    for i, crystal in enumerate(crystals)
    if known.issuperset(crystal.atomic_numbers) and crystal.reduced_formula not in in_corpus and len(crystal) <= 8
]
X, y = [crystals[i] for i in keep], moduli[keep]
print(f"{len(X)} crystals, bulk moduli from {y.min():.0f} to {y.max():.0f} GPa, half of them below {np.median(y):.0f}")

# %%
# With and without pretraining
# ----------------------------
# Estimators take lists of Structures. Here many models see the same crystals, so their graphs are built once. Two
# random choices of the labelled crystals show the trend; take more of them before you believe a difference.
graphs = CrystalGraphTransformer("gatedgcn").fit_transform(X)
model = CrystalSSLRegressor(pretrain="joint", random_state=0)
display = LabelEfficiencyDisplay.from_estimator(
    model, graphs, y, train_sizes=[16, 32], cv=ShuffleSplit(2, train_size=32, random_state=0), unit="GPa"
)
display.ax_.set(title="Bulk modulus from few labels", ylim=(0, None))
display.figure_.savefig(figures / "quickstart.png")
errors = display.results.pivot_table(index="n_labels", columns="method", values="mae")
errors["lower by"] = (1 - errors["pretrained"] / errors["from scratch"]).map("{:.0%}".format)
print(f"mean absolute error in GPa\n{errors.round(1)}")

# %%
# Predictions with intervals
# --------------------------
# Each network of a cross-validated ensemble leaves other crystals out. How wrong the networks are on these tells how
# wide an interval has to be that holds 80 % of the true values.
X_train, X_test, y_train, y_test = train_test_split(graphs, y, train_size=48, random_state=0)
model = CrystalSSLRegressor(ensemble="cross-validated", ensemble_size=3, random_state=0).fit(X_train, y_train)
lower, upper = model.predict_interval(X_test, coverage=0.8)
print(f"{np.mean((lower <= y_test) & (y_test <= upper)):.0%} of {len(y_test)} true values are in their interval")
display = ParityDisplay.from_predictions(y_test, model.predict(X_test), interval=(lower, upper), unit="GPa")
display.figure_.savefig(figures / "quickstart_intervals.png")

# %%
# A fitted model predicts any list of Structures.
magnesia = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
modulus, (lower, upper) = model.predict([magnesia])[0], np.ravel(model.predict_interval([magnesia], coverage=0.8))
print(f"magnesium oxide: {modulus:.0f} GPa predicted, 80 % interval from {lower:.0f} to {upper:.0f}")
print("160 GPa were measured; the potential behind the labels is too soft")
