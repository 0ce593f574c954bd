"""Encoders that others write: what the base class asks of them, and what it does for them."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.nn.models.schnet import GaussianSmearing, InteractionBlock

from crystalssl.encoders import Encoder, LayerOutputs
from crystalssl.encoders._base import current_config
from crystalssl.graphs import GraphRecipe


class SchNet(Encoder):
    """SchNet of PyG's interaction blocks."""

    name = "schnet"
    recipe = GraphRecipe(cutoff=8.0, max_neighbors=12)

    def __init__(self, hidden_dim: int = 16, n_layers: int = 2, n_gaussians: int = 20, **shared):
        super().__init__(**shared)
        self.elements = nn.Embedding(119, hidden_dim)
        self.gaussians = GaussianSmearing(0.0, self.recipe.cutoff, n_gaussians)
        self.blocks = nn.ModuleList(
            InteractionBlock(hidden_dim, n_gaussians, hidden_dim, self.recipe.cutoff) for _ in range(n_layers)
        )
        self.set_widths([hidden_dim] * (n_layers + 1))

    def layer_outputs(self, batch):
        nodes = [self.elements(batch.z)]
        distance = batch.distance.clamp(max=self.recipe.cutoff)
        for block in self.blocks:
            nodes.append(nodes[-1] + block(nodes[-1], batch.edge_index, distance, self.gaussians(distance)))
        return LayerOutputs(nodes)


class Minimal(Encoder):
    """No parameters of its own, edges and a state."""

    name = "minimal"
    recipe = GraphRecipe(cutoff=8.0, max_neighbors=12)
    pools_edges = True

    def __init__(self, sizes: tuple = (3, 2), scale: float | None = None, **shared):
        super().__init__(**shared)
        self.elements = nn.Embedding(119, sizes[0])
        self.set_widths([sizes[0]], edge_dim=1, state_dim=sizes[1])

    def layer_outputs(self, batch):
        state = torch.ones(batch.num_graphs, self.config["sizes"][1])
        return LayerOutputs([self.elements(batch.z)], batch.distance[:, None], state)


@pytest.fixture
def batch(prototypes, make_batch):
    return make_batch(prototypes[:6])


def test_encoder_of_others_is_pooled_like_the_packages(batch):
    for readout, width in {"mean": 16, "mean+max+min": 48, "set2set": 32, "attention": 16}.items():
        encoder = SchNet(readout=readout)
        assert encoder(batch).graph.shape == (6, width) == (6, encoder.graph_dim)
    everything = SchNet(pooled_layers="all")
    assert everything.node_dim == everything.graph_dim == 48
    torch.testing.assert_close(everything(batch).node[:, :16], everything.elements(batch.z))
    assert SchNet(**SchNet.pooling).graph_dim == SchNet(**SchNet.frozen_pooling).graph_dim == 3 * 48


def test_edges_and_state_are_pooled_where_there_are_any(batch):
    encoder = Minimal(readout="mean+max+min")
    graph = encoder(batch).graph
    assert graph.shape == (6, encoder.graph_dim) == (6, 3 * 3 + 2 * 1 + 2)
    of_first = batch.distance[batch.batch[batch.edge_index[1]] == 0]
    torch.testing.assert_close(graph[0, 9:], torch.tensor([of_first.mean(), of_first.max(), 1, 1]))


def test_config_is_what_the_constructor_was_called_with():
    shared = {"readout": "mean", "pooled_layers": "last"}
    assert SchNet().config == {"hidden_dim": 16, "n_layers": 2, "n_gaussians": 20, **shared}
    assert SchNet(8, n_gaussians=5, readout="set2set", kernels="plain").config == {
        "hidden_dim": 8, "n_layers": 2, "n_gaussians": 5, "readout": "set2set", "pooled_layers": "last"
    }  # fmt: skip
    assert Minimal((4, 1)).config == {"sizes": [4, 1], "scale": None, **shared}


def test_config_rebuilds_the_encoder(batch):
    encoder = SchNet(8, n_layers=1, readout="attention", pooled_layers="all").eval()
    rebuilt = SchNet(**encoder.config).eval()
    rebuilt.load_pretrained(encoder.state_dict())
    assert torch.equal(rebuilt(batch).graph, encoder(batch).graph)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda encoder: pickle.loads(pickle.dumps(encoder))])
def test_copies_have_the_same_config(copied):
    encoder = SchNet(8, n_layers=1)
    assert copied(encoder).config == encoder.config


def test_numbers_of_numpy_are_numbers():
    config = SchNet(np.int64(8), n_layers=np.int32(1)).config
    assert (config["hidden_dim"], config["n_layers"]) == (8, 1)
    assert type(config["hidden_dim"]) is int


@pytest.mark.parametrize("value", [torch.ones(2), np.ones(2), nn.SiLU(), float("nan"), {1, 2}, lambda: 1])
def test_what_is_not_json_is_refused_by_name(value):
    with pytest.raises(
        TypeError, match=r"Minimal cannot be rebuilt from its weights folder: scale = .*not a JSON value"
    ):
        Minimal(scale=value)


def test_unknown_parameter_is_the_constructors_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'hidden'"):
        SchNet(hidden=3)


def test_constructor_that_does_not_pass_on_what_all_share_is_refused_at_once():
    with pytest.raises(TypeError, match=r"constructor of Deaf must take kernels, pooled_layers, readout.*\*\*shared"):

        class Deaf(Encoder):
            def __init__(self, hidden_dim: int = 16):
                super().__init__()


def test_layer_outputs_must_be_written():
    class Empty(Encoder):
        name = "empty"

        def __init__(self, **shared):
            super().__init__(**shared)
            self.set_widths([1])

    with pytest.raises(NotImplementedError):
        Empty()(None)


def test_config_of_an_earlier_version_is_read():
    assert current_config({"n_layers": 3, "layers": "all"}) == {"n_layers": 3, "pooled_layers": "all"}
    pickled = SchNet.__new__(SchNet)
    pickled.__setstate__(vars(SchNet()) | {"config": {"hidden_dim": 16, "readout": "mean", "layers": "all"}})
    assert pickled.config == {"hidden_dim": 16, "readout": "mean", "pooled_layers": "all"}


# ---------------------------------------------------------------------- properties that an encoder predicts itself


def test_properties_are_read_from_the_last_layer_however_crystals_are_pooled(batch):
    torch.manual_seed(0)
    first = SchNet(readout="mean+max+min")
    encoded = first(batch)
    assert encoded.properties is None
    assert encoded.vector is encoded.graph
    first.learn_properties(3)
    assert (first.n_properties, first.vector_dim) == (3, first.graph_dim + 3)
    for pooling in ({"readout": "mean"}, {"pooled_layers": "all"}, {"readout": "attention", "pooled_layers": "all"}):
        other = SchNet(**{**first.config, **pooling})
        other.load_pretrained(first.state_dict())
        encoded = other(batch)
        torch.testing.assert_close(encoded.properties, first(batch).properties)
        torch.testing.assert_close(encoded.vector, torch.cat([encoded.graph, encoded.properties], dim=1))
        assert encoded.vector.shape == (batch.num_graphs, other.vector_dim)


def test_what_is_learnt_of_properties_stays_until_there_are_others():
    encoder = SchNet(n_properties=2)
    head = encoder.property_head
    encoder.learn_properties(2)
    assert encoder.property_head is head
    encoder.learn_properties(3)
    assert encoder.property_head[-1].out_features == encoder.n_properties == encoder.config["n_properties"] == 3
    assert "n_properties" not in SchNet().config


def test_encoder_of_an_earlier_version_predicts_no_properties(batch):
    state = SchNet(hidden_dim=8).__getstate__()
    for name in ("n_properties", "vector_dim", "property_head"):
        state.pop(name, None)
    state["_modules"] = {name: part for name, part in state["_modules"].items() if not name.startswith("_prop")}
    old = SchNet.__new__(SchNet)
    old.__setstate__(state)
    assert old(batch).properties is None
    assert old.vector_dim == old.graph_dim
