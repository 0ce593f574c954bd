"""What each part of the default is worth, and what happens where the corpus lacks the target's elements.

    python benchmarks/ablation.py --jobs 2

"finetuning" takes one setting of the regressor away at a time, with the bundled weights. "pretraining" takes one part
of the objective away or has it predict other labels, and pretrains each time on the same 8,000 random frames of
benchmarks/potential.py, which has to be run before, for 5 epochs. "scratch" does without pretraining, and takes away
one part of the network at a time. "elements" finetunes on crystals with oxygen, of every set only these, and compares a
corpus without oxygen with a random one of the same size. "pretraining" and "elements" leave out the few crystals with
elements that so small a corpus lacks. Training rows, test rows and steps are those of benchmarks/study.py, with 100
crystals and three seeds. Adds one row per table, variant, set and seed to results/ablation.csv, leaves out what is
there, and prints tables.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from _common import (
    CACHE,
    Results,
    add_settings,
    data_file,
    make_parser,
    markdown,
    name_settings,
    run_all,
    settings_id,
    sha256,
    weights_sha256,
)
from _frames import FRAMES
from _sets import UNITS, Sets, known_elements, made_of, n_atoms_of
from pretrain import JOINT, PROPERTIES, SETTINGS, frames_of
from study import learn

from crystalssl import CrystalGraphs, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.encoders import GatedGCN

KEYS = ["table", "variant", "task", "seed", "settings", "weights"]
SETS = ["phonons", "jdft2d", "log10 K", "perovskites", "band gap"]
SIZE = "100"
N_CRYSTALS, N_EPOCHS = 8_000, 5
OXYGEN = 8
FULL, SCRATCH = "full", "no pretraining"

Changes = dict[str, Any]
FINETUNING: dict[str, Changes] = {
    FULL: {},
    SCRATCH: {"pretrain": None},
    "frozen encoder": {"freeze_encoder": True},
    "vectors not standardised": {"standardize": False},
    "the head's rate for the encoder": {"encoder_learning_rate": CrystalSSLRegressor().learning_rate},
    "no moving average": {"ema_decay": 0.0},
    "squared loss": {"loss": "squared_error"},
    "no logarithm": {"target_transform": None},
    "no clipping": {"gradient_clip": None},
    "no weight decay": {"weight_decay": 0.0},
    "mean readout": {"readout": "mean"},
    "all layers": {"pooled_layers": "all"},
    "no cell features": {"cell_features": False},
    "ensemble of five": {"ensemble_size": 5},
}
FROM_SCRATCH: dict[str, Changes] = {
    FULL: {"pretrain": None},
    "no cell features": {"pretrain": None, "cell_features": False},
    "no angles": {"pretrain": None, "encoder": GatedGCN(l_max=0)},
    "neither": {"pretrain": None, "encoder": GatedGCN(l_max=0), "cell_features": False},
}
# Parameters of the embedder, and the labels that it sees.
SELF_SUPERVISED = {"mask_weight": 0.3, "denoise_weight": 0.3}
PRETRAINING: dict[str, tuple[Changes, list[str]] | None] = {
    FULL: ({}, JOINT),
    SCRATCH: None,
    "masking and denoising, no labels": ({"task_params": SELF_SUPERVISED}, []),
    "labels of the database only": ({}, PROPERTIES),
    "forces and virials only": ({}, ["forces", "virial"]),
    **{
        f"no {what}": ({}, [name for name in JOINT if name not in names])
        for what, names in {
            "forces": ["forces"],
            "virials": ["virial"],
            "energies": ["energy"],
            "frequencies": ["frequency"],
            "moduli": ["log10_k", "log10_g"],
            "exfoliation": ["exfoliation"],
        }.items()
    },
    "all labels of both": ({}, PROPERTIES + FRAMES),
    "masking and denoising too": ({"task_params": SELF_SUPERVISED}, JOINT),
    "no angles": ({"encoder_params": {"l_max": 0}}, JOINT),
    "128 wide": ({"hidden_dim": 128}, JOINT),
}
SETTINGS_OF = {"finetuning": FINETUNING, "scratch": FROM_SCRATCH}
TABLES: dict[str, list[str]] = {  # the first variant is what the others are compared with
    "finetuning": list(FINETUNING),
    "scratch": list(FROM_SCRATCH),
    "pretraining": list(PRETRAINING),
    "elements": ["random corpus", SCRATCH, "corpus without oxygen"],
}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--sets", nargs="+", choices=UNITS, default=SETS, metavar="SET", help=f"{list(UNITS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=range(3))
    parser.add_argument("--jobs", type=int, default=1, help="processes, each computing on one thread")
    parser.add_argument("--work", type=Path, default=CACHE, help="of benchmarks/potential.py (default: %(default)s)")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    add_settings(parser)
    options = parser.parse_args()
    results = Results(options.results / "ablation.csv", KEYS)
    settings = settings_id(CrystalSSLRegressor().set_params(**dict(options.set)), SIZE, N_CRYSTALS, N_EPOCHS)
    for table in options.tables:
        if not options.report:
            measure(table, settings, options, results)
            name_settings(options.results, settings, options.set)
        frame = results.read()
        frame = frame[(frame.table == table) & (frame.settings == settings)]
        newest = frame.groupby("variant").weights.transform("last")  # those of other weights are from before
        print_table(table, frame[frame.weights == newest])


def measure(table: str, settings: str, options: argparse.Namespace, results: Results) -> None:
    """Add the missing rows of a table."""
    sources, sets = sources_of(table, options.data, options.work), Sets(options.data)
    known = known_elements([source for source in sources.values() if source is not None])
    calls = []
    for seed, task, variant in itertools.product(options.seeds, options.sets, TABLES[table]):
        source = sources[variant]
        row = dict(zip(KEYS, [table, variant, task, seed, settings, weights_sha256(source)], strict=True))
        if results.has(row):
            continue
        graphs, y = sets.of(task, "joint")
        used = made_of(graphs, known | {OXYGEN})  # which the training rows bring where a corpus lacks it
        if table == "elements":
            used &= n_atoms_of(graphs, [OXYGEN]) > 0
        graphs, y = graphs[used], y[used]
        changes = [*options.set, ("pretrain", source)]
        if table in SETTINGS_OF:
            changes += SETTINGS_OF[table][variant].items()
        calls.append(joblib.delayed(learn)({**row, "method": "joint", "size": SIZE}, (graphs, y), changes))
    run_all(calls, results, options.jobs)


def sources_of(table: str, data: Path, work: Path) -> dict[str, Any]:
    """Return what each variant of a table finetunes, pretrained if it is not in the work folder."""
    if table in SETTINGS_OF:
        return {variant: changes.get("pretrain", "joint") for variant, changes in SETTINGS_OF[table].items()}
    path = data_file(data, "mp_pretrain.parquet")
    corpus = sha256(path)
    graphs, labels = frames_of(path, corpus, work, "gatedgcn")
    order = np.random.default_rng(0).permutation(len(graphs))
    rows = order[:N_CRYSTALS]
    if table == "elements":
        others = order[n_atoms_of(graphs, [OXYGEN])[order] == 0][:N_CRYSTALS]
        return {
            "random corpus": weights(work, graphs[rows], labels.iloc[rows][JOINT], {}),
            SCRATCH: None,
            "corpus without oxygen": weights(work, graphs[others], labels.iloc[others][JOINT], {}),
        }
    return {
        variant: None if part is None else weights(work, graphs[rows], labels.iloc[rows][part[1]], part[0])
        for variant, part in PRETRAINING.items()
    }


def weights(work: Path, graphs: CrystalGraphs, labels: pd.DataFrame, changes: Changes) -> Path:
    """Return the folder of weights pretrained on these crystals and whatever labels there are."""
    embedder = PretrainedCrystalEmbedder("joint", weights=None, random_state=0, device="cpu", verbose=1)
    embedder.set_params(**{**SETTINGS["joint"], "max_epochs": N_EPOCHS, **changes})
    y = labels if labels.shape[1] else None
    folder = work / f"ablation-{joblib.hash([graphs, y, settings_id(embedder)])[:16]}"
    if not folder.exists():
        embedder.fit(graphs, y).save_pretrained(folder, card="")
    return folder


def print_table(table: str, frame: pd.DataFrame) -> None:
    """Print errors, and how far they are from those of the first variant."""
    if frame.empty:
        return
    text, seeds = table_of(frame, TABLES[table])
    print(f"\n{table}: MAE with {SIZE} labels, seeds: {seeds}; in brackets against {TABLES[table][0]!r}\n\n{text}")


def table_of(frame: pd.DataFrame, variants: list[str]) -> tuple[str, int]:
    """Return errors beside those of the first variant, over the sets and seeds that all have, and how many seeds."""
    errors = frame.pivot_table("mae", ["task", "seed"], "variant", sort=False)
    errors = errors[[variant for variant in variants if variant in errors]].dropna()
    means = errors.groupby("task").mean().T
    means = means[[task for task in UNITS if task in means]]
    changes = means / means.iloc[0] - 1
    cells = means.map("{:.3g}".format) + changes.map(" ({:+.0%})".format)
    lines = [[variant, *cells.loc[variant], f"{changes.loc[variant].mean():+.1%}"] for variant in means.index]
    text = markdown(["", *(f"{task}, {UNITS[task]}" for task in means.columns), "mean"], lines)
    return text, errors.index.unique("seed").size


if __name__ == "__main__":
    main()
