from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from crystalssl import LIMITS
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


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def make_project(folder):
    shutil.rmtree(folder)
    (folder / ".git").mkdir(parents=True)
    (folder / "thesis.tex").write_text("precious")


def make_other_model(folder):
    """The same three names, as other packages write them."""
    (folder / "config.json").write_text('{"architectures": ["BertModel"]}')


def make_link(folder, name):
    (folder / name).rename(folder.parent / "elsewhere")
    (folder / name).symlink_to(folder.parent / "elsewhere")


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


def replace_by_file(folder):
    shutil.rmtree(folder)
    folder.write_text("precious")


def replace_by_link(folder):
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


FOREIGN = {
    "project": (make_project, "it holds .git, thesis.tex"),
    "weights and a file": (lambda folder: (folder / "thesis.tex").touch(), "it holds thesis.tex"),
    "weights and a hidden file": (lambda folder: (folder / ".notes").touch(), "it holds .notes"),
    "weights and a folder": (lambda folder: (folder / ".git").mkdir(), "it holds .git"),
    "many files": (lambda folder: [(folder / f"{i}").touch() for i in range(9)], "it holds 0, 1, 2 and 6 more"),
    "another package's weights": (make_other_model, "its config.json is not one that crystalssl wrote"),
    "other weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"precious"),
        "its model.safetensors is not the one that its config.json was written with",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "it has no model.safetensors"),
    "no card": (lambda folder: (folder / "README.md").unlink(), "it has no README.md"),
    "later version": (
        lambda folder: edit_json(folder / "config.json", format=2),
        "its config.json is not one that crystalssl wrote",
    ),
    "linked card": (lambda folder: make_link(folder, "README.md"), "it holds a README.md that is no file"),
    "linked weights": (
        lambda folder: make_link(folder, "model.safetensors"),
        "it holds a model.safetensors that is no file",
    ),
    "folder for a file": (
        lambda folder: replace_by_folder(folder / "config.json"),
        "it holds a config.json that is no file",
    ),
    "file": (replace_by_file, "it is a file"),
    "link": (replace_by_link, "it is a symbolic link"),
    "empty": (empty, "it has no README.md, config.json, model.safetensors"),
}


def everything(folder):
    return {path: path.read_bytes() if path.is_file() else path.lstat().st_mode for path in folder.rglob("*")}


@pytest.mark.parametrize(("change", "reason"), FOREIGN.values(), ids=FOREIGN)
def test_anything_else_is_not_overwritten(encoder, folder, change, reason):
    change(folder)
    before = everything(folder.parent)
    message = f"{folder} exists and is not a weights folder: {reason}; choose another name"
    with pytest.raises(FileExistsError, match=f"^{re.escape(message)}$"):
        save_encoder(folder, encoder, CONFIG)
    assert everything(folder.parent) == before


@pytest.mark.parametrize("when", ["before it is moved", "after it is moved", "while it is deleted"])
def test_what_is_put_into_the_folder_meanwhile_is_not_deleted(encoder, folder, monkeypatch, when):
    rename, unlink = Path.rename, Path.unlink

    def intrude(where):
        (where / "thesis.tex").write_text("precious")

    def spy_rename(path, target):
        if path == folder and when == "before it is moved":
            intrude(path)
        rename(path, target)
        if path == folder and when == "after it is moved":
            intrude(target)
        return target

    def spy_unlink(path, missing_ok=False):
        if path.parent.name == "old" and when == "while it is deleted" and path.name == "config.json":
            intrude(path.parent)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "rename", spy_rename)
    monkeypatch.setattr(Path, "unlink", spy_unlink)
    if when == "while it is deleted":
        with pytest.warns(UserWarning, match="former weights were not all deleted .*; what is left is .*/old"):
            save_encoder(folder, encoder, {**CONFIG, "note": "newer"})
        assert load_encoder(folder)[1]["note"] == "newer"
    else:
        with pytest.raises(FileExistsError, match=r"it holds thesis.tex; choose another name"):
            save_encoder(folder, encoder, {**CONFIG, "note": "newer"})
        assert load_encoder(folder)[1]["note"] == "for a test"
    [thesis] = folder.parent.rglob("thesis.tex")
    assert thesis.read_text() == "precious"


def test_what_takes_the_place_meanwhile_is_left_and_so_are_the_old_weights(encoder, folder, monkeypatch):
    rename = Path.rename

    def spy(path, target):
        rename(path, target)
        if path == folder:
            folder.mkdir()
            (folder / "thesis.tex").write_text("precious")
        return target

    before = contents(folder)
    monkeypatch.setattr(Path, "rename", spy)
    with (
        pytest.raises(WeightsError, match="could not be written to"),
        pytest.warns(UserWarning, match="something else took the place of .*; what was there is .*/old"),
    ):
        save_encoder(folder, encoder, CONFIG)
    assert (folder / "thesis.tex").read_text() == "precious"
    [old] = folder.parent.glob(".weights-*/old")
    assert contents(old) == before


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


# ------------------------------------------------------------------ files that are none, places that are none


@pytest.mark.parametrize("kind", ["sparse file", "FIFO", "folder", "device", "link to a FIFO"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_what_is_no_file_is_refused(folder, hostile, name, kind):
    hostile(folder / name, kind)
    reason = "has 3,221,225,472 bytes, more than" if kind == "sparse file" else "is a (folder|FIFO|device), not a file"
    with pytest.raises(WeightsError, match=rf"{folder} cannot be read: .*{name} {reason}"):
        load_encoder(folder)


def test_limits_are_those_of_one_place(encoder, folder, monkeypatch):
    size = (folder / "model.safetensors").stat().st_size
    monkeypatch.setattr(LIMITS, "weights_bytes", size)
    load_encoder(folder)
    monkeypatch.setattr(LIMITS, "weights_bytes", size - 1)
    with pytest.raises(WeightsError, match=f"{size:,} bytes, more than the {size - 1:,} of crystalssl.LIMITS.weights_"):
        load_encoder(folder)
    with pytest.raises(WeightsError, match=r"raise crystalssl.LIMITS.weights_bytes"):
        save_encoder(folder.parent / "new", encoder, CONFIG)


def test_large_header_is_refused(folder):
    content = (2**40).to_bytes(8, "little") + b"{" * 100
    (folder / "model.safetensors").write_bytes(content)
    edit_config(sha256=hashlib.sha256(content).hexdigest())(folder)
    with pytest.raises(WeightsError, match=r"does not fit its encoder: .*header would have 1,099,511,627,776 bytes"):
        load_encoder(folder)


@pytest.mark.parametrize("place", ["n" * 300, "file/weights", "null\0byte"])
def test_place_that_cannot_be_written_to_is_named(encoder, tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match=r"could not be written to .*; choose a place that can be") as caught:
        save_encoder(tmp_path / place, encoder, CONFIG)
    assert str(tmp_path / place) in str(caught.value)
    with pytest.raises(WeightsError, match=r"there are no weights|cannot be read"):
        load_encoder(tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_forbidden_places_are_named(encoder, folder, forbidden):
    forbidden(folder.parent)
    with pytest.raises(WeightsError, match=f"weights '{folder}' cannot be read: .*Permission denied"):
        load_encoder(folder)
    with pytest.raises(WeightsError, match=f"could not be written to {folder}/new: .*Permission denied"):
        save_encoder(folder / "new", encoder, CONFIG)


def test_unreadable_file_is_named(folder, forbidden):
    forbidden(folder / "model.safetensors")
    with pytest.raises(WeightsError, match=f"weights folder {folder} cannot be read: .*Permission denied.*another"):
        load_encoder(folder)


def test_long_names_are_not_made_too_long(encoder, tmp_path):
    for _ in range(2):
        save_encoder(tmp_path / ("n" * 255), encoder, CONFIG)
    assert load_encoder(tmp_path / ("n" * 255))[1]["note"] == "for a test"


def test_permissions_are_those_that_the_umask_leaves(encoder, tmp_path, umask):
    umask(0o027)
    for _ in range(2):
        save_encoder(tmp_path / "weights", encoder, CONFIG)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "weights").iterdir()}
        assert modes == {0o640}
        assert stat.S_IMODE((tmp_path / "weights").stat().st_mode) == 0o750


def test_text_is_utf8_whatever_the_locale(encoder, tmp_path):
    code = (
        "import sys; from crystalssl.training import load_encoder, save_encoder\n"
        "encoder, config = load_encoder('barlow')\n"
        "save_encoder(sys.argv[1], encoder, {**config, 'note': '\\u00c5\\u03b1'}, '0.05 \\u00c5')\n"
        "assert load_encoder(sys.argv[1])[1]['note'] == '\\u00c5\\u03b1'\n"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "weights")], check=True, env=environment)
    assert (tmp_path / "weights" / "README.md").read_text(encoding="utf-8") == "0.05 Å"


# ------------------------------------------------------------------ names and paths


@pytest.fixture
def shadow(encoder, tmp_path, monkeypatch):
    """A working directory with a folder of weights that has the name of bundled ones."""
    monkeypatch.chdir(tmp_path)
    save_encoder("barlow", encoder, CONFIG)
    return Path("barlow")


def test_folder_of_weights_wins_over_a_name_with_a_warning(shadow):
    message = r"'barlow' is read from the folder .*barlow, not .* write './barlow' .*bundled_weights\(\)\['barlow'\]"
    with pytest.warns(UserWarning, match=message):
        assert load_encoder("barlow")[1]["note"] == "for a test"


def test_paths_are_no_names(shadow, recwarn):
    for path in ("./barlow", shadow, shadow.absolute(), str(shadow.absolute())):
        assert load_encoder(path)[1]["note"] == "for a test"
    assert not recwarn


def test_damaged_weights_are_not_overlooked(shadow):
    truncate(shadow)
    with (
        pytest.warns(UserWarning, match="'barlow' is read from the folder"),
        pytest.raises(WeightsError, match="altered or truncated"),
    ):
        load_encoder("barlow")


@pytest.mark.parametrize("change", [make_project, empty, replace_by_file], ids=lambda change: change.__name__)
def test_folder_of_something_else_does_not_hide_bundled_weights(shadow, change, recwarn):
    change(shadow)
    assert "note" not in load_encoder("barlow")[1]
    assert not recwarn
    with pytest.raises(WeightsError, match=r"has no config.json|there are no weights './barlow'"):
        load_encoder("./barlow")


def test_path_that_is_not_there_is_told_from_the_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("./barlow", Path("barlow")):
        with pytest.raises(WeightsError, match=r"go by their name: PretrainedCrystalEmbedder\('barlow'\)"):
            load_encoder(path)


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
    before, rename, unlink, seen = contents(folder), Path.rename, Path.unlink, []

    def spy(path, target):
        seen.append(contents(folder) if folder.exists() else None)
        return rename(path, target)

    def spy_unlink(path, missing_ok=False):
        seen.append(contents(folder))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "rename", spy)
    monkeypatch.setattr(Path, "unlink", spy_unlink)
    save_encoder(folder, encoder, {**CONFIG, "note": "new"})
    assert seen == [before, None, *[contents(folder)] * 3]


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


def test_weights_are_of_single_precision_whatever_the_default_is():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        encoder, _ = load_encoder("joint")
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(before)
    assert {tensor.dtype for tensor in encoder.state_dict().values() if tensor.is_floating_point()} == {torch.float32}
