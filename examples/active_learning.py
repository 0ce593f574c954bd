"""
Choose which crystals to label next
===================================

A label is a calculation of hours, or an experiment. Which crystals of a pool are worth one? Run it with::

    python examples/active_learning.py --data FOLDER

A Gaussian process of scikit-learn on the vectors of a pretrained encoder learns from twenty random crystals. Then,
round by round, twenty more get their label: drawn at random; those that the process is least certain of; or those that
tell most about all others, of which it expects that the sum of its variances falls most (transductive experimental
design, K. Yu, J. Bi and V. Tresp, ICML 2006, doi:10.1145/1143844.1143980). No choice sees a label before it is paid
for.

The crystals are those of Matbench's phonon task (matbench_phonons.json.gz in the folder). Without that file, they are
the prototypes that come with pymatgen, and few: one random draw differs much from another there. docs/pictures.md says
what ten repetitions on larger sets show.
"""

# sphinx_gallery_thumbnail_path = 'figures/active_learning.png'
from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crystalssl import PretrainedCrystalEmbedder
from crystalssl.datasets import fetch_matbench, load_prototypes
from crystalssl.exceptions import DatasetError
from crystalssl.plotting import LabelEfficiencyDisplay

STRATEGIES = ("random", "least certain", "most informative")


# %%
# The vectors of the pool, in few components, are what the process sees; no label is needed for them.
def components(vectors, pool):
    """Return the vectors of all crystals along the principal axes of those of the pool."""
    scaler = make_pipeline(StandardScaler(), PCA(32, random_state=0))
    return scaler.fit(vectors[pool]).transform(vectors)


# %%
# A process with a smooth part and noise. Its length, its height and the noise follow from the labels that are known.
def make_process(log):
    """Return an unfitted regressor; of quantities over several decades the logarithm is learnt."""
    kernel = ConstantKernel(1.0, (1e-2, 1e3)) * Matern(10.0, (1.0, 1e3), nu=1.5) + WhiteKernel(0.1, (1e-4, 1.0))
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    functions = {"func": np.log, "inverse_func": np.exp} if log else {}
    return TransformedTargetRegressor(process, **functions)


# %%
# What the process expects to learn from a label does not depend on its value. So crystals can be chosen one after the
# other before any of them is labelled: each changes the covariance of the pool as if it were known.
def choose(strategy, kernel, points, known, rest, n, rng):
    """Return n crystals of `rest`, given those that are known."""
    if strategy == "random":
        return rng.choice(rest, n, replace=False)
    smooth, noise = kernel.k1, kernel.k2.noise_level
    cross = np.linalg.solve(smooth(points[known]) + noise * np.eye(len(known)), smooth(points[known], points[rest]))
    covariance = smooth(points[rest]) - smooth(points[rest], points[known]) @ cross
    chosen = []
    for _ in range(n):
        variance = covariance.diagonal()
        if strategy == "least certain":
            gain = variance.copy()
        else:
            gain = (covariance**2).sum(axis=0) / (variance + noise)
        gain[chosen] = -np.inf
        best = int(gain.argmax())
        chosen.append(best)
        column = covariance[:, best]
        covariance = covariance - np.outer(column, column) / (column[best] + noise)
    return rest[chosen]


# %%
# One run: a fifth of the crystals is kept aside to measure the error, and is never chosen from.
def run(strategy, vectors, y, *, log, seed, first=20, step=20, last=200):
    """Return numbers of labels, and mean absolute errors of crystals that are not in the pool."""
    pool, test = train_test_split(np.arange(len(y)), test_size=0.2, random_state=seed)
    points = components(vectors, pool)
    rng = np.random.default_rng(seed)
    known = rng.choice(pool, first, replace=False)  # the same for all strategies
    process = make_process(log)
    sizes, errors = [], []
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a length at the end of its range is a good one too
            model = clone(process).fit(points[known], y[known])
        sizes.append(len(known))
        errors.append(np.abs(model.predict(points[test]) - y[test]).mean())
        n = min(step, last - len(known), len(pool) - len(known))
        if n <= 0:
            return sizes, errors
        rest = np.setdiff1d(pool, known)
        known = np.append(known, choose(strategy, model.regressor_.kernel_, points, known, rest, n, rng))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the files (default: that of CRYSTALSSL_DATA)")
    parser.add_argument("--repeats", type=int, default=3, help="runs that differ in the crystals they begin with")
    parser.add_argument("--figure", type=Path, default=Path(sys.argv[0]).parent / "figures" / "active_learning.png")
    options = parser.parse_args()
    try:
        task = fetch_matbench("matbench_phonons", data_home=options.data, download_if_missing=False)
        X, y, name, unit = task.data, np.asarray(task.target), "last phonon peak", "1/cm"
    except DatasetError:
        print("There is no file of Matbench's phonons: using the prototypes of pymatgen.")
        (X, y), name, unit = load_prototypes("bulk_modulus", return_X_y=True), "bulk modulus", "GPa"
    embedder = PretrainedCrystalEmbedder("joint").fit(X)
    elements = set(embedder.elements_)
    keep = [i for i, crystal in enumerate(X) if elements.issuperset(crystal.atomic_numbers)]
    vectors, y = embedder.transform([X[i] for i in keep]), y[keep]

    print(f"{name} of {len(y)} crystals; mean absolute error in {unit} of a fifth that is kept aside\n")
    rows = []
    for strategy in STRATEGIES:
        for seed in range(options.repeats):
            sizes, errors = run(strategy, vectors, y, log=True, seed=seed)
            rows += [(strategy, n, error) for n, error in zip(sizes, errors, strict=True)]
    runs = pd.DataFrame(rows, columns=["method", "n_labels", "mae"])
    print(runs.pivot_table(index="n_labels", columns="method", values="mae")[[*STRATEGIES]].round(1).to_string())
    display = LabelEfficiencyDisplay.from_results(runs, unit=unit)
    display.ax_.set(title=f"{name}, {options.repeats} runs")
    options.figure.parent.mkdir(exist_ok=True)
    display.figure_.savefig(options.figure, dpi=100, bbox_inches="tight")
    print(f"\nfigure: {options.figure}")


if __name__ == "__main__":
    main()
