"""Linear probing: ridge regression on vectors of crystals that the pretraining corpus does not hold.

    python benchmarks/linear_probe.py

4,096 random crystals of mp_stable.parquet and as many of mp_elastic.parquet, 80 % of them for training. Targets: the
logarithms of the mass density (g/cm³) and of the volume per atom (Å³), formation energy (eV/atom), band gap (eV), and
the logarithm of the bulk modulus (GPa). Formation energies, band gaps and volumes of other crystals are among what
`joint` is pretrained to predict. Controls: every encoder with random weights, its batch statistics those of the
training crystals; and the element features that CGCNN starts from, averaged over the atoms of the crystal. Adds one row
per target and method to results/linear_probe.csv, leaves out what is there, and prints a Markdown table.

    python benchmarks/linear_probe.py --methods chgnet

adds what a universal potential knows, the mean, highest and lowest values of the atom vectors of CHGNet 0.3.0, whose
labels include energies of these very crystals; benchmarks/label_prototypes.py says how to install it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import (
    SCRATCH,
    Results,
    all_methods,
    data_file,
    encoder_of,
    make_parser,
    markdown,
    name_settings,
    settings_id,
    weights_sha256,
)
from _sets import known_elements
from sklearn.linear_model import RidgeCV
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crystalssl import CrystalGraphs, CrystalGraphTransformer, PretrainedCrystalEmbedder
from crystalssl.datasets import read_optimade_parquet
from crystalssl.encoders import CGCNN, ENCODERS
from crystalssl.training import BatchIterator, CrystalDataset, bundled_weights, save_encoder

KEYS = ["target", "method", "settings", "weights"]
# A column of the file, or what computes the target from a structure.
FILES: dict[str, dict[str, str | Callable[[Any], float]]] = {
    "mp_stable.parquet": {
        "log density": lambda structure: np.log(structure.density),
        "log volume per atom": lambda structure: np.log(structure.volume / len(structure)),
        "formation energy": "formation_energy_per_atom",
        "band gap": "band_gap",
    },
    "mp_elastic.parquet": {"log10 K": "log10_k_vrh"},
}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--methods",
        nargs="+",
        default=[*all_methods(), "elements"],
        help=f"weights, {SCRATCH}ENCODER, {', '.join(FEATURES)}",
    )
    parser.add_argument("--crystals", type=int, default=4096)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(options.results / "linear_probe.csv", KEYS)
    rows = []
    for file in FILES:
        sample = Sample(data_file(options.data, file), options.crystals)
        for method in options.methods:
            rows += probe(method, sample, results)
    cells = results.select(rows).pivot_table("r2", "method", "target", sort=False).map("{:.3f}".format)
    print("\nR² of ridge regression on the test crystals\n")
    print(
        markdown(
            ["vectors", *cells.columns], [[name, *row] for name, row in zip(cells.index, cells.to_numpy(), strict=True)]
        )
    )


class Sample:
    """Random crystals of a file, their graphs and the targets to probe for.

    Parameters
    ----------
    path : path
        One of `FILES`.
    n_crystals : int
        How many are drawn of those that have all targets.
    """

    def __init__(self, path: Path, n_crystals: int):
        targets = FILES[path.name]
        columns = [source for source in targets.values() if isinstance(source, str)]
        crystals = read_optimade_parquet(path, columns=columns)
        known = known_elements()
        labelled = np.isfinite(crystals.target[columns].to_numpy(float)).all(axis=1)
        usable = [i for i in np.flatnonzero(labelled) if known.issuperset(crystals.data[i].atomic_numbers)]
        chosen = np.random.RandomState(0).permutation(usable)[:n_crystals]
        self.structures = [crystals.data[i] for i in chosen]
        self.targets = {
            name: np.array(
                crystals.target[source].to_numpy(float)[chosen]
                if isinstance(source, str)
                else [source(structure) for structure in self.structures]
            )
            for name, source in targets.items()
        }
        self.graphs = CrystalGraphTransformer(verbose=1).fit_transform(self.structures)
        self.train, self.test = train_test_split(np.arange(len(chosen)), test_size=0.2, random_state=0)


def probe(method: str, sample: Sample, results: Results) -> list[dict[str, str]]:
    """Fit and score all targets, if that is not done yet, and return the keys of their rows."""
    weights = "" if method in FEATURES else weights_sha256(method)
    settings = settings_id(PretrainedCrystalEmbedder(), len(sample.graphs))
    rows = [{"target": target, "method": method, "settings": settings, "weights": weights} for target in sample.targets]
    if all(results.has(row) for row in rows):
        return rows
    name_settings(results.path.parent, settings, [])
    vectors = vectors_of(method, sample)
    for row in rows:
        y, train, test = sample.targets[row["target"]], sample.train, sample.test
        ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-4, 4, 33))).fit(vectors[train], y[train])
        predicted = ridge.predict(vectors[test])
        sizes = {"n_features": vectors.shape[1], "n_train": len(train), "n_test": len(test)}
        scores = {"r2": float(r2_score(y[test], predicted)), "mae": float(mean_absolute_error(y[test], predicted))}
        results.append({**row, **sizes, **scores})
        print(f"{method}, {row['target']}: R² {scores['r2']:.3f}", flush=True)
    return rows


def vectors_of(method: str, sample: Sample) -> np.ndarray:
    """Return the vectors of a sample's crystals."""
    if method in FEATURES:
        return FEATURES[method](sample)
    if not method.startswith(SCRATCH):
        weights = bundled_weights().get(method, method)
        return PretrainedCrystalEmbedder(weights=weights, device="cpu").fit_transform(sample.graphs)
    with tempfile.TemporaryDirectory() as folder:
        untrained = Path(folder) / "untrained"
        save_untrained(untrained, encoder_of(method), sample.graphs[sample.train])
        return PretrainedCrystalEmbedder(weights=untrained, device="cpu").fit_transform(sample.graphs)


@torch.no_grad()
def save_untrained(folder: Path, encoder_name: str, graphs: CrystalGraphs) -> None:
    """Write a weights folder of an encoder with random weights and the batch statistics of `graphs`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = ENCODERS[encoder_name]().train()
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    if norms:
        batches = BatchIterator(CrystalDataset(graphs.with_recipe(encoder.recipe)), 256)
        for number, (batch, _) in enumerate(batches, 1):
            for norm in norms:
                norm.momentum = 1 / number  # the average over all batches, where a constant one remembers the last few
            encoder(batch)
    save_encoder(folder, encoder, {"method": "mask", "elements": list(range(1, 119))})


def mean_element_features(sample: Sample) -> np.ndarray:
    """Return the average over atoms of what CGCNN knows of elements."""
    graphs = sample.graphs
    features = CGCNN().element_features.numpy()[graphs.atomic_numbers].astype(np.float64)
    return np.add.reduceat(features, graphs.atom_offsets[:-1]) / np.diff(graphs.atom_offsets)[:, None]


@torch.no_grad()
def chgnet_features(sample: Sample) -> np.ndarray:
    """Return mean, highest and lowest values of CHGNet's atom vectors."""
    from chgnet.model import CHGNet

    model = CHGNet.load(use_device="cpu", verbose=False)
    model.graph_converter.set_isolated_atom_response("ignore")
    vectors = []
    for start in range(0, len(sample.structures), 16):
        graphs = [model.graph_converter(structure) for structure in sample.structures[start : start + 16]]
        for atoms in model(graphs, task="e", return_atom_feas=True)["atom_fea"]:
            vectors.append(torch.cat([atoms.mean(0), atoms.amax(0), atoms.amin(0)]).numpy())
    return np.stack(vectors)


# What needs no weights of ours.
FEATURES: dict[str, Callable[[Sample], np.ndarray]] = {"elements": mean_element_features, "chgnet": chgnet_features}


if __name__ == "__main__":
    main()
