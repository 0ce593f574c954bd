"""The precision of matrix products is set for the length of a call."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crystalssl import CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.encoders import CGCNN
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
