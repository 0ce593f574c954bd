"""Linear probing: ridge regression on vectors of crystals that the pretraining corpus does not hold.

    python benchmarks/linear_probe.py

4,096 random crystals of mp_stable.parquet, 80 % of them for training. Targets: the logarithms of the mass density
(g/cm³) and of the volume per atom (Å³), and the formation energy (eV/atom), which is harder. Controls: the same encoder
with random weights, whose batch statistics are taken from the training crystals; and the element features that the
encoder starts from, averaged over the atoms of the crystal. Adds one row per target, method and readout to
results/linear_probe.csv, and prints a Markdown table.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from _common import Results, data_file, make_parser, markdown, settings_id, weights_sha256
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crystalssl import CrystalGraphs, CrystalGraphTransformer, PretrainedCrystalEmbedder
from crystalssl.datasets import read_optimade_parquet
from crystalssl.encoders import CGCNN
from crystalssl.training import BatchIterator, CrystalDataset, bundled_weights, save_encoder

KEYS = ["target", "method", "readout", "settings", "weights"]
UNTRAINED, ELEMENTS = "untrained", "elements"


@torch.no_grad()
def save_untrained(folder: Path, graphs: CrystalGraphs) -> None:
    """Write a weights folder of an encoder with random weights and the batch statistics of `graphs`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = CGCNN().train()
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    for number, (batch, _) in enumerate(BatchIterator(CrystalDataset(graphs), 256), 1):
        for norm in norms:
            norm.momentum = 1 / number  # the average over all batches, where a constant one remembers the last few
        encoder(batch)
    save_encoder(folder, encoder, {"method": "barlow", "elements": list(graphs.elements)})


def mean_element_features(graphs: CrystalGraphs) -> np.ndarray:
    """Return the average over atoms of what the encoder knows of elements."""
    features = CGCNN().element_features.numpy()[graphs.atomic_numbers].astype(np.float64)
    return np.add.reduceat(features, graphs.atom_offsets[:-1]) / np.diff(graphs.atom_offsets)[:, None]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--methods", nargs="+", default=[*bundled_weights(), UNTRAINED, ELEMENTS])
    parser.add_argument("--readouts", nargs="+", default=["mean", "mean+max+min"])
    parser.add_argument("--crystals", type=int, default=4096)
    options = parser.parse_args()
    results = Results(options.results / "linear_probe.csv", KEYS)

    crystals = read_optimade_parquet(
        data_file(options.data, "mp_stable.parquet"), columns=["formation_energy_per_atom"]
    )
    energies = crystals.target["formation_energy_per_atom"].to_numpy()
    known = set(PretrainedCrystalEmbedder().fit([]).elements_)
    usable = [i for i, s in enumerate(crystals.data) if known.issuperset(s.atomic_numbers) and np.isfinite(energies[i])]
    chosen = np.random.RandomState(0).permutation(usable)[: options.crystals]
    structures = [crystals.data[i] for i in chosen]
    targets = {
        "log density": np.log([structure.density for structure in structures]),
        "log volume per atom": np.log([structure.volume / len(structure) for structure in structures]),
        "formation energy": energies[chosen],
    }
    graphs = CrystalGraphTransformer(verbose=1).fit_transform(structures)
    train, test = train_test_split(np.arange(len(graphs)), test_size=0.2, random_state=0)

    with tempfile.TemporaryDirectory() as folder:
        untrained = Path(folder) / UNTRAINED
        save_untrained(untrained, graphs[train])
        rows = [
            row
            for method in options.methods
            for readout in (options.readouts[:1] if method == ELEMENTS else options.readouts)
            for row in probe(method, readout, untrained, graphs, targets, train, test, results)
        ]

    frame = results.select(rows)
    cells = frame.pivot_table("r2", ["method", "readout"], "target", sort=False).map("{:.3f}".format)
    table = [[*names, *row[list(targets)]] for names, row in cells.iterrows()]
    print("\nR² of ridge regression on the test crystals\n")
    print(markdown(["vectors", "readout", *targets], table))


def probe(method, readout, untrained, graphs, targets, train, test, results) -> list[dict[str, str]]:
    """Fit and score all targets, if that is not done yet, and return the keys of their rows."""
    embedder = PretrainedCrystalEmbedder(readout=readout, device="cpu")
    if method == UNTRAINED:
        embedder.set_params(weights=untrained)
    elif method in bundled_weights():
        embedder.set_params(method=method)
    elif method != ELEMENTS:
        embedder.set_params(weights=method)
    weights = "" if method in (UNTRAINED, ELEMENTS) else weights_sha256(method)
    common = {"method": method, "readout": readout, "settings": settings_id(embedder, len(graphs)), "weights": weights}
    rows = [{"target": target, **common} for target in targets]
    if all(results.has(row) for row in rows):
        return rows
    vectors = mean_element_features(graphs) if method == ELEMENTS else embedder.fit_transform(graphs)
    for row in rows:
        y = targets[row["target"]]
        ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-4, 4, 33))).fit(vectors[train], y[train])
        predicted = ridge.predict(vectors[test])
        sizes = {"n_features": vectors.shape[1], "n_train": len(train), "n_test": len(test)}
        scores = {"r2": float(r2_score(y[test], predicted)), "mae": float(mean_absolute_error(y[test], predicted))}
        results.append({**row, **sizes, **scores})
    return rows


if __name__ == "__main__":
    main()
