from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from crystalssl.encoders import CGCNN
from crystalssl.estimators._network import PropertyNetwork, infer
from crystalssl.training import CrystalDataset, collate


@pytest.fixture
def network(graphs):
    encoder = CGCNN(hidden_dim=64, n_layers=1, **CGCNN.pooling)
    return lambda dropout: PropertyNetwork(encoder, 2, 256, dropout, freeze_encoder=False)


@pytest.mark.parametrize("dropout", [0.0, 0.25, 0.75])
def test_dropout_stands_before_both_layers_of_the_head(network, graphs, dropout):
    module = network(dropout).train()
    shares = []
    layers = [layer for layer in module.head if isinstance(layer, nn.Linear)]
    assert len(layers) == 2
    for layer in layers:
        layer.register_forward_pre_hook(lambda _, inputs: shares.append(float((inputs[0] == 0).float().mean())))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module(collate(graphs, np.arange(len(graphs))))
    np.testing.assert_allclose(shares, dropout, atol=0.05)


def test_infer_goes_over_the_rows_of_a_data_set(network, graphs):
    module = network(0.5)
    everything = infer(module, CrystalDataset(graphs), "cpu", "highest")
    assert everything.shape == (len(graphs), 2)
    rows = np.array([7, 3, 20])
    some = infer(module, CrystalDataset(graphs, indices=rows), "cpu", "highest")
    np.testing.assert_allclose(some, everything[rows], rtol=1e-5)
    vectors = infer(module.encoder, CrystalDataset(graphs), "cpu", "highest")
    assert vectors.shape == (len(graphs), module.encoder.graph_dim)


def test_infer_elsewhere_leaves_the_module_where_it_is(network, graphs, monkeypatch):
    """Other threads may be predicting with it."""
    module = network(0.0)
    expected = infer(module, CrystalDataset(graphs), "cpu", "highest")
    moved = []
    to = nn.Module.to
    monkeypatch.setattr(nn.Module, "to", lambda self, *args: moved.append(self) or to(self, *args))
    assert np.array_equal(infer(module, CrystalDataset(graphs), "cpu:0", "highest"), expected)
    [other] = moved
    assert other is not module
    assert not {id(p) for p in other.parameters()} & {id(p) for p in module.parameters()}
