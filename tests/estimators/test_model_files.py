"""Models as folders: the same to the bit, checked, and nothing executed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

import crystalssl
from crystalssl import CrystalSSLClassifier, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.encoders import CGCNN, register_encoder
from crystalssl.exceptions import CrystalSSLError, WeightsError
from crystalssl.training._folders import checksum


@pytest.fixture
def regressor(tiny_regressor, graphs, y):
    return tiny_regressor(ensemble_size=2).fit(graphs, y)


@pytest.fixture
def folder(regressor, tmp_path):
    regressor.save(tmp_path / "model")
    return tmp_path / "model"


# ------------------------------------------------------------------ round trip

REGRESSORS = {
    "default": {},
    "ensemble": {"ensemble_size": 3},
    "early stopping": {"early_stopping": True},
    "frozen": {"freeze_encoder": True, "dropout": 0.3, "head_dim": 5},
    "standardised": {"standardize": True},
    "without the cell": {"cell_features": False},
    "random weights": {"pretrain": None, "encoder": "gatedgcn"},
    "no average": {"ema_decay": 0.0, "loss": "huber", "target_transform": None},
    "per volume": {"target_per": "volume", "target_transform": "log"},
    "readout with weights": {"readout": "attention", "pooled_layers": "last"},
}


@pytest.mark.parametrize("params", REGRESSORS.values(), ids=REGRESSORS)
@pytest.mark.parametrize("n_targets", [1, 2])
def test_regressor(tiny_regressor, graphs, y, new, tmp_path, params, n_targets):
    targets = y if n_targets == 1 else np.c_[y, np.where(np.arange(len(y)) % 2, np.nan, y**3)]
    model = tiny_regressor(**params).fit(graphs, targets)
    model.save(tmp_path / "model")
    again = CrystalSSLRegressor.load(tmp_path / "model")
    assert again.predict(new[1]).tobytes() == model.predict(new[1]).tobytes()
    assert again.predict(new[0]).tobytes() == model.predict(new[0]).tobytes()
    assert repr(again.get_params()) == repr(model.get_params())
    assert again.history_ == model.history_
    assert [net.history[:, "train_loss"] for net in again.nets_] == [
        net.history[:, "train_loss"] for net in model.nets_
    ]
    assert again.score(graphs, targets) == model.score(graphs, targets)
    if model.ensemble_size > 1:
        for one, other in zip(again.predict(graphs, True), model.predict(graphs, True), strict=True):
            assert one.tobytes() == other.tobytes()
    for name in ("elements_", "trained_elements_", "target_names_", "target_units_", "trained_on_", "n_targets_"):
        np.testing.assert_array_equal(getattr(again, name), getattr(model, name))
    assert type(crystalssl.load(tmp_path / "model")) is CrystalSSLRegressor
    # What was read can be written again.
    again.save(tmp_path / "again")
    assert_same_files(tmp_path / "again", tmp_path / "model")


def assert_same_files(one, other):
    assert sorted(path.name for path in one.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    for path in one.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


CLASSES = {
    "texts": ["heavy", "light"],
    "texts as objects": np.array(["heavy", "light"], dtype=object),
    "longer texts": np.array(["heavy", "light"], dtype="U20"),
    "whole numbers": [7, -2],
    "small numbers": np.array([7, 2], np.int8),
    "truth values": [True, False],
    "numbers": [0.0, 1.0],
}


@pytest.mark.parametrize("classes", CLASSES.values(), ids=CLASSES)
def test_classifier(tiny_classifier, graphs, y, new, tmp_path, classes):
    labels = np.asarray(classes)[(y > np.median(y)).astype(int)]
    weights = {label: 1 + i for i, label in enumerate(np.unique(labels).tolist())}
    model = tiny_classifier(class_weight=weights, ensemble_size=2).fit(graphs, labels)
    model.save(tmp_path / "model")
    again = crystalssl.load(tmp_path / "model")
    assert type(again) is CrystalSSLClassifier
    assert again.class_weight == weights
    assert again.predict_proba(new[1]).tobytes() == model.predict_proba(new[1]).tobytes()
    assert again.predict(new[1]).tolist() == model.predict(new[1]).tolist()
    assert again.predict(new[1]).dtype == model.predict(new[1]).dtype
    assert again.classes_.dtype == model.classes_.dtype
    assert again.score(graphs, labels) == model.score(graphs, labels)
    clone(again).fit(graphs, labels)


def test_embedder_is_read_as_well(tiny_weights, graphs):
    again = crystalssl.load(tiny_weights)
    assert isinstance(again, PretrainedCrystalEmbedder)
    expected = PretrainedCrystalEmbedder(weights=tiny_weights).fit_transform(graphs)
    assert again.transform(graphs).tobytes() == expected.tobytes()


def test_container_of_predictions_is_kept(tiny_regressor, graphs, y, tmp_path):
    model = tiny_regressor(max_epochs=1).set_output(predict="pandas").fit(graphs, y)
    model.save(tmp_path / "model")
    found = crystalssl.load(tmp_path / "model").predict(graphs)
    pd.testing.assert_frame_equal(found, model.predict(graphs), check_exact=True)


def test_names_and_units_are_kept(tiny_regressor, graphs, y, tmp_path):
    frame = pd.DataFrame({"gap": y, "bulk": -y})
    frame.attrs["unit"] = {"gap": "eV"}
    tiny_regressor(max_epochs=1).fit(graphs, frame).save(tmp_path / "model")
    again = CrystalSSLRegressor.load(tmp_path / "model").set_output(predict="pandas")
    assert again.predict(graphs).columns.tolist() == ["gap", "bulk"]
    assert again.target_units_ == ["eV", None]


@pytest.mark.parametrize(
    "params", [{}, {"ensemble_size": 2, "dropout": 0.2}, {"pretrain": None, "encoder": "cgcnn"}], ids=str
)
def test_warm_start_goes_on_from_a_folder(tiny_regressor, graphs, y, tmp_path, params):
    model = tiny_regressor(warm_start=True, **params).fit(graphs, y)
    model.save(tmp_path / "model")
    again = CrystalSSLRegressor.load(tmp_path / "model")
    assert again.fit(graphs, y).predict(graphs).tobytes() == model.fit(graphs, y).predict(graphs).tobytes()
    with pytest.raises(ValueError, match="head_dim has changed since the last fit"):
        again.set_params(head_dim=99).fit(graphs, y)


def test_training_goes_on_where_the_weights_are_gone(tiny_regressor, tiny_weights, graphs, y, tmp_path):
    tiny_regressor(pretrain=tiny_weights).fit(graphs, y).save(tmp_path / "model")
    shutil.rmtree(tiny_weights)
    again = CrystalSSLRegressor.load(tmp_path / "model")
    assert again.pretrain == tiny_weights
    assert np.isfinite(again.set_params(warm_start=True).fit(graphs, y).predict(graphs)).all()
    with pytest.raises(WeightsError, match="there are no weights"):
        again.set_params(warm_start=False).fit(graphs, y)


def test_parameters_that_were_set_after_fitting(tiny_regressor, graphs, y, tmp_path):
    """The networks are those that were trained, whatever the parameters say of the next fit."""
    model = tiny_regressor().fit(graphs, y).set_params(head_dim=99, target_per="atom", ensemble_size=4)
    model.save(tmp_path / "model")
    again = CrystalSSLRegressor.load(tmp_path / "model")
    assert again.head_dim == 99
    assert again.predict(graphs).tobytes() == model.predict(graphs).tobytes()
    with pytest.raises(ValueError, match="head_dim has changed"):
        again.set_params(warm_start=True).fit(graphs, y)


def test_net_is_whole(folder, regressor):
    net = CrystalSSLRegressor.load(folder).net_
    assert net.module is net.module_
    assert not net.module_.training
    assert net.optimizer_ is None
    assert len(net.history) == 3
    assert net.seed == regressor.net_.seed


def test_global_generator_is_left_alone(folder):
    before = torch.random.get_rng_state()
    crystalssl.load(folder)
    assert torch.equal(torch.random.get_rng_state(), before)


# ------------------------------------------------------------------ parameters without a form in JSON


def test_fitted_embedder_is_not_stored(tiny_regressor, tiny_embedder, graphs, y, tmp_path):
    embedder = FrozenEstimator(tiny_embedder().fit(graphs))
    model = tiny_regressor(pretrain=embedder).fit(graphs, y)
    with pytest.warns(UserWarning, match="pretrain cannot be stored in a model folder, and will be missing") as caught:
        model.save(tmp_path / "model")
    assert caught[0].filename == __file__
    again = crystalssl.load(tmp_path / "model")
    assert again.predict(graphs).tobytes() == model.predict(graphs).tobytes()
    assert "not stored: FrozenEstimator(estimator=PretrainedCrystalEmbedder" in repr(again.pretrain)
    for refit in (again, clone(again), again.set_params(warm_start=True, ensemble_size=2)):
        with pytest.raises(ValueError, match=r"pretrain was FrozenEstimator.*set pretrain before fitting anew"):
            refit.fit(graphs, y)
    again.set_params(ensemble_size=1).fit(graphs, y)  # the networks are there to go on from
    again.set_params(pretrain=embedder).fit(graphs, y)
    with pytest.warns(UserWarning, match="pretrain cannot be stored"):
        crystalssl.load(tmp_path / "model").save(tmp_path / "again")
    assert_same_files(tmp_path / "again", tmp_path / "model")


def test_callbacks_and_random_state_are_not_stored(tiny_regressor, graphs, y, tmp_path):
    from skorch.callbacks import EpochTimer

    model = tiny_regressor(callbacks=[EpochTimer()], random_state=np.random.RandomState(0)).fit(graphs, y)
    with pytest.warns(UserWarning, match="^callbacks, random_state cannot be stored"):
        model.save(tmp_path / "model")
    again = crystalssl.load(tmp_path / "model")
    assert again.callbacks is None
    assert again.random_state is None
    assert again.predict(graphs).tobytes() == model.predict(graphs).tobytes()
    assert "EpochTimer" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize("encoder", [CGCNN, CGCNN(hidden_dim=8, n_layers=1)], ids=["class", "template"])
def test_encoder_as_class_or_template_is_stored(tiny_regressor, graphs, y, tmp_path, encoder):
    model = tiny_regressor(pretrain=None, encoder=encoder, max_epochs=1).fit(graphs, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "model")
    again = crystalssl.load(tmp_path / "model")
    assert again.predict(graphs).tobytes() == model.predict(graphs).tobytes()
    assert clone(again).fit(graphs, y).predict(graphs).tobytes() == model.predict(graphs).tobytes()
    again.set_params(warm_start=True).fit(graphs, y)


def test_values_of_numpy_and_paths(tiny_regressor, tiny_weights, graphs, y, tmp_path):
    model = tiny_regressor(pretrain=Path(tiny_weights), head_dim=np.int64(7), learning_rate=np.float32(0.25))
    model.fit(graphs, y).save(tmp_path / "model")
    again = crystalssl.load(tmp_path / "model")
    assert isinstance(again.pretrain, Path)
    assert (again.head_dim, again.learning_rate) == (7, 0.25)


@pytest.mark.usefixtures("registries")
def test_encoder_of_other_people(tiny_regressor, graphs, y, tmp_path):
    @register_encoder
    class Mine(CGCNN):
        name = "mine"

    model = tiny_regressor(pretrain=None, encoder="mine", max_epochs=1).fit(graphs, y)
    model.save(tmp_path / "model")
    assert crystalssl.load(tmp_path / "model").predict(graphs).tobytes() == model.predict(graphs).tobytes()


def test_encoder_that_is_not_registered_here(tiny_regressor, graphs, y, tmp_path):
    class Theirs(CGCNN):
        name = "theirs"

    tiny_regressor(pretrain=None, encoder=Theirs, max_epochs=1).fit(graphs, y).save(tmp_path / "model")
    with pytest.raises(WeightsError, match=r"names an encoder that cannot be used: there is no encoder 'theirs'"):
        crystalssl.load(tmp_path / "model")


# ------------------------------------------------------------------ card


def test_card(tiny_regressor, graphs, y, tmp_path):
    frame = pd.DataFrame({"gap": y, "bulk": np.where(np.arange(len(y)) % 2, np.nan, y)})
    frame.attrs["unit"] = {"gap": "eV"}
    model = tiny_regressor(early_stopping=True, ensemble_size=2).fit(graphs, frame)
    model.save(tmp_path / "model", cross_validation={"MAE (eV)": 0.0312345}, command="crystalssl fit cifs -o model")
    card = (tmp_path / "model" / "README.md").read_text()
    for line in (
        "# CrystalSSLRegressor: gap (eV), bulk",
        "- crystals: 40, of which 36 were trained on and 4 decided when to stop",
        f"| gap | eV | 40 | {y.min():.4g} | {y.max():.4g} |",
        "| bulk |  | 20 |",
        "- networks: 2",
        "- epochs: 3, 3",
        "- least loss of held-out crystals: ",
        "- ensemble_size: 2",
        "- head_dim: 8",
        "- MAE (eV): 0.03123",
        f"- crystalssl {crystalssl.__version__}",
        f"- torch {torch.__version__.split('+')[0]}",
        "    crystalssl fit cifs -o model",
    ):
        assert line in card
    assert "- elements trained on, " in card
    assert "- batch_size: 32" not in card
    model.save(tmp_path / "model", card="# Mine\n", cross_validation="MAE 0.03 eV, five folds")
    assert (tmp_path / "model" / "README.md").read_text() == "# Mine\n"
    assert json.loads((tmp_path / "model" / "config.json").read_text())["cross_validation"] == "MAE 0.03 eV, five folds"
    with pytest.raises(ValueError, match="cross_validation must be a text, or numbers and texts by name; got 3"):
        model.save(tmp_path / "model", cross_validation=3)


def test_card_of_classes(tiny_classifier, graphs, y, tmp_path):
    labels = np.where(y > 5, "a|b", "light")
    tiny_classifier(max_epochs=1).fit(graphs, labels).save(tmp_path / "model")
    assert f"| a\\|b | {(y > 5).sum()} |" in (tmp_path / "model" / "README.md").read_text()


def test_model_of_an_earlier_version_can_be_saved(tmp_path):
    import joblib

    from tests.contract.test_persistence import STORED, stored_crystals

    model = joblib.load(STORED / "regressor-0.1.0.joblib").set_params(loss="absolute_error")
    with pytest.warns(UserWarning, match="pretrain cannot be stored"):
        model.save(tmp_path / "model")
    again = crystalssl.load(tmp_path / "model")
    assert again.predict(stored_crystals()).tobytes() == model.predict(stored_crystals()).tobytes()


def test_vectors_that_were_standardised_in_the_head(tiny_regressor, graphs, y, tmp_path):
    """As networks of version 0.1 had it, in files of joblib."""
    model = tiny_regressor(standardize=True, cell_features=False).fit(graphs, y)
    expected = model.predict(graphs)
    module = model.net_.module_
    module.head.insert(0, module._modules.pop("vectors"))
    del module.reads_cell
    again = pickle.loads(pickle.dumps(model))
    assert again.predict(graphs).tobytes() == expected.tobytes()
    again.save(tmp_path / "model")
    assert crystalssl.load(tmp_path / "model").predict(graphs).tobytes() == expected.tobytes()


# ------------------------------------------------------------------ faults


def edited(change):
    """What edits config.json, and leaves its checksum."""

    def edit(folder):
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return edit


def forged(change):
    """What edits config.json, and its checksum with it."""

    def edit(config):
        change(config)
        config["checksum"] = checksum(config)

    return edited(edit)


def forged_tensors(change):
    def edit(folder):
        import hashlib

        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")
        content = (folder / "model.safetensors").read_bytes()
        forged(lambda config: config.update(sha256=hashlib.sha256(content).hexdigest()))(folder)

    return edit


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def flip(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def replace_by_file(folder):
    shutil.rmtree(folder)
    folder.write_text("precious")


FAULTS = {
    "no folder": (shutil.rmtree, "there is no folder"),
    "a file": (replace_by_file, "is a file, not a folder"),
    "an empty folder": (
        lambda f: [path.unlink() for path in f.iterdir()],
        "is no model folder: it holds no config.json",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "the model folder .* has no model.safetensors"),
    "truncated": (truncate, "model.safetensors was altered or truncated"),
    "one bit": (flip, "model.safetensors was altered or truncated"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "is not valid JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "does not say"),
    "nothing said": (
        lambda f: (f / "config.json").write_text('{"estimator": "CrystalSSLRegressor"}'),
        "does not say checksum",
    ),
    "a newer format": (edited(lambda c: c.update(format=2)), "has format 2, this version reads format 1; update"),
    "a newer format with other keys": (
        edited(lambda c: (c.update(format=2), c.pop("fitted"))),
        "has format 2, this version reads format 1; update",
    ),
    "an edited mean": (edited(lambda c: c["fitted"]["target"].update(mean=[0.0])), "config.json was altered"),
    "an edited parameter": (edited(lambda c: c["params"].update(head_dim=9)), "config.json was altered"),
    "another estimator": (forged(lambda c: c.update(estimator="CrystalForest")), "holds a CrystalForest"),
    "an unknown encoder": (
        edited(lambda c: c["network"].update(encoder="gatedgnc")),
        "names an encoder that cannot be used: there is no encoder 'gatedgnc'. Did you mean 'gatedgcn'",
    ),
    "a newer parameter": (
        forged(lambda c: (c["params"].update(colour=1), c.update(version="9.0"))),
        "was written by crystalssl 9.0, whose CrystalSSLRegressor has a parameter 'colour'; .*update",
    ),
    "another width": (forged(lambda c: c["network"].update(head_dim=3)), "cannot be used"),
    "a huge width": (forged(lambda c: c["network"].update(head_dim=10**9)), "head_dim = 1000000000 is more than"),
    "a huge ensemble": (forged(lambda c: c["network"].update(seeds=[0] * 10**5)), "n_members = 100000 is more than"),
    "no network": (forged(lambda c: c["network"].update(seeds=[])), "cannot be used"),
    "a network less": (forged(lambda c: c["network"].update(seeds=[0])), "cannot be used"),
    "another recipe": (forged(lambda c: c["network"]["recipe"].update(cutoff=3.0)), "was trained on graphs of recipe"),
    "two scales": (forged(lambda c: c["fitted"]["target"].update(mean=[1, 2])), "is not one number for each"),
    "frames of no kind": (forged(lambda c: c["fitted"].update(output={"predict": "xml"})), "predict must be one of"),
    "frames of many kinds": (forged(lambda c: c["fitted"].update(output={"fit": "pandas"})), "cannot be used"),
    "elements that are none": (forged(lambda c: c["fitted"].update(elements=["x"])), "cannot be used"),
    "a parameter of no kind": (forged(lambda c: c["params"].update(pretrain={"call": "os.system"})), "kind 'call'"),
    "a tensor less": (forged_tensors(lambda t: t.pop(next(k for k in t if k.endswith("weight")))), "cannot be used"),
    "a tensor more": (forged_tensors(lambda t: t.update({"networks.0.x": torch.ones(1)})), "cannot be used"),
    "not a number": (
        forged_tensors(lambda t: t["networks.1.head.1.weight"].fill_(np.nan)),
        "the tensor head.1.weight holds nan",
    ),
}


@pytest.mark.parametrize(("damage", "message"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("load", [crystalssl.load, CrystalSSLRegressor.load], ids=["load", "method"])
def test_every_fault_is_named(folder, damage, message, load):
    damage(folder)
    with pytest.raises(WeightsError, match=message) as caught:
        load(folder)
    assert isinstance(caught.value, CrystalSSLError)
    assert str(folder) in str(caught.value) or "is more than" in str(caught.value)


@pytest.mark.parametrize("kind", ["sparse file", "FIFO", "folder", "device", "link to a FIFO"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_what_would_be_waited_for_is_refused(folder, hostile, name, kind):
    hostile(folder / name, kind)
    with pytest.raises(WeightsError, match="cannot be read"):
        crystalssl.load(folder)


@pytest.mark.parametrize("place", ["", "with\0null", "x" * 5000, 3], ids=["empty", "null", "long", "number"])
def test_no_path(place):
    with pytest.raises(WeightsError, match=r"there is no folder|cannot be read|no model folder"):
        crystalssl.load(place)


def test_misspelt_folder(folder):
    with pytest.raises(WeightsError, match=f"Did you mean '{folder}'"):
        crystalssl.load(str(folder)[:-1])


def test_classifier_is_no_regressor(folder):
    with pytest.raises(WeightsError, match=r"holds a CrystalSSLRegressor, not a CrystalSSLClassifier; read it with"):
        CrystalSSLClassifier.load(folder)


def test_weights_are_no_model(tiny_weights):
    with pytest.raises(WeightsError, match=r"holds the weights of an encoder, not a model; finetune them"):
        CrystalSSLRegressor.load(tiny_weights)


def test_model_is_no_weights(folder, graphs, y):
    for call in (
        lambda: PretrainedCrystalEmbedder.from_pretrained(folder),
        lambda: PretrainedCrystalEmbedder(weights=folder).fit([]),
        lambda: CrystalSSLRegressor(pretrain=folder).fit(graphs, y),
    ):
        with pytest.raises(WeightsError, match=r"holds a finetuned model, not the weights of an encoder; read it with"):
            call()


def test_unfitted_model_is_not_saved(tiny_regressor, tmp_path):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        tiny_regressor().save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_broken_network_is_not_saved(regressor, tmp_path):
    regressor.nets_[1].module_.head[-1].bias.data.fill_(np.nan)
    with pytest.raises(
        WeightsError, match=r"the model is not saved to .*: the tensor head\.\d\.bias holds nan; fit again"
    ):
        regressor.save(tmp_path / "model")


def test_classes_of_other_types(tiny_classifier, graphs, y, tmp_path):
    dates = np.where(y > 5, np.datetime64("2020-01-01"), np.datetime64("2021-01-01"))
    model = tiny_classifier(max_epochs=1).fit(graphs, dates)
    with pytest.raises(ValueError, match="cannot be stored; use texts or numbers"):
        model.save(tmp_path / "model")


def test_nothing_is_executed(folder, tmp_path):
    """Reading a folder calls neither pickle nor torch.load, and starts no process."""
    code = (
        "import sys, crystalssl.estimators, crystalssl, pickle, torch\n"
        "def refuse(event, args):\n"
        "    if event in ('pickle.find_class', 'os.system', 'subprocess.Popen', 'exec') and armed:\n"
        "        raise SystemExit(f'{event} {args}')\n"
        "armed = False\n"
        "sys.addaudithook(refuse)\n"
        f"crystalssl.load({str(folder)!r})\n"
        "armed = True\n"
        f"model = crystalssl.load({str(folder)!r})\n"
        "armed = False\n"
        "print(type(model).__name__)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.stdout == "CrystalSSLRegressor\n", result.stderr


# ------------------------------------------------------------------ writing in one step


def test_replaced_as_a_whole(folder, regressor, graphs, y):
    regressor.set_params(ensemble_size=1).fit(graphs, y).save(folder)
    assert len(crystalssl.load(folder).nets_) == 1
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


IN_THE_WAY = {
    "a file": (replace_by_file, "it is a file"),
    "something besides": (lambda f: (f / "notes.txt").write_text("mine"), "it holds notes.txt"),
    "another package's": (
        lambda f: (f / "config.json").write_text('{"a": 1}'),
        "its config.json is not one that crystalssl wrote",
    ),
    "an edited one": (edited(lambda c: c.update(sha256="0")), "its model.safetensors is not the one"),
    "an empty folder": (lambda f: [path.unlink() for path in f.iterdir()], "it has no README.md, config.json"),
}


@pytest.mark.parametrize(("put", "message"), IN_THE_WAY.values(), ids=IN_THE_WAY)
def test_nothing_else_is_replaced(folder, regressor, put, message):
    put(folder)
    before = folder.read_bytes() if folder.is_file() else {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError, match=f"exists and is not a model folder: {message}"):
        regressor.save(folder)
    after = folder.read_bytes() if folder.is_file() else {path.name: path.read_bytes() for path in folder.iterdir()}
    assert after == before


def test_weights_are_not_replaced_by_a_model(tiny_weights, regressor):
    with pytest.raises(FileExistsError, match="is not a model folder: it is a weights folder; choose another name"):
        regressor.save(tiny_weights)
    assert isinstance(crystalssl.load(tiny_weights), PretrainedCrystalEmbedder)


def test_model_is_not_replaced_by_weights(folder, tiny_weights):
    with pytest.raises(FileExistsError, match="is not a weights folder: it is a model folder; choose another name"):
        crystalssl.load(tiny_weights).save_pretrained(folder)


def test_former_model_is_left_when_writing_fails(folder, regressor, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(WeightsError, match=r"the model could not be written to .*No space left"):
        regressor.save(folder)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_too_large_to_be_read_again(regressor, tmp_path, monkeypatch):
    monkeypatch.setattr(crystalssl.LIMITS, "weights_bytes", 1000)
    with pytest.raises(WeightsError, match=r"could not be read again; raise crystalssl\.LIMITS\.weights_bytes"):
        regressor.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
