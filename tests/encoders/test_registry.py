"""What every encoder promises, whichever it is."""

from __future__ import annotations

import json

import pytest
import torch

from crystalssl.encoders import ENCODERS, POOLED_LAYERS, READOUTS, Encoder
from crystalssl.graphs import RECIPES

encoders = pytest.mark.parametrize("name", ENCODERS)


def build(name, randomise, **params):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomise(ENCODERS[name](**params))


def outputs(encoded):
    return [tensor for tensor in encoded if tensor is not None]


@encoders
def test_name_and_recipe(name):
    assert issubclass(ENCODERS[name], Encoder)
    assert ENCODERS[name].name == name
    assert ENCODERS[name].recipe == RECIPES[name]


def test_every_recipe_has_its_encoder():
    assert set(ENCODERS) == set(RECIPES)


@encoders
def test_outputs_have_the_declared_shapes(name, prototypes, make_batch, randomise):
    encoder = build(name, randomise)
    batch = make_batch(prototypes[:6], name)
    encoded = encoder(batch)
    assert encoded.node.shape == (len(batch.z), encoder.node_dim)
    assert encoded.graph.shape == (6, encoder.graph_dim)
    if encoder.edge_dim is None:
        assert encoded.edge is None
    else:
        assert encoded.edge.shape == (len(batch.distance), encoder.edge_dim)
    assert all(tensor.dtype == torch.float32 and torch.isfinite(tensor).all() for tensor in outputs(encoded))


@encoders
def test_config_and_weights_rebuild_the_encoder(name, prototypes, make_batch, randomise):
    encoder = build(name, randomise).eval()
    rebuilt = ENCODERS[name](**json.loads(json.dumps(encoder.config)))
    rebuilt.load_state_dict(encoder.state_dict(), strict=True)
    assert rebuilt.config == encoder.config
    batch = make_batch(prototypes[:4], name)
    for a, b in zip(outputs(encoder(batch)), outputs(rebuilt.eval()(batch)), strict=True):
        assert torch.equal(a, b)


@encoders
@pytest.mark.parametrize("pooled_layers", POOLED_LAYERS)
@pytest.mark.parametrize("readout", READOUTS)
def test_readouts_and_layers_can_be_chosen(name, readout, pooled_layers, prototypes, make_batch, randomise):
    encoder = build(name, randomise, readout=readout, pooled_layers=pooled_layers).eval()
    assert (encoder.config["readout"], encoder.config["pooled_layers"]) == (readout, pooled_layers)
    batch = make_batch(prototypes[:6], name)
    encoded = encoder(batch)
    assert encoded.graph.shape == (6, encoder.graph_dim)
    if readout.startswith("mean"):  # the others are in test_readout.py
        rows = [encoded.node[batch.batch == i] for i in range(6)]
        pooled = {"mean": lambda x: x.mean(dim=0), "max": lambda x: x.amax(dim=0), "min": lambda x: x.amin(dim=0)}
        expected = torch.stack([torch.cat([pooled[part](x) for part in readout.split("+")]) for x in rows])
        torch.testing.assert_close(encoded.graph[:, : expected.shape[1]], expected)
        # What follows is of edges and state, for the encoders that have them.
        assert (encoded.graph.shape[1] > expected.shape[1]) == encoder.pools_edges


@encoders
def test_last_layer_is_among_all_layers(name, prototypes, make_batch, randomise):
    last, every = (
        build(name, randomise, readout="mean", pooled_layers=pooled_layers).eval() for pooled_layers in POOLED_LAYERS
    )
    batch = make_batch(prototypes[:6], name)
    assert every.node_dim > last.node_dim
    torch.testing.assert_close(every(batch).node[:, -last.node_dim :], last(batch).node)


@encoders
def test_declared_poolings_exist_and_the_frozen_one_has_no_weights(name):
    cls = ENCODERS[name]
    for pooling in (cls.pooling, cls.frozen_pooling):
        assert pooling.keys() == {"readout", "pooled_layers"}
        assert pooling["readout"] in READOUTS
        assert pooling["pooled_layers"] in POOLED_LAYERS
    frozen = cls(**cls.frozen_pooling)
    assert list(frozen.readout.parameters()) == []
    # Weights that were trained with any other readout fit it.
    frozen.load_pretrained(cls(readout="attention").state_dict())


@encoders
def test_edges_are_pooled_only_where_they_are_updated(name):
    encoder = ENCODERS[name]()
    assert not (encoder.pools_edges and encoder.edge_dim is None)
    assert (encoder.readout.edges is not None) == encoder.pools_edges


@encoders
def test_unknown_layers_list_those_that_exist(name):
    with pytest.raises(ValueError, match=r"pooled_layers must be one of .*'all'.*got 'first'"):
        ENCODERS[name](pooled_layers="first")


@encoders
@pytest.mark.parametrize("training", [True, False])
def test_gradient_reaches_every_parameter(name, training, prototypes, make_batch, randomise):
    encoder = build(name, randomise).train(training)
    generator = torch.Generator().manual_seed(0)
    loss = sum(
        (x * torch.randn(x.shape, generator=generator)).sum()
        for x in outputs(encoder(make_batch(prototypes[:8], name)))
    )
    loss.backward()
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        if not training:  # a bias before batch normalisation has no gradient in training
            assert (parameter.grad != 0).any(), parameter_name


UNUSUAL = [
    "isolated atom",
    "isolated atoms",
    "one-atom cell",
    "one-atom cells",
    "molecule",
    "molecule and isolated atom",
    "crystal and isolated atom",
]


@encoders
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("crystal", UNUSUAL)
def test_unusual_crystals_leave_everything_finite(name, crystal, training, unusual_crystals, make_batch, randomise):
    encoder = build(name, randomise).train(training)
    encoded = encoder(make_batch(unusual_crystals[crystal], name))
    for tensor in outputs(encoded):
        assert torch.isfinite(tensor).all()
    for buffer_name, buffer in encoder.named_buffers():
        assert torch.isfinite(buffer).all(), buffer_name
    encoded.graph.sum().backward()
    grads = [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
    assert grads
    assert all(torch.isfinite(grad).all() for grad in grads)


@encoders
def test_crystals_of_a_batch_do_not_see_each_other(name, prototypes, make_batch, randomise):
    encoder = build(name, randomise).eval()
    together = encoder(make_batch(prototypes[:10], name)).graph
    alone = torch.cat([encoder(make_batch([crystal], name)).graph for crystal in prototypes[:10]])
    # Sums over atoms and edges may be large.
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5 * max(1.0, alone.abs().max().item()))
