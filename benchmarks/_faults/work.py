"""What is disturbed, and what comes of it undisturbed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.exceptions import NotFittedError

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes
from crystalssl.graphs import GraphRecipe

__all__ = ["Work", "check", "weights_of"]


class Work:
    """A corpus, and the outcome of undisturbed work on it.

    Parameters
    ----------
    n_crystals, n_epochs : int
        Size of the corpus and of the pretraining.
    """

    def __init__(self, n_crystals: int = 80, n_epochs: int = 30):
        X, self.y = load_prototypes(return_X_y=True)
        self.X = X[:n_crystals]
        self.y = np.asarray(self.y, dtype=float)[:n_crystals]
        self.graphs = CrystalGraphTransformer().transform(self.X)
        self.n_epochs = n_epochs

    def embedder(self, seed: int = 0, **params: Any) -> PretrainedCrystalEmbedder:
        params = {"max_epochs": self.n_epochs, **params}
        return PretrainedCrystalEmbedder(
            "barlow", weights=None, hidden_dim=16, n_layers=2, batch_size=32, random_state=seed, device="cpu", **params
        )

    def regressor(self) -> CrystalSSLRegressor:
        return CrystalSSLRegressor(
            None, encoder="cgcnn", head_dim=8, max_epochs=self.n_epochs // 2 + 1, random_state=0, device="cpu"
        )

    def pretrain(self, **params: Any) -> str:
        """Return the hash of the weights of a pretraining."""
        return weights_of(self.embedder(**params).fit(self.graphs))

    def pretrain_with(self, checkpoint: Path) -> str:
        return self.pretrain(checkpoint=checkpoint)

    def pretrain_cached(self, memory: Path, n_seeds: int = 6) -> list[str]:
        """Pretrain a little with several seeds, so that much of the time goes into the cache."""
        return [self.pretrain(seed=seed, max_epochs=1, memory=os.fspath(memory)) for seed in range(n_seeds)]

    def save_for_ever(self, folder: Path) -> None:
        embedders = [self.embedder(seed, max_epochs=1).fit(self.graphs) for seed in (0, 1)]
        (folder.parent / "begun").touch()
        while True:
            for embedder in embedders:
                embedder.save_pretrained(folder)

    def save_graphs_for_ever(self, folder: Path) -> None:
        for number in range(10**6):
            self.graphs.save(folder / str(number))
            if number >= 20:
                shutil.rmtree(folder / str(number - 20))

    def find_neighbors_for_ever(self, begun: Path) -> None:
        graphs = self.graphs[np.arange(4096) % len(self.graphs)]
        begun.touch()
        while True:
            graphs.with_recipe(GraphRecipe(6.0, 16), n_jobs=2)

    def interrupted_fit(self, ready: Path) -> dict[str, bool]:
        """Be interrupted in a first fit and in a second one, and say what is left."""
        seen: dict[str, bool] = {}
        expected = self.regressor().fit(self.graphs, self.y).predict(self.graphs)
        model, fitted = self.regressor(), self.regressor().fit(self.graphs, self.y)
        embedder, embedded = self.embedder(), self.embedder(max_epochs=1).fit(self.graphs)
        vectors = embedded.transform(self.graphs)
        ready.touch()
        try:
            while True:
                model.fit(self.graphs, self.y + 1)
                model = self.regressor()
                fitted.fit(self.graphs, self.y + 1)
                fitted = self.regressor().fit(self.graphs, self.y)
                embedder.fit(self.graphs)
                embedder = self.embedder()
                embedded.set_params(max_epochs=self.n_epochs).fit(self.graphs)
                embedded.set_params(max_epochs=1).fit(self.graphs)
        except KeyboardInterrupt:
            pass
        others = self.regressor().fit(self.graphs, self.y + 1).predict(self.graphs)
        for name, estimator, old in (("first", model, None), ("second", fitted, expected)):
            try:
                found = estimator.predict(self.graphs)
                seen[name] = any(value is not None and np.array_equal(found, value) for value in (old, others))
            except NotFittedError:
                seen[name] = old is None or not hasattr(estimator, "nets_")
        seen["again"] = np.array_equal(model.fit(self.graphs, self.y).predict(self.graphs), expected)
        found = embedded.transform(self.graphs)
        seen["embedder"] = np.isfinite(found).all() and (
            np.array_equal(found, vectors) or weights_of(embedded) == self.expected
        )
        seen["embedder again"] = weights_of(embedder.fit(self.graphs)) == self.expected
        return seen

    @property
    def expected(self) -> str:
        """Hash of the weights of an undisturbed pretraining."""
        if not hasattr(self, "_expected"):
            self._expected = self.pretrain()
        return self._expected


def weights_of(embedder: PretrainedCrystalEmbedder) -> str:
    return joblib.hash({name: tensor.numpy() for name, tensor in embedder.encoder_.state_dict().items()})


def check(condition: Any, message: str) -> None:
    if not condition:
        raise AssertionError(message)
