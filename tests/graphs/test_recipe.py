from __future__ import annotations

import dataclasses
import json

import pytest

from crystalssl.graphs import RECIPES, GraphRecipe


@pytest.mark.parametrize("cutoff", [0, -1.0, float("inf"), float("nan")])
def test_cutoff_must_be_a_positive_finite_distance(cutoff):
    with pytest.raises(ValueError, match="cutoff must be a positive finite distance"):
        GraphRecipe(cutoff=cutoff)


@pytest.mark.parametrize("k", [0, -3])
def test_at_least_one_neighbor(k):
    with pytest.raises(ValueError, match="max_neighbors must be at least 1"):
        GraphRecipe(cutoff=5.0, max_neighbors=k)


@pytest.mark.parametrize("shell", [0, -0.1, float("nan"), float("inf")])
def test_shell_is_a_distance(shell):
    with pytest.raises(ValueError, match="shell must be a positive finite distance in Å"):
        GraphRecipe(cutoff=5.0, shell=shell)


@pytest.mark.parametrize(
    "change", [{"cutoff": 7.0}, {"max_neighbors": 11}, {"max_neighbors": None}, {"shell": 0.2}, {"version": 1}]
)
def test_any_difference_makes_another_recipe(change):
    recipe = GraphRecipe(cutoff=8.0, max_neighbors=12)
    assert dataclasses.replace(recipe, **change) != recipe


@pytest.mark.parametrize("recipe", [GraphRecipe(5.0), *RECIPES.values()])
def test_recipe_survives_json(recipe):
    assert GraphRecipe(**json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_recipe_of_cgcnn_is_the_papers():
    assert (RECIPES["cgcnn"].cutoff, RECIPES["cgcnn"].max_neighbors) == (8.0, 12)
