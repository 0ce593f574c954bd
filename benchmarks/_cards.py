"""The cards of the bundled weights: what they are, what they were trained on and how, and what they reach."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pandas as pd
from _common import SCRATCH, Results, markdown, settings_id
from _frames import FRAMES

from crystalssl import CrystalSSLRegressor
from crystalssl.encoders import ENCODERS
from crystalssl.pretext import TASKS

CRYSTAL_TWINS = (
    "R. Magar, Y. Wang and A. Barati Farimani, Crystal twins: self-supervised learning for crystalline material "
    "property prediction. npj Comput. Mater. 8, 231 (2022), doi:10.1038/s41524-022-00921-5."
)
CDSSL = (
    "A. New, N. Q. Le, M. J. Pekala and C. D. Stiles, Self-supervised learning for crystal property prediction via "
    "denoising. ICML 2024 AI for Science workshop, arXiv:2408.17255."
)
SPMAT = "Supervised Pretraining for Material Property Prediction (SPMat), arXiv:2504.20112."
DSSL = (
    "N. Fu, L. Wei and J. Hu, Physics-guided dual self-supervised learning for structure-based material property "
    "prediction. J. Phys. Chem. Lett. 15, 2841 (2024), doi:10.1021/acs.jpclett.4c00100."
)
MATERIALS_PROJECT = (
    "A. Jain et al., Commentary: The Materials Project. APL Mater. 1, 011002 (2013), doi:10.1063/1.4812323."
)
SEVENNET = (
    " Energies, forces, virials, frequencies and moduli are computed by `benchmarks/potential.py` with the universal "
    "potential SevenNet-0 of 11 July 2024 (package sevenn 0.13.0, whose metadata say MIT; "
    "doi:10.1021/acs.jctc.4c00190) for crystals of up to 20 atoms: at rest (29 evaluations), displaced and strained at "
    "random, and a layer in vacuum (one each). The energy of exfoliation includes the dispersion of D3 "
    "(`benchmarks/dispersion.py`, doi:10.1002/jcc.21759). SevenNet-0 itself was trained on energies, forces and "
    "stresses of relaxations in the Materials Project, those of crystals in the evaluation sets among them."
)
# What each method is called, its reference, and what its paper has beside the settings here.
TWINS_SETTINGS = {
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
SPMAT_SETTINGS = {
    "n_crystals": "121,371", "max_epochs": 15, "atom_masking": 0.1, "edge_masking": 0.1, "distance_noise": 0.5,
}  # fmt: skip
DSSL_SETTINGS = {"n_crystals": "138,614", "atom_masking": 0.15, "validation_fraction": 0.1}
METHODS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "barlow": ("Barlow Twins", CRYSTAL_TWINS, TWINS_SETTINGS),
    "simsiam": ("SimSiam", CRYSTAL_TWINS, TWINS_SETTINGS),
    "cdssl": (
        "Crystal denoising",
        CDSSL,
        {
            "n_crystals": "132,752", "max_epochs": 4096, "batch_size": 256, "optimizer": "Adam", "sigma": 0.5,
            "n_layers": 3, "n_gaussians": 100, "validation_fraction": 0.2,
        },
    ),
    "spmat-simclr": ("SPMat with the supervised contrastive loss", SPMAT, SPMAT_SETTINGS),
    "spmat-barlow": ("SPMat with the supervised Barlow Twins loss", SPMAT, SPMAT_SETTINGS),
    "simclr": (
        "SimCLR",
        "T. Chen, S. Kornblith, M. Norouzi and G. Hinton, A simple framework for contrastive learning of visual "
        "representations. ICML 2020, arXiv:2002.05709.",
        {},
    ),
    "dssl": ("DSSL", DSSL, DSSL_SETTINGS),
    "dssl-ve": ("DSSL with valence electrons", DSSL, DSSL_SETTINGS),
    "dssl-as": ("DSSL with atomic stiffness", DSSL, DSSL_SETTINGS),
    "stiffness": ("Atomic stiffness", DSSL, DSSL_SETTINGS),
    "mask": ("Masked elements", DSSL, DSSL_SETTINGS),
    "cosine": ("Cosine contrast", DSSL, DSSL_SETTINGS),
    "joint": ("Joint prediction of properties and forces", "", {}),
}  # fmt: skip


def write_card(folder: Path, results: Path) -> None:
    """Write the card of a weights folder from its config and the recorded results."""
    method = folder.name
    name, reference, paper = METHODS[method]
    config = json.loads((folder / "config.json").read_text())
    all_runs = Results(results / "pretraining.csv", ["weights"]).read()
    runs = all_runs[all_runs.weights == config["sha256"]]
    if runs.empty:
        print(f"{method}: {results / 'pretraining.csv'} knows nothing of the weights in {folder}: no card")
        return
    run = runs.iloc[-1]
    epochs = Results(results / "pretraining_epochs.csv", ["weights", "epoch"]).read()
    epochs = epochs[epochs.weights == config["sha256"]].drop_duplicates("epoch", keep="last")
    best = epochs.epoch[epochs.valid_loss.idxmin()] if epochs.valid_loss.notna().any() else epochs.epoch.iloc[-1]
    before = all_runs[all_runs.weights == (run.get("went_on_from") or None)]
    before = f"It went on from the weights of another run: {described(before.iloc[-1])}" if len(before) else ""
    labels, what = "", "crystals"
    if TASKS[method].needs_labels:
        labels = (
            " Surrogate classes: no band gap, below 2 eV, above 2 eV (PBE), from the same file, with "
            '`crystalssl.pretext.surrogate_classes("gap", …)`.'
        )
    elif run.labels:
        labels = f" Labels, where known: {run.labels}."
        if set(run.labels.split("; ")) & set(FRAMES):
            labels, what = labels + SEVENNET, "frames of crystals"

    sections = [
        f"# {name} on {ENCODERS[config['encoder']].__name__}",
        f"The weights behind `CrystalSSLRegressor(pretrain={method!r})` and `PretrainedCrystalEmbedder({method!r})`. "
        "What the method is, and where it departs from its paper, is in `docs/methods.md`.",
        "## Data",
        f"{run.n_crystals:,} {what} of the Materials Project with {len(config['elements'])} elements, from "
        f"`mp_pretrain.parquet` (sha256 `{run.corpus}`).{labels} Materials Project data are licensed under CC-BY 4.0 "
        "(doi:10.1063/1.4812323); the structures were taken from kdmsit/crysxpp and kdmsit/MEGNet (MIT) and from "
        "SymmetryAdvantage/WyckoffTransformer (Apache-2.0). No reduced formula of the corpus occurs in the sets that "
        "the package is evaluated on.",
        "## Settings",
        settings_table(config, run, paper),
        "## Run",
        f"{described(run)}{before}"
        f"The weights are those of epoch {best}"
        f"{', which has the lowest validation loss' if epochs.valid_loss.notna().any() else ''}.",
        markdown(
            ["epoch", "training loss", "validation loss"],
            [[row.epoch, f"{row.train_loss:.4g}", f"{row.valid_loss:.4g}"] for row in epochs.itertuples()],
        ),
        "## What they reach",
        reached(config["sha256"], config["encoder"], results) or "See `docs/results.md`.",
        "## References",
        "\n\n".join(text for text in (reference, MATERIALS_PROJECT) if text),
    ]
    (folder / "README.md").write_text("\n\n".join(sections) + "\n")
    print(f"{method}: wrote {folder / 'README.md'}")


def described(run: pd.Series) -> str:
    """Return a sentence on a run of pretraining."""
    return (
        f"`{run.command}` took {run.seconds / 60:.0f} min ({run.crystals_per_second:.0f} crystals/s) for {run.epochs} "
        f"epochs on {run.device}, threads: {run.threads} ({run.machine}); crystalssl {run.version}, seed {run.seed}. "
    )


def settings_table(config: dict[str, Any], run: pd.Series, paper: dict[str, Any]) -> str:
    """Return what was set here beside what the paper has."""
    here = {"n_crystals": f"{run.n_crystals:,}", "optimizer": "AdamW, warm-up and cosine decay"}
    names = ("max_epochs", "batch_size", "learning_rate", "weight_decay", "gradient_clip", "validation_fraction")
    here |= {name: config[name] for name in names}
    here |= config["encoder_params"] | config["task_params"]
    task = TASKS[config["method"]]
    for base in task.__mro__:
        parameters = inspect.signature(base).parameters.values()
        for parameter in parameters:
            if parameter.default is not parameter.empty:
                here.setdefault(parameter.name, parameter.default)
        if all(parameter.kind != parameter.VAR_KEYWORD for parameter in parameters):
            break  # what it does not pass on to its base are no settings of the method
    if here.pop("views", None) is None and hasattr(task, "default_view"):
        for parameter in inspect.signature(task.default_view).parameters.values():
            here.setdefault(parameter.name, parameter.default)
    rows = [[f"`{name}`", here[name], paper.get(name, "")] for name in here]
    return markdown(["setting", "here", "paper"] if paper else ["setting", "here", ""], rows)


def reached(weights: str, encoder: str, results: Path) -> str:
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
            scratch = frame[(frame.task == task) & (frame.method == SCRATCH + encoder)].groupby("fold").mae.mean()
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
        mine = frame[frame.weights == weights].drop_duplicates("target", keep="last").set_index("target").r2
        control = frame[frame.method == SCRATCH + encoder].drop_duplicates("target", keep="last").set_index("target").r2
        rows = [[target, f"{value:.3f}", f"{control[target]:.3f}"] for target, value in mine.items()]
        if rows:
            tables.append(
                "R² of ridge regression on the vectors, without finetuning (`benchmarks/linear_probe.py`):\n\n"
                + markdown(["target", "these weights", "random weights"], rows)
            )
    return "\n\n".join(tables)
