from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import crystalssl
from crystalssl import CrystalSSLClassifier, CrystalSSLRegressor
from crystalssl.exceptions import WeightsError

QUICK = ("--epochs", 1, "-p", "head_dim=8", "-p", "batch_size=8", "-q")


def test_same_as_in_python(cifs, run, labelled, tiny):
    run("fit", "cifs", "--target", "id_prop.csv", "-o", "model", "--pretrain", tiny / "weights", "--seed", 3, *QUICK)
    model = crystalssl.load("model")
    params = {"head_dim": 8, "batch_size": 8, "max_epochs": 1, "random_state": 3}
    targets = [round(value, 6) for value in labelled[1]]
    paths = sorted(cifs.glob("*.cif"))
    expected = CrystalSSLRegressor(str(tiny / "weights"), **params).fit(paths, targets)
    np.testing.assert_allclose(model.predict(paths), expected.predict(paths), rtol=1e-5)
    assert "crystals: 24" in Path("model/README.md").read_text()


def test_all_options(cifs, run, tiny):
    result = run(
        *(
            "fit",
            "cifs",
            "-t",
            "id_prop.csv",
            "-o",
            "model",
            "--pretrain",
            "none",
            "--encoder",
            "cgcnn",
            "--ensemble",
            2,
        ),
        *("--early-stopping", "--target-per", "volume", "--device", "cpu", "-j", 1, "--cv", 2, "--task", "regression"),
        *("-p", "loss=huber", "-p", "dropout=0.1", "-p", "target_transform=null", *QUICK),
    )
    model = crystalssl.load("model")
    changed = {
        name: value for name, value in model.get_params().items() if value != CrystalSSLRegressor().get_params()[name]
    }
    assert changed == {
        **{"pretrain": None, "encoder": "cgcnn", "ensemble_size": 2, "early_stopping": True, "target_per": "volume"},
        **{"device": "cpu", "loss": "huber", "dropout": 0.1, "target_transform": None, "head_dim": 8, "batch_size": 8},
        **{"max_epochs": 1, "random_state": 0},
    }
    assert result.stdout.startswith("mean absolute error of target, 2 random folds: ")
    card = Path("model/README.md").read_text()
    assert "mean absolute error of target, 2 random folds" in card
    assert "\n    crystalssl " in card
    assert "model: CrystalSSLRegressor of target, trained on 22 crystals" in result.stderr


def test_names_and_units_come_from_the_source(cifs, run, labelled, tiny):
    lines = ["id,density (g/cm3),minus"] + [
        f"c{number:02d},{value},{'' if number % 2 else -value}" for number, value in enumerate(labelled[1])
    ]
    (cifs / "table.csv").write_text("\n".join(lines) + "\n")
    run("fit", "cifs", "-t", "table.csv", "-o", "model", "--pretrain", tiny / "weights", "--cv", 2, *QUICK)
    model = crystalssl.load("model")
    assert model.target_names_ == ["density", "minus"]
    assert model.target_units_ == ["g/cm3", None]
    assert "| minus |  | 12 |" in Path("model/README.md").read_text()


@pytest.mark.parametrize("options", [(), ("--cv", 2), ("--task", "classification")], ids=str)
def test_texts_are_classes(cifs, run, labelled, tiny, options):
    lines = [f"c{number:02d},{'heavy' if value > 5 else 'light'}\n" for number, value in enumerate(labelled[1])]
    (cifs / "id_prop.csv").write_text("id,weight\n" + "".join(lines))
    result = run("fit", "cifs", "-t", "id_prop.csv", "-o", "model", "--pretrain", tiny / "weights", *options, *QUICK)
    model = crystalssl.load("model")
    assert isinstance(model, CrystalSSLClassifier)
    assert model.classes_.tolist() == ["heavy", "light"]
    assert ("balanced accuracy, 2 random folds: " in result.stdout) == ("--cv" in options)


@pytest.mark.parametrize("suffix", ["json", "toml"])
def test_options_from_a_file(cifs, run, tiny, suffix):
    settings = {"target": ["id_prop.csv"], "epochs": 2, "pretrain": str(tiny / "weights"), "early-stopping": True}
    if suffix == "json":
        text = json.dumps({**settings, "param": {"head_dim": 9, "loss": "huber"}})
    else:
        text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
        text += '\n[param]\nhead_dim = 9\nloss = "huber"\n'
    (cifs.parent / f"run.{suffix}").write_text(text)
    run("fit", "cifs", "-o", "model", "--config", f"run.{suffix}", "--epochs", 1, "-q")
    if suffix == "json":  # one of an option that may be given several times
        Path("one.json").write_text(json.dumps({**settings, "target": "id_prop.csv"}))
        run("fit", "cifs", "-o", "one", "--config", "one.json", "--epochs", 1, "-q")
    model = crystalssl.load("model")
    assert (model.head_dim, model.loss, model.early_stopping) == (9, "huber", True)
    assert model.max_epochs == 1  # the command line has precedence


def test_progress_is_on_stderr(cifs, run, tiny):
    args = ("fit", "cifs", "-t", "id_prop.csv", "-o", "model", "--pretrain", tiny / "weights", "--epochs", 1)
    result = run(*args)
    assert "finetuning: 100%" in result.stderr
    assert result.stdout == ""
    assert "finetuning" not in run(*args, "--quiet").stderr


def test_records_that_cannot_be_used(cifs, run, tiny):
    (cifs / "c03.cif").write_text("data_x\n")
    args = ("fit", "cifs", "-t", "id_prop.csv", "-o", "model", "--pretrain", tiny / "weights", *QUICK)
    message = run(*args, status=1).stderr
    assert message.startswith("Error: item 3, ")
    assert "c03.cif" in message
    assert "--on-error report leaves out" in message
    assert message.count("\n") == 1
    result = run(*args, "--on-error", "report", status=3)
    assert "1 record could not be used; see model.failed.csv" in result.stderr
    assert "c03" in Path("model.failed.csv").read_text()
    assert "crystals: 23" in Path("model/README.md").read_text()


WRONG = {
    "no source": (("fit", "-t", "x", "-o", "m"), 2, "Missing argument 'SOURCE...'"),
    "no target": (("fit", "cifs", "-o", "m"), 2, "Missing option '-t' / '--target'"),
    "no output": (("fit", "cifs", "-t", "id_prop.csv"), 2, "Missing option '-o' / '--output'"),
    "source that is not there": (("fit", "cif", "-t", "gap", "-o", "m"), 1, "There is no file cif"),
    "table that is not there": (
        ("fit", "cifs", "-t", "prop.csv", "-o", "m"),
        1,
        "There is no table of targets prop.csv",
    ),
    "two folders": (("fit", "cifs", "cifs", "-t", "id_prop.csv", "-o", "m"), 2, "cifs is a folder: name one folder"),
    "stdin and more": (("fit", "-", "cifs", "-t", "gap", "-o", "m"), 2, "`-` is stdin, and stands alone"),
    "misspelt parameter": (
        ("fit", "cifs", "-t", "id_prop.csv", "-o", "m", "-p", "lerning_rate=1"),
        2,
        "CrystalSSLRegressor has no parameter 'lerning_rate'. Did you mean 'learning_rate'?",
    ),
    "parameter without a value": (
        ("fit", "cifs", "-t", "id_prop.csv", "-o", "m", "-p", "loss"),
        2,
        "not of the form NAME=VALUE",
    ),
    "impossible value": (("fit", "cifs", "-t", "id_prop.csv", "-o", "m", "-p", "dropout=2"), 1, "'dropout' parameter"),
    "misspelt weights": (
        ("fit", "cifs", "-t", "id_prop.csv", "-o", "m", "--pretrain", "jont"),
        1,
        "Did you mean 'joint'",
    ),
    "something in the way": (
        ("fit", "cifs", "-t", "id_prop.csv", "-o", "cifs"),
        1,
        "cifs exists and is not a model folder",
    ),
    "no file of options": (("fit", "cifs", "-o", "m", "--config", "run.json"), 2, "run.json cannot be read as JSON"),
    "misspelt command": (("fitt",), 2, "No such command 'fitt'"),
}


@pytest.mark.parametrize(("args", "status", "message"), WRONG.values(), ids=WRONG)
def test_errors_are_one_line(cifs, run, args, status, message):
    result = run(*args, status=status)
    assert message in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.stderr
    if status == 1:
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
    assert not (cifs.parent / "m").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.json", "{", "run.json cannot be read as JSON"),
        ("run.toml", "= 1", "run.toml cannot be read as TOML"),
        ("run.json", "[1]", "run.json holds no table of options, but a list"),
        ("run.json", '{"epoch": 1}', "sets 'epoch', which is no option of `fit`. Did you mean 'epochs'?"),
        ("run.json", '{"param": ["loss=huber"], "target": ["id_prop.csv"]}', "the file's `param` is no table of names"),
        ("run.json", '{"debug": true}', "sets 'debug', which is no option of `fit`"),
    ],
)
def test_wrong_file_of_options(cifs, run, name, text, message):
    (cifs.parent / name).write_text(text)
    assert message in " ".join(run("fit", "cifs", "-o", "m", "--config", name, status=2).stderr.split())


def test_target_per_of_classes(cifs, run, labelled):
    (cifs / "id_prop.csv").write_text("id,kind\n" + "".join(f"c{i:02d},{'ab'[i % 2]}\n" for i in range(24)))
    args = ("fit", "cifs", "-t", "id_prop.csv", "-o", "m", "--target-per", "atom")
    assert "classes cannot be divided by a size" in run(*args, status=2).stderr


def test_debug_shows_the_traceback(cifs, run):
    with pytest.raises(WeightsError):
        run("fit", "cifs", "-t", "id_prop.csv", "-o", "m", "--pretrain", "jont", "--debug")


def test_ctrl_c_writes_nothing(cifs, run, tiny, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(CrystalSSLRegressor, "fit", interrupted)
    args = ("fit", "cifs", "-t", "id_prop.csv", "-o", "model", "--pretrain", tiny / "weights", *QUICK)
    assert run(*args, status=130).stderr == "Interrupted. Nothing was written to model.\n"
    assert sorted(path.name for path in cifs.parent.iterdir()) == ["cifs"]


def test_warnings_are_one_line(cifs, run, tiny):
    (cifs / "notes.md").write_text("not a crystal\n")
    result = run("fit", "cifs", "-t", "id_prop.csv", "-o", "model", "--pretrain", tiny / "weights", *QUICK, status=3)
    assert any(
        line.startswith("Warning: 1 records or files of cifs are left out") for line in result.stderr.splitlines()
    )
