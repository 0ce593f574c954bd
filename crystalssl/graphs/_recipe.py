"""How a crystal becomes a graph, and which encoder wants which graph."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from crystalssl._registry import Registry
from crystalssl.exceptions import PluginError, RecipeMismatchError

__all__ = ["RECIPES", "GraphRecipe", "check_recipe"]


@dataclass(frozen=True)
class GraphRecipe:
    """Rule by which atoms become neighbours.

    Parameters
    ----------
    cutoff : float
        Largest distance of a neighbour, in Å.
    max_neighbors : int or None, default=None
        Number of nearest neighbours that an atom keeps, or None to keep all within `cutoff`.
    shell : float, default=0.01
        Atoms that are farther away than the last of these by at most this much, in Å, are kept too. The graph then
        follows from the crystal alone, not from the order of its sites or the choice of its cell. The default is more
        than the coordinates in files are rounded by. Within a wide shell an encoder can let neighbours fade out before
        they are cut off, as :class:`~crystalssl.encoders.GatedGCN` does.
    version : int, default=2
        Raised when the same parameters come to mean other graphs, so that stored graphs are never mixed. In version 1
        all shells were 0.0001 Å wide.

    Examples
    --------
    >>> from crystalssl.graphs import GraphRecipe
    >>> GraphRecipe(cutoff=8.0, max_neighbors=12)
    GraphRecipe(cutoff=8.0, max_neighbors=12, shell=0.01, version=2)
    """

    cutoff: float
    max_neighbors: int | None = None
    shell: float = 0.01
    version: int = 2

    def __post_init__(self) -> None:
        if not (0 < self.cutoff < math.inf):
            raise ValueError(f"cutoff must be a positive finite distance in Å, got {self.cutoff!r}")
        if self.max_neighbors is not None and self.max_neighbors < 1:
            raise ValueError(f"max_neighbors must be at least 1, or None for all, got {self.max_neighbors!r}")
        if not (0 < self.shell < math.inf):
            raise ValueError(f"shell must be a positive finite distance in Å, got {self.shell!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as a dict of JSON values."""
        return asdict(self)


class Recipes(Registry):
    """The recipe of each encoder, by the encoder's name. Kept here so that building graphs needs no torch.

    Registering an encoder adds its recipe. A name that is not known yet is looked up among the installed packages;
    listing shows what is known, and imports nothing.

    Parameters
    ----------
    recipes : dict of str to GraphRecipe
        Those of the encoders of this package.
    """

    others = "an object with a `recipe`, such as an encoder or its class"

    def __init__(self, recipes: dict[str, GraphRecipe]):
        super().__init__("encoder", "crystalssl.encoders", object)
        self._values.update(recipes)

    def accepts(self, value: Any) -> bool:
        """Return whether a value has a recipe."""
        return isinstance(getattr(value, "recipe", None), GraphRecipe)

    def check(self, cls: Any) -> None:
        """Raise TypeError if something has no recipe."""
        if not self.accepts(cls):
            raise TypeError(
                f"{cls!r} has no recipe: set the class attribute `recipe` to a crystalssl.graphs.GraphRecipe"
            )

    def of(self, encoder: Any) -> GraphRecipe:
        """Return the recipe of a name, or that of an object that has one, which is known from then on."""
        if isinstance(encoder, str):
            return self[encoder]
        # Graphs by an encoder's recipe are nobody's own choice, whether the encoder is registered or not.
        if isinstance(name := getattr(encoder, "name", None), str):
            self._values.setdefault(name, encoder.recipe)
        return encoder.recipe

    def _add(self, cls: Any) -> None:
        self._values[cls.name] = cls.recipe

    def _load_all(self) -> list[PluginError]:
        return []


RECIPES = Recipes(
    {
        "cgcnn": GraphRecipe(cutoff=8.0, max_neighbors=12),
        "megnet": GraphRecipe(cutoff=5.0),
        "deepergatgnn": GraphRecipe(cutoff=8.0, max_neighbors=12),
        "alignn": GraphRecipe(cutoff=8.0, max_neighbors=12),
        "gin": GraphRecipe(cutoff=8.0, max_neighbors=12),
        "gatedgcn": GraphRecipe(cutoff=8.0, max_neighbors=12, shell=0.2),
    }
)
"""The recipes of all encoders."""


def check_recipe(found: GraphRecipe, needed: GraphRecipe, advice: str) -> None:
    """Raise RecipeMismatchError if graphs are of another recipe than is needed.

    Parameters
    ----------
    found, needed : GraphRecipe
        That of the graphs, and the other.
    advice : str
        What to do, with braces in the place of the keywords that say the recipe.
    """
    if found == needed:
        return
    encoders = [name for name, its in RECIPES.items() if its == needed]
    how = f"encoder={encoders[0]!r}" if encoders else f"cutoff={needed.cutoff}, max_neighbors={needed.max_neighbors}"
    raise RecipeMismatchError(f"the graphs were built with {found}, but {needed} is needed; {advice.format(how)}")
