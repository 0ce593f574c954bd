"""What is left when a process dies, a disk is full, or someone presses Ctrl-C.

Every fault happens ten times, at random moments, in processes of its own; each row of benchmarks/results/faults.csv is
one of them. Needs a system that forks (Linux, macOS). Disks are full for real where a small file system can be mounted
(root on Linux); elsewhere files may not grow (RLIMIT_FSIZE).

    python benchmarks/faults.py [--moments 10] [--seed 0] [--crystals 80] [--epochs 30]
"""

from __future__ import annotations

import argparse
import datetime
import functools
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _common import RESULTS, Results
from _faults.disk import fill_disk
from _faults.kills import (
    interrupt_fit,
    intrude_while_saving,
    kill_caching,
    kill_pretraining,
    kill_saving_graphs,
    kill_saving_weights,
    kill_with_workers,
)
from _faults.work import Work

FAULTS: dict[str, Callable[[Work, Path, float], str]] = {
    "kill -9 while pretraining": kill_pretraining,
    "kill -9 while saving weights": kill_saving_weights,
    "kill -9 while saving graphs": kill_saving_graphs,
    "kill -9 while writing the cache": kill_caching,
    "disk full": fill_disk,
    "Ctrl-C in fit": interrupt_fit,
    "SIGTERM to a process with workers": functools.partial(kill_with_workers, sign=signal.SIGTERM),
    "kill -9 of a process with workers": functools.partial(kill_with_workers, sign=signal.SIGKILL),
    "a file put into weights that are being replaced": intrude_while_saving,
}


def main() -> int:
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
