"""Learning from forces and virials."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from pymatgen.core import Structure

from crystalssl import CrystalGraphTransformer, PretrainedCrystalEmbedder
from crystalssl.encoders import GatedGCN
from crystalssl.pretext import Forces, Joint
from crystalssl.training import collate

N = 8


@pytest.fixture(scope="module")
def displaced(prototypes):
    """Crystals whose atoms are off their places, and the forces of springs that pull them back."""
    rng = np.random.default_rng(0)
    crystals, rows = [], []
    for crystal in prototypes[:240:4]:
        moves = rng.normal(scale=0.1, size=(len(crystal), 3))
        crystals.append(
            Structure(crystal.lattice, crystal.species, crystal.cart_coords + moves, coords_are_cartesian=True)
        )
        strain = rng.normal(scale=0.02, size=(3, 3))
        rows.append({"forces": -moves, "virial": strain + strain.T, "gap": float(len(crystal))})
    return crystals, pd.DataFrame(rows)


def turned(batch, rotation):
    batch = batch.clone()
    batch.pos, batch.cell = batch.pos @ rotation.T, batch.cell @ rotation.T
    batch.atom_y = batch.atom_y @ rotation.T
    batch.y = (rotation @ batch.y.view(-1, 3, 3) @ rotation.T).flatten(1)
    return batch


@pytest.fixture
def batch(displaced):
    crystals, y = displaced
    labels = Forces.encode_labels(y[["forces", "virial"]].iloc[:N])
    batch = collate(CrystalGraphTransformer().transform(crystals[:N]), np.arange(N))
    batch.y, batch.atom_y = torch.from_numpy(labels.crystals), torch.from_numpy(labels.atoms)
    return batch


def make_task(**params):
    torch.manual_seed(0)
    return Forces(n_labels=9, **params).bind(GatedGCN(hidden_dim=16, n_layers=2)).eval()


def test_forces_turn_with_the_crystal(batch):
    rotation = torch.from_numpy(np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]).float()
    task = make_task()
    loss, same = (task(one, torch.Generator()) for one in (batch, turned(batch, rotation)))
    torch.testing.assert_close(loss, same, rtol=1e-4, atol=1e-5)
    batch.atom_y = batch.atom_y @ rotation.T  # the labels alone
    assert abs(task(batch, torch.Generator()) - loss) > 1e-3


def test_unknown_labels_are_left_out(batch):
    task = make_task()
    whole = task(batch, torch.Generator())
    first = batch.ptr[1]
    batch.atom_y[:first] = torch.nan
    batch.y[0] = torch.nan
    partial = task(batch, torch.Generator())
    partial.backward()
    assert torch.isfinite(partial)
    assert partial != whole
    assert all(torch.isfinite(p.grad).all() for p in task.parameters() if p.grad is not None)
    batch.atom_y[:], batch.y[:] = torch.nan, torch.nan
    assert task(batch, torch.Generator()) == 0


def test_labels_are_in_units_of_their_size(displaced):
    labels = Joint.encode_labels(displaced[1])
    assert labels.n_properties == 1
    assert labels.crystals.shape == (len(displaced[0]), 10)
    np.testing.assert_allclose(np.sqrt((labels.atoms**2).mean()), 1, rtol=1e-5)
    np.testing.assert_allclose(np.sqrt((labels.crystals[:, 1:] ** 2).mean()), 1, rtol=1e-5)
    np.testing.assert_allclose(labels.crystals[:, 0].mean(), 0, atol=1e-5)
    assert labels.counts.tolist() == [len(crystal) for crystal in displaced[0]]


@pytest.mark.parametrize("method", ["forces", "joint"])
def test_forces_are_learnt(method, displaced):
    crystals, y = displaced
    y = y[["forces", "virial"]] if method == "forces" else y
    weights = {} if method == "forces" else {"mask_weight": 0, "denoise_weight": 0}
    embedder = PretrainedCrystalEmbedder(
        method, weights=None, task_params=weights, hidden_dim=32, n_layers=2, max_epochs=30, batch_size=8,
        learning_rate=5e-3, validation_fraction=0, random_state=0,
    )  # fmt: skip
    losses = [epoch["train_loss"] for epoch in embedder.fit(crystals, y).history_]
    assert losses[-1] < 0.8 * losses[0]
    if method == "joint":
        assert embedder.config_["task_params"]["has_forces"] is True
        assert embedder.config_["task_params"]["n_virials"] == 9


@pytest.mark.parametrize(
    ("column", "item", "message"),
    [
        ("forces", np.zeros((2, 2)), r"forces of item 1 have shape \(2, 2\); expected \(n_atoms, 3\)"),
        ("forces", "nonsense", "forces of item 1 are no numbers"),
        ("forces", np.full((1, 3), np.inf), "forces of item 1 are infinite"),
        ("virial", np.zeros((6,)), r"virial of item 1 have shape \(6,\); expected \(3, 3\)"),
    ],
)
def test_labels_of_the_wrong_shape(column, item, message, displaced):
    y = displaced[1].copy()
    y[column] = [item if i == 1 else value for i, value in enumerate(y[column])]
    with pytest.raises(ValueError, match=message):
        Joint.encode_labels(y)


def test_labels_that_say_nothing(displaced):
    y = displaced[1].assign(forces=[np.zeros((len(crystal), 3)) for crystal in displaced[0]])
    with pytest.raises(ValueError, match="forces are zero or unknown in all crystals"):
        Joint.encode_labels(y)
    for wrong in (None, y[["gap"]], y[["gap", "virial"]], displaced[1]):
        with pytest.raises(ValueError, match='learns from forces; give y as a DataFrame with the column "forces"'):
            Forces.encode_labels(wrong)


def test_forces_of_another_number_of_atoms(displaced):
    crystals, y = displaced
    y = y.copy()
    y.at[5, "forces"] = np.zeros((len(crystals[5]) + 1, 3))
    embedder = PretrainedCrystalEmbedder("joint", weights=None, max_epochs=1)
    with pytest.raises(
        ValueError, match=f"forces of item 5 are those of {len(crystals[5]) + 1} atoms, but the crystal"
    ):
        embedder.fit(crystals, y)


def test_virials_alone_are_learnt_from(displaced):
    crystals, y = displaced

    def losses(columns):
        embedder = PretrainedCrystalEmbedder(
            "joint", weights=None, hidden_dim=8, n_layers=1, max_epochs=1, batch_size=16, random_state=0
        )
        return [epoch["train_loss"] for epoch in embedder.fit(crystals, y[columns]).history_]

    assert losses(["virial", "gap"]) != losses(["gap"])
    assert losses(["virial"])[0] > 0
