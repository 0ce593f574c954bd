"""Whole jobs, as users wait for them: five folds, predictions from a file, the first fit of a process."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from _common import data_file
from sklearn.model_selection import KFold

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor
from crystalssl.exceptions import UnseenElementsWarning
from crystalssl.io import iter_crystals

from .data import CORPUS, Crystals

N_PREDICTED = 100_000
_FOLDS = KFold(5, shuffle=True, random_state=18012019)  # of all rows of a Matbench task, its official folds

_COLD = """
import json, sys, time
started = time.perf_counter()
from crystalssl import CrystalSSLRegressor
from crystalssl.datasets import load_prototypes
X, y = load_prototypes(return_X_y=True)
X, y = X[:50], [float(len(x)) for x in X[:50]]
read = time.perf_counter()
epochs = json.loads(sys.argv[1])
model = CrystalSSLRegressor(device="cpu", random_state=0, **({} if epochs is None else {"max_epochs": epochs}))
model.fit(X, y)
print(json.dumps({"import and read": read - started, "fit": time.perf_counter() - read}))
"""


def time_jobs(crystals: Crystals, size: int | None) -> Iterator[dict[str, Any]]:
    """Do each job once; `size` crystals take the place of all, and of the 100,000."""
    yield _five_folds(crystals, size)
    yield predictions(crystals, size or N_PREDICTED)
    for name, epochs in (("first fit of 50 crystals, one epoch", 1), ("first fit of 50 crystals", None)):
        yield _cold_fit(name, epochs)


def _five_folds(crystals: Crystals, size: int | None) -> dict[str, Any]:
    """Finetune the default regressor on the folds of matbench_phonons, graphs included."""
    data = crystals.phonons
    X, y = data.data[:size], np.asarray(data.target, dtype=float)[:size]
    torch.set_num_threads(1)
    started, errors = time.process_time(), []
    graphs = CrystalGraphTransformer().transform(X)
    built = time.process_time()
    for train, test in _FOLDS.split(y):
        model = CrystalSSLRegressor(random_state=0, device="cpu").fit(graphs[train], y[train])
        errors.append(np.abs(model.predict(graphs[test]) - y[test]).mean())
    ended = time.process_time()
    return {
        "name": "default regressor, five folds of matbench_phonons", "threads": 1, "clock": "CPU",
        "work": len(y), "unit": "crystals", "seconds": ended - started, "goal": 180.0,
        "parts": {"graphs": built - started, "fits and predictions": ended - built},
        "checked": f"mean absolute error {np.mean(errors):.2f} 1/cm",
    }  # fmt: skip


def predictions(crystals: Crystals, size: int) -> dict[str, Any]:
    """Predict for crystals of a Parquet file, which is read again from its start when it ends."""
    path = data_file(crystals.folder, f"{CORPUS}.parquet")
    few = crystals.phonons.data[:64]
    model = CrystalSSLRegressor(random_state=0, device="cpu", max_epochs=1).fit(few, np.arange(float(len(few))))
    torch.set_num_threads(2)
    done, network, started = 0, 0.0, time.perf_counter()
    try:
        for chunk in itertools.chain.from_iterable(
            iter_crystals(path, as_graphs=True, on_error="report", n_jobs=2, verbose=0) for _ in itertools.count()
        ):
            graphs, before = chunk.data[: size - done], time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UnseenElementsWarning)  # of these labels nobody wants a prediction
                model.predict(graphs)
            network += time.perf_counter() - before
            done += len(graphs)
            if done == size:
                break
    finally:
        torch.set_num_threads(1)
    seconds = time.perf_counter() - started
    return {
        "name": "finetuned prediction of structures from Parquet", "threads": 2, "clock": "wall",
        "work": done, "unit": "structures", "seconds": seconds, "goal": size / 4000,
        "parts": {"file to graphs": seconds - network, "predict": network}, "checked": "all are finite",
    }  # fmt: skip


def _cold_fit(name: str, epochs: int | None) -> dict[str, Any]:
    """Fit in a new process; the time is that from its start to its end."""
    started = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-c", _COLD, json.dumps(epochs)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    parts = json.loads(found.stdout.splitlines()[-1])
    return {
        "name": f"{name}, from a cold process", "threads": 2, "clock": "wall",
        "work": 50, "unit": "crystals", "seconds": seconds, "goal": 3.0,
        "parts": {**parts, "start and end of Python": seconds - sum(parts.values())}, "checked": "no error",
    }  # fmt: skip
