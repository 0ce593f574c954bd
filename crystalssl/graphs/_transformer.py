"""The scikit-learn step from structures to graphs."""

from __future__ import annotations

import warnings
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions

from crystalssl._parameters import PackageEstimator, Registered
from crystalssl.exceptions import InvalidStructureError, SkippedStructureWarning
from crystalssl.graphs._arrays import CrystalArrays
from crystalssl.graphs._columns import read_columns
from crystalssl.graphs._corpus import CrystalCorpus
from crystalssl.graphs._crystal_graphs import CrystalGraphs
from crystalssl.graphs._given import as_graphs
from crystalssl.graphs._good import graphs_of_good
from crystalssl.graphs._recipe import RECIPES
from crystalssl.graphs._structures import crystal_arrays

__all__ = ["CrystalGraphTransformer"]


# Graphs are no table: without the wrapping, scikit-learn's global transform_output="pandas" leaves them alone.
class CrystalGraphTransformer(TransformerMixin, PackageEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Turn crystals into the graphs that an encoder reads.

    Parameters
    ----------
    encoder : str, Encoder or type, default="gatedgcn"
        The encoder that will read the graphs, which decides `cutoff` and `max_neighbors`: its name, its class, an
        instance, or anything else with a `recipe`.
    cutoff : float or None, default=None
        Largest distance of a neighbour in Å; None takes the encoder's.
    max_neighbors : int or None, default=None
        Number of nearest neighbours that each atom keeps, its last shell completed; None takes the encoder's.
    on_error : {"raise", "skip"}, default="raise"
        What to do with an invalid crystal. "skip" leaves it out, warns and lists it in `errors_`; use it only where
        nothing else has one row per crystal (not in a Pipeline with `y`).
    n_jobs : int or None, default=None
        Processes of the neighbour search. None means 1 unless in a :obj:`joblib.parallel_backend` context.
    verbose : int, default=0
        1 prints a line with the size of the graphs.

    Attributes
    ----------
    recipe_ : GraphRecipe
        Rule by which the graphs are built.
    errors_ : list of (int, str)
        Index and reason of each crystal that the last `transform` skipped.

    See Also
    --------
    crystalssl.CrystalSSLRegressor : Reads these graphs.

    Examples
    --------
    >>> from crystalssl import CrystalGraphTransformer
    >>> from crystalssl.datasets import load_prototypes
    >>> X, y = load_prototypes(return_X_y=True)
    >>> graphs = CrystalGraphTransformer().fit_transform(X[:20])
    >>> len(graphs), graphs.recipe.cutoff
    (20, 8.0)
    """

    _parameter_constraints = {
        "encoder": [Registered(RECIPES)],
        "cutoff": [Interval(Real, 0, None, closed="neither"), None],
        "max_neighbors": [Interval(Integral, 1, None, closed="left"), None],
        "on_error": [StrOptions({"raise", "skip"})],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        encoder: Any = "gatedgcn",
        *,
        cutoff: float | None = None,
        max_neighbors: int | None = None,
        on_error: str = "raise",
        n_jobs: int | None = None,
        verbose: int = 0,
    ):
        self.encoder = encoder
        self.cutoff = cutoff
        self.max_neighbors = max_neighbors
        self.on_error = on_error
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(self, X: Any = None, y: Any = None) -> CrystalGraphTransformer:
        """Validate the parameters; nothing is learnt from the crystals.

        Parameters
        ----------
        X : ignored
        y : ignored

        Returns
        -------
        self
        """
        self._validate_params()
        default = RECIPES.of(self.encoder)
        self.recipe_ = replace(
            default,
            cutoff=float(default.cutoff if self.cutoff is None else self.cutoff),
            max_neighbors=default.max_neighbors if self.max_neighbors is None else int(self.max_neighbors),
        )
        self.errors_: list[tuple[int, str]] = []
        return self

    def transform(self, X: Any) -> CrystalGraphs | CrystalCorpus:
        """Build the graphs.

        Parameters
        ----------
        X : sequence of crystals, or CrystalGraphs
            As taken by :func:`crystalssl.check_structures`. `CrystalGraphs` and a `CrystalCorpus` of the same recipe
            pass through.

        Returns
        -------
        CrystalGraphs
            One graph per crystal.

        Raises
        ------
        InvalidStructureError
            With ``on_error="raise"``, if a crystal is invalid; the message names the item.
        """
        self.fit()  # nothing is learnt, so that the parameters of now decide, not those of an earlier fit
        items = as_graphs(X)
        if isinstance(items, (CrystalGraphs, CrystalCorpus)):
            items.check_recipe(self.recipe_)
            return items
        if self.on_error == "raise":
            graphs = CrystalGraphs.from_columns(read_columns(items), self.recipe_, n_jobs=self.n_jobs)
        else:
            graphs = self._of_good(items)
        if self.verbose:
            print(f"[CrystalGraphTransformer] {graphs}")
        return graphs

    def _of_good(self, items: list[Any]) -> CrystalGraphs:
        crystals: dict[int, CrystalArrays] = {}
        errors: dict[int, InvalidStructureError] = {}
        for index, item in enumerate(items):
            try:
                crystals[index] = crystal_arrays(item, index)
            except InvalidStructureError as error:
                errors[index] = error
        graphs, without_graph = graphs_of_good(crystals, self.recipe_, self.n_jobs)
        self.errors_ = [(index, str(error)) for index, error in sorted((errors | without_graph).items())]
        if self.errors_:
            warnings.warn(
                f"{len(self.errors_)} of {len(items)} crystals were skipped, the first because of: "
                f"{self.errors_[0][1]}. See errors_ for all.",
                SkippedStructureWarning,
                stacklevel=3,
            )
        if graphs is None:
            raise ValueError("no crystals were given that are valid; at least one is needed")
        return graphs

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the name of the single output column, which `Pipeline.set_output` asks for.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of shape (1,), object
        """
        return np.array(["crystal_graph"], dtype=object)

    def set_output(self, *, transform: str | None = None) -> CrystalGraphTransformer:
        """Accept scikit-learn's output setting, which does not apply: graphs are not a table.

        Parameters
        ----------
        transform : ignored

        Returns
        -------
        self
        """
        return self

    def __sklearn_is_fitted__(self) -> bool:
        # Stateless: an unfitted transformer can transform, as scikit-learn's FunctionTransformer does.
        return True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = []
        return tags
