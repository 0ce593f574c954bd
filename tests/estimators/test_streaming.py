"""Predicting for more crystals than fit into memory."""

from __future__ import annotations

import numpy as np
import pytest

from crystalssl import CrystalGraphs, PretrainedCrystalEmbedder
from crystalssl.estimators import _base
from crystalssl.exceptions import InvalidStructureError, NotACrystalError, UnseenElementsWarning


@pytest.fixture
def few_at_a_time(monkeypatch):
    """Seven crystals at a time; a list grows by the number of crystals in every set of graphs that is made."""
    made = []
    original = CrystalGraphs.from_columns.__func__

    def spy(cls, parts, *args, **kwargs):
        graphs = original(cls, parts, *args, **kwargs)
        made.append(len(graphs))
        return graphs

    monkeypatch.setattr(CrystalGraphs, "from_columns", classmethod(spy))
    monkeypatch.setattr(_base, "CRYSTALS_AT_A_TIME", 7)
    return made


@pytest.fixture
def embedder(tiny_weights):
    return PretrainedCrystalEmbedder(weights=tiny_weights).fit([])


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["list", "generator", "graphs"])
def test_in_parts_as_at_once(tiny_regressor, tiny_classifier, embedder, X, graphs, y, kind, few_at_a_time, monkeypatch):
    regressor = tiny_regressor(ensemble_size=2).fit(graphs, np.c_[y, -y])
    classifier = tiny_classifier().fit(graphs, y > 5)
    monkeypatch.setattr(_base, "CRYSTALS_AT_A_TIME", 4096)
    expected = [regressor.predict(graphs), classifier.predict_proba(graphs), embedder.transform(graphs)]
    monkeypatch.setattr(_base, "CRYSTALS_AT_A_TIME", 7)
    few_at_a_time.clear()
    for call, values in zip((regressor.predict, classifier.predict_proba, embedder.transform), expected, strict=True):
        assert_close(call({"list": X, "generator": iter(X), "graphs": graphs}[kind]), values)
    assert few_at_a_time == 3 * [7, 7, 7, 7, 7, 5]  # those of graphs are made anew, for another encoder


def test_iterator_is_not_read_ahead(tiny_regressor, X, graphs, y, few_at_a_time):
    model = tiny_regressor(max_epochs=1).fit(graphs, y)
    alive, most = 0, 0

    def crystals():
        nonlocal alive, most
        for item in X:
            alive += 1
            most = max(most, alive - sum(few_at_a_time))
            yield item

    few_at_a_time.clear()
    model.predict(crystals())
    assert alive == len(X)
    assert most == 7


@pytest.mark.parametrize("row", [3, 20, 39])
@pytest.mark.parametrize("kind", [list, iter])
def test_errors_name_the_item_of_all(tiny_regressor, embedder, X, graphs, y, row, kind, few_at_a_time, salt):
    model = tiny_regressor(max_epochs=1).fit(graphs, y)
    wrong, close, unknown = [*X], [*X], [*X]
    wrong[row] = None
    close[row] = salt.copy()
    close[row].translate_sites([4], [0.5, 0.5, 0.5001])
    unknown[row] = salt.copy()
    unknown[row].replace(0, "Og")
    for crystals in (wrong, close, unknown):
        for call in (model.predict, embedder.transform):
            with pytest.raises(InvalidStructureError, match=rf"item {row}\b") as caught:
                call(kind(crystals))
            assert caught.value.index == row


def test_one_warning_of_unseen_elements(tiny_regressor, X, graphs, y, few_at_a_time):
    model = tiny_regressor(max_epochs=1).fit(graphs, y)
    unseen = set(model.elements_.tolist()) - set(model.trained_elements_.tolist())
    from pymatgen.core import Element

    others = [X[row].copy() for row in range(40)]
    for row in (0, 30):
        for site in range(len(others[row])):
            others[row].replace(site, Element.from_Z(min(unseen)))
    with pytest.warns(UnseenElementsWarning, match="2 of 40 crystals hold elements") as caught:
        model.predict(others)
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("empty", [list, lambda: iter([]), "graphs"], ids=["list", "iterator", "graphs"])
def test_nothing_to_predict(tiny_regressor, graphs, y, empty):
    model = tiny_regressor(max_epochs=1).fit(graphs, y)
    with pytest.raises(ValueError, match="no crystals"):
        model.predict(graphs[:0] if empty == "graphs" else empty())


def test_open_file_is_no_iterator_of_crystals(tiny_regressor, graphs, y, tmp_path):
    model = tiny_regressor(max_epochs=1).fit(graphs, y)
    (tmp_path / "list.txt").write_text("a.cif\n")
    with (tmp_path / "list.txt").open() as file, pytest.raises(NotACrystalError, match="single TextIOWrapper"):
        model.predict(file)


@pytest.mark.parametrize(("verbose", "lines"), [(0, 0), (1, 1)])
def test_bar_on_stderr(tiny_regressor, embedder, graphs, y, capfd, monkeypatch, verbose, lines):
    monkeypatch.setattr(_base, "SHOW_AFTER", 0)
    model = tiny_regressor(max_epochs=1).fit(graphs, y).set_params(verbose=verbose)
    for call, title in ((model.predict, "predicting"), (embedder.set_params(verbose=verbose).transform, "embedding")):
        call(graphs)
        out, err = capfd.readouterr()
        assert out == ""
        assert err.count("\n") == lines
        assert (f"{title}: 100%" in err) == bool(lines)
        assert ("40/40" in err) == bool(lines)


def test_no_bar_for_a_moment(tiny_regressor, graphs, y, capfd):
    tiny_regressor(max_epochs=1).fit(graphs, y).set_params(verbose=1).predict(graphs)
    assert capfd.readouterr().err == ""
