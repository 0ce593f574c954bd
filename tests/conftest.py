"""Crystals that the tests of several subpackages share."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure

from crystalssl import CrystalGraphTransformer
from crystalssl.augment import AUGMENTATIONS
from crystalssl.datasets import fetch_matbench, load_prototypes
from crystalssl.encoders import ENCODERS
from crystalssl.exceptions import DatasetError
from crystalssl.graphs import RECIPES
from crystalssl.pretext import TASKS

_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def benchmarks():
    """Scripts import each other by name, from the folder that they are in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(_ROOT / "benchmarks")
        yield


@pytest.fixture(scope="session")
def prototypes():
    """The 288 crystals that ship inside pymatgen; up to 105 atoms."""
    return load_prototypes().data


@pytest.fixture(scope="session")
def _crystals_and_targets():
    home = os.environ.get("CRYSTALSSL_DATA") or _ROOT / ".." / "shared" / "data"
    try:
        return fetch_matbench("matbench_phonons", data_home=home, return_X_y=True, download_if_missing=False)
    except DatasetError:
        return load_prototypes(return_X_y=True)


@pytest.fixture(scope="session")
def crystals(_crystals_and_targets):
    """The 1,265 crystals of matbench_phonons where the file is at hand (never downloaded), else the prototypes."""
    return _crystals_and_targets[0]


@pytest.fixture(scope="session")
def real_crystals(_crystals_and_targets):
    """The first 100 of them, and their targets."""
    X, y = _crystals_and_targets
    return X[:100], y[:100]


@pytest.fixture(scope="session")
def real_graphs(real_crystals):
    """Their graphs, as CGCNN reads them."""
    return CrystalGraphTransformer().transform(real_crystals[0])


@pytest.fixture(scope="session")
def data_home():
    """Folder with the real files (not part of the repository); tests that need it are skipped without it."""
    home = Path(os.environ.get("CRYSTALSSL_DATA") or _ROOT / ".." / "shared" / "data").resolve()
    if not home.is_dir():
        pytest.skip(f"no data in {home}; set CRYSTALSSL_DATA")
    return home


@pytest.fixture(scope="session")
def reference():
    """Folder with the published tables that the package data was taken from."""
    folder = (_ROOT / ".." / "shared" / "reference").resolve()
    if not folder.is_dir():
        pytest.skip(f"no reference tables in {folder}")
    return folder


@pytest.fixture
def gradient_norms(monkeypatch):
    """A list that grows by the norm of the gradient, as it is after clipping, with every step of the optimizer."""
    import torch

    norms = []
    step = torch.optim.AdamW.step

    def spy(optimizer, closure=None):
        loss = step(optimizer, closure)  # the closure computes the gradients, and clips them
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(grads)))
        return loss

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    return norms


@pytest.fixture
def registries(monkeypatch):
    """What a test registers is gone after it."""
    for registry in (ENCODERS, TASKS, AUGMENTATIONS, RECIPES):
        monkeypatch.setattr(registry, "_values", dict(registry._values))


@pytest.fixture
def salt():
    """Conventional cell of rock salt, 8 atoms."""
    sodium = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    chlorine = [[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    return Structure(Lattice.cubic(5.69), ["Na"] * 4 + ["Cl"] * 4, sodium + chlorine)


@pytest.fixture
def umask():
    """A function that sets the umask for the length of a test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.fixture
def hostile():
    """A function that puts something in the place of a file that would be waited for, or never ends."""
    if sys.platform != "linux":
        pytest.skip("makes FIFOs and uses /dev/zero")

    def put(path, kind):
        path.unlink()
        if kind == "sparse file":
            with path.open("wb") as file:
                file.truncate(3 * 2**30)
        elif kind == "FIFO":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            os.mkfifo(path.with_name("fifo"))
            path.symlink_to("fifo")

    return put


@pytest.fixture
def forbidden(monkeypatch):
    """A function that takes the right to open a file or folder away, from root too."""

    def forbid(path):
        path = str(path)
        for name in ("open", "stat", "scandir", "mkdir", "rename"):
            original = getattr(os, name)

            def refuse(where, *args, original=original, **kwargs):
                if not isinstance(where, int) and (os.fspath(where) + os.sep).startswith(path + os.sep):
                    raise PermissionError(errno.EACCES, "Permission denied", where)
                return original(where, *args, **kwargs)

            monkeypatch.setattr(os, name, refuse)

    return forbid
