"""The noise of CDSSL, whose choice its paper leaves open: σ of 0.05, 0.1, 0.2 and 0.5 Å.

    python benchmarks/cdssl_sigma.py

For each σ a MEGNet of the smaller width is pretrained on a random part of the corpus, then finetuned on a tenth of the
log10 G set, as in benchmarks/methods.py, and its embedding probed by ridge regression for the logarithm of the volume
per atom of the same crystals. Adds one row per σ and seed to results/cdssl_sigma.csv and leaves out what is there.
"""

from __future__ import annotations

import joblib
import numpy as np
from _common import CACHE, Results, data_file, make_parser, markdown, sha256
from _sets import n_atoms_of, read_set
from pretrain import corpus_graphs
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crystalssl import CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder

KEYS = ["sigma", "seed", "settings"]
HIDDEN_DIM = 32


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--sigmas", nargs="+", type=float, default=[0.0, 0.05, 0.1, 0.2, 0.5], help="Å; 0 is no pretraining"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=range(3))
    parser.add_argument("--limit", type=int, default=4000, help="crystals of the corpus")
    parser.add_argument("--epochs", type=int, default=4, help="of pretraining")
    parser.add_argument("--finetuning-epochs", type=int, default=25)
    options = parser.parse_args()
    results = Results(options.results / "cdssl_sigma.csv", KEYS)
    path = data_file(options.data, "mp_pretrain.parquet")
    corpus = corpus_graphs(path, sha256(path), CACHE, "megnet")
    corpus = corpus[np.random.default_rng(0).permutation(len(corpus))[: options.limit]]
    X, y = read_set("log10 G", options.data)
    graphs = CrystalGraphTransformer(encoder="megnet").transform(X)
    usable = n_atoms_of(graphs, corpus.elements) == np.diff(graphs.atom_offsets)
    graphs, y = graphs[usable], y[usable]
    volume = np.log(abs(np.linalg.det(graphs.lattice)) / np.diff(graphs.atom_offsets))
    settings = joblib.hash([HIDDEN_DIM, options.limit, options.epochs, options.finetuning_epochs])[:8]

    rows = [
        {"sigma": f"{sigma:g}", "seed": seed, "settings": settings}
        for seed in options.seeds
        for sigma in options.sigmas
    ]
    for row in rows:
        if results.has(row):
            continue
        seed, sigma = row["seed"], float(row["sigma"])
        embedder = PretrainedCrystalEmbedder(
            "cdssl", weights=None, hidden_dim=HIDDEN_DIM, task_params={"sigma": sigma or 0.5}, batch_size=64,
            max_epochs=options.epochs, random_state=seed, verbose=1, device="cpu",
        )  # fmt: skip
        if sigma == 0:  # a single step on a few crystals: the weights stay what they were drawn as
            embedder.set_params(max_epochs=1, learning_rate=1e-12, weight_decay=0)
            embedder.fit(corpus[:8])
            embedder.elements_ = np.array(corpus.elements)
        else:
            embedder.fit(corpus)
        rest, test = train_test_split(np.arange(len(y)), test_size=0.2, random_state=seed)
        train = rest[: len(y) // 10]
        model = CrystalSSLRegressor(
            FrozenEstimator(embedder), max_epochs=options.finetuning_epochs, random_state=seed, device="cpu"
        )
        model.fit(graphs[train], y[train])
        probe = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 7)))
        r2 = cross_val_score(probe, embedder.transform(graphs), volume, cv=5).mean()
        mae = abs(model.predict(graphs[test]) - y[test]).mean()
        loss = min((epoch["valid_loss"] for epoch in embedder.history_ if "valid_loss" in epoch), default=np.nan)
        results.append({**row, "valid_loss": float(loss), "mae": float(mae), "r2_log_volume": float(r2)})
    lines = []
    for sigma, part in results.select(rows).groupby("sigma", sort=False):
        cells = [f"{part[name].mean():.3f} ± {part[name].std():.3f}" for name in ("mae", "r2_log_volume")]
        lines.append([f"{sigma} Å" if float(sigma) else "not pretrained", *cells])
    print(markdown(["σ", "MAE log10 G", "R² log volume"], lines))


if __name__ == "__main__":
    main()
