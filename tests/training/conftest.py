from __future__ import annotations

import pytest
import torch
from skorch.helper import predefined_split
from torch import nn

from crystalssl.training import CrystalDataset, CrystalNet
from crystalssl.training._callbacks import FinalWeights


class Averager(nn.Module):
    """The smallest network with all that real ones have: weights, batch statistics and dropout."""

    def __init__(self):
        super().__init__()
        self.atoms = nn.Embedding(119, 4)
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(4, 1)

    def forward(self, batch):
        sums = torch.zeros(batch.num_graphs, 4).index_add(0, batch.batch, self.atoms(batch.z))
        return self.out(self.drop(self.norm(sums / batch.ptr.diff()[:, None])))


@pytest.fixture
def dataset(real_crystals, real_graphs):
    """12 training crystals."""
    return CrystalDataset(real_graphs[:20], real_crystals[1][:20, None].astype("float32") / 100, range(12))


@pytest.fixture
def valid(dataset):
    """7 other crystals."""
    return CrystalDataset(dataset.graphs, dataset.y, range(13, 20))


@pytest.fixture
def make_net():
    """A function that returns an initialised net, always with the same weights."""

    def make(callbacks=(), valid=None, max_epochs=4, ema_decay=0.0, **kwargs):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = Averager()
        callbacks = [*callbacks]
        if "final_weights" not in dict(callbacks):
            callbacks = [("final_weights", FinalWeights(ema_decay)), *callbacks]
        return CrystalNet(
            module,
            **{
                "optimizer": torch.optim.AdamW,
                "lr": 0.05,
                "batch_size": 5,
                "max_epochs": max_epochs,
                "train_split": predefined_split(valid) if valid else None,
                "callbacks": callbacks,
                "callbacks__print_log": None,
                "seed": 3,
                "verbose": 0,
                **kwargs,
            },
        ).initialize()

    return make


@pytest.fixture
def tiny_settings():
    """Settings of `pretrain` that take no time."""
    return {
        "method": "barlow",
        "encoder": "cgcnn",
        "encoder_params": {"hidden_dim": 6, "n_layers": 1, "n_gaussians": 8, "readout": "mean"},
        "encoder_state": None,
        "task_params": {"projection_dim": 8},
        "max_epochs": 4,
        "batch_size": 5,
        "learning_rate": 1e-2,
        "weight_decay": 1e-6,
        "gradient_clip": 1.0,
        "validation_fraction": 0.2,
        "precision": "highest",
        "seed": 5,
        "device": "cpu",
    }
