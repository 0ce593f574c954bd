"""Killed processes, full disks, Ctrl-C: one moment of each; benchmarks/faults.py has ten."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="forks"),
    pytest.mark.filterwarnings("ignore"),
]

_SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "faults.py"


@pytest.fixture(scope="module")
def faults():
    spec = importlib.util.spec_from_file_location("faults", _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def work(faults):
    return faults.Work(n_crystals=24, n_epochs=6)


def test_killed_pretraining_resumes_to_the_same_bits(faults, work, tmp_path):
    assert faults.kill_pretraining(work, tmp_path, 0.6).startswith("same bits")


def test_killed_writer_leaves_no_half_weights(faults, work, tmp_path):
    assert faults.kill_saving_weights(work, tmp_path, 0.5) in (
        "complete weights",
        "no folder, and an error that says so",
    )


def test_killed_writer_leaves_no_half_graphs(faults, work, tmp_path):
    faults.kill_saving_graphs(work, tmp_path, 0.5)


def test_killed_writer_leaves_a_cache_that_others_share(faults, work, tmp_path):
    assert faults.kill_caching(work, tmp_path, 0.5).startswith("same bits")


@pytest.mark.parametrize("mount", [True, False], ids=["small disk", "RLIMIT_FSIZE"])
def test_full_disk_is_named_and_the_last_good_files_are_left(faults, work, tmp_path, mount):
    assert faults.fill_disk(work, tmp_path, 0.5, mount).startswith("errors name the place")


def test_interrupted_fit_leaves_the_estimator_as_it_was(faults, work, tmp_path):
    assert faults.interrupt_fit(work, tmp_path, 0.5).startswith("as before that fit")


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_truncated_cache_is_computed_again(work, tmp_path, keep):
    expected = work.pretrain(max_epochs=1, memory=str(tmp_path))
    [path] = tmp_path.rglob("output.pkl")
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    assert work.pretrain(max_epochs=1, memory=str(tmp_path)) == expected
