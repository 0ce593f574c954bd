from __future__ import annotations

import json
import pickle
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline

from crystalssl import CrystalGraphs, CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.encoders import CGCNN, ENCODERS
from crystalssl.exceptions import RecipeMismatchError
from crystalssl.pretext import TASKS
from crystalssl.training import bundled_weights, load_encoder

POOLINGS = [
    ({"readout": "mean", "pooled_layers": "last"}, 8),
    ({"readout": "mean", "pooled_layers": "all"}, 16),
    ({"readout": "mean+max+min", "pooled_layers": "last"}, 24),
    ({"readout": "mean+max+min", "pooled_layers": "all"}, 48),
]
"""With the width of the vectors of a network of one convolution to 8 numbers."""


def state(embedder):
    return embedder.encoder_.state_dict()


def same_weights(a, b):
    assert state(a).keys() == state(b).keys()
    return all(torch.equal(state(a)[name], state(b)[name]) for name in state(a))


# ------------------------------------------------------------------ loading


@pytest.mark.parametrize("method", bundled_weights())
def test_bundled_weights_are_loaded_and_nothing_is_trained(method, graphs, runs):
    embedder = PretrainedCrystalEmbedder(method).fit(graphs)
    encoder, config = load_encoder(method)
    assert runs == []
    assert embedder.history_ == []
    assert all(torch.equal(tensor, encoder.state_dict()[name]) for name, tensor in state(embedder).items())
    assert embedder.elements_.tolist() == config["elements"]
    assert embedder.config_["method"] == method


@pytest.mark.parametrize(("pooling", "width"), POOLINGS, ids=str)
def test_vectors(tiny_embedder, graphs, new, pooling, width):
    embedder = tiny_embedder(**pooling).fit(graphs)
    vectors = embedder.transform(new[1])
    assert vectors.shape == (len(new[1]), width)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert len(np.unique(vectors.round(5), axis=0)) > len(vectors) / 2
    assert embedder.n_features_out_ == width
    assert embedder.get_feature_names_out().tolist() == [f"pretrainedcrystalembedder{i}" for i in range(width)]


def test_vectors_do_not_depend_on_what_else_is_in_the_batch(graphs):
    embedder = PretrainedCrystalEmbedder("barlow").fit([])
    together = embedder.transform(graphs)
    alone = np.concatenate([embedder.transform(graphs[i : i + 1]) for i in range(len(graphs))])
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(embedder.transform(graphs[::-1])[::-1], together, rtol=1e-5, atol=1e-5)


def test_more_crystals_than_fit_in_one_batch(tiny_embedder, graphs, monkeypatch):
    from crystalssl.estimators import _network

    embedder = tiny_embedder().fit(graphs)
    expected = embedder.transform(graphs)
    monkeypatch.setattr(_network, "EDGES_AT_ONCE", 700)
    np.testing.assert_allclose(embedder.transform(graphs), expected, rtol=1e-5, atol=1e-5)


def test_pandas_output(tiny_embedder, X, graphs):
    import pandas as pd

    embedder = tiny_embedder().set_output(transform="pandas")
    frame = embedder.fit(graphs).transform(pd.DataFrame({"crystal": X[:5]}, index=list("abcde")))
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns.tolist() == embedder.get_feature_names_out().tolist()
    assert frame.index.tolist() == list("abcde")
    np.testing.assert_array_equal(frame.to_numpy(), clone(embedder).fit(graphs).transform(graphs[:5]))


def test_pipeline_set_output_reaches_the_last_table(X, y):
    import pandas as pd

    pipeline = Pipeline([("graphs", CrystalGraphTransformer()), ("embed", PretrainedCrystalEmbedder("simsiam"))])
    frame = pipeline.set_output(transform="pandas").fit_transform(X)
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns.tolist() == pipeline.get_feature_names_out().tolist()
    assert len(frame) == len(X)
    # With an estimator at the end, the names reach it.
    probe = make_pipeline(*[step for _, step in pipeline.steps], Ridge()).set_output(transform="pandas").fit(X, y)
    assert probe[-1].feature_names_in_.tolist() == frame.columns.tolist()


# ------------------------------------------------------------------ pretraining


@pytest.mark.parametrize("method", ["barlow", "simsiam"])
def test_pretraining_on_the_given_crystals(tiny_embedder, graphs, method, runs):
    embedder = tiny_embedder(method).fit(graphs)
    assert len(runs) == 1
    assert [epoch["epoch"] for epoch in embedder.history_] == [1, 2]
    assert all({"train_loss", "valid_loss"} <= epoch.keys() for epoch in embedder.history_)
    assert embedder.elements_.tolist() == list(graphs.elements)
    assert embedder.config_["method"] == method
    assert not same_weights(embedder, tiny_embedder(method, random_state=1).fit(graphs))
    assert same_weights(embedder, tiny_embedder(method).fit(graphs))
    assert not embedder.encoder_.training


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.1},
        {"max_epochs": 3},
        {"perturbation": 0.3},
        {"atom_masking": 0.5},
        {"edge_masking": 0.5},
        {"projection_dim": 16},
        {"task_params": {"redundancy_weight": 1.0}},
        {"weight_decay": 10.0},
        {"gradient_clip": 1e-9},
        {"method": "simsiam"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_parameter_reaches_the_training(tiny_embedder, graphs, change):
    default = tiny_embedder().fit(graphs)
    assert not same_weights(tiny_embedder().set_params(**change).fit(graphs), default)
    for name, value in change.items():
        config = clone(default).set_params(**change).fit(graphs).config_
        assert {**config, **config["task_params"], "task_params": change.get("task_params")}[name] == value


def test_training_lowers_the_loss(tiny_embedder, graphs):
    embedder = tiny_embedder(max_epochs=30, learning_rate=0.01).fit(graphs)
    first, last = embedder.history_[0], embedder.history_[-1]
    assert last["train_loss"] < 0.9 * first["train_loss"]


def test_two_crystals_at_least_are_held_out_or_none(tiny_embedder, graphs):
    # On a single crystal the loss of Barlow Twins is a constant: the first epoch would be taken for the best.
    embedder = tiny_embedder(validation_fraction=0.05).fit(graphs[:20])
    assert all("valid_loss" not in epoch for epoch in embedder.history_)
    assert same_weights(embedder, tiny_embedder(validation_fraction=0).fit(graphs[:20]))


def test_continuing_starts_from_the_loaded_weights(tiny_weights, graphs, runs):
    params = {
        "method": "barlow",
        "weights": str(tiny_weights),
        "continue_training": True,
        "batch_size": 16,
        "random_state": 0,
    }
    loaded = PretrainedCrystalEmbedder(weights=str(tiny_weights)).fit([])
    assert runs == []
    still = PretrainedCrystalEmbedder(**params, max_epochs=1, learning_rate=1e-30).fit(graphs)
    assert len(runs) == 1
    for name, parameter in still.encoder_.named_parameters():
        assert torch.equal(parameter, state(loaded)[name]), name
    further = PretrainedCrystalEmbedder(**params, max_epochs=2).fit(graphs)
    assert not same_weights(further, loaded)
    assert len(further.history_) == 2
    assert not np.allclose(further.transform(graphs), loaded.transform(graphs), atol=1e-4)


def test_continuing_knows_the_elements_of_both_corpora(tiny_embedder, graphs, tmp_path):
    first, second = graphs[:6], graphs[6:20]
    assert not set(second.elements) <= set(first.elements)
    assert not set(first.elements) <= set(second.elements)
    tiny_embedder().fit(first).save_pretrained(tmp_path / "first")
    further = tiny_embedder(weights=str(tmp_path / "first"), continue_training=True).fit(second)
    assert set(further.elements_) == set(first.elements) | set(second.elements)


# ------------------------------------------------------------------ methods and encoders


@pytest.mark.parametrize("method", TASKS)
def test_every_method_pretrains_on_its_papers_encoder(tiny_embedder, graphs, method):
    y = [0, 1] * 8 if TASKS[method].needs_labels else None
    if method == "forces":
        y = pd.DataFrame({"forces": [np.ones((n_atoms, 3)) for n_atoms in np.diff(graphs.atom_offsets[:17])]})
    embedder = tiny_embedder(method, max_epochs=1).fit(graphs[:16], y)
    assert embedder.encoder_.name == TASKS[method].encoder_name
    assert len(embedder.history_) == 1
    assert np.isfinite(embedder.history_[0]["train_loss"])
    vectors = embedder.transform(graphs[:16])
    assert vectors.shape == (16, embedder.n_features_out_)
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize("method", ["spmat-simclr", "spmat-barlow"])
def test_classes_may_be_of_any_kind(tiny_embedder, graphs, method):
    codes = np.arange(40) % 3
    expected = tiny_embedder(method, max_epochs=1).fit(graphs, codes)
    names = np.array(["metal", "insulator", "semiconductor"])[codes]
    for y in (names, names.tolist(), codes + 5, codes.astype(float)):
        assert same_weights(tiny_embedder(method, max_epochs=1).fit(graphs, y), expected)
    # Which crystals share a class is what counts, and a crystal without one is like none.
    for y in (np.sort(codes), np.where(codes == 2, -1, codes)):
        assert not same_weights(tiny_embedder(method, max_epochs=1).fit(graphs, y), expected)


def test_joint_learns_from_labels_and_does_without(tiny_embedder, graphs, y):
    without = tiny_embedder("joint").fit(graphs)
    missing = np.where(np.arange(40) % 2, y, np.nan)
    learnt = [tiny_embedder("joint").fit(graphs, labels) for labels in (y, y[::-1], missing, np.c_[y, missing])]
    for i, embedder in enumerate(learnt):
        assert np.isfinite(embedder.history_[-1]["train_loss"])
        assert not same_weights(embedder, without)
        assert not any(same_weights(embedder, other) for other in learnt[:i])
    assert [learnt[i].config_["task_params"]["n_properties"] for i in (0, 3)] == [1, 2]
    # Labels are standardised: their unit does not matter.
    celsius = tiny_embedder("joint").fit(graphs, 4.0 * y + 64)
    for name, tensor in state(celsius).items():
        torch.testing.assert_close(tensor, state(learnt[0])[name], rtol=1e-3, atol=1e-4)


def test_labels_that_a_method_does_not_read_are_ignored(tiny_embedder, graphs, y):
    assert same_weights(tiny_embedder("barlow").fit(graphs, y), tiny_embedder("barlow").fit(graphs))


def test_labels_are_part_of_what_is_cached(tiny_embedder, graphs, y, tmp_path, runs):
    for labels, n in ((y, 1), (y.tolist(), 1), (y + 3, 1), (y[::-1], 2), (None, 3)):
        tiny_embedder("joint", max_epochs=1, memory=str(tmp_path)).fit(graphs, labels)
        assert len(runs) == n


@pytest.mark.parametrize("encoder", ENCODERS)
def test_pooling_of_the_frozen_encoder_is_the_default(tiny_embedder, graphs, encoder, tmp_path, runs):
    def vectors(**params):
        embedder = tiny_embedder("mask", encoder=encoder, memory=str(tmp_path), **params).fit(graphs[:16])
        return embedder.transform(graphs[:16])

    default = vectors()
    pooling = ENCODERS[encoder].frozen_pooling
    np.testing.assert_array_equal(vectors(**pooling), default)
    assert vectors(readout="mean" if pooling["readout"] != "mean" else "mean+max+min").shape != default.shape
    # Each of the two may be chosen alone.
    assert vectors(pooled_layers="last" if pooling["pooled_layers"] == "all" else "all").shape != default.shape
    assert len(runs) == 1


def test_what_is_fitted_does_not_follow_the_parameters(tiny_embedder, graphs, monkeypatch):
    embedder = tiny_embedder("mask", max_epochs=1).fit(graphs[:16])
    expected = embedder.transform(graphs[:16])
    embedder.set_params(readout="mean", pooled_layers="last", encoder="megnet")
    # Nothing is built to transform.
    monkeypatch.setattr(CGCNN, "__init__", None)
    assert embedder.transform(graphs[:16]).tobytes() == expected.tobytes()
    assert embedder.n_features_out_ == expected.shape[1]


def pickled(embedder, folder):
    return pickle.loads(pickle.dumps(embedder))


def as_plain_state(embedder, folder):
    # What skops stores.
    again = PretrainedCrystalEmbedder.__new__(PretrainedCrystalEmbedder)
    again.__setstate__(embedder.__getstate__())
    return again


def saved(embedder, folder):
    embedder.save_pretrained(folder)
    return PretrainedCrystalEmbedder.from_pretrained(folder)


@pytest.mark.parametrize("store", [pickled, as_plain_state, saved])
def test_what_is_stored_does_not_follow_the_parameters(tiny_embedder, graphs, tmp_path, store):
    embedder = tiny_embedder(max_epochs=1, readout="mean").fit(graphs[:16])
    expected = embedder.transform(graphs[:16])
    embedder.set_params(readout="mean+max+min", pooled_layers="last")
    again = store(embedder, tmp_path / "weights")
    assert again.transform(graphs[:16]).tobytes() == expected.tobytes()
    assert again.n_features_out_ == expected.shape[1]
    again.set_params(readout="mean+max+min", pooled_layers="last").fit([] if store is saved else graphs[:16])
    assert again.n_features_out_ == 24


def test_pickle_of_an_earlier_version_has_the_pooling_of_its_parameters(tiny_embedder, graphs):
    embedder = tiny_embedder(max_epochs=1, readout="mean").fit(graphs[:16])
    del embedder._pooling
    again = pickle.loads(pickle.dumps(embedder))
    assert again.transform(graphs[:16]).tobytes() == embedder.transform(graphs[:16]).tobytes()


def test_encoder_keeps_the_readout_of_its_pretraining(tiny_embedder, graphs):
    embedder = tiny_embedder("cdssl", readout="mean", max_epochs=1).fit(graphs[:16])
    assert embedder.encoder_.config["readout"] == "set2set"
    assert np.array_equal(embedder.transform(graphs[:2]), embedder.transform(graphs[:2]))


# ------------------------------------------------------------------ graphs of other encoders


def test_graphs_of_another_encoder_are_built_anew(tiny_embedder, X, runs):
    expected = tiny_embedder("mask", encoder="megnet", max_epochs=1).fit(X)
    for name in ("cgcnn", "megnet"):
        graphs = CrystalGraphTransformer(encoder=name).transform(X)
        embedder = tiny_embedder("mask", encoder="megnet", max_epochs=1).fit(graphs)
        assert same_weights(embedder, expected)
        np.testing.assert_array_equal(embedder.transform(graphs), expected.transform(X))
        assert graphs.recipe == ENCODERS[name].recipe  # the given ones stay as they are


@pytest.mark.parametrize("recipe", [{"cutoff": 5.5}, {"max_neighbors": 5}, {"cutoff": 5.0}], ids=str)
@pytest.mark.parametrize("encoder", ["cgcnn", "megnet"])
def test_graphs_of_someones_own_cutoff_are_refused(tiny_embedder, X, recipe, encoder, runs):
    graphs = CrystalGraphTransformer(**recipe).transform(X[:10])
    with pytest.raises(RecipeMismatchError, match="build them again with CrystalGraphTransformer"):
        tiny_embedder("mask", encoder=encoder).fit(graphs)
    assert runs == []
    embedder = tiny_embedder("mask", encoder=encoder, max_epochs=1).fit(X[:10])
    with pytest.raises(RecipeMismatchError, match="build them again with CrystalGraphTransformer"):
        embedder.transform(graphs)


def test_grid_search_over_encoders_behind_one_transformer(tiny_embedder, X, y):
    pipeline = make_pipeline(CrystalGraphTransformer(), tiny_embedder("mask", max_epochs=1), Ridge())
    grid = {"pretrainedcrystalembedder__encoder": ["cgcnn", "megnet"]}
    everything = np.arange(len(X))  # so that all elements are known
    search = GridSearchCV(pipeline, grid, cv=[(everything, everything)], error_score="raise").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# ------------------------------------------------------------------ weights folders


@pytest.mark.parametrize("method", bundled_weights())
def test_bundled_folder_can_be_named_by_its_path(method, graphs):
    folder = bundled_weights()[method]
    pooling = {"readout": "mean", "pooled_layers": "last"}
    vectors = PretrainedCrystalEmbedder.from_pretrained(folder, **pooling).transform(graphs)
    expected = PretrainedCrystalEmbedder(method, **pooling).fit([]).transform(graphs)
    assert vectors.tobytes() == expected.tobytes()
    assert PretrainedCrystalEmbedder.from_pretrained(folder).config_["method"] == method


@pytest.mark.parametrize("readout", ["mean", "mean+max+min"])
def test_save_pretrained_and_from_pretrained(tiny_embedder, graphs, tmp_path, readout, runs):
    embedder = tiny_embedder("simsiam", readout=readout).fit(graphs)
    embedder.save_pretrained(tmp_path / "weights")
    n_runs = len(runs)
    loaded = PretrainedCrystalEmbedder.from_pretrained(tmp_path / "weights")
    assert len(runs) == n_runs
    assert loaded.transform(graphs).tobytes() == embedder.transform(graphs).tobytes()
    assert loaded.get_params()["method"] == "simsiam"
    assert loaded.elements_.tolist() == embedder.elements_.tolist()
    card = (tmp_path / "weights" / "README.md").read_text()
    assert "simsiam" in card
    assert "cgcnn" in card
    config = json.loads((tmp_path / "weights" / "config.json").read_text())
    assert config["n_crystals"] == len(graphs)
    assert config["max_epochs"] == 2


@pytest.mark.parametrize(
    "chosen", [{}, {"readout": "mean"}, {"readout": "attention", "pooled_layers": "last"}], ids=str
)
def test_folder_keeps_embedding_and_vectors_of_gatedgcn(tiny_embedder, graphs, y, tmp_path, chosen):
    embedder = tiny_embedder("joint", **chosen).fit(graphs, y)
    expected = embedder.transform(graphs)
    embedder.save_pretrained(tmp_path / "weights")
    config = json.loads((tmp_path / "weights" / "config.json").read_text())
    assert config["embedding"] == {"readout": None, "pooled_layers": None, **chosen}
    loaded = PretrainedCrystalEmbedder.from_pretrained(tmp_path / "weights")
    assert (loaded.readout, loaded.pooled_layers) == (embedder.readout, embedder.pooled_layers)
    assert loaded.encoder_.name == "gatedgcn"
    assert loaded.n_features_out_ == embedder.n_features_out_ == expected.shape[1]
    assert same_weights(loaded, embedder)
    assert loaded.transform(graphs).tobytes() == expected.tobytes()
    # What is chosen at loading wins.
    other = PretrainedCrystalEmbedder.from_pretrained(
        tmp_path / "weights", readout="mean+max+min", pooled_layers="last"
    )
    assert other.n_features_out_ == 3 * 8 + 2 * 8 + 2  # properties


@pytest.mark.parametrize(("pooling", "width"), POOLINGS, ids=str)
def test_loaded_weights_are_saved_as_they_are_used(tiny_weights, graphs, tmp_path, pooling, width):
    embedder = PretrainedCrystalEmbedder(weights=tiny_weights, **pooling).fit([])
    embedder.save_pretrained(tmp_path / "wider", card="# Mine\n")
    again = PretrainedCrystalEmbedder.from_pretrained(tmp_path / "wider")
    assert again.n_features_out_ == width
    assert again.transform(graphs).tobytes() == embedder.transform(graphs).tobytes()
    assert (tmp_path / "wider" / "README.md").read_text() == "# Mine\n"


def test_folders_by_the_name_of_a_method_are_told_from_bundled_weights(
    tiny_embedder, graphs, y, tmp_path, monkeypatch, recwarn
):
    monkeypatch.chdir(tmp_path)
    saved = tiny_embedder("simsiam").fit(graphs)
    saved.save_pretrained("barlow")
    saved.save_pretrained("bundled")
    for name in ("barlow", "bundled"):
        loaded = PretrainedCrystalEmbedder.from_pretrained(name)
        assert same_weights(loaded, saved)
        assert same_weights(clone(loaded).fit([]), saved)
    assert same_weights(PretrainedCrystalEmbedder(weights="./bundled").fit([]), saved)
    shipped = load_encoder(bundled_weights()["barlow"])[0].state_dict()
    for embedder in (PretrainedCrystalEmbedder("barlow"), PretrainedCrystalEmbedder("barlow", weights="bundled")):
        assert all(torch.equal(tensor, shipped[name]) for name, tensor in state(embedder.fit([])).items())
    assert not [warning for warning in recwarn if "is read from the folder" in str(warning.message)]
    with pytest.warns(UserWarning, match="'barlow' is read from the folder"):
        assert same_weights(PretrainedCrystalEmbedder(weights="barlow").fit([]), saved)
    model = CrystalSSLRegressor("barlow", max_epochs=1, head_dim=4, freeze_encoder=True, random_state=0)
    with pytest.warns(UserWarning, match="'barlow' is read from the folder"):
        model.fit(graphs, y)
    found = model.net_.module_.encoder.state_dict()["embedding.weight"]
    assert torch.equal(found, state(saved)["embedding.weight"])


@pytest.mark.parametrize("as_type", [str, Path])
def test_weights_may_be_text_or_path(tiny_weights, as_type):
    expected = load_encoder(tiny_weights)[0].state_dict()
    loaded = PretrainedCrystalEmbedder(weights=as_type(tiny_weights)).fit([])
    assert all(torch.equal(tensor, expected[name]) for name, tensor in state(loaded).items())


# ------------------------------------------------------------------ memory


@pytest.mark.parametrize("as_type", [str, Path, joblib.Memory])
def test_cached_pretraining_is_not_repeated(tiny_embedder, X, graphs, tmp_path, runs, as_type):
    memory = as_type(tmp_path) if as_type is not joblib.Memory else joblib.Memory(tmp_path, verbose=0)
    first = tiny_embedder(memory=memory).fit(graphs)
    assert len(runs) == 1
    # The content counts, neither the object nor its type.
    graphs.save(tmp_path / "graphs")
    for corpus in (graphs, CrystalGraphs.load(tmp_path / "graphs", mmap=False), X):
        again = tiny_embedder(memory=memory).fit(corpus)
        assert len(runs) == 1
        assert same_weights(again, first)
        assert again.history_ == first.history_
        assert again.transform(graphs).tobytes() == first.transform(graphs).tobytes()
    assert same_weights(tiny_embedder().fit(graphs), first)  # and the cache changes nothing


def test_cache_tells_everything_else_apart(tiny_embedder, graphs, tmp_path, runs):
    tiny_embedder(memory=str(tmp_path)).fit(graphs)
    changes = [
        {"random_state": 1},
        {"method": "simsiam"},
        {"max_epochs": 1},
        {"hidden_dim": 4},
        {"perturbation": 0.2},
        {"validation_fraction": 0},
    ]
    for n, change in enumerate(changes, start=2):
        tiny_embedder(memory=str(tmp_path)).set_params(**change).fit(graphs)
        assert len(runs) == n, change
    for n, corpus in enumerate((graphs[1:], graphs[:-1], graphs[::-1]), start=len(changes) + 2):
        tiny_embedder(memory=str(tmp_path)).fit(corpus)
        assert len(runs) == n
    tiny_embedder(memory=str(tmp_path), verbose=1, checkpoint=tmp_path / "run").fit(graphs)
    assert len(runs) == len(changes) + 4


def test_grid_search_pretrains_once_per_fold(tiny_embedder, graphs, y, tmp_path, runs):
    folds = [(np.arange(30), np.arange(10)), (np.arange(5, 35), np.arange(10, 20))]  # no element is new in a test
    model = CrystalSSLRegressor(tiny_embedder(memory=str(tmp_path)), max_epochs=1, random_state=0)
    search = GridSearchCV(model, {"head_dim": [4, 8, 16]}, cv=folds, error_score="raise").fit(graphs, y)
    names = [type(net.module_).__name__ for net in runs]
    assert names.count("BarlowTwins") == 3  # two folds and the final fit
    assert names.count("PropertyNetwork") == 7
    assert search.best_estimator_.predict(graphs).shape == y.shape


# ------------------------------------------------------------------ checkpoint, verbose, errors


def test_interrupted_pretraining_goes_on_from_its_checkpoint(tiny_embedder, graphs, tmp_path, monkeypatch):
    from crystalssl.training import PretrainingNet

    expected = tiny_embedder(max_epochs=4).fit(graphs)
    embedder = tiny_embedder(max_epochs=4, checkpoint=tmp_path / "run.safetensors")
    original = PretrainingNet.on_epoch_begin
    begun = []

    def interrupting(net, *args, **kwargs):
        begun.append(len(net.history))
        if len(begun) == 3:
            raise KeyboardInterrupt
        return original(net, *args, **kwargs)

    monkeypatch.setattr(PretrainingNet, "on_epoch_begin", interrupting)
    with pytest.raises(KeyboardInterrupt):
        embedder.fit(graphs)
    assert not hasattr(embedder, "encoder_")
    assert same_weights(embedder.fit(graphs), expected)
    assert begun == [0, 1, 2, 2, 3]


@pytest.mark.parametrize("verbose", [0, 1])
def test_progress_is_one_line(tiny_embedder, graphs, capfd, verbose):
    tiny_embedder(verbose=verbose).fit(graphs)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == verbose


@pytest.mark.parametrize(
    ("params", "n", "message"),
    [
        ({}, 3, "pretraining compares crystals: 3 are too few, give at least 4"),
        ({"validation_fraction": 0.9}, 10, "of 10 crystals 9 are held out, .* lower validation_fraction"),
        ({"device": "tpu"}, 10, "device 'tpu' cannot be used here"),
    ],
)
def test_impossible_pretraining_says_why(tiny_embedder, graphs, params, n, message):
    with pytest.raises(ValueError, match=message):
        tiny_embedder(**params).fit(graphs[:n])


def test_lengths_of_crystals_and_labels_are_compared(tiny_embedder, graphs, y):
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[40, 39\]"):
        tiny_embedder().fit(graphs, y[:-1])


def test_failed_fit_leaves_a_fitted_embedder_as_it_was(tiny_embedder, tiny_weights, graphs):
    embedder = tiny_embedder().fit(graphs)
    expected = embedder.transform(graphs)
    (tiny_weights / "config.json").unlink()
    wrong = [{"weights": tiny_weights}, {"weights": "nonsense"}, {"validation_fraction": 0.99}, {"max_epochs": 0}]
    for params in wrong:
        before = embedder.get_params()
        with pytest.raises((ValueError, OSError)):
            embedder.set_params(**params).fit(graphs)
        embedder.set_params(**before)
        assert embedder.transform(graphs).tobytes() == expected.tobytes()
