"""No number is invented: what training cannot know is constant, left out, refused, or warned of."""

from __future__ import annotations

import contextlib
import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from crystalssl import CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.encoders import CGCNN
from crystalssl.estimators import _finetuning
from crystalssl.estimators._network import Standardization
from crystalssl.exceptions import NonFiniteError, UnseenElementsWarning, WeightsError
from crystalssl.training import load_encoder, save_encoder

IGNORE_UNSEEN_ELEMENTS = pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")


def output(model, X):
    return model.predict_proba(X) if hasattr(model, "classes_") else model.predict(X)


# ------------------------------------------------------------------ equal crystals


def copies(structure, n, noise=0.0):
    """The same crystal with its sites in other orders, and other cells' rounding."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(n):
        order = rng.permutation(len(structure)).tolist()
        found.append(type(structure).from_sites([structure[i] for i in order]))
        found[-1].translate_sites(range(len(structure)), rng.uniform(size=3))
        if noise:
            found[-1].perturb(noise)
    return found


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-4])
def test_equal_crystals_are_predicted_near_their_targets(X, noise):
    crystals = copies(max(X[:10], key=len), 20, noise)
    y = 1 + 0.01 * np.random.default_rng(1).normal(size=20)
    predicted = CrystalSSLRegressor(max_epochs=20, random_state=0).fit(crystals, y).predict(crystals)
    assert y.min() - 0.02 < predicted.min() <= predicted.max() < y.max() + 0.02


def test_components_that_vary_by_rounding_are_constant():
    rng = np.random.default_rng(0)
    size = np.float32([30, 1, 0.01])
    vectors = (size * (1 + 1e-6 * rng.normal(size=(50, 3)))).astype(np.float32)
    constant = Standardization(vectors)
    np.testing.assert_allclose(constant.scale, np.sqrt((size**2).mean()), rtol=1e-5)
    assert constant(torch.from_numpy(vectors)).abs().max() < 1e-5
    varying = (size * (1 + 0.1 * rng.normal(size=(50, 3)))).astype(np.float32)
    np.testing.assert_allclose(Standardization(varying).scale[:2], varying.std(axis=0)[:2], rtol=1e-5)


# ------------------------------------------------------------------ targets


@pytest.mark.parametrize("value", [0.0, 0.1, 5.0, -1e25, 1e-25, 1e25, 1e-320, 1e299])
@pytest.mark.parametrize("transform", ["auto", None])
def test_a_constant_target_is_predicted_exactly(tiny_regressor, graphs, new, value, transform):
    model = tiny_regressor(target_transform=transform, early_stopping=True, ensemble_size=2)
    model.fit(graphs, np.full(len(graphs), value))
    mean, std = model.predict(new[1], return_std=True)
    assert (mean == value).all()
    assert (std == 0).all()


def test_one_of_several_targets_is_constant(tiny_regressor, graphs, y):
    model = tiny_regressor(max_epochs=40, learning_rate=0.02, ema_decay=0.5, batch_size=20)
    predicted = model.fit(graphs, np.c_[y, np.full(len(y), 1e25), np.full(len(y), 3.0)]).predict(graphs)
    assert (predicted[:, 1:] == [1e25, 3.0]).all()
    assert np.corrcoef(predicted[:, 0], y)[0, 1] > 0.9


@pytest.mark.parametrize("factor", [1e-200, 1e-25, 1e25, 1e200])
def test_targets_keep_their_scale(tiny_regressor, graphs, y, factor):
    expected = tiny_regressor(ensemble_size=2).fit(graphs, y).predict(graphs, return_std=True)
    found = tiny_regressor(ensemble_size=2).fit(graphs, factor * y).predict(graphs, return_std=True)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one / factor, other, rtol=1e-3)


@pytest.mark.parametrize(
    ("factor", "message"),
    [(1e301, r"y\[\d+\] is .*e\+30\d, which is too large"), (1e-306, "targets are at most .*e-30")],
)
def test_targets_that_have_no_scale_are_refused(tiny_regressor, graphs, y, factor, message):
    with pytest.raises(ValueError, match=message):
        tiny_regressor().fit(graphs, factor * y)


def test_warm_start_from_a_constant_target(tiny_regressor, graphs, y):
    model = tiny_regressor(warm_start=True).fit(graphs, np.full(len(y), 5.0))
    model.set_params(max_epochs=40, learning_rate=0.02, ema_decay=0.5, batch_size=20).fit(graphs, y)
    assert model.score(graphs, y) > 0.8


# ------------------------------------------------------------------ weight 0


@IGNORE_UNSEEN_ELEMENTS
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("ensemble_size", [1, 2])
def test_weight_0_is_left_out_of_the_choice_of_the_logarithm(tiny_regressor, graphs, early_stopping, ensemble_size):
    y = np.geomspace(1, 1e4, len(graphs))
    kept = np.arange(len(graphs)) % 3 != 0
    y[~kept] = -5.0
    params = {"early_stopping": early_stopping, "ensemble_size": ensemble_size, "standardize": True}
    rows = np.flatnonzero(kept)
    weighed = tiny_regressor(**params).fit(graphs, y, sample_weight=kept)
    without = tiny_regressor(**params).fit(graphs[rows], y[rows])
    assert weighed.target_.log_.all()
    assert weighed.predict(graphs[rows]).tobytes() == without.predict(graphs[rows]).tobytes()
    for name in ("elements_", "trained_elements_"):
        assert getattr(weighed, name).tolist() == getattr(without, name).tolist()
    explicit = tiny_regressor(**params, target_transform="log").fit(graphs, y, sample_weight=kept)
    assert explicit.predict(graphs[rows]).tobytes() == without.predict(graphs[rows]).tobytes()


@IGNORE_UNSEEN_ELEMENTS
@pytest.mark.parametrize("params", [{}, {"class_weight": "balanced"}, {"early_stopping": True}], ids=str)
def test_weight_0_is_left_out_of_classes_and_their_weights(tiny_classifier, graphs, y, params):
    labels = np.where(y > np.median(y), "heavy", "light").astype(object)
    kept = np.arange(len(graphs)) % 4 != 0
    labels[~kept] = "unknown"
    labels[np.flatnonzero(~kept)[:3]] = "heavy"
    rows = np.flatnonzero(kept)
    weighed = tiny_classifier(**params).fit(graphs, labels, sample_weight=kept.astype(float))
    without = tiny_classifier(**params).fit(graphs[rows], labels[rows])
    assert weighed.classes_.tolist() == without.classes_.tolist() == ["heavy", "light"]
    assert weighed.predict_proba(graphs[rows]).tobytes() == without.predict_proba(graphs[rows]).tobytes()


def test_weight_0_is_left_out_of_pretraining(tiny_regressor, tiny_embedder, X, y):
    kept = np.arange(len(X)) % 3 != 0
    model = tiny_regressor(pretrain=tiny_embedder(), max_epochs=1)
    weighed = clone(model).fit(X, y, sample_weight=kept)
    without = clone(model).fit([x for x, keep in zip(X, kept, strict=True) if keep], y[kept])
    few = [x for x, keep in zip(X, kept, strict=True) if keep][:5]
    assert weighed.elements_.tolist() == without.elements_.tolist()
    assert weighed.predict(few).tobytes() == without.predict(few).tobytes()


def test_weights_of_any_size(tiny_regressor, graphs, y):
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
    expected = tiny_regressor().fit(graphs, y, sample_weight=weights).predict(graphs)
    for factor in (2.0**-1000, 2.0**1020):
        assert tiny_regressor().fit(graphs, y, sample_weight=factor * weights).predict(graphs).tobytes() == (
            expected.tobytes()
        )


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({"light": -1.0}, r"class_weight\['light'\] is -1.0; weights are finite numbers of at least 0"),
        ({"light": float("nan")}, r"class_weight\['light'\] is nan"),
        ({"light": float("inf")}, r"class_weight\['light'\] is inf"),
        ({"light": "much"}, r"class_weight\['light'\] is 'much'"),
        ({"dense": 1.0}, r"class_weight names 'dense', which is no class of y; its classes are \['heavy', 'light'\]"),
        ({"light": 0}, r"class_weight leaves 1 of the classes \['heavy', 'light'\]"),
    ],
)
def test_class_weights_that_make_no_sense(tiny_classifier, graphs, y, class_weight, message):
    with pytest.raises(ValueError, match=message):
        tiny_classifier(class_weight=class_weight).fit(graphs, np.where(y > np.median(y), "heavy", "light"))


# ------------------------------------------------------------------ early stopping of a classifier


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.9])
def test_every_class_is_trained_on_and_held_out(tiny_classifier, graphs, monkeypatch, fraction):
    split = {}
    original = _finetuning.fit_network

    def spy(net_class, module, training, validation, **kwargs):
        split.update(train=training.y[training.indices], valid=validation.y[validation.indices])
        return original(net_class, module, training, validation, **kwargs)

    monkeypatch.setattr(_finetuning, "fit_network", spy)
    y = np.array(["common"] * 26 + ["rare"] * 12 + ["rarest"] * 2)
    tiny_classifier(early_stopping=True, validation_fraction=fraction, max_epochs=1).fit(graphs, y)
    counts = np.bincount(split["valid"], minlength=3)
    assert (counts + np.bincount(split["train"], minlength=3)).tolist() == [26, 12, 2]
    assert counts.tolist() == [round(26 * fraction), round(12 * fraction), 1]


def test_a_class_of_one_crystal_is_named(tiny_classifier, graphs):
    y = np.array(["common"] * 20 + ["rare"] * 19 + ["single"])
    with pytest.raises(ValueError, match="the class 'single' has one crystal, and early_stopping=True holds out"):
        tiny_classifier(early_stopping=True).fit(graphs, y)
    tiny_classifier(max_epochs=1).fit(graphs, y)


# ------------------------------------------------------------------ warm start


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": "cgcnn"},
        {"pretrain": None},
        {"pretrain": "barlow"},
        {"readout": "mean"},
        {"pooled_layers": "last"},
        {"head_dim": 9},
        {"dropout": 0.5},
        {"standardize": True},
        {"target_transform": "log"},
    ],
    ids=str,
)
def test_warm_start_refuses_what_its_networks_cannot_follow(tiny_regressor, graphs, y, change):
    model = tiny_regressor(warm_start=True).fit(graphs, y)
    expected = model.predict(graphs)
    before = model.get_params(deep=False)
    [name] = change
    for fitted in (model, pickle.loads(pickle.dumps(model))):
        with pytest.raises(ValueError, match=f"{name} has changed since the last fit.*set {name} back, or warm_start="):
            fitted.set_params(**change).fit(graphs, y)
        assert fitted.predict(graphs).tobytes() == expected.tobytes()
        fitted.set_params(**before).fit(graphs, y)
        fitted.set_params(**change, warm_start=False).fit(graphs, y)
        fitted.set_params(**before)


def test_warm_start_sees_what_changed_inside_of_an_embedder(tiny_regressor, tiny_embedder, graphs, y):
    model = tiny_regressor(pretrain=tiny_embedder(), warm_start=True, max_epochs=1).fit(graphs, y)
    clone_of_it = tiny_embedder()
    model.set_params(pretrain=clone_of_it).fit(graphs, y)  # equal, so nothing has changed
    with pytest.raises(ValueError, match="pretrain has changed"):
        model.set_params(pretrain__max_epochs=3).fit(graphs, y)
    first, second = (FrozenEstimator(tiny_embedder(random_state=seed).fit(graphs)) for seed in (0, 0))
    second.estimator.encoder_.embedding.weight.data += 1
    model = tiny_regressor(pretrain=first, warm_start=True, max_epochs=1).fit(graphs, y)
    pickle.loads(pickle.dumps(model)).fit(graphs, y)
    with pytest.raises(ValueError, match="pretrain has changed"):
        model.set_params(pretrain=second).fit(graphs, y)


@pytest.mark.parametrize("change", [{"max_epochs": 4}, {"learning_rate": 0.1}, {"loss": "huber"}, {"ensemble_size": 2}])
def test_warm_start_follows_the_rest(tiny_regressor, graphs, y, change):
    tiny_regressor(warm_start=True).fit(graphs, y).set_params(**change).fit(graphs, y)


# ------------------------------------------------------------------ elements


@pytest.fixture
def oxides(X, y):
    """Rows with oxygen, and rows without."""
    has_oxygen = np.array([any(element.Z == 8 for element in x.elements) for x in X])
    assert 2 < has_oxygen.sum() < len(X) - 4
    return np.flatnonzero(has_oxygen), np.flatnonzero(~has_oxygen)


@pytest.mark.parametrize("pretrain", ["tiny", None])
@pytest.mark.parametrize("ensemble_size", [1, 2])
def test_elements_without_labels_warn_once(tiny_regressor, graphs, y, oxides, pretrain, ensemble_size):
    _, without = oxides
    params = {"ensemble_size": ensemble_size, **({} if pretrain else {"pretrain": None})}
    model = tiny_regressor(**params).fit(graphs[without], y[without])
    assert model.trained_elements_.tolist() == list(graphs[without].elements)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(graphs[without])
    shares = [1 - np.isin(crystal.z, model.trained_elements_).mean() for crystal in graphs]
    n_crystals = sum(share > 0.33 for share in shares)
    assert n_crystals < np.count_nonzero(shares)  # where few atoms are of such elements, nothing is said
    message = rf"^{n_crystals} of {len(graphs)} crystals hold elements that no training label has seen, .*\bO\b"
    with pytest.warns(UnseenElementsWarning, match=message) as caught:
        model.predict(graphs)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_elements_of_held_out_crystals_are_not_trained_on(tiny_regressor, graphs, y):
    model = tiny_regressor(early_stopping=True, validation_fraction=0.5).fit(graphs, y)
    assert set(model.trained_elements_) < set(graphs.elements)


def test_classifier_warns_too(tiny_classifier, graphs, y, oxides):
    _, without = oxides
    labels = np.where(y > np.median(y[without]), "heavy", "light")
    model = tiny_classifier().fit(graphs[without], labels[without])
    for call in (model.predict, model.predict_proba):
        with pytest.warns(UnseenElementsWarning) as caught:
            call(graphs)
        assert len(caught) == 1


def test_warm_start_adds_the_elements_of_its_labels(tiny_regressor, graphs, y, oxides):
    with_oxygen, without = oxides
    model = tiny_regressor(warm_start=True).fit(graphs[without], y[without]).fit(graphs[with_oxygen], y[with_oxygen])
    assert set(model.trained_elements_) == set(graphs.elements)
    model.predict(graphs)  # does not warn


# ------------------------------------------------------------------ NaN and infinity


def poisoned(model, name, value):
    model = copy.deepcopy(model)
    for net in model.nets_:
        net.module_.state_dict()[name].view(-1)[0] = value
    return model


@pytest.mark.parametrize("rate", [1e3, 1e6])
@pytest.mark.parametrize("params", [{}, {"gradient_clip": None}, {"ema_decay": 0.0}, {"early_stopping": True}], ids=str)
def test_a_diverging_training_is_an_error_or_gives_numbers(tiny_regressor, graphs, y, rate, params):
    model = tiny_regressor(learning_rate=rate, **params)
    with contextlib.suppress(NonFiniteError):
        model.fit(graphs, y)
    if hasattr(model, "nets_"):
        assert np.isfinite(model.predict(graphs)).all()
    else:
        with pytest.raises(NonFiniteError, match=r"diverged.*learning_rate"):
            model.fit(graphs, y)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("head.1.weight", np.nan, r"item 0: the tensor head.1.weight holds nan"),
        ("head.4.bias", np.inf, "the tensor head.4.bias holds inf"),
        ("encoder.convs.0.norm.running_var", -10.0, "the tensor .*running_var holds a negative variance, -10"),
        ("head.4.bias", 3e38, None),
    ],
)
def test_predictions_that_are_no_numbers(tiny_regressor, tiny_classifier, graphs, y, name, value, message):
    labels = np.where(y > np.median(y), "heavy", "light")
    for model in (tiny_regressor().fit(graphs, y), tiny_classifier().fit(graphs, labels)):
        names = [key for key in model.net_.module_.state_dict() if key.endswith(name.rpartition(".")[2])]
        broken = poisoned(model, name if name in names else names[0], value)
        if message is None:
            assert np.isfinite(output(broken, graphs)).all()
        else:
            with pytest.raises(NonFiniteError, match=message):
                output(broken, graphs)
        assert np.isfinite(output(model, graphs)).all()


def test_a_logarithm_that_cannot_be_undone(tiny_regressor, graphs, y):
    model = tiny_regressor(target_transform="log", ensemble_size=2).fit(graphs, y)
    with pytest.raises(NonFiniteError, match="prediction for item 0 exceeds what float64 holds"):
        poisoned(model, "head.4.bias", 1e6).predict(graphs, return_std=True)


@pytest.fixture
def broken_weights(tiny_weights, tmp_path):
    """A function that writes a weights folder with a value in a tensor, and the hash that fits it."""

    def write(name, value):
        encoder, config = load_encoder(tiny_weights)
        encoder.state_dict()[name].view(-1)[0] = value
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("crystalssl.training._weights.find_fault", lambda state: None)
            save_encoder(tmp_path / "broken", encoder, config)
        return tmp_path / "broken"

    return write


@pytest.mark.parametrize(
    ("part", "value", "fault"),
    [("weight", np.nan, "holds nan"), ("bias", -np.inf, "holds -inf"), ("running_var", -1.0, "negative variance, -1")],
)
def test_weights_that_are_no_numbers_are_not_loaded_and_not_saved(
    broken_weights, tiny_weights, tiny_regressor, graphs, y, tmp_path, part, value, fault
):
    name = next(key for key in load_encoder(tiny_weights)[0].state_dict() if key.endswith(part))
    folder = broken_weights(name, value)
    message = rf"(?s)broken.*the tensor {name} holds.*{fault.removeprefix('holds ')}"
    for call in (
        lambda: load_encoder(folder),
        lambda: PretrainedCrystalEmbedder(weights=folder).fit([]),
        lambda: tiny_regressor(pretrain=folder).fit(graphs, y),
    ):
        with pytest.raises(WeightsError, match=message):
            call()
    embedder = PretrainedCrystalEmbedder(weights=tiny_weights).fit([])
    embedder.encoder_.state_dict()[name].view(-1)[0] = value
    with pytest.raises(WeightsError, match=f"not saved to .*the tensor {name} holds"):
        embedder.save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_vectors_that_are_no_numbers(tiny_embedder, graphs):
    embedder = tiny_embedder(max_epochs=1).fit(graphs)
    assert np.isfinite(embedder.transform(graphs)).all()
    embedder.encoder_.embedding.weight.data[:] = np.nan
    for cached in (getattr(embedder, "embedding_", None),):
        if cached is not None:
            cached.embedding.weight.data[:] = np.nan
    with pytest.raises((NonFiniteError, WeightsError), match=r"the tensor embedding\.weight holds nan"):
        embedder.transform(graphs)


# ------------------------------------------------------------------ what surrounds the call


class Default:
    """torch's default dtype or device set by another package."""

    def __init__(self, setter, value, usual):
        self.setter, self.value, self.usual = setter, value, usual

    def __enter__(self):
        self.setter(self.value)

    def __exit__(self, *error):
        self.setter(self.usual)


SURROUNDINGS = {
    "float64": lambda: Default(torch.set_default_dtype, torch.float64, torch.float32),
    "float16": lambda: Default(torch.set_default_dtype, torch.float16, torch.float32),
    "meta": lambda: Default(torch.set_default_device, "meta", None),
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("surroundings", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_what_surrounds_a_call_changes_nothing(surroundings, tiny_regressor, tiny_embedder, graphs, y):
    regressor, embedder = tiny_regressor(standardize=True), tiny_embedder()
    expected = regressor.fit(graphs, y).predict(graphs), embedder.fit(graphs).transform(graphs)
    random = tiny_regressor(pretrain=None).fit(graphs, y).predict(graphs)
    dtype, device, grad = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    with surroundings():
        before = torch.get_default_dtype(), torch.get_default_device(), torch.is_inference_mode_enabled()
        fitted = clone(regressor).fit(graphs, y)
        vectors = clone(embedder).fit(graphs)
        assert fitted.predict(graphs).tobytes() == expected[0].tobytes()
        assert vectors.transform(graphs).tobytes() == expected[1].tobytes()
        assert tiny_regressor(pretrain=None).fit(graphs, y).predict(graphs).tobytes() == random.tobytes()
        assert before == (torch.get_default_dtype(), torch.get_default_device(), torch.is_inference_mode_enabled())
    assert (dtype, device, grad) == (torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled())
    assert fitted.predict(graphs).tobytes() == expected[0].tobytes()
    fitted.set_params(warm_start=True).fit(graphs, y)


# ------------------------------------------------------------------ devices that fail


def test_meta_is_no_device(tiny_regressor, tiny_embedder, graphs, y):
    model, embedder = tiny_regressor().fit(graphs, y), tiny_embedder().fit(graphs)
    expected = model.predict(graphs), embedder.transform(graphs)
    for call in (
        lambda: model.set_params(device="meta").predict(graphs),
        lambda: model.fit(graphs, y),
        lambda: embedder.set_params(device="meta").transform(graphs),
        lambda: embedder.fit(graphs),
    ):
        with pytest.raises(ValueError, match="device 'meta' cannot be used here"):
            call()
    assert model.set_params(device="cpu").predict(graphs).tobytes() == expected[0].tobytes()
    assert embedder.set_params(device="cpu").transform(graphs).tobytes() == expected[1].tobytes()


def test_a_device_that_fails_midway_leaves_the_estimator_as_it_was(
    tiny_regressor, tiny_embedder, graphs, y, monkeypatch
):
    """ "meta" stands for a GPU that runs out of memory: it takes the weights, and gives nothing back."""
    model, embedder = tiny_regressor().fit(graphs, y), tiny_embedder().fit(graphs)
    expected = model.predict(graphs), embedder.transform(graphs)
    for module in ("_finetuning", "_predicting", "_embedder"):
        monkeypatch.setattr(f"crystalssl.estimators.{module}.resolve_device", lambda device: "meta")
    for call in (
        lambda: model.predict(graphs),
        lambda: model.fit(graphs, y),
        lambda: model.set_params(warm_start=True).fit(graphs, y),
        lambda: embedder.transform(graphs),
    ):
        with pytest.raises((RuntimeError, NotImplementedError)):
            call()
    monkeypatch.undo()
    assert model.predict(graphs).tobytes() == expected[0].tobytes()
    assert embedder.transform(graphs).tobytes() == expected[1].tobytes()


def test_the_encoder_of_the_small_weights_has_variances():
    """What the tests above poison is there."""
    assert any(name.endswith("running_var") for name, _ in CGCNN(8, 1).named_buffers())
