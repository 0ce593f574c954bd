"""What the benchmarks share: options, result files that grow row by row, tables."""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from sklearn.utils import Bunch

import crystalssl
from crystalssl import CrystalGraphs, CrystalSSLRegressor
from crystalssl.datasets import fetch_matbench
from crystalssl.exceptions import DatasetError
from crystalssl.training import bundled_weights, load_encoder

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crystalssl"
SCRATCH = "scratch:"  # with the name of an encoder, what no pretraining is called in tables


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("CRYSTALSSL_DATA") or ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=shared, help="folder of the data sets (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results (default: %(default)s)")
    return parser


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of benchmarks that finetune."""
    parser.add_argument(
        "--methods", nargs="+", default=all_methods(), help=f"bundled weights, weights folders, {SCRATCH}ENCODER"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes, each computing on one thread")
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add --set, which reaches every parameter of the estimator."""
    parser.add_argument(
        "--set", nargs="+", type=_setting, default=[], metavar="NAME=VALUE", help="parameters of the estimator"
    )


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value  # a string without quotes


def data_file(folder: Path, name: str) -> Path:
    """Return the path of a data file, or end the script with a message that says what is missing."""
    path = Path(folder) / name
    if not path.exists():
        sys.exit(f"There is no {path}: let --data or the environment variable CRYSTALSSL_DATA name the folder with it.")
    return path


def load_task(name: str, folder: Path) -> Bunch:
    """Return a Matbench task from the data folder, or end the script with a message that says what is missing."""
    try:
        return fetch_matbench(name, data_home=folder, download_if_missing=False)
    except DatasetError as error:
        sys.exit(str(error))


@functools.cache
def encoder_of(method: str) -> str:
    """Return the name of a method's encoder."""
    return method.removeprefix(SCRATCH) if method.startswith(SCRATCH) else load_encoder(method)[0].name


def baseline_of(method: str) -> str:
    """Return the name of the same encoder without pretraining."""
    return SCRATCH + encoder_of(method)


def all_methods() -> list[str]:
    """Return the bundled weights, each encoder's behind what it is without pretraining."""
    encoders: dict[str, list[str]] = {}
    for method in bundled_weights():
        encoders.setdefault(encoder_of(method), []).append(method)
    return [name for encoder, methods in encoders.items() for name in (SCRATCH + encoder, *methods)]


def make_model(method: str, seed: int, settings: list[tuple[str, Any]]) -> CrystalSSLRegressor:
    """Return a regressor on the CPU with the estimator's defaults and what --set changes."""
    scratch = method.startswith(SCRATCH)
    start = {"pretrain": None, "encoder": encoder_of(method)} if scratch else {"pretrain": method}
    return CrystalSSLRegressor(**start, random_state=seed, device="cpu").set_params(**dict(settings))


def fit_and_score(
    model: CrystalSSLRegressor, graphs: CrystalGraphs, y: np.ndarray, train: np.ndarray, test: np.ndarray, row: dict
) -> dict[str, Any]:
    """Return `row` with the error of a model that is fitted to the training rows, and the time that this took."""
    torch.set_num_threads(1)  # the last bits depend on it, and so may the results after many epochs
    started = time.perf_counter()
    model.fit(graphs[train], y[train])
    seconds = time.perf_counter() - started
    error = float(np.abs(model.predict(graphs[test]) - y[test]).mean())
    return {**row, "epochs": len(model.history_), "mae": error, "seconds": seconds}


def as_they_come(calls: list[Any], jobs: int) -> Iterator[Any]:
    """Yield what delayed calls return, in the order in which they end; each computes on one thread."""
    with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
        yield from joblib.Parallel(return_as="generator_unordered")(calls)


def error_said(row: dict[str, Any]) -> str:
    """Return what is printed of a row of :func:`fit_and_score`."""
    return f"MAE {row['mae']:.4g} {row['unit']}, {row['seconds']:.0f} s"


def run_all(calls: list[Any], results: Results, jobs: int, said: Callable[[dict[str, Any]], str] = error_said) -> None:
    """Run delayed calls that return a row each, and write it down when it comes."""
    for number, row in enumerate(as_they_come(calls, jobs), 1):
        results.append(row)
        name = " ".join(f"{key} {row[key]}" for key in results.keys if key not in ("settings", "weights"))
        print(f"[{number}/{len(calls)}] {name}: {said(row)}", flush=True)


def sha256(path: str | os.PathLike) -> str:
    """Return the hash of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def weights_sha256(source: str | os.PathLike | None) -> str:
    """Return the hash of bundled weights or a weights folder, the empty string for none."""
    if source is None or str(source).startswith(SCRATCH):
        return ""
    folder = bundled_weights().get(str(source), Path(source))
    return json.loads((folder / "config.json").read_text())["sha256"]


def settings_id(estimator: Any, *more: Any) -> str:
    """Return what identifies the settings of a run: parameters and version, without weights and seed.

    Results of other defaults are then neither taken for done nor mixed with these.
    """
    params = estimator.get_params(deep=False)
    for name in (
        "pretrain",
        "method",
        "weights",
        "random_state",
        "n_jobs",
        "verbose",
        "checkpoint",
        "memory",
        "device",
        "callbacks",
        "precision",
    ):
        params.pop(name, None)
    # What is None changes nothing, so that a new parameter does not make new results of old ones.
    params = {name: value for name, value in params.items() if value is not None}
    if params.get("ensemble") == "seeds":  # likewise
        del params["ensemble"]
    return joblib.hash([sorted(params.items()), crystalssl.__version__, *more])[:8]


def identity(method: str, changes: list[tuple[str, Any]], *more: Any) -> dict[str, str]:
    """Return what identifies the runs of a method, beside what they are of: it, its settings and its weights."""
    settings = settings_id(CrystalSSLRegressor().set_params(**dict(changes)), *more)
    return {"method": method, "settings": settings, "weights": weights_sha256(method)}


def name_settings(folder: Path, settings: str, changes: list[tuple[str, Any]]) -> None:
    """Write down, in settings.csv, which version and --set an identifier stands for; benchmarks/tables.py reads it."""
    said = " ".join(f"{name}={value}" for name, value in changes)
    Results(folder / "settings.csv", ["settings"]).append(
        {"settings": settings, "version": crystalssl.__version__, "changes": said}
    )


class Results:
    """A CSV file to which rows are appended as they come.

    Parameters
    ----------
    path : path
        Made with the first row.
    keys : list of str
        Columns by which a row is recognised.
    """

    def __init__(self, path: Path, keys: list[str]):
        self.path = Path(path)
        self.keys = keys

    def read(self) -> pd.DataFrame:
        if not self.path.exists():
            return pd.DataFrame(columns=self.keys)
        return pd.read_csv(self.path, dtype=dict.fromkeys(self.keys, str), keep_default_na=False, na_values=["nan"])

    def has(self, row: dict[str, Any]) -> bool:
        frame = self.read()
        return bool((frame[self.keys] == [str(row[key]) for key in self.keys]).all(axis=1).any())

    def select(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        """Return what the file has of some rows, in their order."""
        wanted = pd.DataFrame([{key: str(row[key]) for key in self.keys} for row in rows])
        return wanted.merge(self.read(), on=self.keys)

    def append(self, row: dict[str, Any]) -> None:
        if self.has(row):
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        row = {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in row.items()}
        if self.path.exists():
            columns = pd.read_csv(self.path, nrows=0).columns
            if set(columns) != set(row):
                sys.exit(f"{self.path} has the columns {list(columns)}, not {list(row)}: move it away")
            row = {name: row[name] for name in columns}
        pd.DataFrame([row]).to_csv(self.path, mode="a", header=not self.path.exists(), index=False)


def machine() -> str:
    """Return processor, the instructions that torch uses of it, and versions on one line."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    name += f" with {torch.backends.cpu.get_cpu_capability()}"
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"


def wins(changes: pd.DataFrame | pd.Series) -> str:
    """Return how many of the changes of an error are below zero, as "n of m"; those that are not known do not count."""
    return f"{int((changes < 0).to_numpy().sum())} of {int(changes.notna().to_numpy().sum())}"


def markdown(header: list[str], rows: list[list[Any]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
