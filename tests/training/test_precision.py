"""The precision of matrix products is set for the length of a call."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest
import torch

from crystalssl import CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.encoders import CGCNN
from crystalssl.training import _precision
from crystalssl.training._precision import PRECISIONS, matmul_precision

BACKENDS = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul


def state():
    return [backend.fp32_precision for backend in BACKENDS]


@pytest.fixture(autouse=True)
def restored():
    before = state()
    yield
    for backend, value in zip(BACKENDS, before, strict=True):
        backend.fp32_precision = value


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_torch_sets_is_set_and_restored(precision):
    before = state()
    with matmul_precision(precision):
        inside = state()
    assert state() == before
    torch.set_float32_matmul_precision(precision)
    assert state() == inside


def test_restored_after_an_exception():
    before = state()
    with pytest.raises(KeyError), matmul_precision("medium"):
        raise KeyError
    assert state() == before


def test_what_a_user_set_for_one_backend_is_restored():
    BACKENDS[0].fp32_precision = "bf16"  # after which torch.get_float32_matmul_precision raises
    with matmul_precision("highest"):
        assert state() == ["ieee", "ieee"]
    assert BACKENDS[0].fp32_precision == "bf16"


# ------------------------------------------------------------------ threads

WAIT = 30  # seconds after which a test fails that would wait for ever


def in_threads(*functions):
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert not any(thread.is_alive() for thread in threads)


def test_threads_with_the_same_precision_are_inside_together():
    before, inside, outside = state(), threading.Barrier(2), threading.Barrier(2)
    seen = []

    def meet(waits_for_the_other):
        with matmul_precision("medium"):
            inside.wait(WAIT)
            seen.append(state())
            if waits_for_the_other:
                outside.wait(WAIT)
                seen.append(state())  # the first to come has left
        if not waits_for_the_other:
            outside.wait(WAIT)

    in_threads(lambda: meet(False), lambda: meet(True))
    assert seen == [["bf16", "tf32"]] * 3
    assert state() == before


def test_threads_with_other_precisions_wait_for_each_other():
    before, wrong = state(), []

    def work(precision):
        for _ in range(200):
            with matmul_precision(precision):
                wrong.extend([precision] * (state() != [*PRECISIONS[precision]]))

    in_threads(*(functools.partial(work, precision) for precision in [*PRECISIONS] * 2))
    assert wrong == []
    assert state() == before


def test_threads_that_ask_again_do_not_block_each_other():
    before, both, seen = state(), threading.Barrier(2), []

    def work(inner):
        with matmul_precision("highest"):
            both.wait(WAIT)  # each is inside and wants something else before it leaves
            with matmul_precision(inner), matmul_precision(inner):
                seen.append((inner, state()))
            seen.append(("highest", state()))

    in_threads(lambda: work("high"), lambda: work("medium"))
    assert sorted(seen) == sorted((name, [*PRECISIONS[name]]) for name in ("highest", "highest", "high", "medium"))
    assert state() == before


def test_ctrl_c_while_waiting_blocks_nobody(monkeypatch):
    before, inside, leave = state(), threading.Event(), threading.Event()

    def stay():
        with matmul_precision("medium"):
            inside.set()
            leave.wait(WAIT)

    thread = threading.Thread(target=stay, daemon=True)
    thread.start()
    inside.wait(WAIT)
    with monkeypatch.context() as patch:
        patch.setattr(_precision._turn, "wait_for", lambda ready: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt), matmul_precision("high"):
            pass
    seen = []

    def enter(precision):
        with matmul_precision(precision):
            seen.append(state())

    in_threads(lambda: enter("medium"))  # beside the one that stays
    leave.set()
    in_threads(lambda: enter("high"))
    assert seen == [["bf16", "tf32"], ["tf32", "tf32"]]
    assert state() == before


@pytest.mark.parametrize("precision", PRECISIONS)
def test_estimators_compute_with_their_precision_and_leave_torchs_alone(real_crystals, precision, monkeypatch):
    seen = set()
    forward = CGCNN.forward

    def spy(self, batch):
        seen.add((self.training, *state()))
        return forward(self, batch)

    monkeypatch.setattr(CGCNN, "forward", spy)
    with matmul_precision(precision):
        expected = state()
    X, y = real_crystals[0][:8], np.asarray(real_crystals[1][:8])
    before = state()
    params = {"max_epochs": 1, "batch_size": 4, "random_state": 0, "precision": precision}
    embedder = PretrainedCrystalEmbedder("barlow", weights=None, **params).fit(X)
    embedder.transform(X)
    CrystalSSLRegressor(None, encoder="cgcnn", **params).fit(X, y).predict(X)
    assert seen == {(training, *expected) for training in (True, False)}
    assert state() == before


def test_default_does_not_depend_on_what_torch_is_set_to(real_crystals):
    embedder = PretrainedCrystalEmbedder("barlow").fit([])
    expected = embedder.transform(real_crystals[0][:4])
    torch.set_float32_matmul_precision("medium")
    assert np.array_equal(embedder.transform(real_crystals[0][:4]), expected)
    torch.set_float32_matmul_precision("highest")


def test_unknown_precision_is_an_error():
    with pytest.raises(ValueError, match="precision"):
        PretrainedCrystalEmbedder(precision="low").fit([])
