from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from torch import nn

from crystalssl import CrystalGraphTransformer, CrystalSSLClassifier, CrystalSSLRegressor
from crystalssl.encoders import ENCODERS, Encoder, LayerOutputs
from crystalssl.graphs import GraphRecipe
from crystalssl.inspection import atom_contributions
from crystalssl.inspection._contributions import FirstVectors
from crystalssl.training import CrystalDataset, collate

TINY = {"pretrain": None, "head_dim": 8, "max_epochs": 2, "batch_size": 16, "random_state": 0}


@pytest.fixture(scope="module")
def trained(known):
    """A network that has learnt densities, which elements decide."""
    return CrystalSSLRegressor(max_epochs=12, random_state=0).fit(*known)


def total(found):
    return (found.baseline + found.atoms.groupby("crystal").sum()).to_numpy()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_they_add_up_to_the_prediction(known, encoder):
    X, y = known
    model = CrystalSSLRegressor(**TINY, encoder=encoder).fit(X, y)
    X = X[:4]
    found = atom_contributions(model, X, n_steps=8)
    np.testing.assert_allclose(total(found)[:, 0], model.predict(X), rtol=1e-4)
    assert found.atoms.index.get_level_values("element").tolist() == [site.specie.symbol for x in X for site in x]
    sums = found.atoms.groupby(["crystal", "element"]).sum()
    pd.testing.assert_frame_equal(found.elements, sums)


@pytest.mark.parametrize("params", [{"ensemble_size": 2}, {"ensemble_size": 2, "ensemble": "cross-validated"}])
@pytest.mark.parametrize("target", [{"target_transform": "log"}, {"target_per": "volume", "target_transform": None}])
def test_of_ensembles_several_targets_and_scales(known, params, target):
    X, y = known
    both = pd.DataFrame({"density": y, "inverse": 1 / y})
    model = CrystalSSLRegressor(**TINY, encoder="cgcnn", **params, **target).fit(X, both)
    found = atom_contributions(model, X[:5], n_steps=8)
    assert found.atoms.columns.tolist() == ["density", "inverse"]
    np.testing.assert_allclose(total(found), model.predict(X[:5]), rtol=1e-4)


def test_of_probabilities(known):
    X, y = known
    labels = np.digitize(y, np.quantile(y, [0.3, 0.6]))
    model = CrystalSSLClassifier(**TINY, encoder="cgcnn", ensemble="cross-validated", ensemble_size=2).fit(X, labels)
    found = atom_contributions(model, X[:5], n_steps=8)
    assert found.baseline.columns.tolist() == [0, 1, 2]
    np.testing.assert_allclose(total(found), model.predict_proba(X[:5]), rtol=1e-4)
    np.testing.assert_allclose(found.atoms.sum(axis=1), 0, atol=1e-6)  # what one class gains others lose


def test_captum_finds_the_same(trained, known):
    captum = pytest.importorskip("captum.attr")
    X = known[0][:2]
    found = atom_contributions(trained, X, n_steps=16)
    graphs = CrystalGraphTransformer().transform(X)
    batch = collate(graphs, np.arange(len(X)))
    batch.cell_features = torch.from_numpy(CrystalDataset(graphs).cell_features)
    module, scale = trained.net_.module_, trained.target_
    with FirstVectors(batch.z) as first, torch.no_grad():
        module(batch)
    table = first.table(module)

    def predict(vectors):
        with FirstVectors(batch.z, vectors):
            return module(batch)[:, 0] * scale.scale_[0] + scale.mean_[0]

    end, start = table[batch.z], table[torch.from_numpy(trained.trained_elements_)].mean(dim=0)
    assert not scale.log_[0]
    expected = captum.IntegratedGradients(predict).attribute(
        end, start.expand_as(end).contiguous(), n_steps=16, method="gausslegendre", internal_batch_size=len(end)
    )
    of_captum = found.atoms.assign(y=expected.sum(dim=1).detach().numpy()).groupby(["crystal", "element"]).sum()
    np.testing.assert_allclose(found.elements.y, of_captum.y, atol=0.02 * found.elements.y.abs().max())


def test_what_matters_moves_the_prediction_more_than_what_is_drawn(trained, known):
    X = [crystal for crystal in known[0] if len(crystal.elements) > 1][:25]
    found = atom_contributions(trained, X, n_steps=16)
    graphs = CrystalGraphTransformer().transform(X)
    batch = collate(graphs, np.arange(len(X)))
    batch.cell_features = torch.from_numpy(CrystalDataset(graphs).cell_features)
    module = trained.net_.module_
    with FirstVectors(batch.z) as first, torch.no_grad():
        before = module(batch)[:, 0]
    table = first.table(module)
    average = table[torch.from_numpy(trained.trained_elements_)].mean(dim=0)
    elements = np.array(found.atoms.index.get_level_values("element"))
    per_atom = found.atoms.y.abs().groupby(["crystal", "element"]).mean()

    def change(choose):
        chosen = per_atom.groupby("crystal", group_keys=False).apply(choose)
        masked = np.zeros(len(elements), dtype=bool)
        for (crystal, element), _ in chosen.items():
            masked |= (elements == element) & (batch.batch.numpy() == crystal)
        vectors = torch.where(torch.from_numpy(masked)[:, None], average, table[batch.z])
        with FirstVectors(batch.z, vectors), torch.no_grad():
            return float((module(batch)[:, 0] - before).abs().mean())

    # Of two elements a draw takes the more important one half of the time, so that one draw says little.
    drawn = np.mean([change(lambda x, seed=seed: x.sample(1, random_state=seed)) for seed in range(8)])
    assert change(lambda x: x.nlargest(1)) > 1.2 * drawn
    assert drawn > 1.2 * change(lambda x: x.nsmallest(1))


def test_supercells_and_symmetry(trained, known):
    crystal = next(x for x in known[0] if len(x) == 2 and len(x.elements) == 2)
    found = atom_contributions(trained, [crystal, crystal * (2, 1, 1)])
    one, two = (found.atoms.loc[number].groupby("element").y for number in (0, 1))
    np.testing.assert_allclose(one.sum(), two.sum(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(two.min(), two.max(), rtol=1e-3, atol=1e-4)


def test_pipelines_iterators_and_batches(trained, known, monkeypatch):
    X = known[0][:10]
    expected = atom_contributions(trained, X, n_steps=4)
    monkeypatch.setattr("crystalssl.inspection._contributions._BATCH_SIZE", 3)
    monkeypatch.setattr("crystalssl.estimators._base.CRYSTALS_AT_A_TIME", 4)
    pipeline = make_pipeline(CrystalGraphTransformer(), trained)
    for found in (atom_contributions(pipeline, X, n_steps=4), atom_contributions(trained, iter(X), n_steps=4)):
        pd.testing.assert_frame_equal(found.atoms, expected.atoms, rtol=1e-3, atol=1e-4)
        pd.testing.assert_frame_equal(found.baseline, expected.baseline, rtol=1e-4)


def test_few_steps_warn(trained, known):
    with pytest.warns(ConvergenceWarning, match="n_steps=1 the contributions to the prediction of item") as caught:
        found = atom_contributions(trained, known[0][:30], n_steps=1)
    assert caught[0].filename == __file__
    np.testing.assert_allclose(total(found)[:, 0], trained.predict(known[0][:30]), rtol=1e-4)


class Indexing(Encoder):
    name = "indexing"
    recipe = GraphRecipe(cutoff=8.0, max_neighbors=12)

    def __init__(self, **shared):
        super().__init__(**shared)
        self.elements = nn.Parameter(torch.randn(119, 8))
        self.set_widths([8])

    def layer_outputs(self, batch):
        return LayerOutputs([self.elements[batch.z]])


def test_errors(trained, known):
    X, y = known
    with pytest.raises(NotFittedError):
        atom_contributions(CrystalSSLRegressor(), X)
    for n_steps in (0, 1.5, True, None):
        with pytest.raises(ValueError, match="n_steps must be a positive integer"):
            atom_contributions(trained, X, n_steps=n_steps)
    with pytest.raises(ValueError, match="no crystals"):
        atom_contributions(trained, [])
    model = CrystalSSLRegressor(**TINY, encoder=Indexing).fit(X, y)
    with pytest.raises(TypeError, match="Indexing looks up vectors for its atomic numbers 0 times"):
        atom_contributions(model, X)
