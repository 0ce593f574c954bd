"""What is left when a process dies, a disk is full, or someone presses Ctrl-C.

Every fault happens ten times, at random moments, in processes of its own; each row of benchmarks/results/faults.csv is
one of them. Needs a system that forks (Linux, macOS). Disks are full for real where a small file system can be mounted
(root on Linux); elsewhere files may not grow (RLIMIT_FSIZE).

    python benchmarks/faults.py [--moments 10] [--seed 0] [--crystals 80] [--epochs 30]
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.exceptions import NotFittedError

from crystalssl import CrystalGraphs, CrystalGraphTransformer, CrystalSSLRegressor, PretrainedCrystalEmbedder
from crystalssl.datasets import load_prototypes
from crystalssl.exceptions import CrystalSSLError, WeightsError

FORK = multiprocessing.get_context("fork")  # a fresh interpreter would spend most of its life on imports

# ------------------------------------------------------------------ processes that die


def _report(sender: Any, function: Callable, args: tuple) -> None:
    torch.set_num_threads(1)  # the threads of the parent are not forked
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs deaf to Ctrl-C
    warnings.simplefilter("ignore")
    try:
        sender.send((function(*args), None))
    except BaseException as error:
        sender.send((None, f"{type(error).__name__}: {error}"))


def start(function: Callable, *args: Any) -> tuple[Any, Any]:
    """Call a function in another process."""
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_report, args=(sender, function, args))
    process.start()
    sender.close()
    return process, receiver


def finish(process: Any, receiver: Any) -> Any:
    """Return what the function returns."""
    value, error = receiver.recv()
    process.join()
    if error:
        raise RuntimeError(error)
    return value


def run(function: Callable, *args: Any) -> Any:
    return finish(*start(function, *args))


def kill(after: float, function: Callable, *args: Any, sign: int = signal.SIGKILL) -> tuple[Any, Any]:
    """Call a function in another process, and send that a signal."""
    process, receiver = start(function, *args)
    time.sleep(after)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, sign)
    if sign == signal.SIGKILL:
        process.join()
    return process, receiver


# ------------------------------------------------------------------ what they do


class Work:
    """A corpus, and the outcome of undisturbed work on it.

    Parameters
    ----------
    n_crystals, n_epochs : int
        Size of the corpus and of the pretraining.
    """

    def __init__(self, n_crystals: int = 80, n_epochs: int = 30):
        X, self.y = load_prototypes(return_X_y=True)
        self.X = X[:n_crystals]
        self.y = np.asarray(self.y, dtype=float)[:n_crystals]
        self.graphs = CrystalGraphTransformer().transform(self.X)
        self.n_epochs = n_epochs

    def embedder(self, seed: int = 0, **params: Any) -> PretrainedCrystalEmbedder:
        params = {"max_epochs": self.n_epochs, **params}
        return PretrainedCrystalEmbedder(
            weights=None, hidden_dim=16, n_layers=2, batch_size=32, random_state=seed, device="cpu", **params
        )

    def regressor(self) -> CrystalSSLRegressor:
        return CrystalSSLRegressor(
            None, encoder="cgcnn", head_dim=8, max_epochs=self.n_epochs // 2 + 1, random_state=0, device="cpu"
        )

    def pretrain(self, **params: Any) -> str:
        """Return the hash of the weights of a pretraining."""
        return weights_of(self.embedder(**params).fit(self.graphs))

    def pretrain_with(self, checkpoint: Path) -> str:
        return self.pretrain(checkpoint=checkpoint)

    def pretrain_cached(self, memory: Path, n_seeds: int = 6) -> list[str]:
        """Pretrain a little with several seeds, so that much of the time goes into the cache."""
        return [self.pretrain(seed=seed, max_epochs=1, memory=os.fspath(memory)) for seed in range(n_seeds)]

    def save_for_ever(self, folder: Path) -> None:
        embedders = [self.embedder(seed, max_epochs=1).fit(self.graphs) for seed in (0, 1)]
        (folder.parent / "begun").touch()
        while True:
            for embedder in embedders:
                embedder.save_pretrained(folder)

    def save_graphs_for_ever(self, folder: Path) -> None:
        for number in range(10**6):
            self.graphs.save(folder / str(number))
            if number >= 20:
                shutil.rmtree(folder / str(number - 20))

    def interrupted_fit(self, ready: Path) -> dict[str, bool]:
        """Be interrupted in a first fit and in a second one, and say what is left."""
        seen: dict[str, bool] = {}
        expected = self.regressor().fit(self.graphs, self.y).predict(self.graphs)
        model, fitted = self.regressor(), self.regressor().fit(self.graphs, self.y)
        embedder, embedded = self.embedder(), self.embedder(max_epochs=1).fit(self.graphs)
        vectors = embedded.transform(self.graphs)
        ready.touch()
        try:
            while True:
                model.fit(self.graphs, self.y + 1)
                model = self.regressor()
                fitted.fit(self.graphs, self.y + 1)
                fitted = self.regressor().fit(self.graphs, self.y)
                embedder.fit(self.graphs)
                embedder = self.embedder()
                embedded.set_params(max_epochs=self.n_epochs).fit(self.graphs)
                embedded.set_params(max_epochs=1).fit(self.graphs)
        except KeyboardInterrupt:
            pass
        others = self.regressor().fit(self.graphs, self.y + 1).predict(self.graphs)
        for name, estimator, old in (("first", model, None), ("second", fitted, expected)):
            try:
                found = estimator.predict(self.graphs)
                seen[name] = any(value is not None and np.array_equal(found, value) for value in (old, others))
            except NotFittedError:
                seen[name] = old is None or not hasattr(estimator, "nets_")
        seen["again"] = np.array_equal(model.fit(self.graphs, self.y).predict(self.graphs), expected)
        found = embedded.transform(self.graphs)
        seen["embedder"] = np.isfinite(found).all() and (
            np.array_equal(found, vectors) or weights_of(embedded) == self.expected
        )
        seen["embedder again"] = weights_of(embedder.fit(self.graphs)) == self.expected
        return seen

    @property
    def expected(self) -> str:
        """Hash of the weights of an undisturbed pretraining."""
        if not hasattr(self, "_expected"):
            self._expected = self.pretrain()
        return self._expected


def weights_of(embedder: PretrainedCrystalEmbedder) -> str:
    return joblib.hash({name: tensor.numpy() for name, tensor in embedder.encoder_.state_dict().items()})


# ------------------------------------------------------------------ faults: each returns what happened, or raises


def check(condition: Any, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def kill_pretraining(work: Work, folder: Path, share: float) -> str:
    """Kill a pretraining, and resume it."""
    expected, started = work.expected, time.perf_counter()
    check(run(work.pretrain_with, folder / "whole") == expected, "another process has other weights")
    path, seconds = folder / "run", time.perf_counter() - started
    kill(share * seconds, work.pretrain_with, path)
    resumed = path.exists()
    check(run(work.pretrain_with, path) == expected, "the resumed run has other weights")
    return "same bits, resumed" if resumed else "same bits, killed before the first checkpoint"


def kill_saving_weights(work: Work, folder: Path, share: float) -> str:
    """Kill a process that overwrites a weights folder again and again."""
    good = [work.pretrain(seed=seed, max_epochs=1) for seed in (0, 1)]
    path, begun = folder / "weights", folder / "begun"
    process, _ = start(work.save_for_ever, path)
    while not begun.exists():
        time.sleep(0.005)
    time.sleep(share * 0.3)
    process.kill()
    process.join()
    try:
        found = weights_of(PretrainedCrystalEmbedder.from_pretrained(path))
    except WeightsError as error:
        check(not path.exists(), f"a folder that cannot be read: {error}")
        return "no folder, and an error that says so"
    check(found in good, "weights that nobody saved")
    work.embedder(max_epochs=1).fit(work.graphs).save_pretrained(path)
    check(weights_of(PretrainedCrystalEmbedder.from_pretrained(path)) == good[0], "cannot be overwritten")
    return "complete weights"


def kill_saving_graphs(work: Work, folder: Path, share: float) -> str:
    """Kill a process that saves graphs again and again."""
    kill(0.02 + share * 0.4, work.save_graphs_for_ever, folder / "graphs")
    found = sorted((folder / "graphs").glob("[0-9]*")) if (folder / "graphs").exists() else []
    whole = 0
    for path in found:
        try:
            graphs = CrystalGraphs.load(path)
        except CrystalSSLError:  # one of those that were being removed
            continue
        whole += 1
        check(joblib.hash(np.array(graphs.distances)) == joblib.hash(work.graphs.distances), f"{path} is not the same")
    check(whole >= len(found) - 1, "folders that cannot be read")
    return "complete folders" if whole else "killed before the first folder"


def kill_caching(work: Work, folder: Path, share: float) -> str:
    """Kill a process that pretrains with memory=, while another uses the same cache."""
    started = time.perf_counter()
    expected = run(work.pretrain_cached, folder / "other")
    seconds = time.perf_counter() - started
    beside = start(work.pretrain_cached, folder / "memory")
    kill(share * seconds, work.pretrain_cached, folder / "memory")
    check(finish(*beside) == expected, "the process beside read something else")
    check(run(work.pretrain_cached, folder / "memory") == expected, "the cache holds something else")
    return "same bits, for the process beside it and afterwards"


def interrupt_fit(work: Work, folder: Path, share: float) -> str:
    """Press Ctrl-C in a fit."""
    work.expected  # noqa: B018  (computed before the fork)
    process, receiver = start(work.interrupted_fit, folder / "ready")
    while not (folder / "ready").exists() and process.is_alive():
        time.sleep(0.005)
    time.sleep(share * 0.1 * work.n_epochs)
    os.kill(process.pid, signal.SIGINT)
    seen = finish(process, receiver)
    check(all(seen.values()), f"not as it was: {seen}")
    return "as before that fit, and it can be fitted again"


# ------------------------------------------------------------------ a disk that is full


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[bool]:
    """Mount a file system of some bytes at a folder; False where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "crystalssl", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def limited(size: int, function: Callable, *args: Any) -> Any:
    """Call a function in a process whose files may not grow beyond a size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    return function(*args)


def error_of(function: Callable, *args: Any) -> str:
    """Return the package's error that a function raises."""
    try:
        function(*args)
    except CrystalSSLError as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("no error")


def fill_disk(work: Work, folder: Path, share: float, mount: bool = True) -> str:
    """Run out of space while checkpoints, weights, graphs and the cache are written."""
    weights = work.embedder(1, max_epochs=1).fit(work.graphs)
    weights.save_pretrained(folder / "reference")
    work.graphs.save(folder / "graphs")
    run(work.pretrain_with, folder / "run")
    needed = {name: _size(folder / name) for name in ("run", "reference", "graphs")}
    other = work.embedder(max_epochs=1).fit(work.graphs)

    def attempt(name: str, first: Callable, second: Callable, disk_size: int, file_size: int) -> tuple[Path, str]:
        """Write once, then again with too little space."""
        place = folder / f"{name} disk"
        stack.enter_context(small_disk(place, disk_size)) if mount else place.mkdir()
        first(place)
        mounted = os.path.ismount(place)
        message = run(error_of, second, place) if mounted else run(limited, file_size, error_of, second, place)
        check(any(reason in message for reason in ("No space left", "File too large", "is the disk full")), message)
        check(str(place) in message, message)
        return place, message

    with contextlib.ExitStack() as stack:
        # A checkpoint fits, a second one beside it does not.
        place, _ = attempt(
            "run",
            lambda place: None,
            lambda place: work.pretrain_with(place / "run"),
            int((1 + 0.85 * share) * needed["run"]),
            int(share * needed["run"]),
        )
        check(not list(place.glob(".*")), "a part is left")
        kept = (place / "run").exists()
        if kept:
            shutil.copy(place / "run", folder / "rescued")
            check(run(work.pretrain_with, folder / "rescued") == work.expected, "the last checkpoint is not good")
        place, _ = attempt(
            "weights",
            lambda place: weights.save_pretrained(place / "weights"),
            lambda place: other.save_pretrained(place / "weights"),
            int((1 + 0.85 * share) * needed["reference"]),
            int(share * (folder / "reference" / "model.safetensors").stat().st_size),
        )
        loaded = PretrainedCrystalEmbedder.from_pretrained(place / "weights")
        check(weights_of(loaded) == weights_of(weights), "the old weights are not left")
        check([path.name for path in place.iterdir()] == ["weights"], "a part is left")
        place, _ = attempt(
            "graphs",
            lambda place: None,
            lambda place: work.graphs.save(place / "graphs"),
            int(0.9 * share * needed["graphs"]) + 4096,
            int(share * (folder / "graphs" / "distances.npy").stat().st_size),
        )
        check(not list(place.iterdir()), "a part is left")
        # The cache is not worth an error: joblib warns, and the result is returned.
        with small_disk(folder / "cache disk", 16384) if mount else contextlib.nullcontext(False) as mounted:
            memory = folder / "cache disk" if mounted else folder / "cache"
            args = (work.pretrain_cached, memory, 2)
            found = run(*args) if mounted else run(limited, 8000, *args)
        check(found == run(work.pretrain_cached, folder / "good cache", 2), "other weights without a cache")
    where = "of a small disk" if mounted else "of RLIMIT_FSIZE"
    return f"errors name the place {where}; the last good files are left" + ("" if kept else ", no checkpoint yet")


def _size(path: Path) -> int:
    files = [path] if path.is_file() else list(path.iterdir())
    return sum(-(-file.stat().st_size // 4096) * 4096 for file in files)


FAULTS: dict[str, Callable[[Work, Path, float], str]] = {
    "kill -9 while pretraining": kill_pretraining,
    "kill -9 while saving weights": kill_saving_weights,
    "kill -9 while saving graphs": kill_saving_graphs,
    "kill -9 while writing the cache": kill_caching,
    "disk full": fill_disk,
    "Ctrl-C in fit": interrupt_fit,
}


def main() -> int:
    from _common import RESULTS, Results

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results (default: %(default)s)")
    parser.add_argument("--moments", type=int, default=10, help="how often each fault happens")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--crystals", type=int, default=80, help="size of the corpus")
    parser.add_argument("--epochs", type=int, default=30, help="of the pretraining")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=[*FAULTS])
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(args.results / "faults.csv", ["run", "fault", "moment"])
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    work, failures = Work(args.crystals, args.epochs), 0
    for fault in args.faults:
        shares = np.random.default_rng(args.seed).random(args.moments)
        for share in shares:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    ok, outcome = 1, FAULTS[fault](work, Path(folder), float(share))
                except (AssertionError, RuntimeError) as error:
                    ok, outcome, failures = 0, str(error), failures + 1
            row = {"run": now, "fault": fault, "moment": f"{share:.6f}", "ok": ok, "outcome": outcome}
            results.append(row)
            print(f"{fault} at {share:.2f}: {outcome}", flush=True)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
