"""What docs/models.md says of skops and mlflow, where they are installed."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

import crystalssl
from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"


def snippet(title):
    """The Python code below a title of the page."""
    section = PAGE.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


@pytest.fixture
def quick_defaults(monkeypatch, quick_finetuning):
    """Regressors that are made without parameters are quick ones."""
    original = CrystalSSLRegressor.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **({} if args else quick_finetuning) | kwargs)

    init.__signature__ = original.__signature__
    monkeypatch.setattr(CrystalSSLRegressor, "__init__", init)


@pytest.mark.usefixtures("quick_defaults")
@pytest.mark.parametrize("title", ["A folder", "skops", "mlflow"])
def test_snippets_of_the_page(title, X, y, tmp_path, monkeypatch):
    if title != "A folder":
        pytest.importorskip(title)
    monkeypatch.chdir(tmp_path)
    names = {"crystals": X, "y": y}
    exec(snippet(title), names)
    assert names["again"].predict(X).tobytes() == names["model"].predict(X).tobytes()


@pytest.mark.usefixtures("quick_defaults")
def test_snippet_of_targets_with_gaps(X, monkeypatch):
    names = {"crystals": X[:3], "CrystalSSLRegressor": CrystalSSLRegressor}
    exec(snippet("Several targets, with gaps"), names)
    assert names["model"].target_units_ == ["eV", "GPa"]
    assert names["model"].predict(X[:3]).columns.tolist() == ["gap", "bulk modulus"]


# ------------------------------------------------------------------ skops


def through_skops(estimator, trusted=None):
    skops = pytest.importorskip("skops.io")
    content = skops.dumps(estimator)
    unknown = set(skops.get_untrusted_types(data=content))
    assert unknown <= {*crystalssl.skops_trusted_types(), *(trusted or [])}
    return skops.loads(content, trusted=sorted(unknown))


@pytest.mark.parametrize("params", [{}, {"ensemble_size": 2, "early_stopping": True}, {"pretrain": None}], ids=str)
def test_regressor_through_skops(tiny_regressor, graphs, y, params):
    model = tiny_regressor(**params).set_output(predict="pandas").fit(graphs, np.c_[y, -y])
    again = through_skops(model)
    assert again.predict(graphs).equals(model.predict(graphs))
    assert repr(again.get_params()) == repr(model.get_params())
    assert again.history_ == model.history_
    again.set_params(warm_start=True).fit(graphs, np.c_[y, -y])


def test_classifier_and_pipeline_through_skops(tiny_classifier, X, y):
    model = make_pipeline(CrystalGraphTransformer(), tiny_classifier()).fit(X, np.where(y > 5, "heavy", "light"))
    assert through_skops(model).predict_proba(X).tobytes() == model.predict_proba(X).tobytes()


def test_embedder_through_skops(tiny_embedder, tiny_regressor, graphs, y):
    embedder = tiny_embedder().fit(graphs)
    again = through_skops(embedder)
    assert again.transform(graphs).tobytes() == embedder.transform(graphs).tobytes()
    model = tiny_regressor(pretrain=FrozenEstimator(embedder)).fit(graphs, y)
    assert through_skops(model).fit(graphs, y).predict(graphs).tobytes() == model.predict(graphs).tobytes()


@pytest.mark.parametrize("cls", [CrystalSSLRegressor, PretrainedCrystalEmbedder, CrystalGraphTransformer])
def test_unfitted_estimators_through_skops(cls):
    assert repr(through_skops(cls(n_jobs=2))) == repr(cls(n_jobs=2))


def test_no_pickle_is_in_a_file_of_skops(tiny_regressor, graphs, y, tmp_path):
    skops = pytest.importorskip("skops.io")
    skops.dump(tiny_regressor().fit(graphs, y), tmp_path / "model.skops")
    with zipfile.ZipFile(tmp_path / "model.skops") as archive:
        assert {Path(name).suffix for name in archive.namelist()} == {".json", ".npy"}


# ------------------------------------------------------------------ what skops looks at


@pytest.mark.parametrize("kind", ["regressor", "classifier", "embedder"])
def test_plain_state_is_of_arrays_and_texts(kind, tiny_regressor, tiny_classifier, tiny_embedder, graphs, y):
    """The state for tools without pickle holds no object of torch or skorch, and makes the same estimator again."""
    if kind == "embedder":
        model, call = tiny_embedder().fit(graphs), "transform"
    elif kind == "classifier":
        model, call = tiny_classifier().fit(graphs, y > 5), "predict_proba"
    else:
        model, call = tiny_regressor(ensemble_size=2).fit(graphs, y), "predict"
    state = model.__getstate__()
    found = {type(value).__module__.partition(".")[0] for value in [*state.values(), *state["_learnt_arrays"].values()]}
    assert found <= {"builtins", "numpy", "pathlib"}
    again = object.__new__(type(model))
    again.__setstate__(state)
    assert getattr(again, call)(graphs).tobytes() == getattr(model, call)(graphs).tobytes()
    assert vars(again).keys() == vars(model).keys()


def test_trusted_types_are_those_of_the_package():
    for name in crystalssl.skops_trusted_types():
        assert name.startswith(("crystalssl.", "pathlib."))
