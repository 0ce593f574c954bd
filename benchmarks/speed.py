"""Speed of crystalssl beside that of the packages and published codes that do the same.

    python benchmarks/speed.py                        # all but whole jobs, at most 20 minutes
    python benchmarks/speed.py --parts jobs           # whole jobs, a quarter of an hour
    python benchmarks/speed.py --parts graphs cgcnn   # some parts; the results of the others stay as they are
    python benchmarks/speed.py --report --docs        # nothing is measured: docs/performance.md from the results

The contenders run in this one process, in turn, after a check that they compute the same and a round that is not
counted. Times are medians over the rounds, and a ratio is the median of the ratios of each round, so that other work on
the machine hits both sides. On one thread CPU time counts, on two wall time. A part replaces its own entry of
results/speed.json when it ends. Peers are the extra `bench`; one that is not installed is named in the results.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from typing import Any

import torch
from _common import ROOT, machine, make_parser
from _documents import write_section
from _speed import gpu, graphs, jobs, limits, pipeline, pretraining, training
from _speed.data import Crystals
from _speed.race import Differs, Pace
from _speed.results import all_groups, load, merge, report

# What is timed, and with how many crystals.
PARTS = {
    "graphs": (graphs.time_nearest, 128),
    "radius": (graphs.time_radius, 256),
    "files": (graphs.time_files, 128),
    "cgcnn": (training.time_cgcnn, 512),
    "megnet": (training.time_megnet, 256),
    "alignn": (training.time_alignn, 512),
    "deepergatgnn": (training.time_deepergatgnn, 256),
    "gatedgcn": (training.time_gatedgcn, 512),
    "kernels": (training.time_kernels, 256),
    "levers": (training.time_levers, 256),
    "embedding": (pipeline.time_embedding, 128),
    "pretraining": (pretraining.time_pretraining, 512),
    "overhead": (pipeline.time_overhead, 512),
}
NO_GPU = "There is no GPU here: the part gpu is skipped."


def measure(part: str, crystals: Crystals, options: argparse.Namespace) -> dict[str, Any]:
    """Return a part's rows, with the circumstances."""
    measured: dict[str, Any] = {"machine": machine(), "load_average": os.getloadavg()[0]}
    if part == "limits":
        measured["limits"] = limits.measured()
    elif part == "jobs":
        measured["jobs"] = list(jobs.time_jobs(crystals, options.size))
    elif part == "gpu":
        if torch.cuda.is_available():
            measured |= {"device": torch.cuda.get_device_name(), "rows": list(gpu.time_gpu(crystals, 1024))}
        else:
            print(NO_GPU, file=sys.stderr)
            measured["skipped"] = NO_GPU
    else:
        timed, size = PARTS[part]
        pace = Pace(options.rounds, options.seconds)
        measured["rows"] = list(timed(crystals, pace, options.threads, options.size or size))
    return measured


def main() -> None:
    parser = make_parser(__doc__)
    names = ["limits", *PARTS, "gpu"]
    parser.add_argument(
        "--parts", nargs="+", choices=[*names, "jobs"], default=names, metavar="PART", help=", ".join([*names, "jobs"])
    )
    parser.add_argument("--rounds", type=int, default=9, help="at most (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=20, help="after which a race ends, once it has three rounds (default: 20)"
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--size", type=int, help="crystals, in the place of each part's own number")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--docs", action="store_true", help="write docs/performance.md and docs/figures/speed.png")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="pymatgen|matgl|alignn|torch_geometric")
    path = options.results / "speed.json"
    differs = []
    if not options.report:
        load_average = os.getloadavg()[0]
        if load_average > 0.5:
            print(f"The load average is {load_average:.1f}: wall times will show what others compute.", file=sys.stderr)
        crystals = Crystals(options.data)
        for part in options.parts:
            started = time.perf_counter()
            print(f"[{part}]", file=sys.stderr)
            try:
                merge(path, part, measure(part, crystals, options))
            except Differs as error:
                differs.append(part)
                print(f"[{part}] is not timed, for the contenders differ: {error}", file=sys.stderr)
            print(f"[{part}] {time.perf_counter() - started:.0f} s", file=sys.stderr)
    results = load(path)
    text = report(results, list(PARTS))
    print(text)
    if options.docs:
        from _speed.figure import draw

        draw(all_groups(results, list(PARTS)), ROOT / "docs" / "figures" / "speed.png")
        write_section("performance.md", "benchmarks/speed.py", text)
    if differs:
        sys.exit(f"Not timed, for the contenders differ: {', '.join(differs)}")


if __name__ == "__main__":
    main()
