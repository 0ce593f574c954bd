from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from pymatgen.core import Element

import crystalssl
from crystalssl import CrystalSSLRegressor
from crystalssl.estimators._geometry import excess
from crystalssl.exceptions import OutsideDomainWarning, UnseenElementsWarning


@pytest.fixture(scope="module")
def split(real_crystals):
    """Training crystals of a model, others that hold no further elements, and the targets of the first."""
    X, y = real_crystals
    rows = np.random.default_rng(0).permutation(len(X))
    train = rows[:150]
    seen = {element for row in train for element in X[row].elements}
    others = [X[row] for row in rows[150:] if set(X[row].elements) <= seen]
    return [X[row] for row in train], others, y[train]


@pytest.fixture(scope="module")
def model(split):
    X, _, y = split
    return CrystalSSLRegressor(None, encoder="cgcnn", head_dim=8, max_epochs=1, random_state=0).fit(X, y)


def scaled(crystal, factor):
    return crystal.copy().scale_lattice(factor * crystal.volume)


def test_crystals_like_those_of_training_do_not_warn(model, split):
    train, others, _ = split
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(train)
        model.predict(others)


@pytest.mark.parametrize(("factor", "reason"), [(30, "loose|vacuum"), (1 / 8, "dense|close atoms")])
@pytest.mark.parametrize("form", ["fitted", "saved", "pickled"])
def test_cells_unlike_all_of_training_warn_once(model, split, factor, reason, form, tmp_path):
    if form == "saved":
        model.save(tmp_path / "model")
        model = crystalssl.load(tmp_path / "model")
    elif form == "pickled":
        model = pickle.loads(pickle.dumps(model))
    crystals = split[1][:20]
    crystals[3], crystals[7] = scaled(crystals[3], factor**0.9), scaled(crystals[7], factor)
    message = rf"^2 of 20 have cells unlike all of training, item [37] the most \(({reason})\)"
    with pytest.warns(OutsideDomainWarning, match=message) as caught:
        model.predict(crystals)
    assert len(caught) == 1
    assert caught[0].category is OutsideDomainWarning
    assert caught[0].filename == __file__


def test_elements_and_cells_share_a_warning(model, split, monkeypatch):
    monkeypatch.setattr("crystalssl.estimators._base.CRYSTALS_AT_A_TIME", 4)
    unseen = next(z for z in range(1, 90) if z not in model.trained_elements_)
    crystals = [crystal.copy() for crystal in split[1] if len(crystal) > 1][:10]
    crystals[5] = scaled(crystals[5], 1000)
    for crystal, n_replaced in ((crystals[2], (len(crystals[2]) + 1) // 2), (crystals[9], len(crystals[9]))):
        for site in range(n_replaced):
            crystal.replace(site, Element.from_Z(unseen))
    with pytest.warns(UnseenElementsWarning) as caught:
        model.predict(crystals)
    (warning,) = caught
    message = str(warning.message)
    assert "2 of 10 crystals hold elements that no training label has seen" in message
    assert "item 9 the most;" in message
    assert "have cells unlike all of training, item 5 the most" in message


def test_oddities_of_training_do_not_count_as_known():
    known = np.tile([1.0, 1.0, 3.0], (200, 1))
    known[0] = 9.0, 0.1, 8.0
    np.testing.assert_array_equal(excess(known, known)[0] >= 1, [True, False, True, True])
    assert (excess(known, known)[1:] <= 0).all()


def test_without_neighbours_within_the_cutoff():
    apart, together = np.array([[1.0, np.inf, 3.0]]), np.array([[1.0, 1.0, 3.0]])
    assert (excess(apart, together) <= 0).all()
    assert (excess(apart, apart) <= 0).all()
    assert excess(together, apart)[0].argmax() == 2
