"""Processes that are killed or interrupted: each function returns what was left, or raises AssertionError."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import joblib
import numpy as np

from _faults.processes import children_of, finish, kill, run, start, still_there
from _faults.work import Work, check, weights_of
from crystalssl import CrystalGraphs, PretrainedCrystalEmbedder
from crystalssl.exceptions import CrystalSSLError, WeightsError

__all__ = [
    "interrupt_fit",
    "intrude_while_saving",
    "kill_caching",
    "kill_pretraining",
    "kill_saving_graphs",
    "kill_saving_weights",
    "kill_with_workers",
]


def kill_pretraining(work: Work, folder: Path, share: float) -> str:
    """Kill a pretraining, and resume it."""
    expected, started = work.expected, time.perf_counter()
    check(run(work.pretrain_with, folder / "whole") == expected, "another process has other weights")
    path, seconds = folder / "run", time.perf_counter() - started
    kill(share * seconds, work.pretrain_with, path)
    resumed = path.exists()
    check(run(work.pretrain_with, path) == expected, "the resumed run has other weights")
    return "same bits, resumed" if resumed else "same bits, killed before the first checkpoint"


def kill_saving_weights(work: Work, folder: Path, share: float) -> str:
    """Kill a process that overwrites a weights folder again and again."""
    good = [work.pretrain(seed=seed, max_epochs=1) for seed in (0, 1)]
    path, begun = folder / "weights", folder / "begun"
    process, _ = start(work.save_for_ever, path)
    while not begun.exists():
        time.sleep(0.005)
    time.sleep(share * 0.3)
    process.kill()
    process.join()
    try:
        found = weights_of(PretrainedCrystalEmbedder.from_pretrained(path))
    except WeightsError as error:
        check(not path.exists(), f"a folder that cannot be read: {error}")
        return "no folder, and an error that says so"
    check(found in good, "weights that nobody saved")
    work.embedder(max_epochs=1).fit(work.graphs).save_pretrained(path)
    check(weights_of(PretrainedCrystalEmbedder.from_pretrained(path)) == good[0], "cannot be overwritten")
    return "complete weights"


def kill_saving_graphs(work: Work, folder: Path, share: float) -> str:
    """Kill a process that saves graphs again and again."""
    kill(0.02 + share * 0.4, work.save_graphs_for_ever, folder / "graphs")
    found = sorted((folder / "graphs").glob("[0-9]*")) if (folder / "graphs").exists() else []
    whole = 0
    for path in found:
        try:
            graphs = CrystalGraphs.load(path)
        except CrystalSSLError:  # one of those that were being removed
            continue
        whole += 1
        check(joblib.hash(np.array(graphs.distances)) == joblib.hash(work.graphs.distances), f"{path} is not the same")
    check(whole >= len(found) - 1, "folders that cannot be read")
    return "complete folders" if whole else "killed before the first folder"


def kill_caching(work: Work, folder: Path, share: float) -> str:
    """Kill a process that pretrains with memory=, while another uses the same cache."""
    started = time.perf_counter()
    expected = run(work.pretrain_cached, folder / "other")
    seconds = time.perf_counter() - started
    beside = start(work.pretrain_cached, folder / "memory")
    kill(share * seconds, work.pretrain_cached, folder / "memory")
    check(finish(*beside) == expected, "the process beside read something else")
    check(run(work.pretrain_cached, folder / "memory") == expected, "the cache holds something else")
    return "same bits, for the process beside it and afterwards"


def kill_with_workers(work: Work, folder: Path, share: float, sign: signal.Signals) -> str:
    """End a process whose workers search neighbours, or are being started. Linux only."""
    begun = folder / "begun"
    process, _ = start(work.find_neighbors_for_ever, begun)
    while not begun.exists():
        time.sleep(0.005)
    time.sleep(4 * share)
    workers = children_of(process.pid)
    os.kill(process.pid, sign)
    process.join()
    started = time.perf_counter()
    while still_there(workers) and time.perf_counter() - started < 20:
        time.sleep(0.05)
    left = still_there(workers)
    check(not left, f"processes {left} are still there after 20 s")
    if not workers:
        return "killed before the first worker"
    return f"all gone {'within 2 s' if time.perf_counter() - started < 2 else 'later than 2 s'}"


def intrude_while_saving(work: Work, folder: Path, share: float) -> str:
    """Put a file into a weights folder that a process overwrites again and again."""
    path, begun = folder / "weights", folder / "begun"
    process, receiver = start(work.save_for_ever, path)
    while not path.exists():
        time.sleep(0.005)
    time.sleep(share * 0.3)
    while True:
        with contextlib.suppress(FileNotFoundError):  # it is being replaced
            (path / "thesis.tex").write_text("precious")
            break
    ended = receiver.poll(5)  # unless the file came when the folder was being deleted
    process.kill()
    process.join()
    check(begun.exists(), "nothing was saved")
    found = [thesis for thesis in folder.rglob("thesis.tex") if thesis.read_text() == "precious"]
    check(len(found) == 1, "the file is gone")
    check(not ended or "it holds thesis.tex; choose another name" in receiver.recv()[1], "another error")
    check(ended == (found[0].parent == path), f"the file is {found[0]}, though the process went on: {not ended}")
    return "the file is left, and an error names it" if ended else "the file is left in what was being deleted"


def interrupt_fit(work: Work, folder: Path, share: float) -> str:
    """Press Ctrl-C in a fit."""
    work.expected  # noqa: B018  (computed before the fork)
    process, receiver = start(work.interrupted_fit, folder / "ready")
    while not (folder / "ready").exists() and process.is_alive():
        time.sleep(0.005)
    time.sleep(share * 0.1 * work.n_epochs)
    os.kill(process.pid, signal.SIGINT)
    seen = finish(process, receiver)
    check(all(seen.values()), f"not as it was: {seen}")
    return "as before that fit, and it can be fitted again"
