from __future__ import annotations

import os
import secrets
import signal
import stat
import threading

import numpy as np
import pytest
import torch

from crystalssl import PretrainedCrystalEmbedder
from crystalssl.exceptions import WeightsError
from crystalssl.training._callbacks import Checkpoint, FinalWeights, WarmupCosine
from crystalssl.training._net import CrystalNet, PretrainingNet, train
from crystalssl.training._preemption import Terminated

from .pretraining import pretrain


@pytest.fixture
def interrupt(monkeypatch):
    """A function that makes the n-th call of a method of the net raise, and counts calls from then on."""

    def prepare(at, step="train_step", error=KeyboardInterrupt):
        original = getattr(CrystalNet, step)
        calls = []

        def counted(net, *args, **kwargs):
            calls.append(net)
            if len(calls) == at:
                raise error
            return original(net, *args, **kwargs)

        monkeypatch.setattr(CrystalNet, step, counted)
        return calls

    return prepare


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert np.asarray(found[name]).tobytes() == np.asarray(array).tobytes(), name


def assert_differ(found, expected):
    assert any(not np.array_equal(found[name], expected[name]) for name in expected)


def losses(history):
    return [{key: value for key, value in epoch.items() if key != "dur"} for epoch in history]


# ------------------------------------------------------------------ determinism


@pytest.mark.parametrize("method", ["barlow", "simsiam"])
def test_same_seed_same_bits_whatever_the_global_generator(real_graphs, tiny_settings, method):
    settings = {**tiny_settings, "method": method}
    runs = []
    for before in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(before)
            runs.append(pretrain(real_graphs[:14], None, **settings))
    assert_same_bits(runs[0][0], runs[1][0])
    assert losses(runs[0][1]) == losses(runs[1][1])
    other, _ = pretrain(real_graphs[:14], None, **{**settings, "seed": 6})
    assert_differ(other, runs[0][0])


# ------------------------------------------------------------------ resuming

# The step that raises, how often it is called per epoch, and at which call it raises.
INTERRUPTIONS = {
    "before anything": ("train_step", 2, 1),
    "first epoch": ("train_step", 2, 2),
    "start of the second epoch": ("train_step", 2, 3),
    "middle of the third epoch": ("train_step", 2, 6),
    "validation of the third epoch": ("validation_step", 1, 3),
    "last step": ("train_step", 2, 8),
}


@pytest.mark.parametrize("method", ["barlow", "simsiam"])
@pytest.mark.parametrize(("step", "per_epoch", "at"), INTERRUPTIONS.values(), ids=INTERRUPTIONS)
def test_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(
    real_graphs, tiny_settings, tmp_path, interrupt, method, step, per_epoch, at
):
    settings = {**tiny_settings, "method": method}
    expected, history = pretrain(real_graphs[:13], None, **settings)  # 10 to train on, 3 held out
    calls = interrupt(at, step)
    path = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        pretrain(real_graphs[:13], None, **settings, checkpoint=str(path))
    n_before = len(calls)
    state, resumed = pretrain(real_graphs[:13], None, **settings, checkpoint=str(path))
    assert_same_bits(state, expected)
    assert losses(resumed) == losses(history)
    # It went on from the last whole epoch and did not begin again.
    n_epochs_done = (at - 1) // per_epoch
    assert len(calls) - n_before == (4 - n_epochs_done) * per_epoch


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize("validation", [0.2, 0])
@pytest.mark.parametrize("at", [1, 3, 4])  # of two steps per epoch, the first, one in between, and the last of an epoch
def test_sigterm_saves_within_the_epoch_and_ends(real_graphs, tiny_settings, tmp_path, monkeypatch, at, validation):
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread")
    settings = {**tiny_settings, "max_epochs": 3, "validation_fraction": validation}
    expected, history = pretrain(real_graphs[:10], None, **settings)
    original, steps = CrystalNet.train_step, []

    def counted(net, *args, **kwargs):
        steps.append(net)
        if len(steps) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(net, *args, **kwargs)

    monkeypatch.setattr(CrystalNet, "train_step", counted)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as ended:
        pretrain(real_graphs[:10], None, **settings, checkpoint=str(tmp_path / "run"))
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(steps) == at
    state, resumed = pretrain(real_graphs[:10], None, **settings, checkpoint=str(tmp_path / "run"))
    assert len(steps) == 6
    assert_same_bits(state, expected)
    assert losses(resumed) == losses(history)


def test_without_validation_the_last_weights_are_resumed(real_graphs, tiny_settings, tmp_path, interrupt):
    settings = {**tiny_settings, "validation_fraction": 0}
    expected, _ = pretrain(real_graphs[:10], None, **settings)
    interrupt(6)
    with pytest.raises(KeyboardInterrupt):
        pretrain(real_graphs[:10], None, **settings, checkpoint=str(tmp_path / "run"))
    state, _ = pretrain(real_graphs[:10], None, **settings, checkpoint=str(tmp_path / "run"))
    assert_same_bits(state, expected)


def test_a_run_interrupted_in_every_epoch_ends_with_the_same_bits(real_graphs, tiny_settings, tmp_path, monkeypatch):
    settings = {**tiny_settings, "max_epochs": 5}
    expected, history = pretrain(real_graphs[:13], None, **settings)
    original = PretrainingNet.on_epoch_begin
    begun = []

    def interrupting(net, *args, **kwargs):
        begun.append(len(net.history) + 1)
        if begun.count(begun[-1]) == 1:
            raise RuntimeError("power cut")
        return original(net, *args, **kwargs)

    monkeypatch.setattr(PretrainingNet, "on_epoch_begin", interrupting)
    for _ in range(5):
        with pytest.raises(RuntimeError, match="power cut"):
            pretrain(real_graphs[:13], None, **settings, checkpoint=str(tmp_path / "run"))
    state, resumed = pretrain(real_graphs[:13], None, **settings, checkpoint=str(tmp_path / "run"))
    assert begun == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert_same_bits(state, expected)
    assert losses(resumed) == losses(history)


def test_finished_run_is_not_trained_again(real_graphs, tiny_settings, tmp_path, interrupt):
    path = tmp_path / "folder" / "run.safetensors"
    expected, _ = pretrain(real_graphs[:13], None, **tiny_settings, checkpoint=str(path))
    content = path.read_bytes()
    calls = interrupt(1)
    state, _ = pretrain(real_graphs[:13], None, **tiny_settings, checkpoint=str(path))
    assert calls == []
    assert_same_bits(state, expected)
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["run.safetensors"]


@pytest.mark.parametrize("at", [4, 8, 11])
def test_average_and_best_weights_are_resumed(make_net, dataset, valid, tmp_path, interrupt, at):
    def run(*checkpoint):
        callbacks = [("schedule", WarmupCosine(3, 4)), ("final_weights", FinalWeights(0.9, "valid_loss")), *checkpoint]
        net = make_net(callbacks, valid=valid)
        train(net, dataset)
        return net

    expected = run()
    interrupt(at)
    with pytest.raises(KeyboardInterrupt):
        run(("checkpoint", Checkpoint(tmp_path / "run", "x")))
    resumed = run(("checkpoint", Checkpoint(tmp_path / "run", "x")))
    assert_same_bits(resumed.module_.state_dict(), expected.module_.state_dict())
    assert resumed.history[:, "valid_loss"] == expected.history[:, "valid_loss"]
    best = [dict(net.callbacks_)["final_weights"].best_epoch_ for net in (resumed, expected)]
    assert best[0] == best[1]


def test_best_weights_from_before_the_interruption_are_restored(make_net, dataset, valid, tmp_path, interrupt):
    def run(path):
        # After the first epoch the rate is so high that the loss only grows.
        rates = WarmupCosine(3, 4)
        rates.factor = lambda step: 1.0 if step < 3 else 100.0
        callbacks = [("schedule", rates), ("final_weights", FinalWeights(monitor="valid_loss"))]
        net = make_net([*callbacks, ("checkpoint", Checkpoint(path, "x"))], valid=valid)
        train(net, dataset)
        return net

    expected = run(tmp_path / "whole")
    best = dict(expected.callbacks_)["final_weights"].best_epoch_
    assert best < 4
    interrupt(3 * best + 2)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts")
    assert_same_bits(run(tmp_path / "parts").module_.state_dict(), expected.module_.state_dict())


def test_failure_while_saving_leaves_the_last_checkpoint(real_graphs, tiny_settings, tmp_path, monkeypatch):
    path = tmp_path / "run"
    replace = os.replace
    done = []

    def failing(source, target):
        if len(done) == 2:
            raise OSError("disk full")
        replace(source, target)
        done.append(path.read_bytes())

    expected, _ = pretrain(real_graphs[:13], None, **tiny_settings)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with pytest.raises(WeightsError, match=r"could not be written .disk full.; that of epoch 2 is left"):
            pretrain(real_graphs[:13], None, **tiny_settings, checkpoint=str(path))
    assert [file.name for file in tmp_path.iterdir()] == ["run"]
    assert path.read_bytes() == done[1]
    state, _ = pretrain(real_graphs[:13], None, **tiny_settings, checkpoint=str(path))
    assert_same_bits(state, expected)


# ------------------------------------------------------------------ refusals

OTHER = {
    "method": {"method": "simsiam"},
    "width": {"encoder_params": {"hidden_dim": 7, "n_layers": 1, "n_gaussians": 8, "readout": "mean"}},
    "task": {"task_params": {"projection_dim": 8, "perturbation": 0.06}},
    "epochs": {"max_epochs": 5},
    "batch": {"batch_size": 6},
    "rate": {"learning_rate": 2e-2},
    "decay": {"weight_decay": 0.0},
    "clip": {"gradient_clip": None},
    "validation": {"validation_fraction": 0.3},
    "seed": {"seed": 6},
    "precision": {"precision": "medium"},
}


@pytest.fixture
def checkpoint(real_graphs, tiny_settings, tmp_path):
    """The checkpoint of a finished run on 13 crystals."""
    path = tmp_path / "run.safetensors"
    pretrain(real_graphs[:13], None, **tiny_settings, checkpoint=str(path))
    return path


def test_checkpoint_of_other_settings_is_refused(real_graphs, tiny_settings, checkpoint):
    before = checkpoint.read_bytes()
    for name, change in OTHER.items():
        with pytest.raises(WeightsError, match="another corpus or other settings") as caught:
            pretrain(real_graphs[:13], None, **{**tiny_settings, **change}, checkpoint=str(checkpoint))
        assert str(checkpoint) in str(caught.value), name
    for corpus in (real_graphs[:12], real_graphs[1:14], real_graphs[np.arange(13)[::-1]]):
        with pytest.raises(WeightsError, match="on another corpus: the crystals have changed"):
            pretrain(corpus, None, **tiny_settings, checkpoint=str(checkpoint))
    assert checkpoint.read_bytes() == before


def test_checkpoint_of_the_same_corpus_in_other_memory_is_accepted(real_graphs, tiny_settings, checkpoint, interrupt):
    calls = interrupt(1)
    pretrain(real_graphs[np.arange(13)], None, **tiny_settings, checkpoint=str(checkpoint))
    assert calls == []


@pytest.mark.parametrize("keep", [0, 4, 0.01, 0.5, 0.999])
def test_truncated_checkpoint_is_refused_and_left_alone(real_graphs, tiny_settings, checkpoint, keep):
    content = checkpoint.read_bytes()
    content = content[: keep if isinstance(keep, int) else int(keep * len(content))]
    checkpoint.write_bytes(content)
    with pytest.raises(WeightsError, match=r"is not a checkpoint .* delete it to start anew") as caught:
        pretrain(real_graphs[:13], None, **tiny_settings, checkpoint=str(checkpoint))
    assert str(checkpoint) in str(caught.value)
    assert checkpoint.read_bytes() == content


@pytest.mark.parametrize("where", [0.05, 0.3, 0.6, 0.999])
def test_checkpoint_with_a_wrong_bit_is_refused_and_left_alone(real_graphs, tiny_settings, checkpoint, where):
    content = bytearray(checkpoint.read_bytes())
    content[int(where * len(content))] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(WeightsError, match=r"is not a checkpoint .* delete it to start anew"):
        pretrain(real_graphs[:13], None, **tiny_settings, checkpoint=str(checkpoint))
    assert checkpoint.read_bytes() == content


def test_other_files_are_no_checkpoints(real_graphs, tmp_path):
    embedder = PretrainedCrystalEmbedder(weights=None, max_epochs=1, hidden_dim=4, n_layers=1, random_state=0)
    embedder.fit(real_graphs[:6]).save_pretrained(tmp_path / "weights")
    text = tmp_path / "notes.txt"
    text.write_text("not weights, but somebody's notes")
    for path in (tmp_path / "weights" / "model.safetensors", text):
        content = path.read_bytes()
        with pytest.raises(WeightsError, match="is not a checkpoint"):
            embedder.set_params(checkpoint=path).fit(real_graphs[:6])
        assert path.read_bytes() == content


# ------------------------------------------------------------------ what else may be in its place


@pytest.fixture
def run(real_graphs, tiny_settings):
    """A pretraining of one epoch with a checkpoint at some path."""
    return lambda path: pretrain(real_graphs[:13], None, **{**tiny_settings, "max_epochs": 1}, checkpoint=str(path))


@pytest.mark.parametrize("kind", ["sparse file", "FIFO", "folder", "device", "link to a FIFO"])
def test_what_is_no_file_is_refused_and_left_alone(run, tmp_path, hostile, kind):
    path = tmp_path / "run"
    path.touch()
    hostile(path, kind)
    before = path.lstat()
    reason = "3,221,225,472 bytes, more than" if kind == "sparse file" else "a folder|a FIFO|a device"
    with pytest.raises(WeightsError, match=rf"run cannot be read \(.*{reason}.*\); name another file"):
        run(path)
    after = path.lstat()
    assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, before.st_size)
    assert after.st_mtime_ns == before.st_mtime_ns  # the time of access is that of this test's own look at a link


def test_header_that_announces_too_much_is_refused(run, tmp_path):
    (tmp_path / "run").write_bytes((2**40).to_bytes(8, "little") + b"{" * 100)
    with pytest.raises(WeightsError, match=r"run is not a checkpoint .its header would have 1,099,511,627,776 bytes"):
        run(tmp_path / "run")


def test_links_are_replaced_and_not_followed(run, tmp_path, monkeypatch):
    """Another user may have put links where the file will be, or where it is written first."""
    (tmp_path / "thesis").write_text("precious")
    (tmp_path / "run").symlink_to("nothing")
    monkeypatch.setattr(secrets, "token_hex", lambda n: "guessed")
    (tmp_path / ".run-guessed").symlink_to("thesis")
    with pytest.raises(WeightsError, match="could not be written"):
        run(tmp_path / "run")
    assert (tmp_path / "thesis").read_text() == "precious"
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "run").symlink_to("../absent")
    run(tmp_path / "new" / "run")
    assert not (tmp_path / "new" / "run").is_symlink()
    assert not (tmp_path / "absent").exists()
    assert (tmp_path / "new" / "run").stat().st_size > 1000


def test_permissions_are_those_that_the_umask_leaves(run, tmp_path, umask):
    umask(0o027)
    run(tmp_path / "folder" / "run")
    assert stat.S_IMODE((tmp_path / "folder" / "run").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


@pytest.mark.parametrize("place", ["n" * 300, "file/run", "null\0byte"])
def test_place_that_cannot_be_written_to_is_named(run, tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match=r"checkpoint .* (could not be written|cannot be read)") as caught:
        run(tmp_path / place)
    assert str(tmp_path / place) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_file_of_another_user_is_named(run, tmp_path, forbidden):
    run(tmp_path / "run")
    forbidden(tmp_path / "run")
    with pytest.raises(WeightsError, match=r"run cannot be read \(.*Permission denied.*\); name another file"):
        run(tmp_path / "run")


def test_long_names_are_not_made_too_long(run, tmp_path):
    run(tmp_path / ("n" * 255))
    assert [path.name for path in tmp_path.iterdir()] == ["n" * 255]
