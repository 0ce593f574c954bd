"""Crystals as points, near each other where an encoder finds them alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl._steps import split
from crystalssl._suggestions import did_you_mean
from crystalssl.plotting._arguments import check_fitted
from crystalssl.plotting._display import Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PROJECTIONS", "EmbeddingDisplay", "check_projection", "project", "vectors_of"]

PROJECTIONS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
"""Projections on two dimensions, and what they are called."""
_N_CLASSES = 10


class EmbeddingDisplay(Display):
    """Crystals in two dimensions, coloured by a property.

    Made by :meth:`from_estimator` or :meth:`from_vectors`.

    Parameters
    ----------
    points : ndarray of shape (n_crystals, 2)
        Where they lie.
    values : ndarray of shape (n_crystals,) or None, default=None
        Numbers or classes by which they are coloured.
    label : str, default=""
        Name of these, with their unit.
    projection : str, default="pca"
        How the points were made.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the points.
    figure_ : matplotlib.figure.Figure
        Their figure.
    scatter_ : matplotlib.collections.PathCollection
        The points.
    colorbar_ : matplotlib.colorbar.Colorbar or None
        The scale of numbers; classes have a legend.

    References
    ----------
    Figures of this kind: R. Magar, Y. Wang and A. Barati Farimani, npj Comput. Mater. 8, 231 (2022),
    doi:10.1038/s41524-022-00921-5, figure 3.
    """

    def __init__(
        self, *, points: np.ndarray, values: np.ndarray | None = None, label: str = "", projection: str = "pca"
    ):
        self.points, self.values, self.label, self.projection = points, values, label, projection

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        values: Any = None,
        *,
        projection: str = "pca",
        label: str = "",
        random_state: int | None = 0,
        ax: Axes | None = None,
    ) -> EmbeddingDisplay:
        """Draw the vectors that an estimator makes of crystals.

        Parameters
        ----------
        estimator : PretrainedCrystalEmbedder, CrystalSSLRegressor, CrystalSSLClassifier or Pipeline
            Fitted. Of a finetuned model it is what the head of its first network sees; of a Pipeline that ends in any
            other predictor, what this sees.
        X : sequence of crystals, or CrystalGraphs
            Crystals.
        values : array-like of shape (n_crystals,) or None, default=None
            Numbers, or classes, of which the ten most frequent get a colour. What is missing is grey.
        projection : {"pca", "tsne", "umap"}, default="pca"
            How to come to two dimensions, from vectors whose components are standardised. UMAP takes
            ``pip install "crystalssl[umap]"``.
        label : str, default=""
            Name of the values, with their unit; None takes that of a Series.
        random_state : int or None, default=0
            Of the projection.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        EmbeddingDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it makes no vectors.
        ValueError
            If values do not fit, or the projection is not known.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("Agg")
        >>> from crystalssl import PretrainedCrystalEmbedder
        >>> from crystalssl.datasets import load_prototypes
        >>> from crystalssl.plotting import EmbeddingDisplay
        >>> X, y = load_prototypes(return_X_y=True)
        >>> embedder = PretrainedCrystalEmbedder().fit(X)
        >>> EmbeddingDisplay.from_estimator(embedder, X[130:160], y[130:160], label="density (g/cm³)").points.shape
        (30, 2)
        """
        check_projection(projection)
        vectors = vectors_of(estimator, X)
        return cls.from_vectors(vectors, values, projection=projection, label=label, random_state=random_state, ax=ax)

    @classmethod
    def from_vectors(
        cls,
        vectors: Any,
        values: Any = None,
        *,
        projection: str = "pca",
        label: str = "",
        random_state: int | None = 0,
        ax: Axes | None = None,
    ) -> EmbeddingDisplay:
        """Draw vectors.

        Parameters
        ----------
        vectors : array-like of shape (n_crystals, n_features)
            Of any origin. Those of two components are drawn as they are.
        values : array-like of shape (n_crystals,) or None, default=None
            Numbers, or classes, of which the ten most frequent get a colour. What is missing is grey.
        projection : {"pca", "tsne", "umap"}, default="pca"
            How to come to two dimensions.
        label : str, default=""
            Name of the values, with their unit.
        random_state : int or None, default=0
            Of the projection.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        EmbeddingDisplay

        Raises
        ------
        ValueError
            If shapes do not fit, a vector is not finite, or the projection is not known.
        """
        vectors = np.asarray(vectors, dtype=float)
        if vectors.ndim != 2 or vectors.shape[1] < 2:
            raise ValueError(f"vectors have shape {vectors.shape}; expected (n_crystals, n_features)")
        colors = None if values is None else _check_values(values, len(vectors))
        label = label or str(getattr(values, "name", None) or "")
        points = vectors if vectors.shape[1] == 2 else project(vectors, projection, random_state)
        return cls(points=points, values=colors, label=label, projection=projection).plot(ax)

    def _draw(self, ax: Axes) -> None:
        size = float(np.clip(4000 / len(self.points), 3, 20))
        style: dict[str, Any] = {"s": size, "alpha": 0.8, "edgecolors": "none"}
        self.colorbar_ = None
        x, y = self.points.T
        if self.values is None:
            self.scatter_ = ax.scatter(x, y, **style)
        elif self.values.dtype.kind == "f":
            known = np.isfinite(self.values)
            if not known.all():
                ax.scatter(x[~known], y[~known], color="0.8", label="unknown", zorder=0, **style)
            # The colours of a few extreme values would leave one for all others.
            low, high = np.quantile(self.values[known], [0.02, 0.98]) if known.any() else (0.0, 1.0)
            self.scatter_ = ax.scatter(x[known], y[known], c=self.values[known], vmin=low, vmax=high, **style)
            self.colorbar_ = ax.figure.colorbar(self.scatter_, ax=ax, label=self.label, extend="both")
        else:
            self.scatter_ = self._plot_classes(ax, style)
        name = PROJECTIONS.get(self.projection, self.projection)
        ax.set(xticks=[], yticks=[], xlabel=f"{name} 1", ylabel=f"{name} 2")

    def _plot_classes(self, ax: Axes, style: dict[str, Any]) -> Any:
        """Draw points in one collection, in the colours of their classes, with a legend."""
        from matplotlib import colormaps
        from matplotlib.lines import Line2D

        assert self.values is not None
        names, counts = np.unique(self.values, return_counts=True)
        names = names[np.argsort(-counts, kind="stable")]
        palette = [colormaps["tab10"](number) for number in range(_N_CLASSES)]
        colors = dict(zip(names[:_N_CLASSES].tolist(), palette, strict=False))
        others = "others" if len(names) > _N_CLASSES else None
        grey = (0.8, 0.8, 0.8, 1.0)
        scatter = ax.scatter(*self.points.T, color=[colors.get(name, grey) for name in self.values.tolist()], **style)
        entries = [*colors.items()] + ([(others, grey)] if others else [])
        handles = [Line2D([], [], linestyle="", marker="o", color=color, label=str(name)) for name, color in entries]
        ax.legend(handles=handles, title=self.label or None, fontsize="small")
        return scatter


def vectors_of(estimator: Any, X: Any) -> np.ndarray:
    """Return the vectors that an estimator makes of crystals, of shape (n_crystals, n_features)."""
    from crystalssl.estimators._finetuning import FinetunedEstimator

    check_fitted(estimator)
    steps, last = split(estimator)
    if isinstance(last, FinetunedEstimator):
        from crystalssl.inspection import _model
        from crystalssl.training import CrystalDataset

        model, X = _model.unwrap(estimator, X)
        return np.concatenate(
            [
                _model.vectors_of(model, 0, CrystalDataset(graphs), indices)
                for graphs, indices in _model.chunks_of(model, X)
            ]
        )
    for step in [*steps, last] if hasattr(last, "transform") else steps:
        X = step.transform(X)
    if not hasattr(last, "transform") and not steps:
        raise TypeError(
            f"a {type(last).__name__} makes no vectors of crystals; give a PretrainedCrystalEmbedder, a finetuned "
            "estimator, or a Pipeline with one of them"
        )
    vectors = np.asarray(X)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise TypeError("the Pipeline makes no vectors of crystals; it needs a PretrainedCrystalEmbedder")
    return vectors


def check_projection(projection: str) -> None:
    """Raise ValueError for a projection that there is not, ImportError for one whose package is not installed."""
    if projection not in PROJECTIONS:
        known = ", ".join(PROJECTIONS)
        raise ValueError(
            f"projection is {projection!r}; expected one of {known}.{did_you_mean(projection, PROJECTIONS)}"
        )


def project(vectors: np.ndarray, projection: str = "pca", random_state: int | None = 0) -> np.ndarray:
    """Return vectors in two dimensions, of shape (n_crystals, 2), after standardising their components.

    Parameters
    ----------
    vectors : ndarray of shape (n_crystals, n_features)
        At least three of them.
    projection : {"pca", "tsne", "umap"}, default="pca"
        How.
    random_state : int or None, default=0
        Seed.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    check_projection(projection)
    if len(vectors) < 3:
        raise ValueError(f"a projection takes at least 3 crystals; there are {len(vectors)}")
    vectors = StandardScaler().fit_transform(np.asarray(vectors, dtype=float))
    if projection == "pca":
        return PCA(2, random_state=random_state).fit_transform(vectors)
    # Both look for neighbours, which are the same after the small components are gone, in a tenth of the time.
    n_axes = min(50, *vectors.shape)
    vectors = PCA(n_axes, random_state=random_state).fit_transform(vectors)
    if projection == "tsne":
        from sklearn.manifold import TSNE

        return TSNE(perplexity=min(30.0, (len(vectors) - 1) / 3), random_state=random_state).fit_transform(vectors)
    try:
        from umap import UMAP
    except ImportError as error:
        raise ImportError('projection="umap" needs umap-learn: pip install "crystalssl[umap]"') from error
    return UMAP(n_neighbors=min(15, len(vectors) - 1), random_state=random_state, n_jobs=1).fit_transform(vectors)


def _check_values(values: Any, n: int) -> np.ndarray:
    """Return numbers as float64, classes as texts."""
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (n,):
        raise ValueError(f"values have shape {array.shape}; expected ({n},), one for each crystal")
    if array.dtype.kind in "fiu":
        return array.astype(float)
    return array.astype(str)
