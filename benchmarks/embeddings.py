"""The pictures of vectors in the papers: figure 3 of Crystal Twins and figure 5 of CDSSL.

    pip install "crystalssl[plot,umap]"
    python benchmarks/embeddings.py --figure docs/figures/embeddings.png

Above, perovskites by their formation energy: vectors of CGCNN trained from scratch, finetuned from Barlow Twins, and of
the finetuned default, in two dimensions by t-SNE. Four fifths of the crystals are trained on; the points are the
others, where the paper shows all. Below, 4,096 crystals of mp_stable.parquet, none of which is in the corpus, by their
density: vectors of an untrained MEGNet, of CDSSL and of the default, none of them finetuned, by UMAP. Prints how well
the ten nearest points tell the value of a point: R², mean over five parts that the others tell.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import torch
from _common import data_file, make_model, make_parser, markdown
from _sets import Sets
from linear_probe import Sample, vectors_of
from matplotlib import pyplot
from matplotlib.axes import Axes
from sklearn.model_selection import KFold, cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsRegressor

from crystalssl.plotting import EmbeddingDisplay
from crystalssl.plotting._embedding import PROJECTIONS

matplotlib.use("Agg")

FINETUNED = {"scratch:cgcnn": "CGCNN from scratch", "barlow": "barlow, finetuned", "joint": "joint, finetuned"}
FROZEN = {"scratch:megnet": "MEGNet, untrained", "cdssl": "cdssl", "joint": "joint"}
N_CRYSTALS = 4096


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the last bits depend on it
    figure, (above, below) = pyplot.subplots(2, 3, figsize=(13, 8), layout="constrained")
    lines = []
    sets = Sets(options.data)
    for (method, title), ax in zip(FINETUNED.items(), above, strict=True):
        display = draw_finetuned(method, sets, ax)
        lines.append(["perovskites, formation energy", *entitle(display, title)])
    sample = Sample(data_file(options.data, "mp_stable.parquet"), N_CRYSTALS)
    density = np.exp(sample.targets["log density"])
    for (method, title), ax in zip(FROZEN.items(), below, strict=True):
        vectors = vectors_of(method, sample)
        display = EmbeddingDisplay.from_vectors(vectors, density, projection="umap", label="density (g/cm³)", ax=ax)
        lines.append(["stable crystals, density", *entitle(display, title)])
    print(markdown(["crystals, value", "vectors", "projection", "R² of ten neighbours"], lines))
    if options.figure:
        figure.savefig(options.figure, dpi=110)


def draw_finetuned(method: str, sets: Sets, ax: Axes) -> EmbeddingDisplay:
    """Draw the crystals that a model was not trained on."""
    graphs, energies = sets.of("perovskites", method)
    train, test = train_test_split(np.arange(len(energies)), test_size=0.2, random_state=0)
    model = make_model(method, 0, []).fit(graphs[train], energies[train])
    return EmbeddingDisplay.from_estimator(
        model, graphs[test], energies[test], projection="tsne", label="formation energy (eV/atom)", ax=ax
    )


def entitle(display: EmbeddingDisplay, title: str) -> list[str]:
    """Give a picture its title, and return what the table says of it."""
    folds = KFold(5, shuffle=True, random_state=0)
    score = cross_val_score(KNeighborsRegressor(10), display.points, display.values, cv=folds).mean()
    display.ax_.set_title(f"{title}: R² {score:.2f}")
    return [title, PROJECTIONS[display.projection], f"{score:.2f}"]


if __name__ == "__main__":
    main()
