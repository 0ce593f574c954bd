from __future__ import annotations

import pytest
import torch
from sklearn.frozen import FrozenEstimator

from crystalssl import PretrainedCrystalEmbedder
from crystalssl.encoders import CGCNN, GatedGCN
from crystalssl.estimators._source import EncoderSource
from crystalssl.training import load_encoder


def test_random_weights(graphs):
    source = EncoderSource.of(None, None, graphs)
    assert (source.name, source.recipe, source.elements) == ("gatedgcn", GatedGCN.recipe, set())
    assert not source.is_gentle
    encoder = source.build()
    assert {name: encoder.config[name] for name in GatedGCN.pooling} == GatedGCN.pooling
    assert source.build(readout="mean", pooled_layers="last").config["readout"] == "mean"
    assert EncoderSource.of(None, "cgcnn", graphs).encoder_class is CGCNN


def test_weights_by_name_folder_and_embedder_are_the_same(tiny_weights, graphs):
    expected, config = load_encoder(tiny_weights)
    embedder = PretrainedCrystalEmbedder(weights=tiny_weights).fit([])
    for pretrain in (tiny_weights, str(tiny_weights), FrozenEstimator(embedder), embedder):
        source = EncoderSource.of(pretrain, None, graphs)
        assert (source.name, source.recipe) == ("cgcnn", CGCNN.recipe)
        assert source.elements == set(config["elements"])
        for name, tensor in source.build().state_dict().items():
            assert torch.equal(tensor, expected.state_dict()[name]), name
    assert EncoderSource.of("joint", None, graphs).is_gentle


def test_every_build_is_a_copy(tiny_weights, graphs):
    source = EncoderSource.of(tiny_weights, None, graphs)
    first, second = source.build(), source.build()
    with torch.no_grad():
        first.embedding.weight.zero_()
    assert second.embedding.weight.abs().sum() > 0
    assert source.build().embedding.weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (CGCNN(hidden_dim=9), "hidden_dim=9 has no effect: the pretrained 'cgcnn' has hidden_dim=8"),
        (GatedGCN, "are of the encoder 'cgcnn', not 'gatedgcn'"),
    ],
    ids=["width", "class"],
)
def test_another_encoder_than_that_of_the_weights_is_refused(tiny_weights, graphs, encoder, message):
    with pytest.raises(ValueError, match=message):
        EncoderSource.of(tiny_weights, encoder, graphs)


@pytest.mark.parametrize("encoder", ["cgcnn", CGCNN], ids=["name", "class"])
def test_the_encoder_of_the_weights_may_be_named(tiny_weights, graphs, encoder):
    assert EncoderSource.of(tiny_weights, encoder, graphs).name == "cgcnn"


@pytest.mark.parametrize("pretrain", ["weights", None])
@pytest.mark.parametrize("ensemble_size", [1, 3])
def test_an_encoder_is_built_once_per_network(
    tiny_regressor, tiny_weights, graphs, y, monkeypatch, pretrain, ensemble_size
):
    built = []
    original = CGCNN.__init__

    def counted(encoder, *args, **kwargs):
        built.append(encoder)
        original(encoder, *args, **kwargs)

    monkeypatch.setattr(CGCNN, "__init__", counted)
    pretrain = tiny_weights if pretrain else None
    tiny_regressor(pretrain=pretrain, encoder="cgcnn", ensemble_size=ensemble_size, max_epochs=1).fit(graphs, y)
    assert len(built) == ensemble_size
