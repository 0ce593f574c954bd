"""Small tasks under the names of official ones: their files, their rows in the registry, their published folds."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from sklearn.model_selection import KFold, StratifiedKFold

from crystalssl.datasets._folds import _published_folds
from crystalssl.datasets._registry import load_registry

N_ROWS = 40
TASKS = {
    "matbench_phonons": "last phdos peak",
    "matbench_jdft2d": "exfoliation_en",
    "matbench_mp_is_metal": "is_metal",
}


def make_task(patch, folder, name, y, edges):
    """Write the file of a task and make the package take it for the official one."""
    crystals = [Structure(Lattice.cubic(a), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]).as_dict() for a in edges]
    table = {
        "index": list(range(len(y))),
        "columns": ["structure", TASKS[name]],
        "data": [[crystal, value] for crystal, value in zip(crystals, y.tolist(), strict=True)],
    }
    content = gzip.compress(json.dumps(table).encode(), mtime=0)
    (folder / f"{name}.json.gz").write_bytes(content)
    entry = dataclasses.replace(load_registry()[name], rows=len(y), sha256=hashlib.sha256(content).hexdigest())
    patch.setitem(load_registry(), name, entry)
    kind = StratifiedKFold if y.dtype == bool else KFold
    tests = [test for _, test in kind(5, shuffle=True, random_state=18012019).split(np.zeros(len(y)), y)]
    prefix, width = name.replace("matbench", "mb").replace("_", "-"), len(str(len(y)))
    ids = [[f"{prefix}-{row + 1:0{width}d}" for row in sorted(test)] for test in tests]
    sha256 = [hashlib.sha256("\n".join(fold).encode()).hexdigest() for fold in ids]
    published = {"n_rows": len(y), "stratified": y.dtype == bool, "sha256": sha256}
    patch.setitem(_published_folds(), name, published)
    return tests


@pytest.fixture(scope="module")
def small():
    """Targets and test rows of the tasks, by name."""
    return {}


@pytest.fixture(autouse=True)
def tasks(tmp_path_factory, monkeypatch, small):
    """Folder of the files; the environment names it."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    edges = 4 + rng.random(N_ROWS)
    targets = {"matbench_phonons": 100 * edges + rng.normal(size=N_ROWS), "matbench_mp_is_metal": edges > 4.4}
    for name, y in targets.items():
        small[name] = y, make_task(monkeypatch, folder, name, y, edges)
    monkeypatch.setenv("CRYSTALSSL_DATA", str(folder))
    return folder


@pytest.fixture
def layers(tasks, monkeypatch):
    """A small matbench_jdft2d beside them; other tests take the real one."""
    edges = 4 + np.random.default_rng(1).random(N_ROWS)
    make_task(monkeypatch, tasks, "matbench_jdft2d", 10 * edges, edges)
