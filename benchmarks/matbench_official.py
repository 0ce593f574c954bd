"""Read what crystalssl.matbench writes by the official package, matbench 0.6.

    python benchmarks/matbench_official.py submission/results.json.gz
    python benchmarks/matbench_official.py

matbench 0.6 pins scikit-learn 1.0.1, so it is installed without what it asks for into an environment of its own,
.venv-matbench, which the first call makes (about a minute, 800 MB). There each file is read by its
MatbenchBenchmark.from_file, which checks layout, hash and folds. Where the data set is at hand, all folds are recorded
once more by its MatbenchTask.record, which must give the same predictions, uncertainties and scores; and scores of
random classes and probabilities must be those of its score_array. Without a file, two models that take seconds are run
first, one of them with uncertainties.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv-matbench"
PYTHON = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin") / "python"


# ---------------------------------------------------------------------- with crystalssl


def set_up() -> None:
    stamp = ENVIRONMENT / ".installed"
    if not stamp.exists():
        print(f"Setting up {ENVIRONMENT}", flush=True)
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        install = [str(PYTHON), "-m", "pip", "install", "--quiet"]
        constraints = ["-c", str(ROOT / "constraints.txt")]
        subprocess.run([*install, *constraints, "pandas", "pymatgen", "scikit-learn"], check=True)
        subprocess.run([*install, "--no-deps", "matbench==0.6", "matminer>=0.9.2"], check=True)
        stamp.touch()


def run_examples(folder: Path, data: Path) -> list[Path]:
    """Run two models that take seconds."""
    from sklearn.dummy import DummyRegressor
    from sklearn.linear_model import BayesianRidge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    from crystalssl import matbench

    ridge = make_pipeline(FunctionTransformer(densities), BayesianRidge())
    tasks = ["matbench_jdft2d", "matbench_phonons"]
    runs = [
        matbench.run(DummyRegressor(), tasks, out=folder / "dummy", data_home=data, verbose=0),
        matbench.run(ridge, tasks, out=folder / "ridge", return_std=True, data_home=data, verbose=0),
    ]
    return [run.results for run in runs]


def densities(structures: list) -> list[list[float]]:
    return [[structure.density, structure.volume / len(structure), len(structure)] for structure in structures]


def score_cases() -> list[dict]:
    """Return scores of random values, and what they are of."""
    import numpy as np

    from crystalssl.matbench._scores import classification_scores, regression_scores

    rng = np.random.default_rng(0)
    cases = []
    for _ in range(20):
        y, value = rng.normal(size=(2, 50)) * (rng.random(50) < 0.9)
        cases.append({"kind": "regression", "y": y, "found": value, "scores": regression_scores(y, value)})
        y, probability = rng.random(50) < 0.4, rng.random(50).round(1)
        for found in (probability, probability > 0.3):
            cases.append({"kind": "classification", "y": y, "found": found, "scores": classification_scores(y, found)})
    return [{**case, "y": case["y"].tolist(), "found": case["found"].tolist()} for case in cases]


# ---------------------------------------------------------------------- with the official package


def read_officially(cases: Path, data: Path, paths: list[Path]) -> bool:
    """Return whether the official package agrees with all."""
    import logging

    from matbench.bench import MatbenchBenchmark

    logging.getLogger("matbench").setLevel(logging.ERROR)
    verdicts = [scores_agree(json.loads(cases.read_text()))]
    for path in paths:
        print(f"\n{path}")
        with tempfile.TemporaryDirectory() as folder:
            # from_file of version 0.6 reads no .gz, though submissions are.
            plain = Path(folder) / "results.json"
            plain.write_bytes(gzip.decompress(path.read_bytes()))
            document = json.loads(plain.read_text())
            benchmark = MatbenchBenchmark.from_file(plain)
        print(f"  from_file: read; is_valid {benchmark.is_valid}, is_recorded {benchmark.is_recorded}")
        verdicts += [benchmark.is_valid, benchmark.is_recorded]
        for task in benchmark.tasks:
            metric = "mae" if "mae" in task.scores else "rocauc"
            scores = task.scores[metric]
            print(f"  {task.dataset_name}: {metric} {scores['mean']:.4f} ± {scores['std']:.4f}")
            verdicts.append(recorded_alike(task.dataset_name, document["tasks"][task.dataset_name], data))
    return all(verdicts)


def scores_agree(cases: list[dict]) -> bool:
    from matbench.data_ops import score_array

    agree = all(alike(score_array(case["y"], case["found"], case["kind"]), case["scores"]) for case in cases)
    print(f"score_array on {len(cases)} random cases: {'the same scores' if agree else 'OTHER SCORES'}")
    return agree


def recorded_alike(name: str, ours: dict, data: Path) -> bool:
    """Record our predictions by the official package, which scores them itself, and compare all that comes out."""
    import pandas as pd
    from matbench.task import MatbenchTask

    files = [path for path in (data / f"{name}.json.gz", data / f"{name}.rebuilt.json.gz") if path.exists()]
    if not files:
        print(f"    record: {name} is not in {data}, so that scores are not computed again")
        return True
    task = MatbenchTask(name, autoload=False)
    content = json.loads(gzip.decompress(files[0].read_bytes()))
    column = content["columns"].index(task.metadata.target)
    targets = [row[column] for row in content["data"]]
    ids = sorted(id for fold in task.validation.values() for id in fold["test"])
    task.df = pd.DataFrame({task.metadata.input_type: None, task.metadata.target: targets}, index=ids)
    for number in task.folds:
        fold = ours["results"][f"fold_{number}"]
        order = task.validation[f"fold_{number}"].test
        deviations = [fold["uncertainty"][id]["std"] for id in order] if fold["uncertainty"] else None
        task.record(number, [fold["data"][id] for id in order], std=deviations, params=fold["parameters"])
    agree = alike(json.loads(json.dumps(task.as_dict())), ours)
    print(f"    record: {'the same predictions, uncertainties and scores' if agree else 'SOMETHING ELSE'}")
    return agree


def alike(theirs: object, ours: object) -> bool:
    """Return whether two values are the same, numbers but for their last bits."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return set(theirs) == set(ours) and all(alike(theirs[key], ours[key]) for key in theirs)
    if isinstance(theirs, float) and isinstance(ours, float):
        return math.isclose(theirs, ours, rel_tol=1e-12, abs_tol=1e-12) or (math.isnan(theirs) and math.isnan(ours))
    if isinstance(theirs, (list, tuple)) and isinstance(ours, (list, tuple)):
        return len(theirs) == len(ours) and all(map(alike, theirs, ours))
    return theirs == ours


def main() -> int:
    shared = os.environ.get("CRYSTALSSL_DATA") or ROOT.parent / "shared" / "data"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="*", type=Path, help="results.json.gz of crystalssl.matbench.run")
    parser.add_argument("--data", type=Path, default=shared, help="folder of the data sets (default: %(default)s)")
    parser.add_argument("--cases", type=Path, help=argparse.SUPPRESS)  # set where the official package is
    options = parser.parse_args()
    if options.cases:
        return 0 if read_officially(options.cases, options.data, options.results) else 1
    set_up()
    with tempfile.TemporaryDirectory() as folder:
        paths = options.results or run_examples(Path(folder), options.data)
        cases = Path(folder) / "cases.json"
        cases.write_text(json.dumps(score_cases()))
        command = [str(PYTHON), str(Path(__file__).resolve()), "--data", str(options.data), "--cases", str(cases)]
        status = subprocess.run([*command, *map(str, paths)], check=False).returncode
    print("\nmatbench 0.6 takes all of it" if status == 0 else "\nmatbench 0.6 does not take it")
    return status


if __name__ == "__main__":
    sys.exit(main())
