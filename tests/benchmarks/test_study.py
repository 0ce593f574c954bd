"""What benchmarks/study.py, methods.py and ablation.py make of their result files."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.usefixtures("benchmarks")

BASELINE = "scratch:gatedgcn"


@pytest.fixture
def unfinished():
    """Errors of two sets and two seeds, of which one is missing: the seed with the large errors, of one method."""
    rows = [
        {"task": task, "method": method, "size": "25", "seed": seed, "mae": factor * error}
        for task, (method, factor), (seed, error) in itertools.product(
            ["phonons", "jdft2d"], [(BASELINE, 1.0), ("joint", 0.9)], [("0", 10.0), ("1", 40.0)]
        )
    ]
    return pd.DataFrame(rows[:-1])


def test_methods_are_compared_over_the_same_seeds(unfinished):
    from study import paired

    assert len(paired(unfinished)) == 6
    assert (paired(unfinished).groupby(["task", "seed"]).method.nunique() == 2).all()


def test_table_of_an_unfinished_study_has_the_right_ratios(unfinished, capsys):
    from study import print_table

    print_table("few", unfinished, "joint", BASELINE)
    printed = capsys.readouterr().out
    assert f"MAE of joint against {BASELINE}; better in 2 of 2, -10.0% on average, and in 3 of 3 single runs" in printed
    assert "| phonons | -10.0% |" in printed
    assert "| jdft2d | -10.0% |" in printed


def test_study_shows_what_a_setting_changes(tmp_path, monkeypatch, capsys):
    import study
    from _common import Results, settings_id, weights_sha256

    from crystalssl import CrystalSSLRegressor

    results = Results(tmp_path / "study.csv", study.KEYS)
    for method, dropout, mae in [("joint", 0.0, 4.0), ("joint", 0.1, 3.0), (BASELINE, 0.1, 9.0)]:
        settings = settings_id(CrystalSSLRegressor(dropout=dropout), study.MAX_STEPS)
        for seed, error in enumerate([mae, 5.0]):
            row = ["jdft2d", method, "25", seed, settings, weights_sha256(method), error]
            results.append(dict(zip([*study.KEYS, "mae"], row, strict=True)))
    command = ["study.py", "--report", "--parts", "few", "--results", str(tmp_path), "--set", "dropout=0.1"]
    monkeypatch.setattr("sys.argv", command)
    study.main()
    assert (
        f"MAE of joint against {BASELINE}; better in 1 of 1, -42.9% on average, and in 1 of 2"
        in capsys.readouterr().out
    )
    monkeypatch.setattr("sys.argv", [*command, "--against-defaults"])
    study.main()
    assert "MAE of joint against joint by default; better in 1 of 1, -11.1%" in capsys.readouterr().out


def test_summary_of_methods_compares_the_seeds_that_both_have(unfinished, capsys):
    from methods import print_summary

    # Of jdft2d the second seed is missing; of phonons the baseline, with the smaller share.
    smaller = unfinished.assign(percent="10")[unfinished.task.eq("jdft2d") | unfinished.method.eq("joint")]
    print_summary(pd.concat([smaller, unfinished.assign(percent="80")]), [BASELINE, "joint"])
    printed = capsys.readouterr().out
    assert "| method | encoder | 10% | 80% | better |" in printed
    assert "| `joint` | gatedgcn | -10.0% | -10.0% | 3 of 3 |" in printed


def test_ablation_leaves_out_rows_of_earlier_weights(tmp_path, monkeypatch, capsys):
    import ablation
    from _common import Results, settings_id

    from crystalssl import CrystalSSLRegressor

    results = Results(tmp_path / "ablation.csv", ablation.KEYS)
    settings = settings_id(CrystalSSLRegressor(), ablation.SIZE, ablation.N_CRYSTALS, ablation.N_EPOCHS)
    for variant, weights, seed, mae in [
        ("full", "old", 0, 9.0),
        ("full", "old", 1, 9.0),
        ("full", "new", 0, 2.0),
        ("no pretraining", "", 0, 3.0),
        ("no pretraining", "", 1, 3.0),
    ]:
        row = [*("finetuning", variant, "phonons", seed, settings, weights), mae]
        results.append(dict(zip([*ablation.KEYS, "mae"], row, strict=True)))
    monkeypatch.setattr("sys.argv", ["ablation.py", "--report", "--tables", "finetuning", "--results", str(tmp_path)])
    ablation.main()
    printed = capsys.readouterr().out
    assert "seeds: 1" in printed
    assert "| no pretraining | 3 (+50%) | +50.0% |" in printed
