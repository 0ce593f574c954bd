"""What the estimators share: from whatever users hold to graphs, checked against what the weights know."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from tqdm.auto import tqdm

from crystalssl._parameters import PackageEstimator, Registered
from crystalssl.encoders import ENCODERS, POOLED_LAYERS, READOUTS, resolve_encoder
from crystalssl.graphs import RECIPES, CrystalCorpus, CrystalGraphs, GraphRecipe
from crystalssl.graphs._columns import read_columns
from crystalssl.graphs._corpus import parts_of
from crystalssl.graphs._given import as_graphs
from crystalssl.graphs._structures import check_elements
from crystalssl.training._background import in_background
from crystalssl.training._precision import PRECISIONS
from crystalssl.training._seeding import MAX_SEED

__all__ = [
    "CrystalEstimator",
    "check_encoder",
    "check_known_elements",
    "draw_seed",
    "elements_of",
    "join",
]

CRYSTALS_AT_A_TIME = 4096
"""Whose graphs are in memory where nothing is learnt, a multiple of the batches that they are computed in."""
SHOW_AFTER = 2.0
"""Seconds after which a bar of progress appears."""


class CrystalEstimator(PackageEstimator):
    """Base class of estimators that train an encoder, whose X is a collection of crystals."""

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "encoder": [Registered(ENCODERS), None],
        "readout": [StrOptions(set(READOUTS)), None],
        "pooled_layers": [StrOptions(set(POOLED_LAYERS)), None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "gradient_clip": [Interval(Real, 0, None, closed="neither"), None],
        "device": [str],
        "precision": [StrOptions(set(PRECISIONS))],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    n_jobs: int | None
    verbose: int

    def _items(self, X: Any) -> tuple[Any, int | None]:
        """Return the crystals to go through once, and how many there are; that of an iterator is not known."""
        if isinstance(X, Iterator) and not hasattr(X, "read"):  # a file, which is none of crystals
            return X, None
        items = as_graphs(X)
        return items, len(items)

    def _chunks(
        self, items: Any, n_items: int | None, recipe: GraphRecipe, title: str
    ) -> Iterator[tuple[CrystalGraphs, np.ndarray]]:
        """Yield the graphs of some crystals after others, and their positions, so that they never all take memory.

        There is a bar with this title if `verbose`, and if it takes more than a moment.
        """
        parts = self._graphs_of(items, n_items, recipe)
        if isinstance(items, CrystalCorpus):  # the next ones are read meanwhile
            parts = in_background(parts, 1)
        with tqdm(total=n_items, desc=title, unit="crystal", disable=not self.verbose, delay=SHOW_AFTER) as bar:
            first = 0
            for graphs in parts:
                yield graphs, np.arange(first, first + len(graphs))
                first += len(graphs)
                bar.update(len(graphs))

    def _graphs_of(self, items: Any, n_items: int | None, recipe: GraphRecipe) -> Iterator[CrystalGraphs]:
        first = 0
        while True:
            chunk = (
                [*islice(items, CRYSTALS_AT_A_TIME)] if n_items is None else items[first : first + CRYSTALS_AT_A_TIME]
            )
            if len(chunk) == 0 and first > 0:
                return
            yield self._in_memory(chunk.to_graphs() if isinstance(chunk, CrystalCorpus) else chunk, recipe, first)
            first += len(chunk)

    def _to_graphs(self, X: Any, recipe: GraphRecipe) -> CrystalGraphs | CrystalCorpus:
        """Return what is trained on: graphs in memory, or a corpus as it is."""
        X = as_graphs(X)
        if isinstance(X, CrystalCorpus):
            X.check_recipe(recipe)
            return X
        return self._in_memory(X, recipe)

    def _in_memory(self, X: Any, recipe: GraphRecipe, first: int = 0) -> CrystalGraphs:
        X = as_graphs(X)
        if isinstance(X, CrystalGraphs):
            if len(X) == 0:
                raise ValueError("X holds no crystals; at least one is needed")
            if X.recipe not in RECIPES.values():  # someone's own choice, which is not overruled silently
                X.check_recipe(recipe)
            # Graphs made for another encoder are made anew, so that a grid search can go over encoders behind one
            # CrystalGraphTransformer.
            return X.with_recipe(recipe, n_jobs=self.n_jobs)
        return CrystalGraphs.from_columns(read_columns(X, first), recipe, n_jobs=self.n_jobs, first=first)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags


def join(parts: Iterator[np.ndarray], n_rows: int | None) -> np.ndarray:
    """Return arrays end to end, in the memory of the result alone where its length is known."""
    beginning = next(parts)
    if n_rows is None:
        return np.concatenate([beginning, *parts])
    if len(beginning) == n_rows:
        next(parts, None)  # there is none, and the bar of progress is closed
        return beginning
    rows, start = np.empty((n_rows, *beginning.shape[1:]), beginning.dtype), 0
    for part in chain([beginning], parts):
        rows[start : start + len(part)] = part
        start += len(part)
    return rows


def check_known_elements(graphs: CrystalGraphs, elements: set[int], indices: np.ndarray) -> None:
    """Raise InvalidStructureError for the first crystal with an element that is not among `elements`.

    Parameters
    ----------
    graphs : CrystalGraphs
        The crystals.
    elements : set of int
        Atomic numbers.
    indices : ndarray of shape (n_crystals,), int
        Positions of the crystals in what the user gave.
    """
    if set(graphs.elements) <= elements:
        return
    unknown = ~np.isin(graphs.atomic_numbers, list(elements))
    index = int(np.searchsorted(graphs.atom_offsets, unknown.argmax(), side="right")) - 1
    atoms = slice(graphs.atom_offsets[index], graphs.atom_offsets[index + 1])
    check_elements(graphs.atomic_numbers[atoms], elements, int(indices[index]))


def check_encoder(name: str, config: dict[str, Any], wanted: Any, **params: Any) -> None:
    """Raise ValueError if weights are of another encoder than the one that a user wants.

    Parameters
    ----------
    name : str
        Name of the weights' encoder.
    config : dict
        Its parameters.
    wanted : str, type, Encoder or None
        As taken by :func:`crystalssl.encoders.resolve_encoder`; None leaves the choice to the weights.
    **params
        Parameters that it should have.
    """
    if wanted is not None:
        cls, own = resolve_encoder(wanted)
        if cls.name != name:
            raise ValueError(
                f"the pretrained weights are of the encoder {name!r}, not {cls.name!r}; leave encoder=None"
            )
        params = {**{key: value for key, value in own.items() if key not in ("readout", "pooled_layers")}, **params}
    for key, value in params.items():
        if config.get(key) != value:
            raise ValueError(
                f"{key}={value!r} has no effect: the pretrained {name!r} has {key}={config.get(key)!r}; leave it out, "
                "or start without weights"
            )


def elements_of(graphs: CrystalGraphs | CrystalCorpus, rows: np.ndarray) -> list[int]:
    """Return the atomic numbers that occur in some of the crystals, ascending."""
    return sorted({z for _, part in parts_of(graphs, rows) for z in part.elements})


def draw_seed(random_state: np.random.RandomState) -> int:
    """Return a seed for torch."""
    return int(random_state.randint(MAX_SEED))
