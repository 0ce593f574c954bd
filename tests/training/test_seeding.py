from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from torch import nn

from crystalssl.augment import AtomMasking, Augmentation, Compose
from crystalssl.encoders import ENCODERS
from crystalssl.estimators._network import PropertyNetwork
from crystalssl.pretext import TASKS
from crystalssl.training._net import train
from crystalssl.training._seeding import Dropout, derive_seed, draws_globally, seeded
from crystalssl.training._weights import load_encoder

from .pretraining import pretrain


def test_seeded_gives_the_same_numbers_whatever_came_before():
    drawn = []
    for before in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(before)
            with seeded(7):
                drawn.append(torch.rand(5))
    assert torch.equal(*drawn)
    with seeded(8):
        assert not torch.equal(torch.rand(5), drawn[0])


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_seeded_restores_the_global_state(error):
    before = torch.get_rng_state()
    try:
        with seeded(7):
            torch.rand(5)
            if error is not None:
                raise error
    except (RuntimeError, KeyboardInterrupt):
        pass
    assert torch.equal(torch.get_rng_state(), before)


ENCODERS_AND_READOUTS = [(name, readout) for name in ENCODERS for readout in ("mean", "set2set", "attention")]


@pytest.mark.parametrize(("name", "readout"), ENCODERS_AND_READOUTS)
def test_seeded_draws_as_torch_does_after_manual_seed(name, readout):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = ENCODERS[name](readout=readout).state_dict()
    before = torch.get_rng_state()
    with seeded(3):
        found = ENCODERS[name](readout=readout).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


FOREIGN = {
    "linear": lambda: nn.Linear(3, 4).weight,
    "recurrent": lambda: nn.GRU(3, 4).weight_hh_l0,
    "attention": lambda: nn.MultiheadAttention(4, 2).in_proj_weight,
    "orthogonal": lambda: nn.init.orthogonal_(torch.empty(4, 4)),
    "truncated": lambda: nn.init.trunc_normal_(torch.empty(4, 4)),
    "sparse": lambda: nn.init.sparse_(torch.empty(4, 4), 0.5),
    "numbers": lambda: torch.rand(2) + torch.randn(2) + torch.randint(9, (2,)) + torch.randperm(2),
    "alike": lambda: torch.rand_like(torch.ones(2)) + torch.randn_like(torch.ones(2)),
    "classes": lambda: torch.bernoulli(torch.full((9,), 0.5)) + torch.full((9,), 0.5).multinomial(9),
    "normal": lambda: torch.normal(torch.zeros(3), 1.0) + torch.normal(0.0, 1.0, size=(3,)),
    "in place": lambda: torch.empty(3).exponential_() + torch.empty(3).cauchy_() + torch.empty(3).log_normal_(),
}


@pytest.mark.parametrize("draw", FOREIGN.values(), ids=FOREIGN)
def test_seeded_covers_what_a_foreign_constructor_may_draw_with(draw):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = draw()
    if draw is FOREIGN["alike"] and "generator" not in torch.rand_like.__doc__:
        pytest.skip("this release of torch lets nobody say what they draw from")
    before = torch.get_rng_state()
    with seeded(3):
        found = draw()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found, expected)


def test_seeded_holds_for_its_thread_only():
    drawn = []
    thread = threading.Thread(target=lambda: drawn.append(torch.rand(3)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with seeded(3):
            thread.start()
            thread.join()
            with seeded(4):
                inner = torch.rand(3)
            outer = torch.rand(3)
    assert [torch.rand(3, generator=torch.Generator().manual_seed(seed)).tolist() for seed in (0, 4, 3)] == [
        drawn[0].tolist(),
        inner.tolist(),
        outer.tolist(),
    ]


# ------------------------------------------------------------------ dropout, and who draws globally


@pytest.mark.parametrize("p", [0.0, 0.2, 0.9, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_dropout_with_a_generator_is_torchs_to_the_bit(p, training):
    x = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = nn.Dropout(p).train(training)(x)
    layer = Dropout(p).train(training)
    layer.generator = torch.Generator().manual_seed(3)
    before = torch.get_rng_state()
    assert torch.equal(layer(x), expected)
    assert torch.equal(torch.get_rng_state(), before)


def encoder():
    return ENCODERS["cgcnn"](readout="mean", hidden_dim=4, n_layers=1)


class Foreign(nn.Module):
    pass


class ForeignNoise(Augmentation):
    pass


def task_with(view):
    task = TASKS["barlow"](encoder())
    task.views = [task.views[0], view]
    return task


DRAWS_GLOBALLY = [
    (encoder, False),
    (lambda: PropertyNetwork(encoder(), 1, 4, 0.5, False), False),
    (lambda: nn.Sequential(PropertyNetwork(encoder(), 1, 4, 0.5, False), nn.Dropout(0.0), nn.LSTM(2, 2, 2)), False),
    (lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)), True),
    (lambda: nn.Sequential(nn.Sequential(nn.AlphaDropout(0.1))), True),
    (lambda: nn.LSTM(2, 2, 2, dropout=0.1), True),
    (lambda: nn.TransformerEncoderLayer(4, 2, dropout=0.1), True),
    (lambda: nn.RReLU(), True),
    (Foreign, True),
    (lambda: nn.Sequential(Foreign()), True),
    (lambda: task_with(AtomMasking(0.1)), False),
    (lambda: task_with(ForeignNoise()), True),
    (lambda: task_with(Compose([AtomMasking(0.1), Compose([ForeignNoise()])])), True),
]


@pytest.mark.parametrize(("module", "expected"), DRAWS_GLOBALLY)
def test_whose_steps_take_the_global_generator(module, expected):
    assert draws_globally(module()) is expected


def test_derived_seeds_differ_by_seed_and_path():
    paths = [(0,), (1,), (2,), (2**32 - 1, 0), (2**32 - 1, 1)]
    seeds = {derive_seed(seed, *path) for seed in (0, 1, 2**31 - 1, 2**63 - 1) for path in paths}
    assert len(seeds) == 4 * len(paths)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.fixture
def unchanged_random_states():
    """Fail if the test changes numpy's or torch's global random state."""

    def states():
        _, keys, *rest = np.random.get_state()  # noqa: NPY002  (the global state is the point)
        return torch.get_rng_state().tolist(), keys.tolist(), rest

    before = states()
    yield
    assert states() == before


@pytest.mark.usefixtures("unchanged_random_states")
def test_training_leaves_global_random_states_alone(make_net, dataset, valid):
    train(make_net(valid=valid), dataset)


@pytest.mark.usefixtures("unchanged_random_states")
def test_pretraining_leaves_global_random_states_alone(real_graphs, tiny_settings):
    pretrain(real_graphs[:12], None, **tiny_settings)


@pytest.mark.usefixtures("unchanged_random_states")
def test_loading_weights_leaves_global_random_states_alone():
    load_encoder("barlow")
