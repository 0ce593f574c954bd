"""Estimators on a corpus: the same as on graphs in memory, which are in memory in part only."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.model_selection import cross_val_predict

from crystalssl import (
    CrystalCorpus,
    CrystalGraphTransformer,
    CrystalSSLClassifier,
    CrystalSSLRegressor,
    PretrainedCrystalEmbedder,
)
from crystalssl.exceptions import RecipeMismatchError, WeightsError
from crystalssl.graphs import CorpusWriter
from crystalssl.inspection import domain


@pytest.fixture(scope="module")
def data(real_crystals):
    X, y = real_crystals
    return CrystalGraphTransformer("cgcnn").transform(X[:100]), np.asarray(y[:100], float)


def write(graphs, folder, size=20):
    with CorpusWriter(folder, graphs.recipe) as writer:
        for start in range(0, len(graphs), size):
            writer.write(graphs[start : start + size])
    return folder


@pytest.fixture
def folder(data, tmp_path):
    return write(data[0], tmp_path / "corpus")


def pretraining(method="barlow", **params):
    settings = {"encoder": "cgcnn", "weights": None, "max_epochs": 2, "batch_size": 16, "random_state": 0}
    return PretrainedCrystalEmbedder(method, **settings | params)


def finetuning(cls=CrystalSSLRegressor, **params):
    return cls(**{"pretrain": None, "encoder": "cgcnn", "max_epochs": 2, "random_state": 0} | params)


@pytest.mark.parametrize("method", ["barlow", "mask", "simsiam"])
def test_pretraining_is_that_of_graphs(data, folder, method):
    graphs, _ = data
    expected, found = pretraining(method).fit(graphs), pretraining(method).fit(folder)
    assert [epoch["train_loss"] for epoch in found.history_] == [epoch["train_loss"] for epoch in expected.history_]
    assert np.array_equal(found.transform(str(folder)), expected.transform(graphs))
    assert found.config_["n_crystals"] == 100


def test_labels_of_a_corpus(data, folder):
    graphs, y = data
    classes = (y > np.median(y)).astype(int)
    expected, found = (pretraining("spmat-barlow").fit(X, classes) for X in (graphs, folder))
    assert np.array_equal(found.transform(graphs), expected.transform(graphs))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        pretraining("spmat-barlow").fit(folder, classes[:50])


def test_small_buffers_train_as_well(data, folder):
    corpus = CrystalCorpus.load(folder, buffer_size=40)
    found = [pretraining().fit(corpus) for _ in range(2)]
    assert found[0].history_[-1]["valid_loss"] == found[1].history_[-1]["valid_loss"]
    assert not np.array_equal(found[0].transform(folder), pretraining().fit(data[0]).transform(folder))


@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
@pytest.mark.parametrize("per", [None, "atom", "volume"])
def test_finetuning_is_that_of_graphs(data, folder, per):
    graphs, y = data
    params = {"target_per": per, "ensemble_size": 2, "early_stopping": True}
    expected, found = (finetuning(**params).fit(X, y) for X in (graphs, folder))
    assert found.trained_elements_.tolist() == expected.trained_elements_.tolist()
    assert np.array_equal(found.predict(folder), expected.predict(graphs))
    assert np.array_equal(found.predict(folder, return_std=True)[1], expected.predict(graphs, return_std=True)[1])
    assert domain(found, folder).equals(domain(expected, graphs))


def test_classes_of_a_corpus(data, folder):
    graphs, y = data
    classes = np.where(y > np.median(y), "high", "low")
    expected, found = (finetuning(CrystalSSLClassifier).fit(X, classes) for X in (graphs, folder))
    assert np.array_equal(found.predict_proba(folder), expected.predict_proba(graphs))


def test_cross_validated_ensembles_and_weights(data, folder):
    graphs, y = data
    weight = (np.arange(100) % 5 > 0).astype(float)
    params = {"ensemble": "cross-validated", "ensemble_size": 2}
    expected, found = (finetuning(**params).fit(X, y, sample_weight=weight) for X in (graphs, folder))
    assert np.array_equal(found.oof_prediction_, expected.oof_prediction_, equal_nan=True)


@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
def test_cross_validation_splits_a_corpus(data, folder):
    graphs, y = data
    corpus = CrystalCorpus.load(folder, buffer_size=40)
    assert cross_val_predict(finetuning(max_epochs=1), corpus, y, cv=2).shape == (100,)
    whole = CrystalCorpus.load(folder)
    expected = cross_val_predict(finetuning(max_epochs=1), graphs, y, cv=2)
    assert np.array_equal(cross_val_predict(finetuning(max_epochs=1), whole, y, cv=2, n_jobs=2), expected)


@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
def test_predictions_for_another_encoder_make_graphs_anew(data, folder, real_crystals):
    _, y = data
    model = finetuning(encoder="megnet").fit(real_crystals[0][:20], y[:20])
    found = model.predict(folder)
    assert np.allclose(found, model.predict(real_crystals[0][:100]), atol=1e-4 * np.abs(found).max())
    with pytest.raises(RecipeMismatchError, match=r"write_corpus\(source, folder, encoder='megnet'\)"):
        finetuning(encoder="megnet").fit(folder, y)


def test_pipelines_take_paths(folder):
    corpus = CrystalGraphTransformer("cgcnn").transform(folder)
    assert isinstance(corpus, CrystalCorpus)
    with pytest.raises(RecipeMismatchError):
        CrystalGraphTransformer("megnet").transform(folder)


def test_folders_of_graphs_are_taken_by_path_too(data, tmp_path):
    graphs, _ = data
    graphs.save(tmp_path / "graphs")
    embedder = pretraining(max_epochs=1).fit(tmp_path / "graphs")
    assert np.array_equal(embedder.transform(str(tmp_path / "graphs")), embedder.transform(graphs))


def test_checkpoint_of_another_corpus(data, tmp_path, folder, monkeypatch):
    graphs, _ = data
    embedder = pretraining(checkpoint=tmp_path / "checkpoint").fit(folder)
    moved = folder.rename(tmp_path / "moved")
    again = pretraining(checkpoint=tmp_path / "checkpoint").fit(moved)
    assert np.array_equal(again.transform(graphs), embedder.transform(graphs))
    less = write(graphs[:90], tmp_path / "less")
    with pytest.raises(WeightsError, match="on another corpus: the crystals have changed since it was written"):
        pretraining(checkpoint=tmp_path / "checkpoint").fit(less)
    with pytest.raises(WeightsError, match="with another corpus or other settings"):
        pretraining(checkpoint=tmp_path / "checkpoint", batch_size=8).fit(moved)


def test_what_is_cached_is_told_by_content(data, tmp_path, folder, monkeypatch):
    graphs, _ = data
    first = pretraining(memory=tmp_path / "memory").fit(folder)
    moved = folder.rename(tmp_path / "moved")
    cached = [*(tmp_path / "memory").rglob("output.pkl")]
    assert np.array_equal(pretraining(memory=tmp_path / "memory").fit(moved).transform(moved), first.transform(moved))
    assert [*(tmp_path / "memory").rglob("output.pkl")] == cached
    pretraining(memory=tmp_path / "memory").fit(write(graphs[:90], tmp_path / "less"))
    assert len([*(tmp_path / "memory").rglob("output.pkl")]) == len(cached) + 1


def test_damage_is_told_of_before_training(folder, data):
    manifest = folder / "part-00000-of-00001" / "manifest.json"
    said = json.loads(manifest.read_text())
    assert len(said["shards"]) == 5
    manifest.unlink()
    with pytest.raises(OSError, match="is not complete"):
        pretraining().fit(folder)
    with pytest.raises(OSError, match="is not complete"):
        finetuning().fit(folder, data[1])
