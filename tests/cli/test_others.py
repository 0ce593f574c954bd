"""Vectors, pretraining, Matbench and what folders hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import crystalssl
from crystalssl import CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl import matbench as official

from .conftest import rows_of

# ------------------------------------------------------------------ embed


@pytest.mark.parametrize("weights", ["barlow", "{tiny}/weights"])
def test_embed(cifs, run, tiny, weights):
    weights = weights.format(tiny=tiny)
    paths = sorted(cifs.glob("*.cif"))
    run("embed", "cifs", "--weights", weights, "-o", "vectors.parquet")
    frame = pd.read_parquet("vectors.parquet")
    embedder = PretrainedCrystalEmbedder("barlow" if weights == "barlow" else "joint", weights="bundled")
    if weights != "barlow":
        embedder = PretrainedCrystalEmbedder.from_pretrained(weights)
    expected = embedder.fit([]).transform(paths)
    assert frame["id"].tolist() == [path.stem for path in paths]
    assert frame.columns[1:].tolist() == embedder.get_feature_names_out().tolist()
    np.testing.assert_allclose(frame.iloc[:, 1:], expected, rtol=1e-5, atol=1e-6)


def test_embed_errors(cifs, run, tiny):
    assert (
        "holds a finetuned model, which has no vectors" in run("embed", "cifs", "-w", tiny / "model", status=1).stderr
    )
    assert "there are no weights 'jont'" in run("embed", "cifs", "-w", "jont", status=1).stderr
    (cifs / "c01.cif").write_text("")
    assert len(rows_of(run("embed", "cifs", "-w", tiny / "weights", status=3).stdout)) == 23


def test_a_folder_comes_before_bundled_weights_of_its_name(cifs, run, tiny):
    shutil.copytree(tiny / "weights", "barlow")
    found = run("embed", "cifs", "-w", "barlow", "-q")
    assert "'barlow' is read from the folder" in found.stderr
    assert found.stdout == run("embed", "cifs", "-w", "./barlow", "-q").stdout
    small = ("pretrain", "cifs", "--method", "barlow", "--epochs", 1, "-p", "batch_size=8", "-q")
    assert "'barlow' is read from the folder" in run(*small, "--start", "barlow", "-o", "named").stderr
    run(*small, "--start", "./barlow", "-o", "folder")
    named, folder = (Path(name, "model.safetensors").read_bytes() for name in ("named", "folder"))
    assert named == folder


# ------------------------------------------------------------------ pretrain

SMALL = ("-p", "hidden_dim=8", "-p", "n_layers=1", "-p", "batch_size=8", "--epochs", 2, "-q")


def test_pretrain_as_in_python(cifs, run):
    result = run("pretrain", "cifs", "--method", "barlow", "-o", "weights", "--seed", 1, *SMALL, status=0)
    params = {"weights": None, "hidden_dim": 8, "n_layers": 1, "batch_size": 8, "max_epochs": 2, "random_state": 1}
    expected = PretrainedCrystalEmbedder("barlow", **params).fit(sorted(cifs.glob("*.cif")))
    found = crystalssl.load("weights")
    paths = sorted(cifs.glob("*.cif"))
    np.testing.assert_allclose(found.transform(paths), expected.transform(paths), rtol=1e-3, atol=1e-4)
    assert "weights: cgcnn by barlow, pretrained on 24 crystals" in result.stderr
    assert not Path("weights.checkpoint").exists()


def test_pretrain_goes_on_after_an_interruption(cifs, run, monkeypatch):
    from crystalssl.training._callbacks import Checkpoint

    args = ("pretrain", "cifs", "--method", "barlow", "-o", "weights", *SMALL)
    run(*args)
    expected = crystalssl.load("weights")
    original = Checkpoint.on_epoch_end

    def interrupted(self, net, **kwargs):
        original(self, net, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_end", interrupted)
        message = run(*args, status=130).stderr
    assert message.startswith("Interrupted. The state is in weights.checkpoint; go on with: crystalssl ")
    run(*args)
    paths = sorted(cifs.glob("*.cif"))
    assert crystalssl.load("weights").transform(paths).tobytes() == expected.transform(paths).tobytes()
    assert not Path("weights.checkpoint").exists()


def test_pretrain_interrupted_at_once(cifs, run, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(PretrainedCrystalEmbedder, "fit", interrupted)
    message = run("pretrain", "cifs", "-o", "weights", *SMALL, status=130).stderr
    assert message == "Interrupted. No epoch was finished, and nothing was written.\n"


def test_pretrain_with_labels_and_from_weights(cifs, run, labelled):
    lines = ["id,density,other"] + [f"c{n:02d},{v},{'' if n % 2 else n}" for n, v in enumerate(labelled[1])]
    Path("labels.csv").write_text("\n".join(lines) + "\n")
    run("pretrain", "cifs", "--target", "labels.csv", "-o", "weights", *SMALL)
    assert crystalssl.load("weights").config_["task_params"]["n_properties"] == 2
    run("pretrain", "cifs", "--method", "simsiam", "--start", "simsiam", "--epochs", 1, "-q", "-o", "more")
    assert (
        crystalssl.load("more").encoder_.config["hidden_dim"]
        == crystalssl.load(crystalssl.training.bundled_weights()["simsiam"]).encoder_.config["hidden_dim"]
    )


def test_pretrain_leaves_out_what_cannot_be_used(cifs, run):
    (cifs / "c02.cif").write_text("")
    run("pretrain", "cifs", "--method", "barlow", "-o", "weights", *SMALL, status=3)
    assert "c02" in Path("weights.failed.csv").read_text()
    assert "item 2, " in run("pretrain", "cifs", "--on-error", "raise", "-o", "w", *SMALL, status=1).stderr


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (("--method", "barlw"), 1, "Did you mean 'barlow'"),
        (("--encoder", "cgcn"), 1, "Did you mean 'cgcnn'"),
        (("--start", "jont"), 1, "Did you mean 'joint'"),
        (("-p", "sigma=1"), 2, "PretrainedCrystalEmbedder has no parameter 'sigma'"),
        (("-o", "cifs"), 1, "cifs exists and is not a weights folder"),
    ],
)
def test_pretrain_errors(cifs, run, args, status, message):
    result = run("pretrain", "cifs", "-o", "weights", "-q", *args, status=status)
    assert message in " ".join(result.stderr.split())


# ------------------------------------------------------------------ matbench


@pytest.fixture
def called(monkeypatch):
    """The calls of `matbench.run`, which is not run."""
    calls = []

    def spy(estimator, tasks, **options):
        calls.append((estimator, tasks, options))
        scores = pd.DataFrame({"task": ["matbench_phonons"], "fold": [0], "mae": [12.5]})
        return crystalssl.datasets.load_prototypes().__class__(
            scores=scores, results=Path("s/results.json.gz"), complete=["x"]
        )

    monkeypatch.setattr(official, "run", spy)
    return calls


def test_matbench_is_a_thin_layer(called, run):
    result = run(
        *("matbench", "matbench_phonons", "matbench_jdft2d", "-o", "s", "--fold", 0, "--fold", 3, "--ensemble", 3),
        *("-p", "max_epochs=7", "--data-home", "data", "-j", 2, "--seed", 5, "--pretrain", "none", "-q"),
    )
    [(estimator, tasks, options)] = called
    expected = CrystalSSLRegressor(None, ensemble_size=3, max_epochs=7, random_state=5)
    assert repr(estimator) == repr(expected)
    assert tasks == ["matbench_phonons", "matbench_jdft2d"]
    assert options == {
        **{"out": "s", "folds": [0, 3], "return_std": True, "n_jobs": 2, "data_home": "data", "verbose": 0},
    }
    assert "matbench_phonons" in result.stdout
    assert "12.5" in result.stdout
    assert "s/results.json.gz holds x" in result.stderr


def test_matbench_of_classes_and_all_tasks(called, run):
    run("matbench", "matbench_mp_is_metal", "-o", "s", "--ensemble", 2)
    run("matbench", "-o", "s")
    (first, _, options), (second, tasks, _) = called
    assert type(first).__name__ == "CrystalSSLClassifier"
    assert options["return_std"] is False
    assert type(second).__name__ == "CrystalSSLRegressor"
    assert tasks is None


def test_matbench_errors(called, run, monkeypatch):
    both = ("matbench", "matbench_phonons", "matbench_mp_is_metal", "-o", "s")
    assert "takes a classifier; run it by itself" in run(*both, status=2).stderr
    assert (
        "leave the tasks and folds out" in run("matbench", "matbench_phonons", "-o", "s", "--compare", status=2).stderr
    )

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(official, "run", interrupted)
    message = run("matbench", "matbench_phonons", "-o", "s", status=130).stderr
    assert message == "Interrupted. Folds that were finished are in s; go on with the same command.\n"


def test_matbench_misspelt_task(run, tmp_path):
    result = run("matbench", "matbench_phonon", "-o", tmp_path / "s", "-q", status=1)
    assert "Did you mean 'matbench_phonons'" in result.stderr


def test_matbench_compare(run, monkeypatch):
    monkeypatch.setattr(official, "compare", lambda folder: f"the table of {folder}")
    assert run("matbench", "-o", "s", "--compare").stdout == "the table of s\n"


def test_pretraining_on_graphs_that_were_made_before(cifs, run):
    options = ("--method", "barlow", "--epochs", 1, "-p", "hidden_dim=8", "-p", "n_layers=1", "-p", "batch_size=8")
    run("graphs", "cifs", "-o", "graphs", "--encoder", "cgcnn", "--shard-size", 10)
    run("pretrain", "graphs", *options, "-o", "weights")
    run("pretrain", "cifs", *options, "-o", "others")
    assert Path("weights/model.safetensors").read_bytes() == Path("others/model.safetensors").read_bytes()
    other = run("pretrain", "graphs", "--method", "joint", "-o", "weights", status=1)
    assert "write them again with crystalssl.io.write_corpus(source, folder, encoder='gatedgcn')" in other.stderr


# ------------------------------------------------------------------ info


def test_info_of_a_model_is_its_card(run, tiny):
    assert run("info", tiny / "model").stdout.rstrip() == (tiny / "model" / "README.md").read_text().rstrip()
    known = json.loads(run("info", tiny / "model", "--json").stdout)
    assert known["estimator"] == "CrystalSSLRegressor"
    assert known["fitted"]["target_names_"] == ["density"]


def test_info_of_weights_and_graphs(cifs, run, tiny):
    assert run("info", tiny / "weights").stdout.startswith("# barlow, cgcnn")
    run("graphs", "cifs", "-o", "graphs")
    lines = dict(line.split(maxsplit=1) for line in run("info", "graphs").stdout.splitlines())
    assert lines["crystals"] == "24"
    assert json.loads(run("info", "graphs", "--json").stdout)["shards"] == 1
    crystalssl.CrystalCorpus.load("graphs").to_graphs().save("plain")
    assert json.loads(run("info", "plain", "--json").stdout)["crystals"] == 24


def test_info_of_what_is_installed(run):
    text = run("info").stdout
    assert text.startswith(f"crystalssl       {crystalssl.__version__}\n")
    known = json.loads(run("info", "--json").stdout)
    assert {"joint", "barlow"} <= {*known["weights"]}
    assert known["devices"][0] == "cpu"


def test_info_of_a_damaged_model(run, tiny, tmp_path):
    import shutil

    folder = shutil.copytree(tiny / "model", tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"")
    assert "was altered or truncated" in run("info", folder, status=1).stderr
    assert "there is no folder" in run("info", tmp_path / "nowhere", status=1).stderr
