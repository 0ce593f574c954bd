from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

import crystalssl
from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor
from crystalssl.inspection import domain


@pytest.fixture(params=["cross_validated", "plain"])
def model(request):
    return request.getfixturevalue(request.param)


def scaled(crystal, factor):
    return crystal.copy().scale_lattice(factor * crystal.volume)


@pytest.mark.parametrize(("factor", "reason"), [(1000, "loose"), (1 / 30, "dense"), (1 / 30, "close atoms")])
def test_cells_unlike_those_of_training(model, known, factor, reason):
    frame = domain(model, [scaled(crystal, factor) for crystal in known[0][:10]])
    assert frame.verdict.str.contains(reason).mean() >= 0.9


def test_geometry_is_relative_to_the_radii(plain):
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    row = domain(plain, [salt]).iloc[0]
    radii = [float(site.specie.atomic_radius) for site in salt[:1] + salt[-1:]]
    assert row.shortest_distance == pytest.approx(5.69 / 2 / sum(radii), rel=1e-5)
    assert 0.8 < row.volume < 1.2  # of what atoms of sodium and chlorine take in other crystals
    assert domain(plain, [salt.get_primitive_structure()]).volume[0] == pytest.approx(row.volume)
    assert domain(plain, [scaled(salt, 1.1)]).volume[0] == pytest.approx(1.1 * row.volume)


def test_a_gap_beyond_those_of_layered_crystals_is_a_vacuum(plain):
    graphene = [
        Structure(Lattice.hexagonal(2.46, height), ["C", "C"], [[0, 0, 0], [1 / 3, 2 / 3, 0]]) for height in (7, 9, 30)
    ]
    frame = domain(plain, graphene)
    assert frame.gap.is_monotonic_increasing
    assert frame.gap[2] == 8
    assert "vacuum" in frame.verdict[2]
    assert frame.volume[1:].is_monotonic_decreasing  # the vacuum is none of it


def test_molecule_in_a_box(model):
    water = Structure(
        Lattice.cubic(12), ["O", "H", "H"], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], coords_are_cartesian=True
    )
    assert "loose" in domain(model, [water]).verdict[0]


def test_training_crystals_are_inside(plain, known):
    frame = domain(plain, known[0])
    assert (frame.verdict == "inside").mean() >= 0.9
    assert (frame.distance == 0).all()
    assert (frame.percentile == 0).all()


@pytest.mark.parametrize("ensemble", [{}, {"ensemble": "cross-validated", "ensemble_size": 3}], ids=["plain", "cross"])
@pytest.mark.parametrize("n_different", [8, 1])
def test_copies_of_a_few_crystals(tiny_regressor, known, ensemble, n_different):
    # In another order of the sites the vectors are the same but for rounding.
    few = known[0][:n_different]
    copies = [Structure.from_sites(crystal[::step]) for step in (1, -1) for crystal in 4 * few]
    model = tiny_regressor(**ensemble).fit(copies, np.arange(len(copies)))
    frame = domain(model, copies)
    assert (frame.distance == 0).all()
    assert (frame.percentile == 0).all()
    assert (frame.verdict == "inside").all()
    others = domain(model, known[0][20:30])
    assert (others.distance > 0.1).all()
    if n_different > 1:
        assert (others.distance < 10).all()
        assert others.percentile.nunique() > 1 or ensemble


def test_left_out_crystals_have_the_percentiles_of_left_out_crystals(cross_validated):
    left_out = cross_validated._record.left_out
    share = (left_out.distances > np.percentile(left_out.distances, 95)).mean()
    assert share <= 0.1


def test_unseen_elements(known):
    X, y = known
    rows = [row for row, crystal in enumerate(X) if "O" not in crystal.composition]
    model = CrystalSSLRegressor(None, encoder="cgcnn", head_dim=8, max_epochs=1, random_state=0)
    model.fit([X[row] for row in rows], y[rows])
    oxide = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    row = domain(model, [oxide]).iloc[0]
    assert "O" in row.unseen_elements.split(", ")
    assert "unseen elements" in row.verdict


def test_pipelines_series_and_iterators(plain, known):
    X = known[0][:5]
    expected = domain(plain, X)
    pipeline = make_pipeline(CrystalGraphTransformer(), plain)
    pd.testing.assert_frame_equal(domain(pipeline, X), expected)
    pd.testing.assert_frame_equal(domain(plain, iter(X)), expected)
    series = pd.Series(X, index=list("abcde"))
    assert domain(pipeline, series).index.tolist() == list("abcde")


def test_stored(model, known, tmp_path):
    model.save(tmp_path / "model")
    expected = domain(model, known[0][:5])
    for again in (crystalssl.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        pd.testing.assert_frame_equal(domain(again, known[0][:5]), expected, check_exact=True)


def test_errors(plain, known):
    with pytest.raises(NotFittedError):
        domain(CrystalSSLRegressor(), known[0])
    with pytest.raises(TypeError, match="Ridge is none of the estimators that can be looked into"):
        domain(Ridge(), known[0])
    old = pickle.loads(pickle.dumps(plain))
    old._record = None
    with pytest.raises(ValueError, match="of an earlier version"):
        domain(old, known[0])
    with pytest.raises(ValueError, match="no crystals"):
        domain(plain, [])
