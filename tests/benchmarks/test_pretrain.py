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


@pytest.mark.parametrize(("labels", "potential"), [("band_gap; log10 K", True), ("band_gap; efermi", False)])
def test_card_names_the_labels_that_were_learnt(tmp_path, labels, potential):
    from _cards import write_card
    from _common import RESULTS

    from crystalssl.training import bundled_weights

    folder = tmp_path / "joint"
    folder.mkdir()
    config = (bundled_weights()["joint"] / "config.json").read_text()
    (folder / "config.json").write_text(config)
    weights = json.loads(config)["sha256"]
    for name in ("pretraining.csv", "pretraining_epochs.csv"):
        frame = pd.read_csv(RESULTS / name, keep_default_na=False)
        frame = frame[frame.weights == weights]
        frame.assign(**{"labels": labels} if "labels" in frame else {}).to_csv(tmp_path / name, index=False)
    write_card(folder, tmp_path)
    card = (folder / "README.md").read_text()
    assert f"Labels, where known: {labels}." in card
    assert ("CHGNet" in card) == potential
