"""Pretrain the weights that ship with the package.

    python benchmarks/pretrain.py barlow simsiam
    python benchmarks/pretrain.py barlow --set max_epochs=30 learning_rate=5e-4 --output /tmp/weights
    python benchmarks/pretrain.py barlow simsiam --card-only    # after other benchmarks have written results

Reads mp_pretrain.parquet from the data folder, builds the graphs once (they stay in the work folder, under the file's
hash), pretrains, writes crystalssl/weights/METHOD/ and results/pretraining.csv. An interrupted run goes on after the
last complete epoch when it is started again with the same settings.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from _common import ROOT, SCRATCH, Results, add_settings, data_file, machine, make_parser, markdown, settings_id, sha256

import crystalssl
from crystalssl import CrystalGraphs, CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import read_optimade_parquet
from crystalssl.pretext import TASKS, surrogate_classes

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crystalssl"
PROPERTIES = ["formation_energy_per_atom", "band_gap", "efermi", "total_magnetization", "e_above_hull"]
# Where the bundled weights depart from the defaults of the estimator.
SETTINGS: dict[str, dict[str, Any]] = {
    "joint": {"max_epochs": 20, "batch_size": 64},
}
NAMES = {"barlow": "Barlow Twins", "simsiam": "SimSiam"}
# Magar, Wang and Barati Farimani, section "Training details"; the other entries are the defaults of crystalssl.
PAPER = {
    "n_crystals": "428,275",
    "max_epochs": 15,
    "batch_size": 64,
    "learning_rate": "1e-05",
    "optimizer": "Adam",
    "projection_dim": 128,
    "perturbation": 0.05,
    "atom_masking": 0.1,
    "edge_masking": 0.1,
    "redundancy_weight": 0.0051,
    "validation_fraction": 0.05,
}


def corpus_graphs(path: Path, corpus: str, work: Path, encoder: str) -> CrystalGraphs:
    """Return the graphs of the corpus, from the work folder if they are there."""
    transformer = CrystalGraphTransformer(encoder=encoder, verbose=1).fit()
    folder = work / f"graphs-{joblib.hash([corpus, transformer.recipe_.to_dict()])[:16]}"
    if not folder.exists():
        print(f"building the graphs of {path}")
        transformer.transform(read_optimade_parquet(path, columns=[]).data).save(folder)
    return CrystalGraphs.load(folder)


def labels_of(method: str, path: Path, n_atoms: np.ndarray) -> np.ndarray | None:
    """Return what a method learns from beside the structures."""
    task = TASKS[method]
    if not task.needs_labels and task.n_labels_param is None:
        return None
    frame = pd.read_parquet(path, columns=PROPERTIES)
    if task.needs_labels:
        return surrogate_classes("gap", band_gap=frame.band_gap)
    frame["total_magnetization"] = frame.total_magnetization.abs() / n_atoms
    return frame.to_numpy(float)


def pretrain(method: str, path: Path, corpus: str, options: Any) -> None:
    """Pretrain, save the weights, and record how it went."""
    embedder = PretrainedCrystalEmbedder(method, weights=None, random_state=options.seed, device=options.device)
    embedder.set_params(**SETTINGS.get(method, {}))
    embedder.set_params(**dict(options.set))
    graphs = corpus_graphs(path, corpus, options.work, embedder.encoder or TASKS[method].encoder_name)
    labels = labels_of(method, path, np.diff(graphs.atom_offsets))
    if options.limit is not None:  # a random part, for files are often sorted
        rows = np.random.default_rng(0).permutation(len(graphs))[: options.limit]
        graphs, labels = graphs[rows], None if labels is None else labels[rows]
    settings = {name: value for name, value in embedder.get_params().items() if name not in ("method", "device")}
    run = joblib.hash([method, corpus, len(graphs), settings])[:8]
    embedder.set_params(checkpoint=options.work / f"{method}-{run}.checkpoint", verbose=1)
    started = time.perf_counter()
    embedder.fit(graphs, labels)
    session = time.perf_counter() - started

    folder = options.output / method
    embedder.save_pretrained(folder, card="")
    weights = json.loads((folder / "config.json").read_text())["sha256"]
    for epoch in embedder.history_:
        Results(options.results / "pretraining_epochs.csv", ["weights", "epoch"]).append(
            {
                "weights": weights,
                "epoch": epoch["epoch"],
                "train_loss": float(epoch["train_loss"]),
                "valid_loss": float(epoch.get("valid_loss", np.nan)),
                "learning_rate": float(epoch["learning_rate"]),
                "seconds": float(epoch["dur"]),
            }
        )
    command = f"python benchmarks/pretrain.py {method} --seed {options.seed}"
    if options.limit:
        command += f" --limit {options.limit}"
    if options.set:
        command += " --set " + " ".join(f"{name}={value}" for name, value in options.set)
    seconds = sum(epoch["dur"] for epoch in embedder.history_)  # of all sessions, if it was interrupted
    Results(options.results / "pretraining.csv", ["weights"]).append(
        {
            "method": method,
            "weights": weights,
            "corpus": corpus,
            "n_crystals": len(graphs),
            "n_edges": graphs.n_edges,
            "epochs": len(embedder.history_),
            "seconds": float(seconds),
            "crystals_per_second": len(graphs) * len(embedder.history_) / seconds,
            "device": options.device,
            "threads": torch.get_num_threads(),
            "machine": machine(),
            "seed": options.seed,
            "version": crystalssl.__version__,
            "command": command,
        }
    )
    print(f"{method}: {seconds:.0f} s of training ({session:.0f} s in this session), weights in {folder}")


def write_card(method: str, options: Any) -> None:
    """Write the card of a weights folder from its config and the recorded results."""
    folder = options.output / method
    config = json.loads((folder / "config.json").read_text())
    runs = Results(options.results / "pretraining.csv", ["weights"]).read()
    runs = runs[runs.weights == config["sha256"]]
    if runs.empty:
        print(f"{method}: {options.results / 'pretraining.csv'} knows nothing of the weights in {folder}: no card")
        return
    run = runs.iloc[-1]
    epochs = Results(options.results / "pretraining_epochs.csv", ["weights", "epoch"]).read()
    epochs = epochs[epochs.weights == config["sha256"]].drop_duplicates("epoch", keep="last")
    best = epochs.epoch[epochs.valid_loss.idxmin()] if epochs.valid_loss.notna().any() else epochs.epoch.iloc[-1]

    sections = [
        f"# {NAMES.get(method, method)} on {config['encoder'].upper()}",
        f"The weights behind `CrystalSSLRegressor(pretrain={method!r})` and `PretrainedCrystalEmbedder({method!r})`: "
        "pretrained without labels as in Crystal Twins, with a smaller corpus and the settings below.",
        "## Data",
        f"{run.n_crystals:,} crystals of the Materials Project with {len(config['elements'])} elements, from "
        f"`mp_pretrain.parquet` (sha256 `{run.corpus}`). Materials Project data are licensed under CC-BY 4.0 "
        "(doi:10.1063/1.4812323); the structures were taken from kdmsit/crysxpp and kdmsit/MEGNet (MIT) and from "
        "SymmetryAdvantage/WyckoffTransformer (Apache-2.0). No reduced formula of the corpus occurs in the sets that "
        "the package is evaluated on.",
        "## Settings",
        settings_table(method, config, run),
        "## Run",
        f"`{run.command}` took {run.seconds / 60:.0f} min ({run.crystals_per_second:.0f} crystals/s) for {run.epochs} "
        f"epochs on {run.device}, threads: {run.threads} ({run.machine}); crystalssl {run.version}, seed {run.seed}. "
        f"The weights are those of epoch {best}"
        f"{', which has the lowest validation loss' if epochs.valid_loss.notna().any() else ''}.",
        markdown(
            ["epoch", "training loss", "validation loss"],
            [[row.epoch, f"{row.train_loss:.4g}", f"{row.valid_loss:.4g}"] for row in epochs.itertuples()],
        ),
        "## What they reach",
        reached(config["sha256"], options.results)
        or "Not measured yet: run `benchmarks/matbench_folds.py` and "
        "`benchmarks/linear_probe.py`, then `benchmarks/pretrain.py --card-only`.",
        "## References",
        "R. Magar, Y. Wang and A. Barati Farimani, Crystal twins: self-supervised learning for crystalline material "
        "property prediction. npj Comput. Mater. 8, 231 (2022), doi:10.1038/s41524-022-00921-5.\n\n"
        "A. Jain et al., Commentary: The Materials Project. APL Mater. 1, 011002 (2013), doi:10.1063/1.4812323.",
    ]
    (folder / "README.md").write_text("\n\n".join(sections) + "\n")
    print(f"{method}: wrote {folder / 'README.md'}")


def settings_table(method: str, config: dict[str, Any], run: pd.Series) -> str:
    """Return what was set here beside what the paper has."""
    here = {**config, **config["encoder_params"], **config["task_params"]}
    here |= {"n_crystals": f"{run.n_crystals:,}", "optimizer": "AdamW, warm-up and cosine decay"}
    names = [*PAPER, "weight_decay", "gradient_clip", "hidden_dim", "n_layers", "n_gaussians", "readout"]
    if method == "barlow":
        here.setdefault("redundancy_weight", 0.0051)
    rows = [[f"`{name}`", here[name], PAPER.get(name, "")] for name in names if name in here]
    return markdown(["setting", "here", "Crystal Twins"], rows)


def reached(weights: str, results: Path) -> str:
    """Return tables of what other benchmarks measured with these weights, empty if there is nothing yet."""
    tables = []
    folds = results / "matbench_folds.csv"
    if folds.exists():
        frame = pd.read_csv(folds, keep_default_na=False)
        frame = frame[frame.settings == settings_id(CrystalSSLRegressor())]  # not what was tried with --set
        rows = []
        for task, group in frame[frame.weights == weights].groupby("task", sort=False):
            errors = group.groupby("fold").mae.mean()
            if len(errors) < 5:
                continue
            scratch = frame[(frame.task == task) & (frame.method == SCRATCH)].groupby("fold").mae.mean()
            rows.append(
                [
                    task,
                    f"{errors.mean():.1f} ± {errors.std(ddof=0):.1f}",
                    f"{scratch.mean():.1f} ± {scratch.std(ddof=0):.1f}" if len(scratch) == 5 else "",
                    group.unit.iloc[0],
                ]
            )
        if rows:
            tables.append(
                "Mean absolute error on the official folds of Matbench v0.1 (mean ± standard deviation over folds):\n\n"
                + markdown(["task", "finetuned", "from scratch", "unit"], rows)
            )
    probes = results / "linear_probe.csv"
    if probes.exists():
        frame = pd.read_csv(probes, keep_default_na=False)
        keys = ["target", "readout"]
        control = frame[frame.method == "untrained"].drop_duplicates(keys, keep="last").set_index(keys).r2
        mine = frame[frame.weights == weights].drop_duplicates(keys, keep="last").set_index(keys).r2
        rows = [[*key, f"{value:.3f}", f"{control.get(key, np.nan):.3f}"] for key, value in mine.items()]
        if rows:
            tables.append(
                "R² of ridge regression on the vectors, without finetuning (`benchmarks/linear_probe.py`):\n\n"
                + markdown(["target", "readout", "these weights", "random weights"], rows)
            )
    return "\n\n".join(tables)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("methods", nargs="+", help="barlow, simsiam, …")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="pretrain on this many random crystals of the corpus")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=CACHE, help="for graphs and checkpoints (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "crystalssl" / "weights", help="for the weights folders")
    parser.add_argument("--card-only", action="store_true", help="rewrite the cards from recorded results")
    add_settings(parser)
    options = parser.parse_args()
    if not options.card_only:
        path = data_file(options.data, "mp_pretrain.parquet")
        corpus = sha256(path)
        for method in options.methods:
            pretrain(method, path, corpus, options)
    for method in options.methods:
        write_card(method, options)


if __name__ == "__main__":
    main()
