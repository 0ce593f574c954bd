"""
Few labels, with and without pretraining
========================================

From a list of crystals to predictions. The crystals come with pymatgen, so nothing is downloaded. Their bulk moduli
were computed with the universal potential CHGNet (the documentation of ``load_prototypes`` says how).

A network gets the moduli of 16 or 32 crystals and predicts those of the others, with five random choices of the
labelled crystals. It is the same network twice: trained from scratch, and finetuned from the weights that ship with the
package. These were pretrained on 15,264 other crystals, to predict among others forces and moduli by another potential,
so a gain is to be expected here;
`results <https://github.com/crystalssl/crystalssl/blob/main/docs/results.md>`_ has sets where it is smaller.
"""

import warnings
from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure
from sklearn.model_selection import ShuffleSplit

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes
from crystalssl.exceptions import OutsideDomainWarning
from crystalssl.plotting import LabelEfficiencyDisplay

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
# Estimators take lists of Structures. Here many models see the same crystals, so their graphs are built once. Both
# networks of a choice are trained on the same crystals and tested on the same others.
graphs = CrystalGraphTransformer("gatedgcn").fit_transform(X)
model = CrystalSSLRegressor(pretrain="joint", random_state=0)
choices = ShuffleSplit(5, train_size=32, random_state=0)
display = LabelEfficiencyDisplay.from_estimator(
    model, graphs, y, train_sizes=[16, 32], cv=choices, unit="GPa", n_jobs=2
)
display.ax_.set(title="Bulk modulus from few labels", ylim=(0, None))
display.figure_.savefig(figures / "quickstart.png")
errors = display.results.pivot_table(index=["n_labels", "split"], columns="method", values="mae")
print("mean absolute error in GPa, mean ± deviation over five choices of the labelled crystals")
for n_labels, runs in errors.groupby("n_labels"):
    scratch, pretrained = (runs[name] for name in ("from scratch", "pretrained"))
    print(f"{n_labels} labels, from scratch: {scratch.mean():.1f} ± {scratch.std():.1f}")
    print(f"           pretrained:   {pretrained.mean():.1f} ± {pretrained.std():.1f}", end=", ")
    print(f"{(pretrained / scratch).mean() - 1:+.0%}, lower with {(pretrained < scratch).sum()} of {len(runs)} choices")

# %%
# A new crystal
# -------------
# A fitted model predicts any list of Structures.
labelled, _ = next(choices.split(X))
model.fit([X[i] for i in labelled], y[labelled])
magnesia = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
print(f"magnesium oxide: {model.predict([magnesia])[0]:.0f} GPa predicted from {len(labelled)} labels")
print("160 GPa were measured; the potential behind the labels is too soft")
