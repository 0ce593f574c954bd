"""Which crystals benchmarks/ablation.py takes, and how it prints them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from crystalssl import CrystalGraphTransformer

pytestmark = pytest.mark.usefixtures("benchmarks")


def test_crystals_of_elements_that_a_corpus_lacks_are_left_out(monkeypatch, tmp_path, crystals):
    import ablation

    X = crystals[:60]
    y = np.arange(len(X), dtype=float)
    graphs = CrystalGraphTransformer().transform(X)
    oxides = [row for row, crystal in enumerate(X) if ablation.OXYGEN in crystal.atomic_numbers]
    rare = max(X[oxides[0]].atomic_numbers)
    sources = {name: str(name) for name in ablation.TABLES["elements"]} | {ablation.SCRATCH: None}
    others = set(range(1, 119)) - {rare}
    seen = {"random corpus": others, "corpus without oxygen": others - {ablation.OXYGEN}}
    monkeypatch.setattr(ablation, "sources_of", lambda *_: sources)
    monkeypatch.setattr("_sets.load_encoder", lambda name: (None, {"elements": seen[name]}))
    monkeypatch.setattr(ablation, "weights_sha256", str)
    monkeypatch.setattr(ablation.Sets, "of", lambda *_: (graphs, y))
    calls = []
    monkeypatch.setattr(ablation, "run_all", lambda given, *_: calls.extend(given))
    options = SimpleNamespace(data=tmp_path, work=tmp_path, seeds=[0], sets=["phonons"], set=[], jobs=1)
    ablation.measure("elements", "settings", options, ablation.Results(tmp_path / "ablation.csv", ablation.KEYS))
    used = [row for row in oxides if rare not in X[row].atomic_numbers]
    assert used
    assert [args[1][1].tolist() for _, args, _ in calls] == [used] * 3


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
