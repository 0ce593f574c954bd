"""What benchmarks/speed.py and scaling.py do with their measurements."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.usefixtures("benchmarks")


class Clock:
    """Stands still between calls of what is timed."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def work(self, *seconds):
        durations = iter(seconds)

        def call():
            self.now += next(durations)

        return call


def test_contenders_take_turns_and_the_first_round_does_not_count():
    from _speed.race import Pace, race

    clock = Clock()
    order = []
    contenders = {"a": clock.work(100, 1, 2, 3), "b": clock.work(100, 4, 4, 4)}
    noted = {name: lambda name=name, call=call: (order.append(name), call()) for name, call in contenders.items()}
    assert race(noted, Pace(rounds=3, seconds=60), clock) == {"a": [1, 2, 3], "b": [4, 4, 4]}
    assert order == ["a", "b"] * 4


def test_slow_race_ends_after_the_least_number_of_rounds():
    from _speed.race import Pace, race

    seconds = race({"a": lambda: None}, Pace(rounds=50, seconds=-1, least=3), Clock())
    assert len(seconds["a"]) == 3


def test_ratio_is_the_median_of_the_rounds():
    from _speed.race import ratios

    # A round in which the machine is busy slows down both.
    assert ratios([3, 30, 6], [1, 10, 3]) == {"ratio": 3, "low": 2.5, "high": 3}


@pytest.mark.parametrize(
    ("kind", "goal", "met"), [("at least", 2.9, True), ("at least", 3.1, False), ("at most", 3.1, True)]
)
def test_goal(kind, goal, met):
    from _speed import race

    row = {"goals": {"peer": [kind, goal]}, "contenders": {"peer": {"ratio": 3.0}}}
    assert race.met(row, "peer") is met


@pytest.mark.parametrize("wrong", [[1.0, 2.1], [1.0, np.nan], [1.0, 2.0, 3.0]])
def test_contenders_that_differ_are_not_timed(wrong):
    from _speed.race import Differs, same_numbers

    assert same_numbers("x", torch.tensor([1.0, 2.0]), [1.0, 2.0], 1e-4) == 0
    with pytest.raises(Differs, match="x: "):
        same_numbers("x", wrong, [1.0, 2.0], 1e-4)


def part(ratio, threads=(1, 2)):
    rows = [
        {
            "name": "task", "threads": n, "clock": "CPU", "unit": "crystals", "work": 8, "base": "crystalssl",
            "checked": "all", "goals": {"peer": ["at least", 3]}, "missing": {"other": "not compared"},
            "contenders": {
                "crystalssl": {"per_second": 100.0, "ratio": 1.0, "low": 1.0, "high": 1.0},
                "peer": {"per_second": 25.0, "ratio": ratio * n, "low": ratio, "high": ratio},
            },
        }
        for n in threads
    ]  # fmt: skip
    return {"machine": "this", "load_average": 0.1, "rows": rows}


def test_parts_replace_their_own_results_only(tmp_path):
    from _speed.results import load, merge

    path = tmp_path / "folder" / "speed.json"
    assert load(path) == {"parts": {}}
    merge(path, "a", part(1))
    merge(path, "b", part(2))
    merge(path, "a", part(3))
    assert json.loads(path.read_text()) == {"parts": {"a": part(3), "b": part(2)}}
    assert [file.name for file in path.parent.iterdir()] == ["speed.json"]


@pytest.mark.parametrize(("ratio", "verdict"), [(4, "yes"), (2, "on 2 threads only"), (1, "no")])
def test_report_says_which_goals_are_met_and_who_is_missing(ratio, verdict):
    from _speed.results import report

    text = report({"parts": {"a": part(ratio)}}, ["a"])
    assert f"| at least 3 | {ratio:.2f} (CPU), {2 * ratio:.2f} (CPU) | {verdict} |" in text
    assert "other: not compared." in text


def test_document_is_replaced_between_markers_only():
    from _documents import replace_between

    text = "before <!-- x -->old<!-- end of x --> after"
    assert replace_between(text, "x", "new") == "before <!-- x -->\n\nnew\n\n<!-- end of x --> after"
    with pytest.raises(ValueError, match="no <!-- y -->"):
        replace_between(text, "y", "new")


def test_figure_is_drawn(tmp_path):
    from _speed.figure import draw
    from _speed.results import all_groups

    draw(all_groups({"parts": {"a": part(2)}}, ["a"]), tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 5000


def test_growth():
    from scaling import marginal, slope

    crystals = np.array([1_000, 10_000, 100_000])
    assert slope(crystals, 3 * crystals**1.5) == pytest.approx(1.5)
    assert marginal(crystals[[1, 0, 2]], [70_000, 50, 700_000]) == pytest.approx(7)


# ---------------------------------------------------------------------- whole jobs


def test_predictions_go_through_the_file_again_until_there_are_enough(tmp_path, prototypes):
    pa = pytest.importorskip("pyarrow")
    from types import SimpleNamespace

    import pyarrow.parquet as pq
    from _speed.jobs import predictions

    crystals = prototypes[:7]
    columns = {
        "lattice_vectors": [crystal.lattice.matrix.tolist() for crystal in crystals],
        "species_at_sites": [[site.specie.symbol for site in crystal] for crystal in crystals],
        "cartesian_site_positions": [crystal.cart_coords.tolist() for crystal in crystals],
    }
    pq.write_table(pa.table(columns), tmp_path / "mp_pretrain.parquet")
    data = SimpleNamespace(folder=tmp_path, phonons=SimpleNamespace(data=crystals))
    row = predictions(data, 16)
    assert row["work"] == 16
    assert row["goal"] == 16 / 4000
    assert sum(row["parts"].values()) == pytest.approx(row["seconds"])
    assert min(row["parts"].values()) > 0


@pytest.mark.parametrize(("goal", "verdict"), [(10.0, "yes"), (2.0, "no")])
def test_jobs_are_reported_with_their_goal_and_parts(goal, verdict):
    from _speed.results import report

    job = {
        "name": "job", "work": 20, "unit": "crystals", "threads": 1, "seconds": 5.0, "clock": "CPU",
        "goal": goal, "parts": {"a": 1.0, "b": 4.0}, "checked": "well",
    }  # fmt: skip
    text = report({"parts": {"jobs": {"machine": "this", "load_average": 0.1, "jobs": [job]}}}, [])
    row = f"| job | 20 crystals, 1 thread | 5.0 s (CPU) | 4 | at most {goal:g} s: {verdict} | a 20%, b 80% | well |"
    assert row in text
