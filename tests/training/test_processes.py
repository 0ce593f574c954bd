"""Several processes that train one network: what two of them did is read, and what needs none is computed here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from crystalssl._ranks import Ranks, global_mean, global_rows, training_as
from crystalssl.encoders import ENCODERS
from crystalssl.exceptions import ProcessError
from crystalssl.pretext import TASKS
from crystalssl.training import BatchIterator, CrystalDataset, distributed
from crystalssl.training._fit import fit_network
from crystalssl.training._jobs import training_together
from crystalssl.training._net import PretrainingNet
from crystalssl.training._sharing import balanced

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

needs_gloo = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without Gloo")


@pytest.fixture(scope="module")
def environment():
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def two(tmp_path_factory, environment):
    """What two processes came to; see two_processes.py."""
    folder = tmp_path_factory.mktemp("two")
    script = str(Path(__file__).with_name("two_processes.py"))
    done = subprocess.run([*TORCHRUN, script, str(folder)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "result.json").read_text())


# ---------------------------------------------------------------------- two processes


@needs_gloo
def test_two_processes_compute_the_loss_and_gradients_of_the_whole_batch(two):
    differences = {(encoder, task): rest for encoder, task, *rest in two["agreement"]}
    expected = {
        (encoder, task)
        for encoder in ENCODERS
        for task, cls in TASKS.items()
        if not (cls.needs_edges and ENCODERS[encoder](8, 1).edge_dim is None)
    }
    assert differences.keys() >= {pair for pair in expected if not pair[0].startswith("test")}
    # In double precision only a wrong formula makes a difference. The third number is that of running statistics.
    assert {pair: rest for pair, rest in differences.items() if max(rest) > 1e-9} == {}


@needs_gloo
def test_processes_end_with_the_same_weights_which_follow_from_the_seed(two):
    first, second = two["once"]
    assert first == second
    assert two["again"] == two["once"]


@needs_gloo
def test_sigterm_to_one_process_saves_and_ends_all(two):
    assert two["left"] == two["smooth left"] == [{"status": 128 + signal.SIGTERM, "steps": 6}] * 2


@needs_gloo
def test_a_run_that_was_left_within_an_epoch_ends_with_the_bits_it_would_have_had(two):
    for resumed, whole in (("resumed", "once"), ("smooth resumed", "smooth")):
        for found, expected in zip(two[resumed], two[whole], strict=True):
            assert found["steps"] == expected["steps"] - 6
            assert found["weights"] == expected["weights"]
            assert found["losses"] == expected["losses"]


@needs_gloo
def test_the_number_of_processes_changes_nothing_but_rounding(two):
    """Where nothing is random but the order of the crystals."""
    expected = np.array(two["smooth"][0]["losses"])
    np.testing.assert_allclose(two["alone"]["losses"], expected, rtol=1e-4)
    np.testing.assert_allclose(two["alone, left by two"]["losses"], expected, rtol=1e-4)
    assert two["alone, left by two"]["steps"] == two["alone"]["steps"] - 6


@needs_gloo
def test_processes_that_were_given_different_things_say_so(two):
    for result in two["other seeds"]:
        assert "has other crystals, settings or another seed than process" in result["error"]


@needs_gloo
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes by ps")
def test_a_killed_process_ends_the_command_which_goes_on_alone(prototypes, tmp_path, environment):
    (tmp_path / "cifs").mkdir()
    for number, structure in enumerate([s for s in prototypes if len(s) <= 4][:24]):
        structure.to(filename=str(tmp_path / "cifs" / f"{number:03}.cif"))
    small = ["-p", "hidden_dim=8", "-p", "n_layers=1", "-p", "batch_size=8", "--method", "barlow", "--epochs", "40"]
    command = ["-m", "crystalssl", "pretrain", "cifs", *small, "-o", "weights"]
    options = {"cwd": tmp_path, "env": environment, "text": True}
    job = subprocess.Popen([*TORCHRUN, *command], stderr=subprocess.PIPE, stdout=subprocess.PIPE, **options)
    try:
        wait_for(tmp_path / "weights.checkpoint", job)
        workers = subprocess.check_output(["ps", "-o", "pid=", "--ppid", str(job.pid)], text=True).split()
        ranks = {int(rank_of(pid)): int(pid) for pid in workers}
        os.kill(ranks[1], signal.SIGKILL)
        output, errors = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode != 0
    assert output == ""
    cause = errors.partition("Root Cause")[2]
    assert "rank      : 1" in cause
    assert "SIGKILL" in cause
    assert not (tmp_path / "weights").exists()

    resumed = subprocess.run([sys.executable, *command], capture_output=True, **options)
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "weights" / "config.json").exists()
    assert not (tmp_path / "weights.checkpoint").exists()


def wait_for(path, job):
    end = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < end
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.02)


def rank_of(pid):
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return next(value.removeprefix("RANK=") for value in variables if value.startswith("RANK="))


# ---------------------------------------------------------------------- one process


def test_shares_are_balanced_and_complete(real_graphs):
    n_edges = real_graphs.n_edges_of(np.arange(64))
    shares = balanced(n_edges, 5)
    assert sorted(np.concatenate(shares)) == list(range(64))
    loads = [n_edges[share].sum() for share in shares]
    assert max(loads) - min(loads) <= n_edges.max()
    assert max(loads) < 1.1 * np.mean(loads)
    assert [len(share) for share in balanced(np.zeros(3, int), 3)] == [1, 1, 1]  # crystals without edges


@pytest.mark.parametrize("shuffle", [False, True])
def test_processes_share_every_batch_of_one(real_graphs, shuffle):
    def batches(share):
        generator = torch.Generator().manual_seed(0)
        return [*BatchIterator(CrystalDataset(real_graphs[:21]), 8, shuffle, generator, share=share)]

    whole, *parts = batches((0, 1)), batches((0, 2)), batches((1, 2))
    assert len(whole) == len(parts[0]) == len(parts[1]) == 3
    for (together, _), *shared in zip(whole, *parts, strict=True):
        volumes = [torch.linalg.det(batch.cell) for batch, _ in shared]
        torch.testing.assert_close(torch.cat(volumes).sort()[0], torch.linalg.det(together.cell).sort()[0])
        assert {batch._n_together for batch, _ in shared} == {together.num_graphs}


def test_a_rest_too_small_for_all_is_left_out_or_joined(real_graphs):
    dataset = CrystalDataset(real_graphs[:18])
    sizes = [batch.num_graphs for batch, _ in BatchIterator(dataset, 8, shuffle=True, share=(0, 3))]
    assert len(sizes) == 2
    validation = [batch._n_together for batch, _ in BatchIterator(dataset, 8, share=(0, 3))]
    assert validation == [8, 10]


def test_a_process_alone_changes_nothing():
    x = torch.rand(3, 2)
    assert global_rows(x) is x
    assert global_mean(x[0, 0], 5).data_ptr() == x.data_ptr()
    with distributed() as ranks, training_together("run") as training:
        assert (ranks.size, training.size) == (1, 1)


def test_more_processes_than_crystals(real_graphs):
    dataset = CrystalDataset(real_graphs[:12])
    settings = {
        "max_epochs": 1, "batch_size": 8, "learning_rate": 0.1, "weight_decay": 0.0, "gradient_clip": None,
        "device": "cpu", "precision": "highest", "seed": 0,
    }  # fmt: skip
    with (
        training_as(Ranks(0, 9)),
        pytest.raises(ProcessError, match=r"9 processes share .* batch_size has 8"),
    ):
        fit_network(PretrainingNet, torch.nn.Linear(1, 1), dataset, None, **settings)
    settings["batch_size"] = 128
    with training_as(Ranks(0, 16)), pytest.raises(ProcessError, match="the training set has 12"):
        fit_network(PretrainingNet, torch.nn.Linear(1, 1), dataset, None, **settings)


def test_more_processes_than_gpus(monkeypatch):
    for name, value in {"WORLD_SIZE": "3", "RANK": "2", "LOCAL_RANK": "2", "MASTER_ADDR": "here"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ProcessError, match="3 processes and 2 GPUs: give torchrun --nproc-per-node 2"), distributed():
        pass


def test_other_versions_are_named(monkeypatch):
    from crystalssl.training import _jobs

    monkeypatch.setattr(_jobs, "_job", Ranks(0, 2))

    def all_gather(values, mine):
        versions, run = mine
        values[:] = [mine, ({**versions, "crystalssl": "0.0.9"}, run)]

    monkeypatch.setattr(torch.distributed, "all_gather_object", all_gather)
    with pytest.raises(ProcessError, match=r"process 1 of 2 runs crystalssl 0\.0\.9, .*install the same"):
        training_together("run").__enter__()


def test_a_lost_process_is_reported(monkeypatch):
    def lost(*args, **kwargs):
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(torch.distributed, "all_reduce", lost)
    with training_as(Ranks(0, 2)), pytest.raises(ProcessError, match=r"in vain.*Connection closed by peer"):
        global_mean(torch.ones(()), 1)
