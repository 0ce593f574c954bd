from __future__ import annotations

import numpy as np
import pytest
import sklearn
from pymatgen.core import Lattice, Structure
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.validation import check_is_fitted

from crystalssl import CrystalGraphs, CrystalGraphTransformer
from crystalssl.exceptions import InvalidStructureError, RecipeMismatchError, SkippedStructureWarning
from crystalssl.graphs import RECIPES, GraphRecipe

SKEWED = Structure(np.array([[4, 0, 0], [1200, 4, 0], [0, 0, 4]]), ["Na"], [[0, 0, 0]])
EMPTY = Structure(Lattice.cubic(3), [], [])


@pytest.fixture
def close(salt):
    salt.append("Na", [0.01, 0, 0])
    return salt


@pytest.mark.parametrize("encoder", RECIPES)
def test_recipe_comes_from_the_encoder(prototypes, encoder):
    transformer = CrystalGraphTransformer(encoder=encoder).fit()
    assert transformer.recipe_ == RECIPES[encoder]
    assert transformer.transform(prototypes[:2]).recipe == RECIPES[encoder]


@pytest.mark.parametrize(
    ("params", "recipe"),
    [
        ({"cutoff": 5}, GraphRecipe(5.0, 12)),
        ({"max_neighbors": 3}, GraphRecipe(8.0, 3)),
        ({"cutoff": 4.5, "max_neighbors": np.int64(7)}, GraphRecipe(4.5, 7)),
    ],
)
def test_explicit_values_override_the_encoders(prototypes, params, recipe):
    graphs = CrystalGraphTransformer("cgcnn", **params).fit_transform(prototypes[:5])
    assert graphs.recipe == recipe
    assert graphs.distances.max() <= recipe.cutoff
    assert type(graphs.recipe.cutoff) is float
    assert type(graphs.recipe.max_neighbors) is int


def test_graphs_are_those_of_the_crystals_in_order(prototypes):
    graphs = CrystalGraphTransformer().fit_transform(prototypes[:30])
    assert isinstance(graphs, CrystalGraphs)
    assert [data.z.tolist() for data in graphs] == [list(s.atomic_numbers) for s in prototypes[:30]]


@pytest.mark.parametrize(
    "params",
    [
        {"encoder": "cgnn"},
        {"encoder": None},
        {"cutoff": 0},
        {"cutoff": -1.0},
        {"cutoff": float("nan")},
        {"cutoff": float("inf")},
        {"cutoff": "8"},
        {"max_neighbors": 0},
        {"max_neighbors": 2.5},
        {"on_error": "ignore"},
        {"n_jobs": 1.5},
        {"verbose": -1},
    ],
)
def test_invalid_parameter_is_named(prototypes, params):
    transformer = CrystalGraphTransformer(**params)  # __init__ only assigns
    for read in (transformer.fit, transformer.transform, transformer.fit_transform):
        with pytest.raises(ValueError, match=next(iter(params))):
            read(prototypes[:1])


def test_parameters_can_be_got_set_and_cloned():
    transformer = CrystalGraphTransformer("cgcnn", cutoff=5.0, on_error="skip", n_jobs=2)
    params = {
        "encoder": "cgcnn",
        "cutoff": 5.0,
        "max_neighbors": None,
        "on_error": "skip",
        "n_jobs": 2,
        "verbose": 0,
    }
    assert transformer.get_params() == params
    assert clone(transformer.fit()).get_params() == params
    assert vars(clone(transformer.fit())) == params  # nothing fitted comes along
    transformer.set_params(cutoff=None, max_neighbors=4)
    assert transformer.get_params() == {**params, "cutoff": None, "max_neighbors": 4}


def test_works_without_fit(prototypes):
    transformer = CrystalGraphTransformer(cutoff=4.0)
    check_is_fitted(transformer)
    assert transformer.transform(prototypes[:3]).recipe == GraphRecipe(4.0, 12, shell=0.2)


@pytest.mark.parametrize("fitted", [True, False])
def test_parameters_of_now_count_not_those_of_an_earlier_call(prototypes, fitted):
    transformer = CrystalGraphTransformer(cutoff=4.0)
    transformer.fit() if fitted else transformer.transform(prototypes[:1])
    assert transformer.set_params(cutoff=5.0).transform(prototypes[:1]).recipe.cutoff == 5.0


def test_graphs_of_the_same_recipe_pass_through(prototypes):
    graphs = CrystalGraphTransformer().transform(prototypes[:3])
    assert CrystalGraphTransformer().fit_transform(graphs) is graphs
    assert CrystalGraphTransformer(cutoff=8.0, max_neighbors=12).transform(graphs) is graphs


@pytest.mark.parametrize("params", [{"cutoff": 7.5}, {"max_neighbors": 8}])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_graphs_of_another_recipe_are_refused(prototypes, params, on_error):
    graphs = CrystalGraphTransformer(**params).transform(prototypes[:3])
    with pytest.raises(RecipeMismatchError, match=r"CrystalGraphTransformer\(encoder='gatedgcn'\)"):
        CrystalGraphTransformer(on_error=on_error).transform(graphs)


# ---------------------------------------------------------------------- on_error


def test_skipped_crystals_are_listed_with_reasons(prototypes, close):
    items = [EMPTY, prototypes[0], close, prototypes[1], None, SKEWED, "nowhere.cif", prototypes[2]]
    transformer = CrystalGraphTransformer(on_error="skip")
    with pytest.warns(SkippedStructureWarning, match=r"5 of 8 crystals were skipped.*item 0: the crystal has no atoms"):
        graphs = transformer.transform(items)
    assert [index for index, _ in transformer.errors_] == [0, 2, 4, 5, 6]
    reasons = ["no atoms", "0.0569 Å apart", "not a crystal", "too skewed", "no file"]
    for (index, message), reason in zip(transformer.errors_, reasons, strict=True):
        assert f"item {index}" in message
        assert reason in message
    assert [data.z.tolist() for data in graphs] == [list(s.atomic_numbers) for s in prototypes[:3]]


def test_nothing_to_skip_gives_no_warning(prototypes, recwarn):
    transformer = CrystalGraphTransformer(on_error="skip")
    assert len(transformer.transform(prototypes[:3])) == 3
    assert transformer.errors_ == []
    assert not [w for w in recwarn if issubclass(w.category, SkippedStructureWarning)]


def test_errors_are_those_of_the_last_call(prototypes):
    transformer = CrystalGraphTransformer(on_error="skip")
    with pytest.warns(SkippedStructureWarning):
        transformer.transform([EMPTY, prototypes[0]])
    transformer.transform(prototypes[:2])
    assert transformer.errors_ == []


def test_skip_and_raise_give_the_same_graphs(prototypes):
    a = CrystalGraphTransformer().transform(prototypes[:40])
    b = CrystalGraphTransformer(on_error="skip").transform(prototypes[:40])
    assert np.array_equal(a.distances, b.distances)
    assert np.array_equal(a.neighbors, b.neighbors)


def test_all_crystals_invalid_is_an_error_even_when_skipping():
    transformer = CrystalGraphTransformer(on_error="skip")
    with pytest.warns(SkippedStructureWarning), pytest.raises(ValueError, match="no crystals"):
        transformer.transform([EMPTY, EMPTY])


def test_warning_points_to_the_callers_line(prototypes):
    with pytest.warns(SkippedStructureWarning) as caught:
        CrystalGraphTransformer(on_error="skip").transform([EMPTY, prototypes[0]])
    assert caught[0].filename == __file__


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_error_names_the_item_in_later_chunks_and_other_processes(salt, close, n_jobs):
    good = Structure.from_sites(list(salt)[:8])
    with pytest.raises(InvalidStructureError, match=r"^item 200: atoms 0 and 8") as caught:
        CrystalGraphTransformer(n_jobs=n_jobs).transform([good] * 200 + [close] + [good] * 9)
    assert caught.value.index == 200


# ---------------------------------------------------------------------- scikit-learn


@pytest.mark.parametrize("container", ["pandas", "default"])
def test_set_output_leaves_graphs_alone(prototypes, container):
    transformer = CrystalGraphTransformer()
    assert transformer.set_output(transform=container) is transformer
    pipeline = make_pipeline(CrystalGraphTransformer(), "passthrough").set_output(transform=container)
    assert isinstance(pipeline.fit_transform(prototypes[:3]), CrystalGraphs)
    with sklearn.config_context(transform_output=container):
        assert isinstance(CrystalGraphTransformer().fit_transform(prototypes[:3]), CrystalGraphs)


def test_pipeline_has_feature_names():
    pipeline = Pipeline([("graphs", CrystalGraphTransformer())]).fit([])
    assert pipeline.get_feature_names_out().tolist() == ["crystal_graph"]


@pytest.mark.parametrize("verbose", [0, 1])
def test_verbose_prints_the_sizes(prototypes, capsys, verbose):
    graphs = CrystalGraphTransformer(verbose=verbose).transform(prototypes[:3])
    assert capsys.readouterr().out == (f"[CrystalGraphTransformer] {graphs}\n" if verbose else "")
