"""Files: complete, small, the same to the bit, and readable in later versions."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder

from .cases import CASES, output

STORED = Path(__file__).parent / "stored"


def by_pickle(estimator, tmp_path):
    return pickle.loads(pickle.dumps(estimator))


def by_cloudpickle(estimator, tmp_path):
    return pickle.loads(cloudpickle.dumps(estimator))


def by_joblib(estimator, tmp_path):
    joblib.dump(estimator, tmp_path / "estimator.joblib")
    return joblib.load(tmp_path / "estimator.joblib")


def by_compressed_joblib(estimator, tmp_path):
    joblib.dump(estimator, tmp_path / "estimator.joblib.gz", compress=3)
    return joblib.load(tmp_path / "estimator.joblib.gz")


WAYS = [by_pickle, by_cloudpickle, by_joblib, by_compressed_joblib]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", WAYS)
def test_unfitted_estimator(case, way, tmp_path, X):
    estimator = CASES[case]
    again = way(estimator, tmp_path)
    assert repr(again.get_params()) == repr(estimator.get_params())
    if estimator.__sklearn_tags__().requires_fit:
        with pytest.raises(NotFittedError):
            output(again, X)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["embedder", "regressor", "classifier"])
def test_fitted_estimator_gives_the_same_bits(name, way, request, tmp_path, graphs, numbers, words, new):
    model = make_pipeline(CrystalGraphTransformer(), request.getfixturevalue(name))
    model.fit(graphs, words if name == "classifier" else numbers)
    again = way(model, tmp_path)
    call = "transform" if name == "embedder" else "predict_proba" if name == "classifier" else "predict"
    expected = getattr(model, call)(new[0])
    assert getattr(again, call)(new[0]).tobytes() == expected.tobytes()
    # What was read can be written again, cloned and fitted.
    assert getattr(way(again, tmp_path), call)(new[0]).tobytes() == expected.tobytes()
    clone(again).fit(graphs, words if name == "classifier" else numbers)


def test_net_that_was_read_is_whole(regressor, graphs, numbers, tmp_path):
    net = by_joblib(regressor.fit(graphs, numbers), tmp_path).net_
    assert net.module is net.module_
    assert net.get_params()["module"] is net.module_
    assert [row["train_loss"] for row in net.history] == [row["train_loss"] for row in regressor.net_.history]
    assert all(row["batches"] == [] for row in net.history)


def test_warm_start_goes_on_from_a_file(regressor, graphs, numbers, tmp_path):
    regressor.set_params(warm_start=True).fit(graphs, numbers)
    again = by_joblib(regressor, tmp_path)
    expected = regressor.fit(graphs, numbers).predict(graphs)
    assert again.fit(graphs, numbers).predict(graphs).tobytes() == expected.tobytes()


def weights_of(estimator):
    modules = [net.module_ for net in estimator.nets_] if hasattr(estimator, "nets_") else [estimator.encoder_]
    return [tensor for module in modules for tensor in module.state_dict().values()]


@pytest.mark.parametrize(
    "estimator",
    [
        PretrainedCrystalEmbedder("joint"),
        CrystalSSLRegressor(max_epochs=60, batch_size=2, freeze_encoder=True),
        CrystalSSLRegressor(max_epochs=1, ensemble_size=3),
    ],
    ids=["embedder", "many batches", "ensemble"],
)
def test_a_file_is_little_larger_than_its_weights(estimator, graphs, numbers, tmp_path):
    estimator.fit(graphs[:6], numbers[:6])
    joblib.dump(estimator, tmp_path / "model.joblib")
    weights = sum(tensor.numel() * tensor.element_size() for tensor in weights_of(estimator))
    assert (tmp_path / "model.joblib").stat().st_size < 1.2 * weights


def test_a_fitted_estimator_holds_tensors_of_the_cpu_only(regressor, classifier, embedder, graphs, numbers, words):
    """So a file that was written beside a GPU can be read without one. No such file is stored here."""

    class Pickler(pickle.Pickler):
        def reducer_override(self, obj):
            if isinstance(obj, torch.Tensor):
                tensors.append(obj)
            return NotImplemented

    for estimator, y in ((regressor, numbers), (classifier, words), (embedder, None)):
        tensors: list[torch.Tensor] = []
        with open("/dev/null", "wb") as nowhere:
            Pickler(nowhere).dump(estimator.set_params(device="auto").fit(graphs, y))
        assert {tensor.device.type for tensor in weights_of(estimator)} == {"cpu"}
        assert {tensor.device.type for tensor in tensors} <= {"cpu"}
        for net in getattr(estimator, "nets_", []):
            assert net.device == "cpu"
            assert net.optimizer_ is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_trained_on_a_gpu_and_read_without_one(regressor, graphs, numbers, tmp_path, monkeypatch):
    expected = regressor.set_params(device="cuda").fit(graphs, numbers).set_params(device="auto").predict(graphs)
    joblib.dump(regressor, tmp_path / "model.joblib")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    np.testing.assert_allclose(joblib.load(tmp_path / "model.joblib").predict(graphs), expected, rtol=1e-4)


def stored_crystals():
    """Four crystals that need no file: they must not change with pymatgen."""
    from pymatgen.core import Lattice, Structure

    return [
        Structure(Lattice.cubic(a), [one, two], [[0, 0, 0], [0.5, 0.5, 0.5]])
        for a, one, two in [(4.12, "Cs", "Cl"), (3.01, "Ni", "Al"), (4.29, "Cs", "Br"), (2.94, "Cu", "Zn")]
    ]


@pytest.mark.parametrize("path", sorted(STORED.glob("*.joblib")), ids=lambda path: path.stem)
def test_file_of_an_earlier_version(path):
    """Written by ``tests/contract/store.py``. A file is never replaced: a new format adds another one."""
    assert path.stat().st_size <= 100_000
    expected = json.loads(path.with_suffix(".json").read_text())
    model = joblib.load(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predicted = model.predict(stored_crystals())
    np.testing.assert_allclose(predicted, expected["predictions"], rtol=1e-4)  # what other machines are promised
    # It can be trained further and anew. Names that have changed since warn.
    X = stored_crystals() * 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "loss='l1'", FutureWarning)
        before = model.history_[0]["train_loss"]
        model.set_params(warm_start=True).fit(X, np.tile(predicted, 2))
        assert model.history_[0]["train_loss"] < before
        assert np.isfinite(clone(model).fit(X, np.tile(predicted, 2)).predict(X)).all()


def test_parameters_that_a_file_does_not_know_yet_have_their_defaults(regressor, graphs, numbers):
    expected = regressor.fit(graphs, numbers).predict(graphs)
    del regressor.callbacks, regressor.device
    again = pickle.loads(pickle.dumps(regressor))
    assert again.get_params()["device"] == "auto"
    assert again.predict(graphs).tobytes() == expected.tobytes()


def test_files_are_stored():
    assert [*STORED.glob("*.joblib")]
