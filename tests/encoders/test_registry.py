"""What every encoder promises, whichever it is."""

from __future__ import annotations

import json

import pytest
import torch

from crystalssl.encoders import ENCODERS, LAYERS, READOUTS, Encoder, make_readout
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
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("readout", READOUTS)
def test_readout_pools_the_atoms_of_each_crystal(name, readout, layers, prototypes, make_batch, randomise):
    try:
        encoder = build(name, randomise, readout=readout, layers=layers).eval()
    except TypeError:
        pytest.skip(f"{name} has its own readout")
    batch = make_batch(prototypes[:6], name)
    node, _, graph = encoder(batch)
    assert graph.shape == (6, encoder.graph_dim)
    pooled = {"mean": lambda x: x.mean(dim=0), "max": lambda x: x.amax(dim=0), "min": lambda x: x.amin(dim=0)}
    expected = [
        torch.cat([pooled[part](node[batch.batch == i]) for part in readout.split("+")]) for i in range(6)
    ]  # fmt: skip
    torch.testing.assert_close(graph, torch.stack(expected))


def test_readouts_widen_as_they_say():
    assert {name: make_readout(name)[1] for name in READOUTS} == {name: name.count("+") + 1 for name in READOUTS}


def test_unknown_readout_lists_those_that_exist():
    with pytest.raises(ValueError, match=r"no readout 'sum'; choose one of \['mean', 'mean\+max\+min'\]"):
        make_readout("sum")


@encoders
def test_unknown_layers_list_those_that_exist(name):
    with pytest.raises(ValueError, match=r"layers must be one of .*'all'.*got 'first'"):
        ENCODERS[name](layers="first")


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
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
