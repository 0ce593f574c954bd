"""Killed processes, full disks, Ctrl-C: one moment of each; benchmarks/faults.py has ten."""

from __future__ import annotations

import signal
import sys

import pytest

pytestmark = [
    pytest.mark.usefixtures("benchmarks"),
    pytest.mark.skipif(sys.platform != "linux", reason="forks"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def work(benchmarks):
    from _faults.work import Work

    return Work(n_crystals=24, n_epochs=6)


def test_killed_pretraining_resumes_to_the_same_bits(work, tmp_path):
    from _faults.kills import kill_pretraining

    assert kill_pretraining(work, tmp_path, 0.6).startswith("same bits")


def test_killed_writer_leaves_no_half_weights(work, tmp_path):
    from _faults.kills import kill_saving_weights

    assert kill_saving_weights(work, tmp_path, 0.5) in (
        "complete weights",
        "no folder, and an error that says so",
    )


def test_killed_writer_leaves_no_half_graphs(work, tmp_path):
    from _faults.kills import kill_saving_graphs

    kill_saving_graphs(work, tmp_path, 0.5)


def test_killed_writer_leaves_a_cache_that_others_share(work, tmp_path):
    from _faults.kills import kill_caching

    assert kill_caching(work, tmp_path, 0.5).startswith("same bits")


@pytest.mark.parametrize("mount", [True, False], ids=["small disk", "RLIMIT_FSIZE"])
def test_full_disk_is_named_and_the_last_good_files_are_left(work, tmp_path, mount):
    from _faults.disk import fill_disk

    assert fill_disk(work, tmp_path, 0.5, mount).startswith("errors name the place")


def test_interrupted_fit_leaves_the_estimator_as_it_was(work, tmp_path):
    from _faults.kills import interrupt_fit

    assert interrupt_fit(work, tmp_path, 0.5).startswith("as before that fit")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("share", [0.02, 0.9], ids=["at the start", "at work"])
def test_workers_end_with_the_process_that_started_them(work, tmp_path, sign, share):
    from _faults.kills import kill_with_workers

    assert kill_with_workers(work, tmp_path, share, sign).startswith(("all gone", "killed before the first worker"))


def test_file_put_into_weights_that_are_being_replaced_is_left(work, tmp_path):
    from _faults.kills import intrude_while_saving

    assert intrude_while_saving(work, tmp_path, 0.5).startswith("the file is left")


@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_truncated_cache_is_computed_again(work, tmp_path, keep):
    expected = work.pretrain(max_epochs=1, memory=str(tmp_path))
    [path] = tmp_path.rglob("output.pkl")
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    assert work.pretrain(max_epochs=1, memory=str(tmp_path)) == expected
