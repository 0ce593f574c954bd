import matplotlib
import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor
from crystalssl.datasets import load_prototypes

TINY = {"pretrain": None, "encoder": "cgcnn", "head_dim": 8, "max_epochs": 2, "batch_size": 16, "random_state": 0}


@pytest.fixture(autouse=True)
def _agg():
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield
    pyplot.close("all")


@pytest.fixture(scope="session")
def crystals():
    """40 small crystals of elements that the bundled weights know, and their densities."""
    X, y = load_prototypes(return_X_y=True)
    rows = [row for row in range(30, 200) if len(X[row]) < 20 and "Po" not in X[row].symbol_set][:40]
    y = pd.Series(y[rows], name="density")
    y.attrs["unit"] = "g/cm³"
    return [X[row] for row in rows], y


@pytest.fixture(scope="session")
def model(crystals):
    """A fitted ensemble that left crystals out, behind what makes graphs."""
    regressor = CrystalSSLRegressor(**TINY, ensemble="cross-validated", ensemble_size=3, early_stopping=True)
    return Pipeline([("graphs", CrystalGraphTransformer("cgcnn")), ("model", regressor)]).fit(*crystals)


@pytest.fixture(scope="session")
def several(crystals):
    """A fitted regressor of two targets, and their values, some of which are missing."""
    X, y = crystals
    frame = pd.DataFrame({"density": y, "minus": np.where(np.arange(40) % 3, -y, np.nan)})
    return CrystalSSLRegressor(**TINY).fit(X, frame), frame
