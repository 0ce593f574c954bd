"""How many labels pretraining saves: errors on matbench_phonons against the number of training crystals.

    python benchmarks/learning_curves.py --jobs 2
    python benchmarks/learning_curves.py --percent 10 20 --seeds 0 --methods scratch:cgcnn barlow

A seed draws the training crystals, the same ones for all methods; all others are the test set. Adds one row per
method, share and seed to results/learning_curves.csv, leaves out what is there, and draws
docs/figures/learning_curves.png from all rows with the same settings and weights.
"""

from __future__ import annotations

from pathlib import Path

import joblib
import matplotlib
import pandas as pd
from _common import (
    ROOT,
    Results,
    add_model_options,
    baseline_of,
    fit_and_score,
    load_task,
    make_model,
    make_parser,
    markdown,
    run_all,
    settings_id,
    weights_sha256,
)
from matplotlib import pyplot
from sklearn.model_selection import ShuffleSplit

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor
from crystalssl.plotting import plot_label_efficiency

matplotlib.use("Agg")

KEYS = ["task", "method", "percent", "seed", "settings", "weights"]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--task", default="matbench_phonons")
    parser.add_argument("--percent", nargs="+", type=int, default=range(10, 80, 10), help="shares of the rows")
    parser.add_argument("--seeds", nargs="+", type=int, default=range(3))
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "figures" / "learning_curves.png")
    add_model_options(parser)
    options = parser.parse_args()
    results = Results(options.results / "learning_curves.csv", KEYS)
    settings = settings_id(CrystalSSLRegressor().set_params(**dict(options.set)))
    data = load_task(options.task, options.data)
    graphs = CrystalGraphTransformer().fit_transform(data.data)

    calls, rows = [], []
    for seed in options.seeds:
        for percent in options.percent:
            split = ShuffleSplit(1, train_size=percent / 100, random_state=seed)
            ((train, test),) = split.split(graphs)
            for method in options.methods:
                row = dict(
                    zip(KEYS, [options.task, method, percent, seed, settings, weights_sha256(method)], strict=True)
                )
                rows.append(row)
                if not results.has(row):
                    row = {**row, "n_labels": len(train), "n_test": len(test), "unit": data.unit}
                    model = make_model(method, seed, options.set)
                    calls.append(joblib.delayed(fit_and_score)(model, graphs, data.target, train, test, row))
    run_all(calls, results, options.jobs)

    frame = results.select(rows)
    errors = frame.groupby(["n_labels", "method"]).mae.agg(["mean", "std"])
    cells = (errors["mean"].map("{:.1f}".format) + " ± " + errors["std"].map("{:.1f}".format)).unstack()
    table = [[labels, *row] for labels, row in cells[options.methods].iterrows()]
    print(f"\nMAE ({data.unit}) on the other crystals of {options.task}, mean ± standard deviation over seeds\n")
    print(markdown(["labels", *options.methods], table))
    pretrained = [m for m in options.methods if m != baseline_of(m) and baseline_of(m) in options.methods]
    if pretrained:
        # Which crystals a seed draws moves all methods alike, so the differences say more than the spreads.
        paired = frame.pivot_table("mae", ["n_labels", "seed"], "method")
        gains = pd.DataFrame({method: 1 - paired[method] / paired[baseline_of(method)] for method in pretrained})
        means, wins = gains.groupby("n_labels").mean(), (gains > 0).groupby("n_labels").sum()
        cells = means.map("{:.1%}, ".format) + wins.map(f"{{}} of {len(options.seeds)}".format)
        table = [[labels, *row] for labels, row in cells.iterrows()]
        print("\nHow far below the same encoder from scratch on the same crystals, and for how many seeds below\n")
        print(markdown(["labels", *gains.columns], table))

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    plot_label_efficiency(frame, axes, unit=data.unit)
    axes.set(title=options.task, ylim=(0, None))
    options.figure.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.figure, dpi=120)
    print(f"\nfigure: {options.figure}")


if __name__ == "__main__":
    main()
