"""The loop that every network goes through: its schedule, its weights, its views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from skorch.helper import predefined_split
from torch import nn

from crystalssl.training import BatchIterator, CrystalDataset, CrystalNet, PretrainingNet
from crystalssl.training._fit import fit_network
from crystalssl.training._net import train


class Rates(Callback):
    def on_train_begin(self, net, **kwargs):
        self.rates_ = []

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            self.rates_.append(net.optimizer_.param_groups[-1]["lr"])


def test_the_rate_peaks_after_a_tenth_of_the_steps(make_net, dataset):
    net = fit_network(
        CrystalNet,
        make_net().module_,
        dataset,
        None,
        max_epochs=20,
        batch_size=5,
        learning_rate=0.01,
        weight_decay=0.0,
        gradient_clip=None,
        device="cpu",
        precision="highest",
        seed=0,
        further_callbacks=[("rates", Rates())],
    )
    rates = dict(net.callbacks_)["rates"].rates_
    assert len(rates) == 60
    np.testing.assert_allclose(rates[:6], 0.01 * np.arange(1, 7) / 6)  # the rise is linear, and ends here
    assert (np.diff(rates[5:]) < 0).all()


# ------------------------------------------------------------------ sample weights


def test_the_loss_of_a_batch_is_the_weighed_mean(make_net, dataset):
    weight = np.random.default_rng(0).uniform(0, 2, len(dataset.graphs)).astype(np.float32)
    weighed = CrystalDataset(dataset.graphs, dataset.y, dataset.indices, weight)
    net = make_net()
    net.module_.eval()
    for batch, y in BatchIterator(weighed, 5):
        errors = (net.module_(batch) - y).abs().mean(dim=1)
        assert float(net.validation_step((batch, y))["loss"]) == pytest.approx(
            float((errors * batch.sample_weight).mean()), rel=1e-6
        )


@pytest.mark.parametrize("n_targets", [1, 3])
def test_targets_count_alike(n_targets):
    """The loss of a crystal is the mean over its targets."""
    net = CrystalNet(nn.Linear(1, 1), nn.MSELoss).initialize()
    predicted, true = torch.randn(4, n_targets), torch.randn(4, n_targets)

    class Batch:
        sample_weight = torch.tensor([1.0, 0.0, 2.0, 3.0])

    expected = (((predicted - true) ** 2).mean(dim=1) * Batch.sample_weight).sum() / 4
    assert float(net.get_loss(predicted, true, Batch)) == pytest.approx(float(expected))


# ------------------------------------------------------------------ views


class Views(nn.Module):
    """A pretext task that notes which seeds it draws its views from."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seeds: dict[bool, list[int]] = {True: [], False: []}

    def forward(self, batch, generator):
        self.seeds[self.training].append(generator.initial_seed())
        return self.weight.sum()

    def after_step(self):
        pass


def test_views_of_validation_differ_between_batches_and_not_between_epochs(dataset, valid):
    net = PretrainingNet(
        Views(), batch_size=3, max_epochs=2, train_split=predefined_split(valid), callbacks__print_log=None, verbose=0
    )
    views = train(net.initialize(), dataset).module_.seeds
    first, second = views[False][:3], views[False][3:]
    assert len(set(first)) == 3
    assert first == second
    assert len(set(views[True])) == len(views[True]) == 8
