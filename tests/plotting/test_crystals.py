"""Crystals as points, and their atoms."""

import importlib.util
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from pymatgen.core import Lattice, Structure
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crystalssl import CrystalSSLClassifier, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes
from crystalssl.exceptions import InvalidStructureError
from crystalssl.inspection import atom_contributions
from crystalssl.plotting import AtomContributionsDisplay, EmbeddingDisplay
from crystalssl.plotting._embedding import PROJECTIONS, project, vectors_of

from .conftest import TINY

VECTORS = np.random.default_rng(0).normal(size=(40, 5)) * [3, 2, 1, 1, 1]


def test_principal_axes_of_standardised_vectors():
    display = EmbeddingDisplay.from_vectors(VECTORS, np.arange(40.0), label="age")
    expected = PCA(2, random_state=0).fit_transform(StandardScaler().fit_transform(VECTORS))
    np.testing.assert_allclose(display.scatter_.get_offsets(), expected)
    np.testing.assert_array_equal(display.scatter_.get_array(), np.arange(40.0))
    assert display.colorbar_.ax.get_ylabel() == "age"
    assert display.ax_.get_xlabel() == "PCA 1"


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_projections_keep_groups_apart(projection):
    if projection == "umap" and importlib.util.find_spec("umap") is None:
        pytest.skip("umap-learn not installed")
    groups = np.repeat([0.0, 30.0], 20)
    points = project(VECTORS + groups[:, None], projection)
    assert points.shape == (40, 2)
    first, second = points[:20], points[20:]
    apart = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    assert apart > max(first.std(axis=0).max(), second.std(axis=0).max())
    np.testing.assert_array_equal(points, project(VECTORS + groups[:, None], projection))


def test_two_components_are_drawn_as_they_are():
    display = EmbeddingDisplay.from_vectors(VECTORS[:, :2])
    np.testing.assert_array_equal(display.scatter_.get_offsets(), VECTORS[:, :2])
    assert display.colorbar_ is None


def test_missing_numbers_are_grey():
    values = np.where(np.arange(40) < 3, np.nan, np.arange(40.0))
    display = EmbeddingDisplay.from_vectors(VECTORS[:, :2], values)
    assert len(display.scatter_.get_offsets()) == 37
    grey = display.ax_.collections[0]
    np.testing.assert_array_equal(grey.get_offsets(), VECTORS[:3, :2])
    assert tuple(grey.get_facecolor()[0][:3]) == to_rgba("0.8")[:3]


def test_classes_have_a_legend_and_the_rare_ones_are_others():
    classes = [f"c{i}" for i in range(12)] + ["c0"] * 28
    display = EmbeddingDisplay.from_vectors(VECTORS[:, :2], classes, label="kind")
    legend = display.ax_.get_legend()
    names = [text.get_text() for text in legend.get_texts()]
    assert names[0] == "c0"
    assert names[-1] == "others"
    assert len(names) == 11
    colors = display.scatter_.get_facecolor()
    assert len(np.unique(colors[[0, *range(12, 40)]], axis=0)) == 1
    assert len(np.unique(colors, axis=0)) == 11
    assert display.colorbar_ is None


def test_vectors_of_estimators(model, crystals):
    X, y = crystals
    embedder = PretrainedCrystalEmbedder("barlow").fit(X)
    np.testing.assert_array_equal(vectors_of(embedder, X), embedder.transform(X))
    scaled = make_pipeline(PretrainedCrystalEmbedder("barlow"), StandardScaler()).fit(X)
    np.testing.assert_array_equal(vectors_of(scaled, X), scaled.transform(X))
    probe = make_pipeline(PretrainedCrystalEmbedder("barlow"), StandardScaler(), Ridge()).fit(X, y)
    np.testing.assert_array_equal(vectors_of(probe, X), probe[:-1].transform(X))
    # What the head of a finetuned network makes its predictions of.
    vectors = vectors_of(model, X)
    regressor = model[-1]
    np.testing.assert_array_equal(vectors, vectors_of(regressor, X))
    assert vectors.shape[0] == 40
    assert vectors.std(axis=0).max() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projection": "mds"}, "projection is 'mds'; expected one of pca, tsne, umap"),
        ({"projection": "t-sne"}, "Did you mean 'tsne'"),
        ({"values": [1.0]}, r"values have shape \(1,\); expected \(40,\)"),
    ],
)
def test_wrong_arguments_of_embeddings(options, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingDisplay.from_vectors(VECTORS, **options)


def test_wrong_vectors():
    with pytest.raises(ValueError, match=r"vectors have shape \(40,\)"):
        EmbeddingDisplay.from_vectors(VECTORS[:, 0])
    with pytest.raises(ValueError, match="at least 3 crystals; there are 2"):
        EmbeddingDisplay.from_vectors(VECTORS[:2])


def test_without_umap_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"crystalssl\[umap\]"):
        project(VECTORS, "umap")


@pytest.fixture
def rutile():
    oxygen = [[0.305, 0.305, 0], [0.695, 0.695, 0], [0.195, 0.805, 0.5], [0.805, 0.195, 0.5]]
    return Structure(Lattice.tetragonal(4.59, 2.96), ["Ti"] * 2 + ["O"] * 4, [[0, 0, 0], [0.5, 0.5, 0.5], *oxygen])


def test_atoms_have_the_colours_of_their_numbers(rutile):
    values = np.array([0.5, -0.25, 0.0, 0.1, 0.2, 0.3])
    display = AtomContributionsDisplay.from_values(rutile, values, label="part", unit="eV")
    np.testing.assert_array_equal(display.atoms_.get_array(), values[display.indices_])
    assert display.atoms_.get_clim() == (-0.5, 0.5)
    # Eight corners, a centre, two oxygens on each of two faces, and two within.
    assert np.bincount(display.indices_).tolist() == [8, 1, 2, 2, 1, 1]
    assert display.colorbar_.ax.get_ylabel() == "part (eV)"
    assert len(display.ax_.lines) == 12
    assert {text.get_text() for text in display.ax_.texts} == {"Ti", "O"}


def test_a_turn_keeps_lengths_and_the_third_vector_upright(rutile):
    skewed = Structure(Lattice.from_parameters(4, 5, 6, 70, 80, 100), ["Si"], [[0, 0, 0]])
    for crystal in (rutile, skewed):
        display = AtomContributionsDisplay.from_values(crystal, np.ones(len(crystal)))
        flat = display.plot(view=(0.0, 0.0))
        edges = np.array([line.get_xydata() for line in flat.ax_.lines])
        upright = np.abs(np.diff(edges[:, :, 0], axis=1)[:, 0]) < 1e-9
        lengths = np.linalg.norm(np.diff(edges, axis=1)[:, 0], axis=1)[upright]
        assert np.isclose(lengths, crystal.lattice.c).sum() >= 4


def test_the_nearest_atom_is_drawn_last():
    column = Structure(Lattice.tetragonal(3, 9), ["Na", "Cl"], [[0.5, 0.1, 0.5], [0.5, 0.9, 0.5]])
    display = AtomContributionsDisplay.from_values(column, [1.0, 2.0]).plot(view=(0.0, 0.0))
    assert display.indices_.tolist() == [1, 0]  # one looks along the second vector


@pytest.mark.parametrize(
    ("values", "message"),
    [([1.0], "values has 1 numbers, the crystal 6 atoms"), ([np.nan] * 6, "values is nan at position 0")],
)
def test_values_that_do_not_fit_the_crystal(rutile, values, message):
    with pytest.raises(ValueError, match=message):
        AtomContributionsDisplay.from_values(rutile, values)


def test_contributions_to_the_prediction_of_a_model(model, crystals):
    crystal = crystals[0][0]
    display = AtomContributionsDisplay.from_estimator(model, crystal)
    found = atom_contributions(model, [crystal]).atoms["density"]
    np.testing.assert_allclose(display.values, found)
    assert display.colorbar_.ax.get_ylabel() == "contribution to density (g/cm³)"


@pytest.mark.parametrize(("target", "column"), [("minus", 1), (1, 1), ("density", 0)])
def test_contributions_to_one_of_several_targets(several, target, column):
    model, crystal = several[0], load_prototypes().data[40]
    display = AtomContributionsDisplay.from_estimator(model, crystal, target=target)
    np.testing.assert_allclose(display.values, atom_contributions(model, [crystal]).atoms.iloc[:, column])


@pytest.mark.filterwarnings("ignore::crystalssl.exceptions.UnseenElementsWarning")
def test_contributions_to_the_probability_of_a_class(crystals):
    """Classes that are numbers are meant before the number of a column; a search stands for its best estimator."""
    X, y = crystals[0][:20], crystals[1][:20]
    model = CrystalSSLClassifier(**TINY).set_params(max_epochs=1)
    search = GridSearchCV(model, {"head_dim": [8]}, cv=2).fit(X, np.where(y > y.median(), 1, 2))
    display = AtomContributionsDisplay.from_estimator(search, X[0], target=1)
    np.testing.assert_allclose(display.values, atom_contributions(search, X[:1]).atoms[1])


def test_contributions_of_a_model_that_cannot_be_looked_into(several, crystals):
    with pytest.raises(NotFittedError):
        AtomContributionsDisplay.from_estimator(CrystalSSLRegressor(), crystals[0][0])
    with pytest.raises(TypeError, match="a Pipeline that ends in one; got a list"):
        AtomContributionsDisplay.from_estimator([1], crystals[0][0])
    with pytest.raises(ValueError, match="several targets; set target to one of 'density', 'minus'"):
        AtomContributionsDisplay.from_estimator(several[0], crystals[0][0])


def test_contributions_of_what_is_no_crystal():
    with pytest.raises(InvalidStructureError):
        AtomContributionsDisplay.from_values(3, [1.0])
