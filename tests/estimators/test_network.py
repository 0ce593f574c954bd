from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from crystalssl import CrystalSSLRegressor
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
    np.testing.assert_allclose(some, everything[rows], rtol=1e-5, atol=1e-6)  # other batches, other rounding
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


@pytest.mark.parametrize("standardize", [False, True])
def test_training_starts_from_a_regression_on_what_the_encoder_predicts_itself(graphs, standardize):
    """A target that follows one of the properties is found at once, and the one that is not known is left out."""
    torch.manual_seed(0)
    encoder = CGCNN(hidden_dim=16, n_layers=1, n_properties=3, **CGCNN.pooling)
    network = PropertyNetwork(encoder, 2, 32, 0.0, freeze_encoder=False)
    vectors = infer(encoder, CrystalDataset(graphs), "cpu", "highest")
    assert vectors.shape == (len(graphs), encoder.graph_dim + 3)
    properties = vectors[:, -3:]
    y = np.stack([2 * properties[:, 1] - 5, 0.1 * np.exp(properties[:, 2]) + 1], axis=1)
    y = (y / np.abs(y).max(axis=0)).astype(np.float32)
    known = y.copy()
    known[::3, 1] = np.nan
    if standardize:
        network.standardize(vectors)
    network.start_from_properties(vectors, known, np.ones(len(y), np.float32), np.zeros(2, bool))
    predicted = infer(network, CrystalDataset(graphs), "cpu", "highest")
    assert (np.abs(predicted - y) < 0.05 * y.std(axis=0)).all()


def test_weights_count_where_training_starts(graphs):
    encoder = CGCNN(hidden_dim=16, n_layers=1, n_properties=1, **CGCNN.pooling)
    network = PropertyNetwork(encoder, 1, 32, 0.0, freeze_encoder=False)
    vectors = infer(encoder, CrystalDataset(graphs), "cpu", "highest")
    y = (np.arange(len(graphs))[:, None] % 2).astype(np.float32)
    weight = np.where(y[:, 0], 1e4, 1).astype(np.float32)
    network.start_from_properties(vectors, y, weight, np.zeros(1, bool))
    assert infer(network, CrystalDataset(graphs), "cpu", "highest").mean() > 0.9


def test_logarithms_of_targets_see_no_exponentials(graphs):
    """Not at the start, nor when trained: beyond the training crystals they would be exponentials of exponentials."""
    encoder = CGCNN(hidden_dim=16, n_layers=1, n_properties=1, **CGCNN.pooling)
    network = PropertyNetwork(encoder, 2, 32, 0.0, freeze_encoder=False)
    vectors = infer(encoder, CrystalDataset(graphs), "cpu", "highest")
    y = np.exp(vectors[:, [-1, -1]])
    network.start_from_properties(vectors, y, np.ones(len(y), np.float32), np.array([False, True]))
    network.straight.weight.data += 1.0  # as training may
    properties = torch.tensor([[0.0], [1.0], [2.0]])
    batch = collate(graphs, np.arange(3))
    seen = torch.cat([torch.zeros(3, encoder.graph_dim), properties], dim=1)
    plain, logged = (network.predict_from(seen, batch) - network.head(seen)).detach().T
    assert abs(plain[2] - 2 * plain[1] + plain[0]) > 1
    assert logged[2] - logged[1] == pytest.approx((logged[1] - logged[0]).item(), rel=1e-4)


@pytest.mark.parametrize("transform", ["log", None])
def test_a_regressor_says_which_targets_are_logarithms(graphs, transform):
    y = np.stack([np.arange(1.0, 41.0), np.arange(41.0, 81.0)], axis=1)
    model = CrystalSSLRegressor(max_epochs=1, target_transform=transform, random_state=0).fit(graphs, y)
    module = model.net_.module_
    n_properties = module.encoder.n_properties
    assert n_properties > 0
    assert (module.straight_mask[:, :n_properties] == 1).all()
    assert (module.straight_mask[:, n_properties:] == (transform is None)).all()


def test_before_it_is_known_where_to_start_properties_say_nothing(graphs):
    """So is it for classes: large random steps along exponentials would be a bad start."""
    encoder = CGCNN(hidden_dim=16, n_layers=1, n_properties=3, **CGCNN.pooling)
    network = PropertyNetwork(encoder, 2, 32, 0.0, freeze_encoder=False)
    batch = collate(graphs, np.arange(4))
    vectors = encoder.eval()(batch).vector
    assert torch.equal(network.predict_from(vectors, batch), network.head(vectors))
    network.straight.bias.data.fill_(1.0)
    assert torch.equal(network.predict_from(vectors, batch), network.head(vectors) + 1)


def test_without_properties_training_starts_as_ever(network, graphs):
    module = network(0.0)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    vectors = infer(module.encoder, CrystalDataset(graphs), "cpu", "highest")
    ones = np.ones((len(graphs), 2), np.float32)
    module.start_from_properties(vectors, ones, ones[:, 0], np.zeros(2, bool))
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
