"""Which crystals benchmarks/ablation.py takes, and how it prints them."""

from __future__ import annotations

import json

import pandas as pd
import pytest

pytestmark = pytest.mark.usefixtures("benchmarks")


def test_elements_are_those_that_all_weights_have_seen(tmp_path):
    from ablation import elements_seen

    sources = {"no pretraining": None}
    for name, elements in {"random corpus": [1, 8, 14], "corpus without oxygen": [1, 2, 14]}.items():
        sources[name] = tmp_path / name
        sources[name].mkdir()
        (sources[name] / "config.json").write_text(json.dumps({"elements": elements}))
    assert elements_seen(sources) == {1, 8, 14}  # training rows bring oxygen
    assert elements_seen({"full": "joint", "no pretraining": None}) == set()


def test_sets_stand_in_one_order_whichever_was_measured_first():
    from ablation import table_of

    rows = [
        {"task": task, "seed": 0, "variant": variant, "mae": mae}
        for task in ("band gap", "phonons")
        for variant, mae in (("full", 2.0), ("no angles", 3.0))
    ]
    text, seeds = table_of(pd.DataFrame(rows), ["full", "no angles"])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert lines[0] == ["", "phonons, 1/cm", "band gap, eV", "mean"]
    assert lines[3] == ["no angles", "3 (+50%)", "3 (+50%)", "+50.0%"]
    assert seeds == 1
