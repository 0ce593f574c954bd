"""Encoders, methods and views by name, as classes and as templates, through everything that scikit-learn does."""

from __future__ import annotations

import json
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from crystalssl import CrystalGraphTransformer, CrystalSSLClassifier, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.augment import AtomMasking, RandomStrain
from crystalssl.encoders import CGCNN, GIN, register_encoder
from crystalssl.exceptions import WeightsError
from crystalssl.graphs import GraphRecipe
from crystalssl.pretext import BYOL, BarlowTwins, Composite, MaskedElements, SimCLR, register_task
from crystalssl.training import load_encoder

pytestmark = pytest.mark.usefixtures("registries")


class NetA(GIN):
    """Somebody's encoder."""

    name = "net-a"
    recipe = GraphRecipe(cutoff=4.0)


class NetB(CGCNN):
    """Another one, of other graphs."""

    name = "net-b"
    recipe = GraphRecipe(cutoff=5.0, max_neighbors=8)


class Mine(MaskedElements):
    """Somebody's objective."""

    name = "mine"


@pytest.fixture
def nets(registries):
    return register_encoder(NetA), register_encoder(NetB)


def state(embedder):
    return {name: tensor.numpy() for name, tensor in embedder.encoder_.state_dict().items()}


def same(a, b):
    return joblib.hash(state(a)) == joblib.hash(state(b))


# ---------------------------------------------------------------------- three ways to say the same


def test_name_class_and_template_pretrain_alike(graphs, nets):
    def embedder(method, encoder, **params):
        settings = {"weights": None, "max_epochs": 1, "batch_size": 16, "random_state": 0}
        return PretrainedCrystalEmbedder(method, encoder=encoder, **settings, **params).fit(graphs)

    by_name = embedder("byol", "net-a", hidden_dim=8, n_layers=1, projection_dim=16)
    assert same(by_name, embedder(BYOL, NetA, hidden_dim=8, n_layers=1, projection_dim=16))
    assert same(by_name, embedder(BYOL(projection_dim=16), NetA(hidden_dim=8, n_layers=1)))
    # Parameters of the estimator replace those of a template.
    replaced = {"hidden_dim": 8, "n_layers": 1, "projection_dim": 16}
    assert same(by_name, embedder(BYOL(projection_dim=4), NetA(hidden_dim=4), **replaced))
    assert not same(by_name, embedder(BYOL(projection_dim=4), NetA(hidden_dim=8, n_layers=1)))
    assert by_name.config_["method"] == "byol"
    assert by_name.config_["task_params"]["projection_dim"] == 16


@pytest.mark.parametrize("Estimator", [CrystalSSLRegressor, CrystalSSLClassifier])
def test_name_class_and_template_train_alike(graphs, y, nets, Estimator):
    labels = y > np.median(y) if Estimator is CrystalSSLClassifier else y
    models = [
        Estimator(None, encoder=encoder, max_epochs=1, random_state=0).fit(graphs, labels)
        for encoder in ("net-a", NetA, NetA())
    ]
    for model in models:
        assert isinstance(model.net_.module_.encoder, NetA)
        np.testing.assert_array_equal(model.predict(graphs), models[0].predict(graphs))
    small = Estimator(None, encoder=NetA(hidden_dim=4, readout="attention"), max_epochs=1).fit(graphs, labels)
    assert small.net_.module_.encoder.config["hidden_dim"] == 4
    assert small.net_.module_.encoder.config["readout"] == "attention"
    small.set_params(readout="mean").fit(graphs, labels)
    assert small.net_.module_.encoder.config["readout"] == "mean"


def test_weights_of_a_template_are_not_used(graphs, y):
    zeros = GIN(hidden_dim=8)
    with torch.no_grad():
        for parameter in zeros.parameters():
            parameter.zero_()
    params = {"weights": None, "max_epochs": 1, "random_state": 0}
    expected = PretrainedCrystalEmbedder("mask", encoder=GIN(hidden_dim=8), **params).fit(graphs)
    found = PretrainedCrystalEmbedder("mask", encoder=zeros, **params).fit(graphs)
    assert same(found, expected)
    assert all((parameter == 0).all() for parameter in zeros.parameters())  # nor changed


def test_what_a_template_has_learnt_to_predict_is_not_used(graphs, y):
    learnt = PretrainedCrystalEmbedder("joint").fit(graphs).encoder_
    assert learnt.n_properties
    model = CrystalSSLRegressor(pretrain=None, encoder=learnt, max_epochs=1, random_state=0).fit(graphs, y)
    assert model.net_.module_.encoder.n_properties == 0
    assert model.net_.module_.straight is None


def test_what_is_not_registered_works_as_class_and_template(graphs, y):
    for encoder in (NetA, NetA(hidden_dim=8)):
        assert CrystalSSLRegressor(None, encoder=encoder, max_epochs=1).fit(graphs, y).predict(graphs).shape == (40,)
    embedder = PretrainedCrystalEmbedder(Mine(), encoder=NetA(8, 1), weights=None, max_epochs=1).fit(graphs)
    assert embedder.config_["method"] == "mine"
    assert embedder.transform(graphs).shape == (40, embedder.n_features_out_)


# ---------------------------------------------------------------------- scikit-learn


@pytest.fixture
def templated():
    return PretrainedCrystalEmbedder(
        Composite([BYOL(momentum=0.9), "mask"], weights=[1.0, 0.5]),
        encoder=GIN(hidden_dim=8, n_layers=1),
        weights=None,
        max_epochs=1,
        random_state=0,
    )


@pytest.mark.parametrize("way", [clone, lambda e: pickle.loads(pickle.dumps(e))], ids=["clone", "pickle"])
def test_copies_fit_alike(way, templated, graphs):
    again = way(templated)
    assert repr(again) == repr(templated)
    assert repr(again.get_params()) == repr(templated.get_params())
    assert isinstance(again.encoder, GIN)
    assert again.encoder is not templated.encoder
    fitted = again.fit(graphs)
    assert same(fitted, templated.fit(graphs))
    assert way(fitted).get_params()["encoder"].config == templated.encoder.config
    # What is fitted survives too.
    stored = pickle.loads(pickle.dumps(fitted))
    assert stored.transform(graphs).tobytes() == templated.transform(graphs).tobytes()


def test_representation_is_short(templated):
    text = repr(templated)
    assert "GIN(hidden_dim=8, n_layers=1" in text
    assert "BYOL(momentum=0.9" in text
    assert "Linear(" not in text
    assert "GIN(hidden_dim=8" in repr(CrystalGraphTransformer(GIN(hidden_dim=8)))
    assert "sk-estimator" in templated._repr_html_()


def test_hash_and_file_of_an_estimator_do_not_depend_on_the_weights_of_a_template():
    def make():
        return [
            Estimator(encoder=GIN(hidden_dim=8))
            for Estimator in (CrystalGraphTransformer, PretrainedCrystalEmbedder, CrystalSSLRegressor)
        ]

    for one, other in zip(make(), make(), strict=True):
        assert not torch.equal(next(one.encoder.parameters()), next(other.encoder.parameters()))
        assert joblib.hash(one) == joblib.hash(other)
        assert len(pickle.dumps(one)) < 5000
    assert joblib.hash(make()[0]) != joblib.hash(CrystalGraphTransformer(encoder=GIN(hidden_dim=4)))
    before = torch.get_rng_state()
    pickle.loads(pickle.dumps(one))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def as_in_a_notebook(monkeypatch):
    """Classes of this file reach other processes as those of a notebook do, by value."""
    for cls in (NetA, NetB):
        monkeypatch.setattr(cls, "__module__", "__main__")


@pytest.mark.usefixtures("as_in_a_notebook")
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_grid_search_over_encoders_of_other_people(graphs, X, y, nets, n_jobs):
    pipeline = Pipeline(
        [("graphs", CrystalGraphTransformer()), ("model", CrystalSSLRegressor(None, max_epochs=1, random_state=0))]
    )
    everything = np.arange(len(X))
    encoders = [NetA(hidden_dim=8), NetB(hidden_dim=8), NetA, NetB, *(["net-a", "net-b"] if n_jobs is None else [])]
    search = GridSearchCV(
        pipeline, {"model__encoder": encoders}, cv=[(everything, everything)], error_score="raise", n_jobs=n_jobs
    ).fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert scores[0] != scores[1]
    if n_jobs is None:
        np.testing.assert_array_equal(scores[2:4], scores[4:])
    assert [repr(params["model__encoder"]) for params in search.cv_results_["params"]] == [*map(repr, encoders)]
    assert search.best_estimator_.predict(X).shape == y.shape


def test_grid_search_over_methods_and_views(graphs, y):
    pipeline = Pipeline(
        [
            (
                "embed",
                PretrainedCrystalEmbedder(encoder=GIN(8, 1), weights=None, max_epochs=1, batch_size=16, random_state=0),
            ),
            ("ridge", Ridge()),
        ]
    )
    everything = np.arange(40)
    views = ["perturb", ["strain", AtomMasking], [[RandomStrain(0.1)], ["mask-edges"]], RandomStrain(0.2)]
    grid = [{"embed__method": ["byol", SimCLR, BarlowTwins(0.1)], "embed__views": views}]
    search = GridSearchCV(pipeline, grid, cv=[(everything, everything)], error_score="raise").fit(graphs, y)
    assert len(set(search.cv_results_["mean_test_score"].round(8))) == 12


# ---------------------------------------------------------------------- caching


def test_cache_knows_templates_by_content(graphs, tmp_path, runs, nets):
    def fit(method, encoder, **params):
        PretrainedCrystalEmbedder(
            method, encoder=encoder, weights=None, max_epochs=1, memory=str(tmp_path), random_state=0, **params
        ).fit(graphs)
        return len(runs)

    assert fit("simclr", "net-a") == 1
    for method in ("simclr", SimCLR, SimCLR()):
        for encoder in ("net-a", NetA, NetA()):
            assert fit(method, encoder) == 1
    assert fit(SimCLR(temperature=0.2), NetA()) == 2
    assert fit(SimCLR(), NetA(hidden_dim=8)) == 3
    assert fit(SimCLR(), "net-a", views=[RandomStrain(0.1)]) == 4
    assert fit(SimCLR(views=RandomStrain(0.1)), "net-a") == 5  # the same, said otherwise
    assert fit(SimCLR(), "net-a", views=[RandomStrain(0.1)]) == 5
    assert fit(SimCLR(), "net-a", views=[RandomStrain(0.2)]) == 6


def test_cache_sees_that_a_class_was_edited(graphs, tmp_path, runs):
    def define(weight):
        class Edited(MaskedElements):
            name = "edited"
            factor = weight

            def loss(self, encoded, views, batch):
                return self.factor * super().loss(encoded, views, batch)

        return Edited

    def define_anew():
        class Edited(MaskedElements):
            name = "edited"
            factor = 1.0

            def loss(self, encoded, views, batch):
                return self.factor + super().loss(encoded, views, batch)

        return Edited

    for cls, n in ((define(1.0), 1), (define(1.0), 1), (define(2.0), 2), (define_anew(), 3), (define(1.0), 3)):
        PretrainedCrystalEmbedder(
            cls, encoder=GIN(8, 1), weights=None, max_epochs=1, memory=str(tmp_path), random_state=0
        ).fit(graphs)
        assert len(runs) == n


# ---------------------------------------------------------------------- resuming


@pytest.mark.parametrize("method", [BYOL(momentum=0.9), Composite([BYOL(momentum=0.9), "mask"])], ids=["alone", "part"])
def test_target_network_is_resumed_to_the_bit(graphs, tmp_path, monkeypatch, method):
    from crystalssl.training import PretrainingNet

    def embedder(**params):
        return PretrainedCrystalEmbedder(
            method, encoder=GIN(8, 1), weights=None, max_epochs=4, batch_size=16, learning_rate=0.01,
            validation_fraction=0.2, random_state=0, **params,
        )  # fmt: skip

    expected = embedder().fit(graphs)
    original, begun = PretrainingNet.on_epoch_begin, []

    def interrupting(net, *args, **kwargs):
        begun.append(net)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return original(net, *args, **kwargs)

    monkeypatch.setattr(PretrainingNet, "on_epoch_begin", interrupting)
    resumed = embedder(checkpoint=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        resumed.fit(graphs)
    assert same(resumed.fit(graphs), expected)
    losses = [[epoch["valid_loss"] for epoch in one.history_] for one in (resumed, expected)]
    assert losses[0] == losses[1]
    assert len(begun) == 5


# ---------------------------------------------------------------------- weights folders


def test_folders_of_other_peoples_encoders(graphs, y, tmp_path, nets):
    embedder = PretrainedCrystalEmbedder("mask", encoder=NetA(8, 1), weights=None, max_epochs=1, random_state=0)
    embedder.fit(graphs).save_pretrained(tmp_path / "a")
    assert json.loads((tmp_path / "a" / "config.json").read_text())["encoder"] == "net-a"
    expected = embedder.transform(graphs)
    loaded = PretrainedCrystalEmbedder.from_pretrained(tmp_path / "a")
    assert isinstance(loaded.encoder_, NetA)
    assert loaded.transform(graphs).tobytes() == expected.tobytes()
    for encoder in (None, "net-a", NetA, NetA(8, 1)):
        again = PretrainedCrystalEmbedder(weights=tmp_path / "a", encoder=encoder).fit([])
        assert again.transform(graphs).tobytes() == expected.tobytes()
        model = CrystalSSLRegressor(tmp_path / "a", encoder=encoder, max_epochs=1).fit(graphs, y)
        assert isinstance(model.net_.module_.encoder, NetA)
    for encoder, message in (
        ("net-b", "are of the encoder 'net-a', not 'net-b'"),
        (NetB, "are of the encoder 'net-a', not 'net-b'"),
        (NetA(16, 1), "hidden_dim=16 has no effect: the pretrained 'net-a' has hidden_dim=8"),
    ):
        with pytest.raises(ValueError, match=message):
            PretrainedCrystalEmbedder(weights=tmp_path / "a", encoder=encoder).fit([])
        with pytest.raises(ValueError, match=message):
            CrystalSSLRegressor(tmp_path / "a", encoder=encoder, max_epochs=1).fit(graphs, y)


def test_folder_of_a_method_that_is_not_registered(graphs, tmp_path):
    embedder = PretrainedCrystalEmbedder(Mine(), encoder=GIN(8, 1), weights=None, max_epochs=1, random_state=0)
    embedder.fit(graphs).save_pretrained(tmp_path / "mine")
    assert load_encoder(tmp_path / "mine")[1]["method"] == "mine"
    loaded = PretrainedCrystalEmbedder.from_pretrained(tmp_path / "mine")
    assert loaded.transform(graphs).tobytes() == embedder.transform(graphs).tobytes()
    assert loaded.method == "mine"
    # What pretraining was is missed where it is to go on.
    with pytest.raises(ValueError, match=r"'method' parameter must be .* Got 'mine'"):
        loaded.set_params(continue_training=True).fit(graphs)
    register_task(Mine)
    assert len(loaded.set_params(max_epochs=1).fit(graphs).history_) == 1


def test_bundled_weights_of_a_class_are_those_of_its_name(graphs):
    expected = PretrainedCrystalEmbedder("barlow").fit([]).transform(graphs)
    for method in (BarlowTwins, BarlowTwins()):
        assert PretrainedCrystalEmbedder(method).fit([]).transform(graphs).tobytes() == expected.tobytes()
    with pytest.raises(WeightsError, match=r"PretrainedCrystalEmbedder\('byol', weights=None\)"):
        PretrainedCrystalEmbedder(BYOL).fit([])


# ---------------------------------------------------------------------- parameters without effect


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"perturbation": 0.1}, "perturbation=0.1 has no effect where weights are loaded and not trained"),
        ({"projection_dim": 8}, "projection_dim=8 has no effect"),
        ({"views": "strain"}, "views='strain' has no effect"),
        ({"task_params": {"redundancy_weight": 1.0}}, "redundancy_weight=1.0 has no effect"),
        ({"hidden_dim": 8}, "hidden_dim=8 has no effect: the pretrained 'cgcnn' has hidden_dim=64; leave it out"),
        ({"n_layers": 2}, "n_layers=2 has no effect: .* n_layers=3"),
        ({"encoder_params": {"n_gaussians": 7}}, "n_gaussians=7 has no effect: .* n_gaussians=41"),
        ({"encoder_params": {"n_heads": 7}}, "n_heads=7 has no effect"),
        ({"hidden_dim": 8, "continue_training": True}, "hidden_dim=8 has no effect"),
    ],
    ids=str,
)
def test_parameters_without_effect_on_loaded_weights_are_refused(params, message, graphs, runs):
    with pytest.raises(ValueError, match=message):
        PretrainedCrystalEmbedder("barlow", **params).fit(graphs)
    assert runs == []


def test_parameters_that_state_what_is_so_are_not_refused(graphs):
    PretrainedCrystalEmbedder("barlow", encoder="cgcnn", hidden_dim=64, encoder_params={"n_gaussians": 41}).fit([])
    PretrainedCrystalEmbedder("barlow", continue_training=True, perturbation=0.1, max_epochs=1).fit(graphs)


def test_number_of_labels_follows_from_y(tiny_embedder, graphs, y):
    for method in ("joint", "properties"):
        with pytest.raises(ValueError, match="n_properties=3, but the labels make it 1"):
            tiny_embedder(method, task_params={"n_properties": 3}).fit(graphs, y)
        fitted = tiny_embedder(method, task_params={"n_properties": 1}, max_epochs=1).fit(graphs, y)
        assert fitted.config_["task_params"]["n_properties"] == 1
