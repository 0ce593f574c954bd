"""What the estimators share: from whatever users hold to graphs, checked against what the weights know."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from crystalssl._parameters import PackageEstimator, Registered
from crystalssl.encoders import ENCODERS, POOLED_LAYERS, READOUTS, resolve_encoder
from crystalssl.exceptions import UnseenElementsWarning
from crystalssl.graphs import RECIPES, CrystalGraphs, GraphRecipe
from crystalssl.graphs._crystal_graphs import as_graphs
from crystalssl.graphs._structures import check_elements, crystal_arrays
from crystalssl.training._precision import PRECISIONS
from crystalssl.training._seeding import MAX_SEED

__all__ = [
    "CrystalEstimator",
    "check_encoder",
    "check_known_elements",
    "draw_seed",
    "elements_of",
    "warn_of_unseen_elements",
]


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

    def _to_graphs(self, X: Any, recipe: GraphRecipe) -> CrystalGraphs:
        X = as_graphs(X)
        if isinstance(X, CrystalGraphs):
            if len(X) == 0:
                raise ValueError("X holds no crystals; at least one is needed")
            if X.recipe not in RECIPES.values():  # someone's own choice, which is not overruled silently
                X.check_recipe(recipe)
            # Graphs made for another encoder are made anew, so that a grid search can go over encoders behind one
            # CrystalGraphTransformer.
            return X.with_recipe(recipe, n_jobs=self.n_jobs)
        crystals = [crystal_arrays(item, index) for index, item in enumerate(X)]
        return CrystalGraphs.from_arrays(crystals, recipe, n_jobs=self.n_jobs)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags


def check_known_elements(graphs: CrystalGraphs, elements: set[int]) -> None:
    """Raise InvalidStructureError for the first crystal with an element that is not among `elements`."""
    if set(graphs.elements) <= elements:
        return
    unknown = ~np.isin(graphs.atomic_numbers, list(elements))
    index = int(np.searchsorted(graphs.atom_offsets, unknown.argmax(), side="right")) - 1
    atoms = slice(graphs.atom_offsets[index], graphs.atom_offsets[index + 1])
    check_elements(graphs.atomic_numbers[atoms], elements, index)


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


def elements_of(graphs: CrystalGraphs, rows: np.ndarray) -> list[int]:
    """Return the atomic numbers that occur in some of the crystals, ascending."""
    chosen = np.zeros(len(graphs), dtype=bool)
    chosen[rows] = True
    return np.unique(graphs.atomic_numbers[np.repeat(chosen, np.diff(graphs.atom_offsets))]).tolist()


def warn_of_unseen_elements(graphs: CrystalGraphs, trained: set[int], stacklevel: int) -> None:
    """Warn once of crystals with elements that no training label has seen."""
    unseen = sorted(set(graphs.elements) - trained)
    if not unseen:
        return
    from pymatgen.core import Element

    n_crystals = len(
        np.unique(
            np.searchsorted(graphs.atom_offsets, np.flatnonzero(np.isin(graphs.atomic_numbers, unseen)), side="right")
        )
    )
    warnings.warn(
        f"{n_crystals} of {len(graphs)} crystals hold elements that no training label has seen, "
        f"{', '.join(Element.from_Z(z).symbol for z in unseen)}; their predictions may be far off: train on crystals "
        "that hold them",
        UnseenElementsWarning,
        stacklevel=stacklevel,
    )


def draw_seed(random_state: np.random.RandomState) -> int:
    """Return a seed for torch."""
    return int(random_state.randint(MAX_SEED))
