from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from crystalssl.encoders import CGCNN, ENCODERS
from crystalssl.exceptions import CrystalSSLError, WeightsError
from crystalssl.training import bundled_weights, collate, load_encoder, save_encoder

CONFIG = {"method": "barlow", "elements": [1, 8, 26], "note": "for a test"}


@pytest.fixture
def encoder():
    """An encoder whose batch statistics are not the initial ones either."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = CGCNN(hidden_dim=5, n_layers=2, n_gaussians=7)
        for tensor in encoder.state_dict().values():
            if tensor.is_floating_point() and not torch.equal(tensor, encoder.element_features):
                tensor.add_(torch.rand_like(tensor))
    return encoder.eval()


@pytest.fixture
def folder(encoder, tmp_path):
    save_encoder(tmp_path / "weights", encoder, CONFIG, "# A card\n")
    return tmp_path / "weights"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ------------------------------------------------------------------ round trip


def test_round_trip(encoder, folder, real_graphs):
    with torch.random.fork_rng():
        torch.manual_seed(99)  # what is loaded must not be what is initialised
        loaded, config = load_encoder(folder)
    assert type(loaded) is CGCNN
    assert loaded.config == encoder.config
    assert loaded.state_dict().keys() == encoder.state_dict().keys()
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert not loaded.training
    batch = collate(real_graphs, np.arange(5))
    assert torch.equal(loaded(batch).graph, encoder(batch).graph)
    assert {key: config[key] for key in CONFIG} == CONFIG


def test_folder_holds_config_weights_and_card(encoder, folder):
    assert sorted(contents(folder)) == ["README.md", "config.json", "model.safetensors"]
    assert (folder / "README.md").read_text() == "# A card\n"
    config = json.loads((folder / "config.json").read_text())
    assert config["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert config["encoder"] == "cgcnn"
    assert config["encoder_params"] == encoder.config
    assert config["recipe"] == encoder.recipe.to_dict()
    assert load_file(folder / "model.safetensors").keys() == encoder.state_dict().keys()


@pytest.mark.parametrize("as_type", [str, lambda path: path])
def test_source_may_be_text_or_path(folder, as_type):
    assert load_encoder(as_type(folder))[1]["note"] == "for a test"


def test_weights_folder_is_replaced_as_a_whole(encoder, folder):
    (folder / "old").touch()
    save_encoder(folder, encoder, {**CONFIG, "note": "newer"})
    assert sorted(contents(folder)) == ["README.md", "config.json", "model.safetensors"]
    assert load_encoder(folder)[1]["note"] == "newer"
    assert [path.name for path in folder.parent.iterdir()] == ["weights"]


def test_config_of_other_weights_does_not_hide_what_is_saved(encoder, folder):
    _, config = load_encoder(folder)
    other = CGCNN(hidden_dim=3, n_layers=1, n_gaussians=7, readout="mean+max+min").eval()
    save_encoder(folder.parent / "other", other, config)
    loaded, saved = load_encoder(folder.parent / "other")
    assert loaded.config == other.config
    assert saved["sha256"] != config["sha256"]
    assert saved["note"] == "for a test"


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_anything_else_is_not_overwritten(encoder, tmp_path, kind):
    target = tmp_path / "thesis"
    if kind == "folder":
        target.mkdir()
        (target / "chapter1.tex").write_text("precious")
    else:
        target.write_text("precious")
    with pytest.raises(FileExistsError, match="is not a weights folder; choose another name") as caught:
        save_encoder(target, encoder, CONFIG)
    assert str(target) in str(caught.value)
    assert (target / "chapter1.tex" if kind == "folder" else target).read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_failure_while_saving_leaves_the_old_weights(encoder, folder):
    before = contents(folder)
    with pytest.raises(TypeError):
        save_encoder(folder, encoder, {**CONFIG, "note": object()})
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["weights"]


# ------------------------------------------------------------------ damage


def edit_config(**changes):
    def edit(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return edit


def without_key(key):
    def edit(folder):
        config = json.loads((folder / "config.json").read_text())
        del config[key]
        (folder / "config.json").write_text(json.dumps(config))

    return edit


def alter_byte(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def with_matching_hash(folder):
    """Not safetensors at all, but with the right sha256."""
    (folder / "model.safetensors").write_bytes(b"pickled")
    edit_config(sha256=hashlib.sha256(b"pickled").hexdigest())(folder)


def folder_for_file(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


WIDER = {"hidden_dim": 6, "n_layers": 2, "n_gaussians": 7, "readout": "mean"}
DAMAGES = {
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
    "not a weights folder": (empty, "has no config.json"),
    "a folder for the weights": (folder_for_file, "cannot be read: .*model.safetensors"),
    "truncated weights": (truncate, "model.safetensors was altered or truncated: its sha256 is"),
    "empty weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        "model.safetensors was altered or truncated",
    ),
    "altered byte": (alter_byte, "model.safetensors was altered or truncated: its sha256 is"),
    "altered hash": (edit_config(sha256="0" * 64), "model.safetensors was altered or truncated"),
    "not safetensors": (with_matching_hash, "does not fit its encoder"),
    "broken JSON": (lambda folder: (folder / "config.json").write_text('{"format": 1'), "json is not valid JSON"),
    "binary JSON": (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json is not valid"),
    "JSON of another kind": (lambda folder: (folder / "config.json").write_text("[1]"), "config.json does not say"),
    "other format": (edit_config(format=99), "has format 99, this version reads format 1; update"),
    "unknown encoder": (edit_config(encoder="perceiver"), r"no encoder 'perceiver'. Known are alignn, .* Register"),
    "no encoder": (without_key("encoder"), "config.json does not say encoder"),
    "no method": (without_key("method"), "config.json does not say method"),
    "no elements": (without_key("elements"), "config.json does not say elements"),
    "no hash": (without_key("sha256"), "config.json does not say sha256"),
    "unknown parameter": (edit_config(encoder_params={**WIDER, "n_heads": 3}), "does not fit its encoder.*n_heads"),
    "other widths": (edit_config(encoder_params=WIDER), "does not fit its encoder.*size mismatch"),
    "other recipe": (edit_config(recipe={"cutoff": 5.0, "max_neighbors": 12, "version": 1}), "graphs of recipe"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named_and_left_alone(folder, damage, message):
    damage(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(WeightsError, match=f"(?s){message}") as caught:
        load_encoder(folder)
    assert str(folder) in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, CrystalSSLError)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_missing_and_surplus_tensors_are_errors(folder):
    from safetensors.torch import save

    tensors = load_file(folder / "model.safetensors")
    bias = tensors.pop("embedding.bias")
    for changed in (tensors, {**tensors, "embedding.bias": bias, "head.bias": bias.clone()}):
        content = save(changed)
        (folder / "model.safetensors").write_bytes(content)
        edit_config(sha256=hashlib.sha256(content).hexdigest())(folder)
        with pytest.raises(WeightsError, match=r"(?s)does not fit its encoder.*(Missing|Unexpected) key"):
            load_encoder(folder)


@pytest.mark.parametrize("source", ["barlo", "no/such/folder", ""])
def test_unknown_weights_list_those_that_exist(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if source == "":
        source = str(tmp_path / "file")
        (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match=re.escape(repr(source))) as caught:
        load_encoder(source)
    for name in bundled_weights():
        assert repr(name) in str(caught.value)


def test_pickles_are_never_loaded(folder):
    import pickle

    class Trap:
        def __reduce__(self):
            return pytest.fail, ("a pickle was loaded",)

    content = pickle.dumps(Trap())
    (folder / "model.safetensors").write_bytes(content)
    edit_config(sha256=hashlib.sha256(content).hexdigest())(folder)
    with pytest.raises(WeightsError):
        load_encoder(folder)


# ------------------------------------------------------------------ what ships with the package


def test_bundled_methods():
    assert {"barlow", "simsiam"} <= bundled_weights().keys()


@pytest.mark.parametrize("method", bundled_weights())
def test_bundled_weights_are_complete(method, real_graphs):
    folder = bundled_weights()[method]
    encoder, config = load_encoder(method)
    assert config["method"] == method
    assert config["encoder"] in ENCODERS
    assert re.fullmatch("[0-9a-f]{64}", config["sha256"])
    elements = config["elements"]
    assert elements == sorted(set(elements))
    assert set(elements) <= set(range(1, 119))
    assert {1, 6, 7, 8, 11, 14, 17, 26, 29} <= set(elements)
    assert all(torch.isfinite(tensor).all() for tensor in encoder.state_dict().values())
    card = (folder / "README.md").read_text()
    assert method in card.lower()
    assert len(card) > 200
    assert sum(path.stat().st_size for path in folder.rglob("*")) <= 3_000_000
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    # Weights that tell crystals apart.
    vectors = encoder(collate(real_graphs, np.arange(20))).graph
    assert torch.isfinite(vectors).all()
    assert (vectors.std(dim=0) > 1e-4).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"elements": "all"}, "elements must be a list of atomic numbers"),
        ({"elements": [1, 119]}, "elements must be a list of atomic numbers"),
        ({"elements": [1, True]}, "elements must be a list of atomic numbers"),
        ({"encoder_params": [5]}, "does not fit its encoder"),
        ({"encoder_params": {"hidden_dim": 10**6}}, "hidden_dim = 1000000 is more than the tensors have"),
        ({"encoder_params": {"n_layers": 10**9}}, "n_layers = 1000000000 is more than the tensors have"),
        ({"encoder_params": {"n_gaussians": 1}}, "does not fit its encoder"),
        ({"encoder_params": {"n_gaussians": -1}}, "does not fit its encoder"),
        ({"encoder": ["cgcnn"]}, r"there is no encoder \['cgcnn'\]"),
    ],
)
def test_config_that_makes_no_sense_is_refused_at_once(folder, change, message):
    config = json.loads((folder / "config.json").read_text())
    if isinstance(change.get("encoder_params"), dict):
        change = {"encoder_params": config["encoder_params"] | change["encoder_params"]}
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(WeightsError, match=message) as caught:
        load_encoder(folder)
    assert str(folder) in str(caught.value)


def test_deeply_nested_config_is_refused(folder):
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(WeightsError, match="is not valid JSON"):
        load_encoder(folder)


def test_old_weights_are_put_aside_in_one_piece(encoder, folder, monkeypatch):
    """Whenever the process dies, the folder is the old one, the new one, or not there."""
    before, rename, seen = contents(folder), Path.rename, []

    def spy(path, target):
        seen.append(contents(folder) if folder.exists() else None)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", spy)
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **kwargs: seen.append(contents(folder)))
    save_encoder(folder, encoder, {**CONFIG, "note": "new"})
    assert seen == [before, None, contents(folder)]


def test_failed_save_restores_the_old_weights(encoder, folder, monkeypatch):
    before, rename = contents(folder), Path.rename

    def failing(path, target):
        if path.name == "new":
            raise OSError("no space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(WeightsError, match=r"could not be written to .*no space left"):
        save_encoder(folder, encoder, CONFIG)
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["weights"]
