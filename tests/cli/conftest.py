"""A folder of crystals with a table of targets, a model of them, and a function that runs commands."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner

from crystalssl import CrystalSSLClassifier, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.cli import cli
from crystalssl.datasets import load_prototypes


@pytest.fixture(scope="session")
def labelled():
    """24 small crystals of elements that the bundled weights know, and their densities in g/cm³."""
    bunch = load_prototypes()
    rows = [row for row in range(30, 80) if len(bunch.data[row]) < 20][:24]
    return [bunch.data[row] for row in rows], bunch.target[rows]


@pytest.fixture(scope="session")
def _cifs(labelled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crystals")
    for number, crystal in enumerate(labelled[0]):
        crystal.to(filename=str(folder / f"c{number:02d}.cif"))
    lines = [f"c{number:02d},{value:.6f}\n" for number, value in enumerate(labelled[1])]
    (folder / "id_prop.csv").write_text("".join(lines))
    return folder


@pytest.fixture
def cifs(_cifs, tmp_path, monkeypatch):
    """The folder ``cifs`` in the working directory, which is an empty one of its own."""
    import shutil

    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(_cifs, "cifs"))


@pytest.fixture(scope="session")
def tiny(labelled, tmp_path_factory):
    """Folder with ``weights``, ``model`` (an ensemble), ``single``, ``several`` and ``classes``, all small."""
    folder = tmp_path_factory.mktemp("models")
    X, y = labelled
    embedder = PretrainedCrystalEmbedder(
        "barlow", weights=None, hidden_dim=8, n_layers=1, max_epochs=1, batch_size=8, random_state=0
    )
    embedder.fit(X).save_pretrained(folder / "weights")
    params = {"pretrain": folder / "weights", "head_dim": 8, "max_epochs": 2, "batch_size": 8, "random_state": 0}
    import pandas as pd

    CrystalSSLRegressor(**params, ensemble_size=2).fit(X, pd.Series(y, name="density")).save(folder / "model")
    CrystalSSLRegressor(**params).fit(X, y).save(folder / "single")
    CrystalSSLRegressor(**params).fit(X, pd.DataFrame({"density": y, "minus": -y})).save(folder / "several")
    CrystalSSLClassifier(**params).fit(X, ["heavy" if value > 5 else "light" for value in y]).save(folder / "classes")
    return folder


@pytest.fixture
def run():
    """A function that runs a command and compares its exit status; standard output and error are apart."""

    def run(*args, status=0, input=None):
        result = CliRunner().invoke(cli, [str(arg) for arg in args], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, result.stdout + result.stderr
        return result

    return run


def rows_of(text):
    """A CSV table as a list of dicts."""
    if isinstance(text, Path):
        text = text.read_text()
    return list(csv.DictReader(text.splitlines()))
