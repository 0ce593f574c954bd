"""
Pretrain on structures of your own
==================================

Pretrain on structures of your own, without labels; save the weights and use them. Run it with::

    python examples/pretrain_your_own.py                            # 2,000 crystals of the data folder, or prototypes
    python examples/pretrain_your_own.py mine/*.cif --folder mine/weights --epochs 15

Interrupt it and start it again: it goes on after the last complete epoch, and ends with the weights it would have had.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import matplotlib
from sklearn.metrics import mean_absolute_error
from sklearn.model_selection import train_test_split

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes, read_optimade_parquet
from crystalssl.plotting import TrainingHistoryDisplay

matplotlib.use("Agg")
SHARED = Path(sys.argv[0]).resolve().parents[2] / "shared" / "data"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("structures", nargs="*", help="CIF, POSCAR, … to pretrain on")
parser.add_argument("--method", default="barlow")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "crystalssl-my-weights")
parser.add_argument("--data", type=Path, default=os.environ.get("CRYSTALSSL_DATA") or SHARED)
parser.add_argument("--figure", type=Path, default=Path(sys.argv[0]).parent / "figures" / "pretrain_your_own.png")
options = parser.parse_args()

file = Path(options.data) / "mp_pretrain.parquet"
corpus = options.structures  # paths are as good as Structures
if not corpus:
    corpus = read_optimade_parquet(file).data[:2000] if file.exists() else load_prototypes().data

# %%
# 1. Pretrain. The checkpoint is written after every epoch.
embedder = PretrainedCrystalEmbedder(
    options.method,
    weights=None,
    max_epochs=options.epochs,
    checkpoint=options.folder.with_suffix(".checkpoint"),
    random_state=0,
    verbose=1,
).fit(corpus)

# %%
# 2. Save. The folder holds the weights (safetensors), their settings (JSON) and a card to fill in.
embedder.save_pretrained(options.folder)
print(f"{len(corpus)} crystals with {len(embedder.elements_)} elements; weights: {options.folder}")

# %%
# 3. Use. A folder goes wherever the name of bundled weights does.
X, y = load_prototypes(return_X_y=True)
known = set(PretrainedCrystalEmbedder.from_pretrained(options.folder).elements_)
keep = [i for i, structure in enumerate(X) if known.issuperset(structure.atomic_numbers)]
graphs = CrystalGraphTransformer().fit_transform([X[i] for i in keep])
train, test, y_train, y_test = train_test_split(graphs, y[keep], train_size=min(48, len(keep) // 2), random_state=0)
for name, pretrain in {"from scratch": None, "your weights": options.folder}.items():
    model = CrystalSSLRegressor(pretrain=pretrain, random_state=0).fit(train, y_train)
    print(f"  {name}: MAE {mean_absolute_error(y_test, model.predict(test)):.2f} g/cm³ with {len(train)} labels")

display = TrainingHistoryDisplay.from_estimator(embedder)
display.ax_.set_title(f"pretraining ({options.method}) on {len(corpus)} crystals")
options.figure.parent.mkdir(exist_ok=True)
display.figure_.savefig(options.figure, dpi=100)
print(f"figure: {options.figure}")
