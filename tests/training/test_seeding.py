from __future__ import annotations

import numpy as np
import pytest
import torch

from crystalssl.training._net import train
from crystalssl.training._seeding import derive_seed, seeded
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
