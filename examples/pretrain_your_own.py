"""
Pretrain on structures of your own
==================================

Structures without labels are a corpus. This writes one to the disk, pretrains a small encoder on it, saves the weights,
and asks what its vectors know, beside those of the weights that ship with the package.

The corpus here are crystals that come with pymatgen, so that it takes a minute. They are far too few: the bundled
weights have seen more than fifty times as many. Pretraining of your own is for chemistry that these have not seen.
"""

import tempfile
import warnings
from pathlib import Path

import numpy as np
from matplotlib import pyplot
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crystalssl import CrystalCorpus, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes
from crystalssl.exceptions import OutsideDomainWarning
from crystalssl.io import write_corpus
from crystalssl.plotting import ParityDisplay, TrainingHistoryDisplay

# So few labels never hold all elements, which models warn of.
warnings.filterwarnings("ignore", category=OutsideDomainWarning)
folder = Path(tempfile.mkdtemp())  # take one that stays
figures = Path("figures")
figures.mkdir(exist_ok=True)

# %%
# Write the corpus
# ----------------
# The source may be a list of Structures, a folder of CIF files, a table or an archive, and larger than memory. Records
# that cannot be used are listed, not guessed. CGCNN is the fastest of the encoders.
crystals, moduli = load_prototypes("bulk_modulus", return_X_y=True)
write_corpus(crystals, folder / "corpus", encoder="cgcnn", on_error="report", verbose=0)
corpus = CrystalCorpus.load(folder / "corpus")
print(f"{len(corpus)} crystals, {len(crystals) - len(corpus)} records that could not be used")

# %%
# Pretrain
# --------
# No label is used. The checkpoint is written after every epoch: interrupted and started again, training goes on there,
# and ends with the weights it would have had.
embedder = PretrainedCrystalEmbedder(
    "barlow", encoder="cgcnn", weights=None, max_epochs=5, checkpoint=folder / "checkpoint", random_state=0
).fit(corpus)
display = TrainingHistoryDisplay.from_estimator(embedder)
display.ax_.set_title(f"Barlow Twins on {len(corpus)} crystals")
display.figure_.savefig(figures / "pretrain_your_own.png")

# %%
# Save
# ----
# The folder holds the weights (safetensors), their settings (JSON) and a card to fill in.
embedder.save_pretrained(folder / "weights")
print(*sorted(path.name for path in (folder / "weights").iterdir()))

# %%
# Linear probing
# --------------
# What do the vectors know? Ridge regression learns bulk moduli from them; no encoder is trained. A folder goes wherever
# the name of bundled weights does. Weights know the elements that they were pretrained on, so other crystals are left
# out. The readout is free to choose: mean, maximum and minimum over atoms give three times the features of the mean.
encoders = {"yours": folder / "weights", "barlow": "bundled", "joint": "bundled"}
probes = {
    name: PretrainedCrystalEmbedder("joint" if name == "joint" else "barlow", weights=weights, readout="mean+max+min")
    for name, weights in encoders.items()
}
known = set.intersection(*(set(probe.fit(crystals).elements_) for probe in probes.values()))
keep = [i for i, crystal in enumerate(crystals) if known.issuperset(crystal.atomic_numbers)]
X_train, X_test, y_train, y_test = train_test_split(
    [crystals[i] for i in keep], moduli[keep], test_size=0.3, random_state=0
)
figure, panels = pyplot.subplots(1, len(probes), figsize=(4 * len(probes), 4.5), layout="constrained")
for (name, probe), panel in zip(probes.items(), panels, strict=True):
    model = make_pipeline(probe, StandardScaler(), RidgeCV(np.logspace(-3, 5, 17))).fit(X_train, y_train)
    predicted = model.predict(X_test)
    error = mean_absolute_error(y_test, predicted)
    print(f"{name:<8} R² {r2_score(y_test, predicted):5.2f}, mean absolute error {error:.0f} GPa")
    panel.set_title(name)
    ParityDisplay.from_predictions(y_test, predicted, unit="GPa", histogram=False, ax=panel)
figure.savefig(figures / "linear_probing.png")

# %%
# Finetune
# --------
# Training of the encoder too takes longer, and has lower errors on most properties.
model = CrystalSSLRegressor(pretrain=folder / "weights", max_epochs=20, random_state=0).fit(X_train, y_train)
print(f"finetuned: mean absolute error {mean_absolute_error(y_test, model.predict(X_test)):.0f} GPa")
