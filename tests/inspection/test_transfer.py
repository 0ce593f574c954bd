from __future__ import annotations

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator

from crystalssl import CrystalGraphTransformer, CrystalSSLClassifier, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes
from crystalssl.exceptions import InvalidStructureError
from crystalssl.inspection import transfer_report
from crystalssl.inspection._transfer import _gain, _verdict

QUICK = {"max_epochs": 2, "head_dim": 8, "random_state": 0}


@pytest.fixture(scope="module")
def known():
    """60 crystals and their highest frequencies of vibration, which are no label of pretraining."""
    X, y = load_prototypes("highest_frequency", return_X_y=True)
    return X[:60], y[:60]


@pytest.fixture(scope="module")
def graphs(known):
    return CrystalGraphTransformer().transform(known[0])


@pytest.fixture(scope="module")
def report(graphs, known):
    model = CrystalSSLRegressor(**QUICK)
    return transfer_report(graphs, known[1], model, sizes=[10, 40], n_repeats=2, random_state=0)


def test_pretraining_helps_with_frequencies(report):
    assert report.probe.pretrained.mean() > report.probe.untrained.mean()
    assert report.verdict in ("helps", "hurts", "no difference that shows")
    assert len(report.evidence) == 4  # elements, vectors, two sizes
    assert report.learning_curve["size"].tolist() == [10, 40, 10, 40]
    assert (report.learning_curve[["pretrained", "untrained"]] > 0).all(axis=None)
    assert (report.gain.low < report.gain.gain).all()
    assert (report.gain.gain < report.gain.high).all()


def test_elements(report, graphs):
    assert report.elements.here.sum() == pytest.approx(1)
    assert report.elements.corpus.sum() == pytest.approx(1, abs=1e-4)
    n_elements = len(graphs.elements)
    assert np.count_nonzero(report.elements.here) == n_elements
    assert 0 < report.jensen_shannon < 1


def test_a_corpus_of_the_same_and_of_other_crystals(graphs, known):
    X, y = known
    same = transfer_report(graphs, y, sizes=[], corpus=X, random_state=0)
    assert same.jensen_shannon == pytest.approx(0, abs=1e-6)
    has = [bool(set(graphs[row : row + 1].elements) & set(graphs[:30].elements)) for row in range(len(graphs))]
    other = transfer_report(graphs[:30], y[:30], sizes=[], corpus=graphs[~np.array(has)], random_state=0)
    assert other.jensen_shannon == pytest.approx(1)


def test_same_seed_same_report(graphs, known):
    one, two = (transfer_report(graphs, known[1], sizes=[], random_state=1) for _ in range(2))
    assert one.probe.equals(two.probe)
    assert one.verdict == two.verdict


def test_targets_are_divided_as_the_model_divides_them(graphs, known):
    n_atoms = np.diff(graphs.atom_offsets)
    expected = transfer_report(graphs, known[1], sizes=[], random_state=0).probe
    totals = CrystalSSLRegressor(target_per="atom")
    found = transfer_report(graphs, known[1] * n_atoms, totals, sizes=[], random_state=0).probe
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_own_weights_with_batch_normalisation(graphs, known):
    X, y = known
    embedder = PretrainedCrystalEmbedder("barlow", weights=None, max_epochs=1, random_state=0).fit(X)
    model = CrystalSSLRegressor(FrozenEstimator(embedder), **QUICK)
    report = transfer_report(X, y, model, sizes=[20], n_repeats=2, random_state=0)
    assert np.isnan(report.jensen_shannon)
    assert "not known without its corpus" in report.evidence[0]
    assert np.isfinite(report.gain.to_numpy()).all()
    assert model.pretrain.estimator is embedder


@pytest.mark.parametrize(
    ("pretrained", "verdict"),
    [([0.5, 0.6, 0.55], "helps"), ([2.0, 1.9, 2.1], "hurts"), ([0.9, 1.1, 1.0], "no difference that shows")],
)
def test_verdicts(pretrained, verdict):
    import pandas as pd

    curve = pd.DataFrame({"size": 30, "repeat": range(3), "pretrained": pretrained, "untrained": 1.0})
    gain = _gain(curve, n_test=10)
    assert _verdict(gain, None, 1 / 3) == verdict
    probe = pd.DataFrame({"pretrained": 1 - np.array(pretrained), "untrained": 0.0})
    likely = verdict if verdict.startswith("no") else f"likely {verdict}"
    assert _verdict(gain[:0], probe, 1 / 3) == likely


def test_errors(graphs, known):
    X, y = known
    cases = [
        ({"model": CrystalSSLRegressor(None)}, "nothing to transfer"),
        ({"model": CrystalSSLRegressor(target_per="atoms")}, "'target_per' parameter .* Did you mean 'atom'"),
        ({"y": np.column_stack([y, y])}, "y has 2 targets"),
        ({"y": y[:-1]}, "equal length"),
        ({"X": graphs[:9], "y": y[:9]}, "at least 10"),
        ({"n_repeats": 1}, "n_repeats must be"),
        ({"test_size": 0.9}, "test_size must be"),
        ({"sizes": [len(y)]}, "sizes must be integers from 2 to"),
    ]
    for params, message in cases:
        with pytest.raises(ValueError, match=message):
            transfer_report(**{"X": graphs, "y": y, **params})
    with pytest.raises(TypeError, match="model is a CrystalSSLClassifier"):
        transfer_report(graphs, y, CrystalSSLClassifier())
    strange = [X[0].copy(), *X[1:12]]
    strange[0].replace(0, "Og")
    with pytest.raises(InvalidStructureError, match="item 0"):
        transfer_report(strange, y[:12], sizes=[])
