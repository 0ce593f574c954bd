"""
The official folds of Matbench
==============================

Cross-validation on the official folds of a Matbench task, comparable with the leaderboard. Run it with::

    python examples/matbench_cross_validation.py --data FOLDER
    python examples/matbench_cross_validation.py --task matbench_phonons --pretrain simsiam --epochs 100

The default number of epochs is meant for a first look: leave it to the estimator (--epochs 0) for its full accuracy.
The folder holds the task's file, e.g. matbench_jdft2d.json.gz; the environment variable CRYSTALSSL_DATA can name it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.model_selection import cross_val_predict

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor
from crystalssl.datasets import fetch_matbench, matbench_folds
from crystalssl.exceptions import DatasetError
from crystalssl.plotting import ParityDisplay

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--task", default="matbench_jdft2d")
parser.add_argument("--pretrain", default="joint", help='a method, a weights folder, or "none" for random weights')
parser.add_argument("--epochs", type=int, default=20, help="0 takes the estimator's default")
parser.add_argument("--data", type=Path, help="folder of the files (default: that of CRYSTALSSL_DATA)")
parser.add_argument(
    "--figure", type=Path, default=Path(sys.argv[0]).parent / "figures" / "matbench_cross_validation.png"
)
options = parser.parse_args()

try:
    task = fetch_matbench(options.task, data_home=options.data, download_if_missing=False)
except DatasetError as error:
    sys.exit(str(error))
graphs, y = CrystalGraphTransformer().fit_transform(task.data), task.target
folds = matbench_folds(options.task)

model = CrystalSSLRegressor(pretrain=None if options.pretrain == "none" else options.pretrain, random_state=0)
if options.epochs:
    model.set_params(max_epochs=options.epochs)

started = time.perf_counter()
predicted = cross_val_predict(model, graphs, y, cv=folds)
errors = np.array([np.abs(predicted[test] - y[test]).mean() for _, test in folds.split(graphs)])
baseline = np.array([np.abs(np.median(y[train]) - y[test]).mean() for train, test in folds.split(graphs)])
print(f"{options.task}: mean absolute error in {task.unit} on the official folds")
print(f"  {model}  {errors.mean():.1f} ± {errors.std():.1f}   ({', '.join(f'{error:.1f}' for error in errors)})")
print(f"  median of the training targets  {baseline.mean():.1f} ± {baseline.std():.1f}")

# These targets span decades, and so do the predictions of a model that learns their logarithm.
display = ParityDisplay.from_predictions(y, predicted, unit=task.unit, log=min(y.min(), predicted.min()) > 0)
options.figure.parent.mkdir(exist_ok=True)
display.figure_.savefig(options.figure, dpi=100)
print(f"figure: {options.figure}\ntime: {time.perf_counter() - started:.0f} s")
