"""What an encoder predicts itself, and stays with it."""

from __future__ import annotations

import numpy as np
import pytest

from crystalssl import CrystalGraphTransformer, PretrainedCrystalEmbedder
from crystalssl.pretext import resolve_task


@pytest.fixture(scope="module")
def graphs(prototypes):
    return CrystalGraphTransformer().transform(prototypes[:32])


@pytest.fixture(scope="module")
def predicting(graphs, tmp_path_factory):
    """Weights that predict two properties and the volume."""
    folder = tmp_path_factory.mktemp("weights") / "predicting"
    labels = np.random.default_rng(0).normal(size=(len(graphs), 2))
    embedder_of(weights=None).fit(graphs, labels).save_pretrained(folder)
    return folder


def embedder_of(method="joint", **params):
    if params["weights"] is None:
        params |= {"hidden_dim": 8, "n_layers": 1}
    return PretrainedCrystalEmbedder(method, max_epochs=1, batch_size=8, random_state=0, **params)


@pytest.mark.parametrize("method", ["joint", "properties", "mask"])
def test_predictions_of_weights_stay_where_training_goes_on_without_labels(graphs, predicting, method):
    before = embedder_of(weights=predicting).fit([])
    after = embedder_of(method, weights=predicting, continue_training=True)
    after.set_params(learning_rate=1e-30, weight_decay=0).fit(graphs)
    assert before.encoder_.n_properties == after.encoder_.n_properties == 3
    np.testing.assert_allclose(after.transform(graphs), before.transform(graphs), rtol=1e-5, atol=1e-5)


def test_the_volume_alone_is_learnt_on_without_labels(graphs, predicting):
    before, after = (
        embedder_of("properties", weights=predicting, continue_training=True).set_params(learning_rate=rate).fit(graphs)
        for rate in (1e-30, 1e-2)
    )
    last = "property_head.2.bias"
    moved = (after.encoder_.state_dict()[last] - before.encoder_.state_dict()[last]).abs()
    assert moved[:2].max() < 1e-6 < moved[2]


def test_other_labels_replace_the_predictions_with_a_warning(graphs, predicting):
    labels = np.random.default_rng(1).normal(size=(len(graphs), 3))
    with pytest.warns(UserWarning, match="predict 3 properties, .* and the labels have 3 columns: .* learnt anew"):
        embedder = embedder_of(weights=predicting, continue_training=True).fit(graphs, labels)
    assert embedder.encoder_.n_properties == 4


@pytest.mark.parametrize("tasks", [{"byol": 1.0, "joint": 1.0}, {"properties": 1.0, "byol": 1.0}])
def test_byol_goes_with_parts_that_give_the_encoder_weights(graphs, tasks):
    embedder = embedder_of("composite", weights=None, encoder="gatedgcn", task_params={"tasks": tasks}).fit(graphs)
    assert len(embedder.history_) == 1


def test_nothing_is_learnt_where_nothing_is_masked():
    with pytest.raises(ValueError, match="atom_masking must be more than 0"):
        resolve_task("mask", atom_masking=0.0)


def test_lists_of_forces_are_told_where_they_belong(graphs):
    ragged = [[[0.0, 0.0, 0.1]], [[0.0, 0.0, 0.1], [0.1, 0.0, 0.0]]]
    with pytest.raises(ValueError, match='takes forces and virials too, as the columns "forces" and "virial"'):
        embedder_of(weights=None).fit(graphs[:2], ragged)


def test_reading_weights_is_no_training(predicting):
    with pytest.raises(ValueError, match="from_pretrained trains nothing; go on with"):
        PretrainedCrystalEmbedder.from_pretrained(predicting, continue_training=True)
