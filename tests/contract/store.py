"""Write a fitted regressor and its predictions to ``stored/``: python -m tests.contract.store"""

from __future__ import annotations

import json
import platform

import joblib
import numpy
import skorch
import torch

from crystalssl import CrystalSSLRegressor, PretrainedCrystalEmbedder, __version__

from .test_persistence import STORED, stored_crystals


def main() -> None:
    """Store a file named after the version; an existing one is left alone."""
    path = STORED / f"regressor-{__version__}.joblib"
    if path.exists():
        raise SystemExit(f"{path} exists; files of earlier versions are never replaced")
    crystals = stored_crystals()
    embedder = PretrainedCrystalEmbedder(weights=None, hidden_dim=8, n_layers=1, max_epochs=2, random_state=0)
    model = CrystalSSLRegressor(embedder, head_dim=8, max_epochs=20, batch_size=2, random_state=0)
    model.fit(crystals, [4.0, 5.9, 4.5, 8.3])
    STORED.mkdir(exist_ok=True)
    joblib.dump(model, path, compress=9)
    written_with = {module.__name__: module.__version__ for module in (joblib, numpy, skorch, torch)}
    about = {"python": platform.python_version(), **written_with, "predictions": model.predict(crystals).tolist()}
    path.with_suffix(".json").write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
