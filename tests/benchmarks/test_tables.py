"""Tables and figures of README and docs are those of benchmarks/results."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.usefixtures("benchmarks")

# In prose that no script writes there are no results: no percentages, and no decimals but those of versions.
RESULT = re.compile(r"(?<!torch )(?<!Python )(?<![\d.])\d+\.\d+(?!\.)|\d ?%")


@pytest.fixture
def files():
    from _common import RESULTS
    from _tables.rows import ResultFiles

    if not RESULTS.exists():
        pytest.skip("the sdist has no results")
    return ResultFiles(RESULTS)


@pytest.fixture
def altered(files, tmp_path):
    """A function that returns the results with a file changed."""
    from _tables.rows import ResultFiles

    def change(name, edit):
        folder = shutil.copytree(files.folder, tmp_path / "results")
        path = folder / f"{name}.csv"
        edit(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)
        return ResultFiles(folder)

    return change


def test_documents_say_what_the_results_say(files):
    from tables import differences

    assert differences(files) == []


def test_every_table_is_shown(files):
    from tables import MARKER, TABLES, documents

    shown = {name for path in documents() for _, name in MARKER.findall(path.read_text(encoding="utf-8"))}
    assert shown == set(TABLES)


def test_a_number_that_differs_is_found(altered):
    from tables import differences

    def edit(frame):
        worse = (frame.method == "joint") & (frame.task == "matbench_jdft2d")
        return frame.assign(mae=np.where(worse, frame.mae.astype(float) + 1, frame.mae))

    found = differences(altered("matbench_folds", edit))
    assert any(line.startswith("-| **crystalssl, `joint`**") for line in found)
    assert any(line.startswith("+| **crystalssl, `joint`**") for line in found)


def test_a_figure_of_other_numbers_is_found(altered):
    from tables import differences

    def edit(frame):
        few = (frame.method == "joint") & (frame["size"] == "25")
        return frame.assign(mae=np.where(few, frame.mae.astype(float) * 2, frame.mae))

    assert "docs/figures/label_efficiency.png shows other numbers" in differences(altered("study", edit))


def test_prose_has_no_results_of_its_own(files):
    from _common import ROOT
    from tables import MARKER

    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for marker, _ in MARKER.findall(text):
        text = re.sub(rf"<!-- {marker} -->.*?<!-- end of {marker} -->", "", text, flags=re.DOTALL)
    prose = re.sub(r"`[^`]*`", "", text)
    assert RESULT.findall(prose) == []


@pytest.mark.parametrize(("rows", "seen"), [(35, "newer"), (34, "older")])
def test_new_weights_are_shown_once_they_are_complete(rows, seen):
    from _tables.rows import choose

    cells = [(str(task), str(size)) for task in range(7) for size in range(5)]
    frame = pd.DataFrame(
        [
            {"task": task, "size": size, "method": method, "weights": weights, "changes": "", "version": version,
             "age": age, "weights_age": weights_age}
            for method, weights, version, age, weights_age, part in [
                ("scratch:gatedgcn", "", "1", 0, -1, cells),
                ("joint", "older", "1", 0, 0, cells),
                ("scratch:gatedgcn", "", "2", 1, -1, cells),
                ("joint", "newer", "2", 1, 1, cells[:rows]),
            ]
            for task, size in part
        ]
    )  # fmt: skip
    runs = choose(frame, "joint", cells, ["task", "size"])
    assert runs.weights == seen
    assert set(runs.frame.age) == {1 if seen == "newer" else 0}
    assert runs.frame.method.value_counts().to_dict() == {"joint": 35, "scratch:gatedgcn": 35}


def test_seeds_that_are_not_complete_are_left_out():
    from _tables.rows import choose

    rows = [
        {"task": task, "method": method, "seed": seed, "weights": "w", "changes": "", "version": "1", "age": 0,
         "weights_age": 0}
        for method in ("scratch:gatedgcn", "joint")
        for seed in "012"
        for task in "ab"
        if (method, seed, task) not in [("joint", "1", "b"), ("scratch:gatedgcn", "2", "a")]
    ]  # fmt: skip
    runs = choose(pd.DataFrame(rows), "joint", [("a",), ("b",)], ["task"])
    assert set(runs.frame.seed) == {"0"}
    assert len(runs.frame) == 4


def test_settings_are_written_down_once(tmp_path):
    from _common import name_settings

    import crystalssl

    for _ in range(2):
        name_settings(tmp_path, "0123abcd", [("ensemble_size", 3), ("dropout", 0.1)])
    rows = pd.read_csv(tmp_path / "settings.csv").to_dict("records")
    assert rows == [
        {"settings": "0123abcd", "version": crystalssl.__version__, "changes": "ensemble_size=3 dropout=0.1"}
    ]


def test_weights_that_ship_are_known_by_their_hash(files, altered):
    """They may have been measured in a folder, or both there and after they were bundled."""
    from _common import weights_sha256

    shipped = weights_sha256("barlow")

    def edit(frame):
        mine = frame[frame.weights == shipped]
        return pd.concat([frame, mine.assign(method="/tmp/new/barlow")])

    frame = altered("methods", edit).read("methods")
    assert (frame.weights == shipped).sum() == (files.read("methods").weights == shipped).sum()
    assert set(frame[frame.weights == shipped].method) == {"barlow"}


def test_rows_of_unknown_settings_are_named(altered):
    files = altered("study", lambda frame: frame.assign(settings=["ffffffff", *frame.settings[1:]]))
    assert files.unknown() == {"study": ["ffffffff"]}
    assert "ffffffff" not in set(files.read("study").settings)


def test_stiffness_is_compared_on_the_seeds_that_both_have(files, altered):
    from _tables.others import stiffness

    def edit(frame):
        lonely = frame[(frame.method == "scratch:alignn") & (frame["size"] == "80%")].assign(seed="99", mae="100")
        assert len(lonely)
        return pd.concat([frame, lonely])

    assert stiffness(altered("study", edit)) == stiffness(files)
