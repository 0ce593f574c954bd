"""The head sees what the cell says of a crystal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor
from crystalssl.graphs import CELL_FEATURES, cell_features

QUICK = {"pretrain": None, "encoder": "cgcnn", "max_epochs": 2, "random_state": 0}


@pytest.fixture(scope="module")
def graphs(prototypes):
    return CrystalGraphTransformer(encoder="cgcnn").transform(prototypes[:40])


def test_features_are_standardised_on_the_crystals_trained_on(graphs):
    weight = np.ones(len(graphs))
    weight[30:] = 0
    model = CrystalSSLRegressor(**QUICK).fit(graphs, np.arange(40.0), sample_weight=weight)
    trained = cell_features(graphs[:30])
    torch.testing.assert_close(model.net_.module_.cell.center, torch.from_numpy(trained.mean(axis=0)))


def test_without_them(graphs):
    y = np.arange(40.0)
    model = CrystalSSLRegressor(**QUICK, cell_features=False).fit(graphs, y)
    module = model.net_.module_
    assert not hasattr(module, "cell")
    first = next(layer for layer in module.head if isinstance(layer, torch.nn.Linear))
    assert first.in_features == module.encoder.graph_dim
    both = CrystalSSLRegressor(**QUICK).fit(graphs, y)
    first = next(layer for layer in both.net_.module_.head if isinstance(layer, torch.nn.Linear))
    assert first.in_features == module.encoder.graph_dim + len(CELL_FEATURES)


def test_a_network_learns_what_only_the_cell_shows():
    # Isolated atoms: without neighbours and without another element, only the volume tells them apart.
    sides = np.linspace(20, 40, 60)
    crystals = [Structure(Lattice.cubic(side), ["He"], [[0, 0, 0]]) for side in sides]
    graphs = CrystalGraphTransformer(encoder="gatedgcn").transform(crystals)
    y = cell_features(graphs)[:, 0].astype(float)
    errors = {}
    for seen in (True, False):
        model = CrystalSSLRegressor(pretrain=None, cell_features=seen, max_epochs=60, batch_size=8, random_state=0)
        errors[seen] = abs(model.fit(graphs, y).predict(graphs) - y).mean()
    assert errors[True] < 0.2 * errors[False]


def test_skorch_net_predicts_the_same(graphs):
    model = CrystalSSLRegressor(**QUICK, target_transform=None).fit(graphs, np.arange(40.0))
    scaled = model.net_.predict(graphs)[:, 0]
    np.testing.assert_allclose(scaled * model.target_.scale_ + model.target_.mean_, model.predict(graphs), rtol=1e-5)


def test_going_on_with_other_features_is_refused(graphs):
    model = CrystalSSLRegressor(**QUICK, warm_start=True).fit(graphs, np.arange(40.0))
    with pytest.raises(ValueError, match="cell_features has changed since the last fit"):
        model.set_params(cell_features=False).fit(graphs, np.arange(40.0))
