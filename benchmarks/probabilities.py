"""Whether a classifier is right as often as its probabilities say.

    python benchmarks/probabilities.py --jobs 2

Two questions: whether a stable crystal has a band gap, and whether one is ductile by Pugh's rule, K > 1.75 G. A seed
draws a fifth of the crystals as the test set, and 100 of the others to train on. The models are one network, without
and with smoothed labels, five that differ in their seeds, and five of a cross-validated ensemble. Adds a row per
question, model and seed to results/probabilities.csv, leaves out what is there, and prints means over the seeds: the
accuracy; the mean probability of the class that is predicted; how far these two are apart, on average over ten bins of
equally many crystals; and the log loss.
"""

from __future__ import annotations

from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from _common import Results, make_parser, markdown, name_settings, run_all, settings_id, weights_sha256
from _sets import Sets
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from crystalssl import CrystalGraphs, CrystalSSLClassifier

KEYS = ["task", "method", "model", "seed", "settings", "weights"]
METHOD = "joint"
MODELS: dict[str, dict[str, Any]] = {
    "one network, label_smoothing=0": {"label_smoothing": 0},
    "one network": {},
    "five seeds": {"ensemble_size": 5},
    "cross-validated": {"ensemble_size": 5, "ensemble": "cross-validated"},
}
TASKS = ["band gap or none", "ductile or brittle"]
PUGH = 1.75
N_LABELS, N_BINS = 100, 10
SCORES = ["accuracy", "top_probability", "calibration_error", "log_loss"]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=range(5))
    parser.add_argument("--jobs", type=int, default=1, help="processes, each computing on one thread")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    options = parser.parse_args()
    results, settings = Results(options.results / "probabilities.csv", KEYS), settings_id(CrystalSSLClassifier())
    rows = [
        dict(zip(KEYS, [task, METHOD, model, seed, settings, weights_sha256(METHOD)], strict=True))
        for task in TASKS
        for seed in options.seeds
        for model in MODELS
    ]
    if not options.report:
        sets = Sets(options.data)
        calls = [joblib.delayed(measure)(row, *question(row["task"], sets)) for row in rows if not results.has(row)]
        run_all(calls, results, options.jobs, lambda row: ", ".join(f"{name} {row[name]:.3f}" for name in SCORES))
        name_settings(options.results, settings, [])
    frame = results.select(rows)
    print(f"\nmeans over {frame.seed.nunique()} seeds\n\n{table(frame)}")


def question(task: str, sets: Sets) -> tuple[CrystalGraphs, np.ndarray]:
    """Return crystals and answers."""
    if task == TASKS[0]:
        graphs, gaps = sets.of("band gap", METHOD)
        return graphs, np.where(gaps > 0, "gap", "none")
    (graphs, bulk), (_, shear) = (sets.of(name, METHOD) for name in ("log10 K", "log10 G"))
    return graphs, np.where(bulk - shear > np.log10(PUGH), "ductile", "brittle")


def measure(row: dict[str, Any], graphs: CrystalGraphs, classes: np.ndarray) -> dict[str, Any]:
    """Return a row with what a model's probabilities are worth."""
    torch.set_num_threads(1)  # the last bits depend on it
    rest, test = train_test_split(np.arange(len(classes)), test_size=0.2, random_state=row["seed"])
    train = rest[:N_LABELS]
    model = CrystalSSLClassifier(METHOD, random_state=row["seed"], device="cpu", **MODELS[row["model"]])
    probabilities = model.fit(graphs[train], classes[train]).predict_proba(graphs[test])
    return {**row, "n_labels": len(train), "n_test": len(test), **scores(probabilities, classes[test], model.classes_)}


def scores(probabilities: np.ndarray, truth: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Return accuracy, mean top probability, their mean distance in bins, and log loss."""
    top, right = probabilities.max(axis=1), classes[probabilities.argmax(axis=1)] == truth
    bins = np.array_split(np.argsort(top, kind="stable"), N_BINS)
    apart = [abs(top[some].mean() - right[some].mean()) for some in bins]
    values = right.mean(), top.mean(), np.mean(apart), log_loss(truth, probabilities, labels=classes)
    return dict(zip(SCORES, map(float, values), strict=True))


def table(frame: pd.DataFrame) -> str:
    """Return means over the seeds as a Markdown table."""
    means = frame.groupby(["task", "model"], sort=False)[SCORES].mean()
    lines = [
        [*name, *(f"{value:.3f}" for value in row)] for name, row in zip(means.index, means.to_numpy(), strict=True)
    ]
    return markdown(["question", "model", "accuracy", "mean top probability", "apart, in ten bins", "log loss"], lines)


if __name__ == "__main__":
    main()
