"""Error against the number of labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from crystalssl._steps import split
from crystalssl.plotting._axes import axes_or_new, with_unit
from crystalssl.plotting._display import Display

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["LabelEfficiencyDisplay"]


class LabelEfficiencyDisplay(Display):
    """Error against the number of labelled crystals, of several methods.

    Lines join the means over the repetitions; bars span one standard deviation either way. Made by
    :meth:`from_estimator`, which also makes the study, :meth:`from_estimators` or :meth:`from_results`.

    Parameters
    ----------
    results : pandas.DataFrame
        One row per method, number of labels and repetition, with the columns "method", "n_labels" and `score_name`.
    score_name : str, default="mae"
        Column of the errors or scores.
    label : str, default="MAE"
        What the axis of errors or scores says.
    unit : str, default=""
        Their unit.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Axes with the lines.
    figure_ : matplotlib.figure.Figure
        Their figure.
    errorbars_ : list of matplotlib.container.ErrorbarContainer
        One for each method.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import pandas as pd
    >>> from crystalssl.plotting import LabelEfficiencyDisplay
    >>> runs = [("scratch", 10, 3.0), ("scratch", 10, 5.0), ("scratch", 20, 2.0), ("barlow", 10, 2.5)]
    >>> runs = pd.DataFrame(runs, columns=["method", "n_labels", "mae"])
    >>> display = LabelEfficiencyDisplay.from_results(runs, unit="eV")
    >>> display.ax_.get_ylabel(), display.ax_.get_legend_handles_labels()[1]
    ('MAE (eV)', ['scratch', 'barlow'])
    """

    def __init__(self, *, results: pd.DataFrame, score_name: str = "mae", label: str = "MAE", unit: str = ""):
        self.results, self.score_name, self.label, self.unit = results, score_name, label, unit

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any, **options: Any) -> LabelEfficiencyDisplay:
        """Train an estimator with and without pretraining on growing numbers of crystals, and draw the errors.

        Parameters
        ----------
        estimator : CrystalSSLRegressor, CrystalSSLClassifier or Pipeline
            With what `pretrain` names, which is compared with the same encoder from random weights. It is cloned.
        X : sequence of crystals, or CrystalGraphs
            Crystals; graphs, so that they are not made again for every fit.
        y : array-like of shape (n_crystals,)
            Their labels.
        **options
            As for :meth:`from_estimators`.

        Returns
        -------
        LabelEfficiencyDisplay
            Its `results` are those of the study.

        Raises
        ------
        ValueError
            If `pretrain` is None, or an embedder that would be pretrained in every fit; compare what you want by
            :meth:`from_estimators`.

        Examples
        --------
        >>> import matplotlib
        >>> matplotlib.use("Agg")
        >>> from crystalssl import CrystalSSLRegressor
        >>> from crystalssl.datasets import load_prototypes
        >>> from crystalssl.plotting import LabelEfficiencyDisplay
        >>> X, y = load_prototypes(return_X_y=True)
        >>> model = CrystalSSLRegressor("barlow", max_epochs=1, random_state=0)
        >>> display = LabelEfficiencyDisplay.from_estimator(model, X[130:160], y[130:160], train_sizes=[10, 20], cv=2)
        ... # doctest: +SKIP
        >>> display.results.groupby(["method", "n_labels"]).mae.mean()  # doctest: +SKIP
        """
        scratch = without_pretraining(estimator)
        return cls.from_estimators({"from scratch": scratch, "pretrained": estimator}, X, y, **options)

    @classmethod
    def from_estimators(
        cls,
        estimators: dict[str, Any],
        X: Any,
        y: Any,
        *,
        train_sizes: Any = (0.1, 0.2, 0.4, 1.0),
        cv: Any = None,
        scoring: Any = None,
        groups: Any = None,
        n_jobs: int | None = None,
        random_state: int | None = 0,
        unit: str = "",
        ax: Axes | None = None,
    ) -> LabelEfficiencyDisplay:
        """Train estimators on growing numbers of crystals by :func:`sklearn.model_selection.learning_curve`, and draw.

        Parameters
        ----------
        estimators : dict
            Estimators by the names that the legend gives them. They are cloned.
        X : sequence of crystals, or CrystalGraphs
            Crystals; graphs, so that they are not made again for every fit.
        y : array-like of shape (n_crystals,)
            Their labels.
        train_sizes : array-like, default=(0.1, 0.2, 0.4, 1.0)
            Numbers of training crystals, or shares of the largest training set of `cv`.
        cv : int, splitter or iterable, default=None
            As everywhere in scikit-learn; None tests on a random fifth, five times.
        scoring : str, callable or None, default=None
            As everywhere in scikit-learn; None is the mean absolute error of a regressor, the accuracy of a classifier.
        groups : array-like of shape (n_crystals,) or None, default=None
            For `cv`.
        n_jobs : int or None, default=None
            Processes.
        random_state : int or None, default=0
            Of the splits of ``cv=None``, and the order in which training crystals are taken.
        unit : str, default=""
            Unit of the error, for the label.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        LabelEfficiencyDisplay
            Its `results` are those of the study.

        Raises
        ------
        TypeError
            If `estimators` is no dict of estimators.
        """
        import pandas as pd
        from sklearn.base import is_classifier
        from sklearn.model_selection import ShuffleSplit, learning_curve

        if not isinstance(estimators, dict) or not estimators:
            raise TypeError(f"estimators must be a dict of estimators by name; got {estimators!r}")
        if ax is not None:
            axes_or_new(ax)  # what is wrong with it is said before hours of training
        if scoring is None:
            first = next(iter(estimators.values()))
            scoring = "accuracy" if is_classifier(first) else "neg_mean_absolute_error"
        if cv is None:
            cv = ShuffleSplit(5, test_size=0.2, random_state=random_state)
        name = scoring if isinstance(scoring, str) else getattr(scoring, "__name__", "score")
        sign, name = (-1, name.removeprefix("neg_")) if name.startswith("neg_") else (1, name)
        rows = []
        for method, estimator in estimators.items():
            sizes, _, scores = learning_curve(
                estimator,
                X,
                y,
                groups=groups,
                train_sizes=np.asarray(train_sizes),
                cv=cv,
                scoring=scoring,
                n_jobs=n_jobs,
                shuffle=True,
                random_state=random_state,
                error_score="raise",
            )
            rows += [
                (method, int(n), split, sign * float(score))
                for n, of_size in zip(sizes, scores, strict=True)
                for split, score in enumerate(of_size)
            ]
        column, label = ("mae", "MAE") if name == "mean_absolute_error" else (name, name.replace("_", " "))
        results = pd.DataFrame(rows, columns=["method", "n_labels", "split", column])
        return cls(results=results, score_name=column, label=label, unit=unit).plot(ax)

    @classmethod
    def from_results(
        cls, results: Any, *, score_name: str = "mae", label: str | None = None, unit: str = "", ax: Axes | None = None
    ) -> LabelEfficiencyDisplay:
        """Draw results of a study that was made.

        Parameters
        ----------
        results : pandas.DataFrame
            One row per method, number of labels and repetition, with the columns "method", "n_labels" and `score_name`.
        score_name : str, default="mae"
            Column of the errors or scores.
        label : str or None, default=None
            What the axis says; None is "MAE" for "mae", else `score_name`.
        unit : str, default=""
            Unit of the error, for the label.
        ax : matplotlib.axes.Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        LabelEfficiencyDisplay

        Raises
        ------
        ValueError
            If a column is missing, or there are no rows.
        """
        missing = {"method", "n_labels", score_name} - set(results.columns)
        if missing:
            raise ValueError(f"the frame lacks the columns {sorted(missing)}; it has {list(results.columns)}")
        if len(results) == 0:
            raise ValueError("the frame has no rows")
        label = label or ("MAE" if score_name == "mae" else score_name.replace("_", " "))
        return cls(results=results, score_name=score_name, label=label, unit=unit).plot(ax)

    def _draw(self, ax: Axes) -> None:
        from matplotlib.transforms import ScaledTranslation

        self.errorbars_ = []
        groups = self.results.groupby("method", sort=False)
        for number, (method, runs) in enumerate(groups):
            errors = runs.groupby("n_labels")[self.score_name]
            # A single repetition has no spread; its bar has no length.
            spread = errors.std().fillna(0.0)
            mean = errors.mean()
            # Drawn side by side, three points apart, where bars of several methods would hide each other.
            inches = 3 / 72 * (number - (groups.ngroups - 1) / 2)
            shifted = ax.transData + ScaledTranslation(inches, 0, ax.figure.dpi_scale_trans)
            bars = ax.errorbar(mean.index, mean, spread, capsize=2, label=str(method), transform=shifted)
            bars.lines[0].set(marker="o", markersize=4)
            # Axes do not see by themselves what is drawn with another transformation than theirs.
            ax.update_datalim([(x, y) for ends in (mean - spread, mean + spread) for x, y in ends.items()])
            self.errorbars_.append(bars)
        ax.autoscale_view()
        ax.set(xlabel="labelled crystals", ylabel=with_unit(self.label, self.unit))
        ax.legend()


def without_pretraining(estimator: Any) -> Any:
    """Return a clone of an estimator or Pipeline whose encoder is the same and starts from random weights."""
    from sklearn.base import clone
    from sklearn.frozen import FrozenEstimator

    from crystalssl.estimators._finetuning import FinetunedEstimator
    from crystalssl.estimators._source import EncoderSource

    estimator = clone(estimator)
    last = split(estimator)[1]
    elsewhere = "; give the models to compare to LabelEfficiencyDisplay.from_estimators, as a dict by name"
    if not isinstance(last, FinetunedEstimator):
        raise TypeError(f"a {type(last).__name__} is not finetuned, so there is no pretraining to leave out{elsewhere}")
    pretrain: Any = last.pretrain
    if pretrain is None:
        raise ValueError(f"pretrain is None, so there is no pretraining to leave out{elsewhere}")
    if not isinstance(pretrain, FrozenEstimator) and getattr(pretrain, "weights", "") is None:
        raise ValueError(f"pretrain is an embedder that every fit would pretrain anew{elsewhere}")
    source = EncoderSource.of(pretrain, last.encoder, [])
    last.set_params(pretrain=None, encoder=source.untrained().build())
    return estimator
