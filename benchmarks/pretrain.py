"""Pretrain the weights that ship with the package.

    python benchmarks/pretrain.py barlow cdssl joint
    python benchmarks/pretrain.py barlow --set max_epochs=30 learning_rate=5e-4 --output /tmp/weights
    python benchmarks/pretrain.py barlow cdssl joint --card-only    # after other benchmarks have written results

`joint` learns from what benchmarks/potential.py and benchmarks/dispersion.py have computed before, beside labels of the
database. Its corpus are then the frames of potential.py: crystals at rest, displaced ones, and layers of them. --labels
has it learn from others, such as those of the database alone, of the crystals as they are:

    python benchmarks/pretrain.py joint --set max_epochs=20 --output /tmp/weights \\
        --labels formation_energy_per_atom band_gap efermi total_magnetization e_above_hull

A run can go on from the weights of another, as that of the bundled `joint` did, whose first part was made on a GPU:

    python benchmarks/pretrain.py joint --device cuda --output /tmp/first \\
        --set batch_size=256 learning_rate=2e-3 max_epochs=16
    python benchmarks/pretrain.py joint --set max_epochs=12 weights=/tmp/first/joint continue_training=True

Reads mp_pretrain.parquet from the data folder, builds the graphs once per recipe (they stay in the work folder, under
the file's hash), pretrains, writes crystalssl/weights/METHOD/ and results/pretraining.csv. An interrupted run goes on
after the last complete epoch when it is started again with the same settings.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shlex
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from _cards import write_card
from _common import CACHE, ROOT, Results, add_settings, data_file, machine, make_parser, sha256, weights_sha256
from _frames import FRAMES, LAYER, REST, frame_of, read_frames
from dispersion import dispersion_file
from potential import labels_folder

import crystalssl
from crystalssl import CrystalGraphs, CrystalGraphTransformer, PretrainedCrystalEmbedder
from crystalssl.datasets import read_optimade_parquet
from crystalssl.graphs import N_ELEMENTS
from crystalssl.pretext import TASKS, surrogate_classes

PROPERTIES = ["formation_energy_per_atom", "band_gap", "efermi", "total_magnetization", "e_above_hull"]
# What `joint` predicts; benchmarks/ablation.py compares with other choices.
JOINT = ["formation_energy_per_atom", "band_gap", *FRAMES]
# Where the bundled weights depart from the defaults of the estimator.
SETTINGS: dict[str, dict[str, Any]] = {
    "joint": {"max_epochs": 24, "task_params": {"mask_weight": 0, "denoise_weight": 0}},
}


def corpus_graphs(
    path: Path, corpus: str, work: Path, encoder: str, frames: pd.DataFrame | None = None
) -> CrystalGraphs:
    """Return the graphs of the corpus, or of frames of its crystals, from the work folder if they are there."""
    transformer = CrystalGraphTransformer(encoder=encoder, verbose=1).fit()
    which = [] if frames is None else [frames.row.to_numpy(), frames.frame.to_numpy()]
    folder = work / f"graphs-{joblib.hash([corpus, transformer.recipe_.to_dict(), *which])[:16]}"
    if not folder.exists():
        print(f"building the graphs of {path}")
        structures = read_optimade_parquet(path, columns=[]).data
        if frames is not None:
            structures = [frame_of(structures[row], row, frame) for row, frame in zip(*which, strict=True)]
        graphs = transformer.transform(structures)
        with contextlib.suppress(FileExistsError):  # of a run beside this one
            graphs.save(folder)
    return CrystalGraphs.load(folder)


def frames_of(
    path: Path, corpus: str, work: Path, encoder: str, numbers: list[int] | None = None
) -> tuple[CrystalGraphs, pd.DataFrame]:
    """Return the frames of benchmarks/potential.py, all or those of some numbers, and all their labels."""
    read = read_frames(labels_folder(work, corpus))
    frames = pd.DataFrame({name: read[name] for name in ("row", "frame", "energy", "frequency")})
    frames["forces"] = np.split(read["forces"], read["offsets"][1:-1])
    frames["stress"] = list(read["stress"])
    at_rest, layers = frames.frame == REST, frames.frame == LAYER
    # Logarithms, since what counts of a modulus or a frequency is by which factor it is off; floors bound their tails.
    frames["frequency"] = np.log10(frames.frequency.clip(lower=10))
    bulk, shear = voigt_averages(read["stiffness"])
    frames["log10_k"], frames["log10_g"] = np.log10(np.maximum(bulk, 1)), np.log10(np.maximum(shear, 1))
    rest = frames[at_rest].set_index("row").energy
    found = np.load(dispersion_file(work, corpus))
    dispersion = pd.Series(found["layer"] - found["rest"], index=found["row"])
    rows = frames.row[layers]
    exfoliation = frames.energy[layers].to_numpy() - rest[rows].to_numpy() + dispersion[rows].to_numpy()  # eV/atom
    frames.loc[layers, "exfoliation"] = np.log10(np.maximum(exfoliation, 0) + 0.01)
    if numbers is not None:
        frames = frames[frames.frame.isin(numbers)].reset_index(drop=True)
    graphs = corpus_graphs(path, corpus, work, encoder, frames)
    volumes = abs(np.linalg.det(graphs.lattice)) / np.diff(graphs.atom_offsets)
    frames["virial"] = [stress * volume for stress, volume in zip(frames.stress, volumes, strict=True)]
    # Energies are relative to those of the elements, a least-squares fit of the energies by the compositions.
    counts = np.zeros((len(graphs), N_ELEMENTS + 1))
    np.add.at(counts, (np.repeat(np.arange(len(graphs)), np.diff(graphs.atom_offsets)), graphs.atomic_numbers), 1)
    fractions = counts / counts.sum(axis=1, keepdims=True)
    frames["energy"] -= fractions @ np.linalg.lstsq(fractions, frames.energy, rcond=None)[0]
    known = known_properties(path).loc[frames.row].reset_index(drop=True)
    known[frames.frame == LAYER] = np.nan  # a layer is another crystal than the one of the database
    return graphs, pd.concat([known, frames[FRAMES]], axis=1)


def voigt_averages(stiffness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Voigt's averages of bulk and shear moduli from stiffnesses of shape (n_crystals, 6, 6)."""
    tension = stiffness[:, [0, 1, 2], [0, 1, 2]].sum(axis=1)
    across = stiffness[:, [0, 0, 1], [1, 2, 2]].sum(axis=1)
    shear = stiffness[:, [3, 4, 5], [3, 4, 5]].sum(axis=1)
    return (tension + 2 * across) / 9, (tension - across + 3 * shear) / 15


def labels_of(method: str, path: Path, names: list[str]) -> Any:
    """Return what a method learns from beside the crystals as they are."""
    if TASKS[method].needs_labels and TASKS[method].n_labels_param is None:
        return surrogate_classes("gap", band_gap=pd.read_parquet(path, columns=["band_gap"]).band_gap)
    return None if TASKS[method].n_labels_param is None else known_properties(path)[names]


def known_properties(path: Path) -> pd.DataFrame:
    """Return the properties of the crystals of the corpus, `PROPERTIES`."""
    frame = pd.read_parquet(path, columns=[*PROPERTIES, "species_at_sites"])
    frame["total_magnetization"] = frame.total_magnetization.abs() / frame.species_at_sites.map(len)
    return frame[PROPERTIES]


def pretrain(method: str, path: Path, corpus: str, options: Any) -> None:
    """Pretrain, save the weights, and record how it went."""
    embedder = PretrainedCrystalEmbedder(method, weights=None, random_state=options.seed, device=options.device)
    embedder.set_params(**SETTINGS.get(method, {}))
    embedder.set_params(**dict(options.set))
    encoder = embedder.encoder or TASKS[method].encoder_name
    if TASKS[method].n_labels_param is not None and set(options.labels) & set(FRAMES):
        graphs, labels = frames_of(path, corpus, options.work, encoder, options.frames)
        labels = labels[options.labels]
    else:
        graphs, labels = corpus_graphs(path, corpus, options.work, encoder), labels_of(method, path, options.labels)
    if options.limit is not None:  # a random part, for files are often sorted
        rows = np.random.default_rng(0).permutation(len(graphs))[: options.limit]
        graphs = graphs[rows]
        labels = labels.iloc[rows] if isinstance(labels, pd.DataFrame) else None if labels is None else labels[rows]
    settings = {name: value for name, value in embedder.get_params().items() if name not in ("method", "device")}
    run = joblib.hash([method, corpus, len(graphs), labels, settings])[:8]
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
    if options.device != "cpu":
        command += f" --device {options.device}"
    if options.limit:
        command += f" --limit {options.limit}"
    if options.labels != JOINT:
        command += " --labels " + shlex.join(options.labels)
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
            "device": devices_of(embedder.history_),
            "threads": torch.get_num_threads(),
            "machine": machine(),
            "seed": options.seed,
            "labels": "; ".join(options.labels) if TASKS[method].n_labels_param is not None else "",
            "went_on_from": "" if embedder.weights is None else weights_sha256(embedder.weights),
            "version": crystalssl.__version__,
            "command": command,
        }
    )
    print(f"{method}: {seconds:.0f} s of training ({session:.0f} s in this session), weights in {folder}")


def devices_of(history: list[dict[str, Any]]) -> str:
    """Return where the epochs were learnt, such as "cuda, then cpu from epoch 15" of a run that went on elsewhere."""
    first, *others = [next(epochs) for _, epochs in itertools.groupby(history, key=_device)]
    return ", then ".join([_device(first), *(f"{_device(epoch)} from epoch {epoch['epoch']}" for epoch in others)])


def _device(epoch: dict[str, Any]) -> str:
    return epoch.get("device", "unknown")  # of a checkpoint that an older version began


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("methods", nargs="+", help="names of pretext tasks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="pretrain on this many random crystals of the corpus")
    parser.add_argument(
        "--labels", nargs="+", choices=[*PROPERTIES, *FRAMES], default=JOINT, metavar="LABEL",
        help=f"what joint predicts, of {[*PROPERTIES, *FRAMES]} (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--frames", nargs="+", type=int, help="numbers of the frames of each crystal (default: all)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=CACHE, help="for graphs and checkpoints (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "crystalssl" / "weights", help="for the weights folders")
    parser.add_argument("--card-only", action="store_true", help="rewrite the cards from recorded results")
    add_settings(parser)
    options = parser.parse_args()
    if options.labels != JOINT and any(TASKS[method].n_labels_param is None for method in options.methods):
        parser.error("--labels is for methods that predict labels: joint")
    if not options.card_only:
        path = data_file(options.data, "mp_pretrain.parquet")
        corpus = sha256(path)
        for method in options.methods:
            pretrain(method, path, corpus, options)
    for method in options.methods:
        write_card(options.output / method, options.results)


if __name__ == "__main__":
    main()
