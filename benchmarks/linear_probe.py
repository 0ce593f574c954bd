"""Linear probing: ridge regression on vectors of crystals that the pretraining corpus does not hold.

    python benchmarks/linear_probe.py

4,096 random crystals of mp_stable.parquet and as many of mp_elastic.parquet, 80 % of them for training. Targets: the
logarithms of the mass density (g/cm³) and of the volume per atom (Å³), formation energy (eV/atom), band gap (eV), and
the logarithm of the bulk modulus (GPa). Formation energies, band gaps and volumes of other crystals are among what
`joint` is pretrained to predict. Controls: CGCNN with random weights, whose batch statistics are taken from
the training crystals; and the element features that the encoder starts from, averaged over the atoms of the crystal.
Adds one row per target, method and readout to results/linear_probe.csv, and prints a Markdown table.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from _common import Results, data_file, make_parser, markdown, settings_id, weights_sha256
from _sets import known_elements
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
DEFAULT = "default"  # the readout that the encoder declares
NAMES = {"formation_energy_per_atom": "formation energy", "band_gap": "band gap", "log10_k_vrh": "log10 K"}


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
    save_encoder(folder, encoder, {"method": "barlow", "elements": list(range(1, 119))})


def mean_element_features(graphs: CrystalGraphs) -> np.ndarray:
    """Return the average over atoms of what the encoder knows of elements."""
    features = CGCNN().element_features.numpy()[graphs.atomic_numbers].astype(np.float64)
    return np.add.reduceat(features, graphs.atom_offsets[:-1]) / np.diff(graphs.atom_offsets)[:, None]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--methods", nargs="+", default=[*bundled_weights(), UNTRAINED, ELEMENTS])
    parser.add_argument("--readouts", nargs="+", default=[DEFAULT])
    parser.add_argument("--crystals", type=int, default=4096)
    options = parser.parse_args()
    results = Results(options.results / "linear_probe.csv", KEYS)

    samples = [
        Sample(options.data, "mp_stable.parquet", ["formation_energy_per_atom", "band_gap"], options.crystals),
        Sample(options.data, "mp_elastic.parquet", ["log10_k_vrh"], options.crystals),
    ]
    rows = []
    for sample in samples:
        with tempfile.TemporaryDirectory() as folder:
            untrained = Path(folder) / UNTRAINED
            save_untrained(untrained, sample.graphs[sample.train])
            for method in options.methods:
                for readout in options.readouts[:1] if method == ELEMENTS else options.readouts:
                    rows += probe(method, readout, untrained, sample, results)

    frame = results.select(rows)
    cells = frame.pivot_table("r2", ["method", "readout"], "target", sort=False).map("{:.3f}".format)
    table = [[*names, *row] for names, row in zip(cells.index, cells.to_numpy(), strict=True)]
    print("\nR² of ridge regression on the test crystals\n")
    print(markdown(["vectors", "readout", *cells.columns], table))


class Sample:
    """Random crystals of a file, their graphs and the targets to probe for.

    Parameters
    ----------
    folder : path
        With the data files.
    file : str
        Name of the file.
    columns : list of str
        Of the file, all known for the crystals that are drawn.
    n_crystals : int
        How many are drawn.
    """

    def __init__(self, folder: Path, file: str, columns: list[str], n_crystals: int):
        crystals = read_optimade_parquet(data_file(folder, file), columns=columns)
        values = crystals.target[columns].to_numpy(float)
        known = known_elements()
        usable = [
            i
            for i, structure in enumerate(crystals.data)
            if known.issuperset(structure.atomic_numbers) and np.isfinite(values[i]).all()
        ]
        chosen = np.random.RandomState(0).permutation(usable)[:n_crystals]
        structures = [crystals.data[i] for i in chosen]
        self.targets = {NAMES[name]: values[chosen, column] for column, name in enumerate(columns)}
        if file == "mp_stable.parquet":
            self.targets["log density"] = np.log([structure.density for structure in structures])
            self.targets["log volume per atom"] = np.log([s.volume / len(s) for s in structures])
        self.graphs = CrystalGraphTransformer(verbose=1).fit_transform(structures)
        self.train, self.test = train_test_split(np.arange(len(chosen)), test_size=0.2, random_state=0)


def probe(method: str, readout: str, untrained: Path, sample: Sample, results: Results) -> list[dict[str, str]]:
    """Fit and score all targets, if that is not done yet, and return the keys of their rows."""
    embedder = PretrainedCrystalEmbedder(readout=None if readout == DEFAULT else readout, device="cpu")
    if method == UNTRAINED:
        embedder.set_params(weights=untrained)
    elif method in bundled_weights():
        embedder.set_params(method=method)
    elif method != ELEMENTS:
        embedder.set_params(weights=method)
    weights = "" if method in (UNTRAINED, ELEMENTS) else weights_sha256(method)
    settings = settings_id(embedder, len(sample.graphs))
    common = {"method": method, "readout": readout, "settings": settings, "weights": weights}
    rows = [{"target": target, **common} for target in sample.targets]
    if all(results.has(row) for row in rows):
        return rows
    vectors = mean_element_features(sample.graphs) if method == ELEMENTS else embedder.fit_transform(sample.graphs)
    for row in rows:
        y, train, test = sample.targets[row["target"]], sample.train, sample.test
        ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-4, 4, 33))).fit(vectors[train], y[train])
        predicted = ridge.predict(vectors[test])
        sizes = {"n_features": vectors.shape[1], "n_train": len(train), "n_test": len(test)}
        scores = {"r2": float(r2_score(y[test], predicted)), "mae": float(mean_absolute_error(y[test], predicted))}
        results.append({**row, **sizes, **scores})
    return rows


if __name__ == "__main__":
    main()
