"""What is wrong is named, and a fitted estimator is none the worse for it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler

from crystalssl import CrystalGraphTransformer, PretrainedCrystalEmbedder
from crystalssl.encoders import CGCNN, register_encoder
from crystalssl.exceptions import (
    InvalidStructureError,
    NotACrystalError,
    RecipeMismatchError,
    UnseenElementsWarning,
    WeightsError,
)
from crystalssl.training import CrystalNet, load_encoder, save_encoder


def replaced(y, index, value):
    changed = y.astype(object)
    changed[index] = value
    return changed.tolist()


class OtherEncoder(CGCNN):
    name = "other"


@pytest.fixture
def other_weights(tmp_path, registries):
    """Weights of an encoder other than CGCNN."""
    register_encoder(OtherEncoder)
    with torch.random.fork_rng():
        save_encoder(tmp_path / "other", OtherEncoder(8, 1), {"method": "barlow", "elements": [*range(1, 100)]})
    return tmp_path / "other"


def damage(what):
    """A function that damages one file of a weights folder."""

    def change(folder):
        path = folder / "model.safetensors"
        if what == "missing":
            path.unlink()
        elif what == "truncated":
            path.write_bytes(path.read_bytes()[:1000])
        else:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 0xFF
            path.write_bytes(content)
        return folder

    return change


# Everything that can be wrong with a call of `fit`: what to change of (parameters, X, y), the error and its message.
# "folder" stands for a weights folder, which the function beside it damages first.
WRONG = {
    "fewer targets": ({}, None, lambda y: y[:-1], ValueError, "X holds 40 crystals but y has 39 values"),
    "more targets": ({}, None, lambda y: [*y, 1.0], ValueError, "X holds 40 crystals but y has 41 values"),
    "NaN": ({}, None, lambda y: replaced(y, 7, np.nan), ValueError, r"y\[7\] is nan"),
    "infinite": ({}, None, lambda y: replaced(y, 39, -np.inf), ValueError, r"y\[39\] is -inf"),
    "text": ({}, None, lambda y: replaced(y, 5, "high"), ValueError, r"y\[5\] is 'high', not a number"),
    "no y": ({}, None, lambda y: None, ValueError, "y is None"),
    "one crystal": ({}, lambda X: X[:1], lambda y: y[:1], ValueError, "one crystal; training needs at least two"),
    "no crystals": ({}, lambda X: [], lambda y: [], ValueError, "X holds no crystals; training needs at least two"),
    "a single structure": ({}, lambda X: X[0], None, NotACrystalError, r"X is a single Structure.*Wrap it in a list"),
    "not a crystal": ({}, lambda X: [*X[:3], 5, *X[4:]], None, NotACrystalError, "item 3: int is not a crystal"),
    "overlapping atoms": (
        {},
        lambda X: [*X[:2], overlapping(X[2]), *X[3:]],
        None,
        InvalidStructureError,
        "item 2: atoms 0 and .* apart",
    ),
    "other recipe": (
        {},
        lambda X: CrystalGraphTransformer(max_neighbors=5).transform(X),
        None,
        RecipeMismatchError,
        r"max_neighbors=5.* but .*max_neighbors=12.* is needed; build them again",
    ),
    "batches of one": ({"batch_size": 1}, None, None, ValueError, r"'batch_size' .* in the range \[2, inf\)"),
    "unknown readout": ({"readout": "sum"}, None, None, ValueError, "'readout' parameter"),
    "unknown loss": ({"loss": "l3"}, None, None, ValueError, "'loss' parameter"),
    "unknown encoder": ({"encoder": "perceiver"}, None, None, ValueError, "'encoder' parameter .*'cgcnn'.*'perceiver'"),
    "unknown device": ({"device": "tpu"}, None, None, ValueError, "device 'tpu' cannot be used here"),
    "unknown method": ({"pretrain": "barlo"}, None, None, WeightsError, "no weights 'barlo'.*'barlow', .*'simsiam'"),
    "no such folder": ({"pretrain": "no/such"}, None, None, WeightsError, "no weights 'no/such'"),
    "not an embedder": ({"pretrain": StandardScaler()}, None, None, TypeError, "pretrain is a StandardScaler"),
    "not a frozen embedder": (
        {"pretrain": FrozenEstimator(StandardScaler())},
        None,
        None,
        TypeError,
        "pretrain is a StandardScaler; expected",
    ),
    "frozen but not fitted": (
        {"pretrain": FrozenEstimator(PretrainedCrystalEmbedder())},
        None,
        None,
        ValueError,
        "FrozenEstimator instance is not fitted yet",
    ),
    "logarithm of nothing": (
        {"target_transform": "log"},
        None,
        lambda y: replaced(y, 11, 0.0),
        ValueError,
        r"y\[11\] is 0.0, which has no logarithm",
    ),
    "logarithm with held-out rows": (
        {"target_transform": "log", "early_stopping": True},
        None,
        lambda y: replaced(y, 11, -1.0),
        ValueError,
        r"y\[11\] is -1.0, which has no logarithm",
    ),
    "nearly everything held out": (
        {"early_stopping": True, "validation_fraction": 0.98},
        None,
        None,
        ValueError,
        "of 40 crystals 39 are held out, .*; lower validation_fraction or set early_stopping=False",
    ),
    "too high a rate": (
        {"learning_rate": 1e30, "gradient_clip": None, "max_epochs": 5},
        None,
        None,
        FloatingPointError,
        "diverged: the loss of epoch .* lower learning_rate",
    ),
    "weights missing": ({"pretrain": damage("missing")}, None, None, WeightsError, "has no model.safetensors"),
    "weights truncated": ({"pretrain": damage("truncated")}, None, None, WeightsError, "was altered or truncated"),
    "weights altered": ({"pretrain": damage("altered")}, None, None, WeightsError, "was altered or truncated"),
}


def overlapping(structure):
    structure = structure.copy()
    structure.append(structure[0].specie, structure[0].coords + 0.01, coords_are_cartesian=True)
    return structure


CASES = [
    pytest.param(*case, warm_start, id=f"{name}, {'warm' if warm_start else 'cold'}")
    for name, case in WRONG.items()
    for warm_start in (False, True)
    if not (warm_start and {"target_transform", "pretrain", "encoder"} & case[0].keys())  # refused before anything else
]


@pytest.mark.parametrize(("params", "change_X", "change_y", "error", "message", "warm_start"), CASES)
def test_failed_fit_says_why_and_leaves_the_estimator_as_it_was(
    tiny_regressor, tiny_weights, X, y, new, params, change_X, change_y, error, message, warm_start
):
    model = tiny_regressor(max_epochs=1, warm_start=warm_start).fit(X, y)
    expected, history = model.predict(new[1]), model.history_
    if callable(params.get("pretrain")):
        params = {**params, "pretrain": params["pretrain"](tiny_weights)}
    good = model.get_params(deep=False)
    model.set_params(**params)
    with pytest.raises(error, match=f"(?s){message}") as caught:
        model.fit(X if change_X is None else change_X(X), y if change_y is None else change_y(y))
    if params.get("pretrain") == tiny_weights:
        assert str(tiny_weights) in str(caught.value)
    # `net_` and all that `predict` needs are those of the last fit that went well.
    model.set_params(**good)
    assert model.predict(new[1]).tobytes() == expected.tobytes()
    assert model.history_ is history
    assert model.score(X, y) == pytest.approx(tiny_regressor(max_epochs=1).fit(X, y).score(X, y))


@pytest.mark.parametrize("at", [1, 7, 15])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("warm_start", [False, True])
def test_interruption_is_seen_and_leaves_the_estimator_as_it_was(
    tiny_regressor, graphs, y, monkeypatch, at, error, warm_start
):
    model = tiny_regressor(warm_start=warm_start).fit(graphs, y)
    expected = model.predict(graphs)
    random_state = torch.get_rng_state()
    original = CrystalNet.train_step
    steps = []

    def interrupting(net, *args, **kwargs):
        steps.append(net)
        if len(steps) == at:
            raise error
        return original(net, *args, **kwargs)

    monkeypatch.setattr(CrystalNet, "train_step", interrupting)
    with pytest.raises(error):
        model.fit(graphs, y + 1)
    assert len(steps) == at
    assert model.predict(graphs).tobytes() == expected.tobytes()
    assert torch.equal(torch.get_rng_state(), random_state)


def test_interrupted_first_fit_leaves_an_unfitted_estimator(tiny_regressor, graphs, y, monkeypatch):
    from sklearn.exceptions import NotFittedError

    def interrupting(net, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(CrystalNet, "validation_step", interrupting)
    model = tiny_regressor(early_stopping=True)
    with pytest.raises(KeyboardInterrupt):
        model.fit(graphs, y)
    with pytest.raises(NotFittedError):
        model.predict(graphs)


# ------------------------------------------------------------------ pretraining

# What can be wrong with a pretraining: method, parameters, how X and y are changed, and the message.
WRONG_PRETRAINING = {
    "classes missing": ("spmat-simclr", {}, None, None, "'spmat-simclr' learns from surrogate classes; give them as y"),
    "no class": ("spmat-barlow", {}, None, [-1] * 40, "y holds no class at all"),
    "one class": ("spmat-barlow", {}, None, ["metal"] * 40, "one class only, 'metal'; choose a surrogate"),
    "fewer classes": ("spmat-simclr", {}, None, [0, 1] * 19, r"inconsistent numbers of samples: \[40, 38\]"),
    "more properties": ("joint", {}, None, [[1.0, 2.0]] * 41, r"inconsistent numbers of samples: \[40, 41\]"),
    "text as property": ("joint", {}, None, ["high"] * 40, "properties must be numbers, NaN where unknown"),
    "property of nothing": ("joint", {}, None, [[1.0, np.nan]] * 40, "no crystal has a value of property 1"),
    "infinite property": ("joint", {}, None, [1.0] * 39 + [np.inf], r"y\[39, 0\] is infinite; write NaN"),
    "no stiffness": ("dssl-as", {}, "noble", None, r"none of the elements .*\[18\]\) has a tabulated atomic stiffness"),
    "no edges to denoise": ("cdssl", {"encoder": "cgcnn"}, None, None, "edge outputs, which 'cgcnn'.*'gatedgcn'"),
    "no edges for joint": ("joint", {"encoder": "deepergatgnn"}, None, None, "edge outputs, which 'deepergatgnn'"),
    "no noise": ("cdssl", {"task_params": {"sigma": 0}}, None, None, r"sigma must be positive \(Å\), got 0"),
    "negative noise": ("joint", {"task_params": {"sigma": -0.1}}, None, None, "sigma must be positive"),
    "text as noise": ("cdssl", {"task_params": {"sigma": "0.1"}}, None, None, "'cdssl' does not take these parameters"),
    "no temperature": ("simclr", {"task_params": {"temperature": 0}}, None, None, "temperature must be positive"),
    "misspelt": ("cdssl", {"task_params": {"sgima": 0.1}}, None, None, "'cdssl' does not take .* 'sgima'"),
    "of another method": ("cdssl", {"perturbation": 0.1}, None, None, "'cdssl' does not take .* 'perturbation'"),
    "of two views": ("mask", {"projection_dim": 8}, None, None, "'mask' does not take .* 'projection_dim'"),
    "of another encoder": ("mask", {"encoder_params": {"n_heads": 2}}, None, None, "'cgcnn' does not take .*'n_heads'"),
    "no such readout": ("mask", {"encoder_params": {"readout": "sum"}}, None, None, "no readout 'sum'; choose one of"),
    "no such part": ("composite", {"task_params": {"tasks": {"maks": 1}}}, None, None, "cannot hold the task 'maks'"),
    "part with labels": (
        "composite",
        {"task_params": {"tasks": {"mask": 1, "spmat-simclr": 1}}},
        None,
        None,
        "cannot hold the task 'spmat-simclr'",
    ),
    "no weight": ("dssl", {"task_params": {"alpha": 0}}, None, None, "the task 'mask' must be positive, got 0"),
    "unknown method": ("barlo", {}, None, None, "'method' parameter .*'barlow'.*'barlo'"),
    "unknown layers": ("barlow", {"pooled_layers": "first"}, None, None, "'pooled_layers' parameter"),
}


@pytest.mark.parametrize(
    ("method", "params", "corpus", "y", "message"), WRONG_PRETRAINING.values(), ids=WRONG_PRETRAINING
)
def test_impossible_pretraining_is_refused_before_it_starts(
    tiny_embedder, graphs, runs, method, params, corpus, y, message
):
    X = graphs
    if corpus == "noble":
        lattice = Lattice.cubic(4.5)
        X = [Structure(lattice, ["Ar"], [[0, 0, 0]])] * 6
    embedder = tiny_embedder(method, **params)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        embedder.fit(X, y)
    assert runs == []
    assert not hasattr(embedder, "encoder_")


def test_continued_pretraining_needs_its_labels_too(tiny_embedder, graphs, tmp_path, runs):
    tiny_embedder("spmat-simclr", max_epochs=1).fit(graphs, [0, 1] * 20).save_pretrained(tmp_path / "spmat")
    further = {"weights": tmp_path / "spmat", "continue_training": True, "batch_size": 16}
    del runs[:]
    with pytest.raises(ValueError, match="learns from surrogate classes"):
        PretrainedCrystalEmbedder("spmat-simclr", **further).fit(graphs)
    assert runs == []
    # Weights that are only loaded need none.
    assert PretrainedCrystalEmbedder("spmat-simclr", weights=tmp_path / "spmat").fit(graphs).history_ == []


# ------------------------------------------------------------------ weights and encoders that do not match


def test_weights_of_another_encoder(tiny_regressor, other_weights, graphs, y):
    assert load_encoder(other_weights)[0].name == "other"
    with pytest.raises(ValueError, match="weights are of the encoder 'other', not 'cgcnn'; leave encoder=None"):
        tiny_regressor(pretrain=other_weights, encoder="cgcnn").fit(graphs, y)
    with pytest.raises(ValueError, match="are of the encoder 'other', not 'cgcnn'"):
        PretrainedCrystalEmbedder(weights=other_weights, encoder="cgcnn").fit(graphs)
    assert tiny_regressor(pretrain=other_weights).fit(graphs, y).net_.module_.encoder.name == "other"


def test_config_that_names_another_encoder_than_the_weights(tiny_regressor, tiny_weights, graphs, y):
    config = json.loads((tiny_weights / "config.json").read_text())
    config["encoder_params"]["n_layers"] = 2
    (tiny_weights / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"(?s)does not fit its encoder.*convs\.1") as caught:
        tiny_regressor(pretrain=tiny_weights).fit(graphs, y)
    assert str(tiny_weights) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"method": []}, {"embedding": []}, {"embedding": {"readout": 1}}, {"embedding": {"a": 1}}],
)
def test_saved_settings_of_the_embedder_that_make_no_sense(tiny_weights, change):
    config = json.loads((tiny_weights / "config.json").read_text())
    (tiny_weights / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(WeightsError, match="which this version cannot use") as caught:
        PretrainedCrystalEmbedder.from_pretrained(tiny_weights)
    assert str(tiny_weights) in str(caught.value)


# ------------------------------------------------------------------ elements that the weights have never seen


@pytest.fixture
def few_elements(tmp_path, salt, tiny_embedder):
    """Weights that have seen nothing but sodium chloride."""
    tiny_embedder().fit([salt] * 4).save_pretrained(tmp_path / "salt")
    return tmp_path / "salt"


@pytest.fixture
def mixture(salt):
    """Salt, salt, potassium bromide, salt, sodium iodide."""
    bromide, iodide = salt.copy(), salt.copy()
    bromide.replace_species({"Na": "K", "Cl": "Br"})
    iodide.replace_species({"Cl": "I"})
    return [salt, salt, bromide, salt, iodide]


def test_embedder_names_the_item_and_its_new_elements(few_elements, mixture):
    embedder = PretrainedCrystalEmbedder(weights=few_elements).fit(mixture)
    message = "item 2: the encoder's weights have never seen K, Br; leave such crystals out, or pretrain on"
    with pytest.raises(InvalidStructureError, match=message) as caught:
        embedder.transform(mixture)
    assert caught.value.index == 2
    with pytest.raises(InvalidStructureError, match=r"item 1: .* never seen I;"):
        embedder.transform(CrystalGraphTransformer().transform(mixture[3:]))
    assert len(embedder.transform(mixture[:2])) == 2


def test_regressor_names_the_item_that_neither_pretraining_nor_training_has_seen(tiny_regressor, few_elements, mixture):
    model = tiny_regressor(pretrain=few_elements).fit(mixture[:3], [1.0, 2.0, 3.0])
    assert model.elements_.tolist() == [11, 17, 19, 35]
    assert len(model.predict(mixture[:4])) == 4
    with pytest.raises(InvalidStructureError, match=r"item 4: .* never seen I;") as caught:
        model.predict(mixture)
    assert caught.value.index == 4


def test_without_pretraining_any_element_goes(tiny_regressor, mixture):
    model = tiny_regressor(pretrain=None, max_epochs=1).fit(mixture[:2], [1.0, 2.0])
    assert model.elements_.size == 0
    with pytest.warns(UnseenElementsWarning):
        assert np.isfinite(model.predict(mixture)).all()
