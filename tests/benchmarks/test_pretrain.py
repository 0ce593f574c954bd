"""What benchmarks/pretrain.py and its cards say of labels."""

from __future__ import annotations

import json

import pandas as pd
import pytest

pytestmark = pytest.mark.usefixtures("benchmarks")


def test_labels_are_refused_where_nothing_learns_from_them(monkeypatch, capsys):
    import pretrain

    monkeypatch.setattr("sys.argv", ["pretrain.py", "joint", "barlow", "--labels", "band_gap"])
    with pytest.raises(SystemExit):
        pretrain.main()
    assert "--labels is for methods that predict labels" in capsys.readouterr().err


@pytest.fixture
def card_of(tmp_path):
    """A function that returns the card of weights that have the config of bundled ones, but for what it is given."""
    from _cards import write_card

    from crystalssl.training import bundled_weights

    def write(method, bundled, labels="", /, **config):
        folder = tmp_path / method
        folder.mkdir()
        config = json.loads((bundled_weights()[bundled] / "config.json").read_text()) | config
        (folder / "config.json").write_text(json.dumps(config))
        run = {"weights": config["sha256"], "corpus": "c0", "n_crystals": 28_801, "labels": labels, "seed": 0}
        run |= {"seconds": 90.0, "crystals_per_second": 640.0, "epochs": 2, "device": "cpu", "threads": 1}
        run |= {"machine": "one", "version": "0.2.0", "command": f"python benchmarks/pretrain.py {method}"}
        pd.DataFrame([run]).to_csv(tmp_path / "pretraining.csv", index=False)
        epochs = [{"weights": run["weights"], "epoch": n, "train_loss": 1 / n, "valid_loss": 2 / n} for n in (1, 2)]
        pd.DataFrame(epochs).to_csv(tmp_path / "pretraining_epochs.csv", index=False)
        write_card(folder, tmp_path)
        return (folder / "README.md").read_text()

    return write


@pytest.mark.parametrize(
    ("devices", "expected"),
    [(["cpu", "cpu"], "cpu"), (["cuda", "cuda", "cpu", "cuda"], "cuda, then cpu from epoch 3, then cuda from epoch 4")],
)
def test_record_says_where_each_epoch_was_learnt(devices, expected):
    from pretrain import devices_of

    assert devices_of([{"epoch": n, "device": device} for n, device in enumerate(devices, 1)]) == expected


@pytest.mark.parametrize(("labels", "potential"), [("band_gap; forces", True), ("band_gap; efermi", False)])
def test_card_names_the_labels_that_were_learnt(card_of, labels, potential):
    card = card_of("joint", "joint", labels)
    assert f"Labels, where known: {labels}." in card
    assert "The weights are those of epoch 2, which has the lowest validation loss" in card
    assert ("SevenNet" in card) == ("28,801 frames of crystals" in card) == potential


def test_weights_that_do_not_ship_have_a_card(card_of):
    card = card_of("stiffness", "dssl-as", method="stiffness", task_params={})
    assert card.startswith("# Atomic stiffness on DeeperGATGNN")
    assert "physics-guided dual self-supervised learning" in card.lower()
