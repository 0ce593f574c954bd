"""What people use today, on the official folds: matminer's features with trees, and matgl's MEGNet.

    python -m venv /tmp/alternatives && . /tmp/alternatives/bin/activate
    pip install torch==2.13.0 && pip install -e . matminer==0.10.1 matgl==4.1.2
    python benchmarks/alternatives.py

matminer needs an older pandas than the other benchmarks, hence an environment of its own. The models:

- magpie + forest: 132 Magpie features of the composition and a random forest of 500 trees;
- structure + boosting: the same, and density, space group and fingerprints of the sites (order parameters of
  CrystalNN's neighbours), with scikit-learn's histogram gradient boosting of absolute errors;
- MEGNet: matgl's, with its defaults and its Lightning module, L1 loss, standardised targets, batches of 32, 100 epochs
  like crystalssl's regressor; a tenth of the training crystals chooses the epoch.

Adds one row per task, model and fold to results/alternatives.csv, leaves out what is there, and prints a table. Times
are those of one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import Results, load_task, make_parser, markdown
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.model_selection import train_test_split

from crystalssl.datasets import matbench_folds

KEYS = ["task", "model", "fold"]
N_EPOCHS = 100


def magpie(structures: list[Any]) -> np.ndarray:
    """Return Magpie features of the compositions."""
    from matminer.featurizers.composition import ElementProperty

    featurizer = ElementProperty.from_preset("magpie", impute_nan=True)
    return np.array([featurizer.featurize(structure.composition) for structure in structures])


def structure_features(structures: list[Any]) -> np.ndarray:
    """Return Magpie features and those of matminer's structure featurizers; NaN where one does not apply."""
    from matminer.featurizers import structure as featurizers

    columns = [
        featurizers.DensityFeatures(),
        featurizers.GlobalSymmetryFeatures(["spacegroup_num", "n_symmetry_ops"]),
        featurizers.SiteStatsFingerprint.from_preset("CrystalNNFingerprint_ops"),
    ]
    parts = [magpie(structures)]
    for featurizer in columns:
        featurizer.set_n_jobs(1)
        parts.append(np.array(featurizer.featurize_many(structures, ignore_errors=True, pbar=False), dtype=float))
    return np.hstack(parts)


def forest(features: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return the predictions of a random forest."""
    model = RandomForestRegressor(500, random_state=0)
    return model.fit(features[train], y[train]).predict(features[test])


def boosting(features: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return the predictions of gradient boosting."""
    model = HistGradientBoostingRegressor(loss="absolute_error", max_iter=500, learning_rate=0.05, random_state=0)
    return model.fit(features[train], y[train]).predict(features[test])


def megnet(structures: list[Any], y: np.ndarray, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return the predictions of matgl's MEGNet, trained from scratch."""
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint
    from matgl.ext.pymatgen import Structure2Graph, get_element_list
    from matgl.graph.data import MGLDataLoader, MGLDataset, collate_fn_graph
    from matgl.models import MEGNet
    from matgl.utils.training import ModelLightningModule

    lightning.seed_everything(0, verbose=False)
    model = MEGNet(element_types=get_element_list(structures))
    converter = Structure2Graph(element_types=model.element_types, cutoff=model.cutoff)

    kept, held_out = train_test_split(train, test_size=0.1, random_state=0)
    with tempfile.TemporaryDirectory() as folder:

        def graphs(rows: np.ndarray) -> Any:
            chosen, labels = [structures[row] for row in rows], {"y": y[rows].tolist()}
            return MGLDataset(structures=chosen, labels=labels, converter=converter, save_cache=False, root=folder)

        loaders = MGLDataLoader(
            graphs(kept), graphs(held_out), test_data=graphs(test), collate_fn=collate_fn_graph, batch_size=32,
            num_workers=0,
        )  # fmt: skip
        module = ModelLightningModule(
            model, data_mean=float(y[kept].mean()), data_std=float(y[kept].std()), loss="l1_loss", decay_steps=N_EPOCHS
        )
        best = ModelCheckpoint(folder, monitor="val_MAE", save_weights_only=True)
        trainer = lightning.Trainer(
            max_epochs=N_EPOCHS, accelerator="cpu", logger=False, callbacks=[best], enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(module, *loaders[:2])
        module = ModelLightningModule.load_from_checkpoint(best.best_model_path, model=model).eval()
    predictions = []
    with torch.inference_mode():
        for graph, lattice, state_attr, _ in loaders[2]:
            outputs = module(graph, lattice, state_attr=state_attr)
            predictions.append(outputs.reshape(-1).numpy() * module.data_std + module.data_mean)
    return np.concatenate(predictions)


# What turns structures into features, once for all folds, and what predicts the test crystals of a fold.
MODELS: dict[str, tuple[Callable[[list[Any]], Any], Callable[..., np.ndarray]]] = {
    "magpie + forest": (magpie, forest),
    "structure + boosting": (structure_features, boosting),
    "MEGNet": (list, megnet),
}


def measure(task: str, models: list[str], folds: list[int], options: argparse.Namespace, results: Results) -> None:
    """Add the missing rows of a task."""
    data = load_task(task, options.data)
    structures = data.data
    y = np.asarray(data.target, dtype=float)
    splits = list(matbench_folds(task).split(structures, y))
    for model in models:
        missing = [fold for fold in folds if not results.has({"task": task, "model": model, "fold": fold})]
        if not missing:
            continue
        featurize, predict = MODELS[model]
        started = time.perf_counter()
        features = featurize(structures)
        feature_seconds = time.perf_counter() - started
        for fold in missing:
            train, test = splits[fold]
            started = time.perf_counter()
            error = float(np.abs(predict(features, y, train, test) - y[test]).mean())
            seconds = time.perf_counter() - started
            row = {"task": task, "model": model, "fold": fold, "unit": data.unit, "mae": error}
            results.append({**row, "feature_seconds": feature_seconds, "seconds": seconds})
            print(f"{task}, {model}, fold {fold}: MAE {error:.4g} {data.unit}, {seconds:.0f} s", flush=True)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", nargs="+", default=["matbench_phonons", "matbench_jdft2d"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL")
    parser.add_argument("--folds", nargs="+", type=int, default=list(range(5)), help="0 to 4")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    results = Results(Path(options.results) / "alternatives.csv", KEYS)
    if not options.report:
        for task in options.tasks:
            measure(task, options.models, options.folds, options, results)
    frame = results.read()
    rows = []
    for (task, model), runs in frame.groupby(["task", "model"], sort=False):
        minutes = (runs.feature_seconds.max() + runs.seconds.sum()) / 60
        rows.append([task, model, f"{runs.mae.mean():.1f} ± {runs.mae.std(ddof=0):.1f}", len(runs), f"{minutes:.0f}"])
    print(markdown(["task", "model", "MAE", "folds", "minutes"], rows))


if __name__ == "__main__":
    main()
